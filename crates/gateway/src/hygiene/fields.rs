//! The fields: what a client cannot send is removed, what two readers could read apart is refused.
//!
//! Leaves every field of the application as it is, in its order. What is removed and why stands in
//! [`super::reserved`].

use http::header::{self, HeaderName};
use http::{HeaderMap, Version};

use super::fault::HygieneFault;
use super::reserved::{self, Why};

/// Most field lines.
const MAX_FIELDS: usize = 100;

/// What `Connection` may name (RFC 9110 §7.6.1). Anything else is a field meant for the upstream, or
/// one that we would have to remove blindly: `connection: authorization` has opened doors before.
const CONNECTION_OPTIONS: [&str; 9] = [
    "close",
    "keep-alive",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-connection",
];

/// Fields that steer a request: in another spelling they are refused, not removed, because the sender
/// means to be read twice.
const STEERING: [&str; 8] = [
    "authorization",
    "content-length",
    "content-type",
    "content-encoding",
    "cookie",
    "dpop",
    "host",
    "transfer-encoding",
];

/// Fields with one value (RFC 9110 §5.3). `Authorization` is counted by `authenticate`, `Host` by
/// [`super::authority`].
const SINGLE: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_RANGE];

/// Judges the fields, then removes those that do not get through.
///
/// # Errors
/// The rule that they break; the fields are then untouched.
pub(crate) fn cleanse(headers: &mut HeaderMap, version: Version) -> Result<(), HygieneFault> {
    if headers.len() > MAX_FIELDS {
        return Err(HygieneFault::FieldsTooMany);
    }
    let mut removed: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        let why = match reserved::plain(name.as_str().as_bytes()) {
            None => reserved::why(name.as_str()),
            Some(plain) => disguised(&plain)?,
        };
        match why {
            Some(Why::Connection) => {
                of_connection(name, headers, version)?;
                removed.push(name.clone());
            }
            Some(
                Why::Ours
                | Why::Identity
                | Why::Certificate
                | Why::Origin
                | Why::Target
                | Why::Method
                | Why::Environment,
            ) => removed.push(name.clone()),
            None => {}
        }
    }
    // Values outnumber names only where some name stands twice.
    if headers.len() != headers.keys_len()
        && SINGLE.iter().any(|name| headers.get_all(name).iter().nth(1).is_some())
    {
        return Err(HygieneFault::FieldTwice);
    }
    for name in removed {
        headers.remove(name);
    }
    Ok(())
}

/// Whether a trailer of this name is refused (RFC 9110 §6.5.1).
pub(crate) fn forbidden_in_trailers(name: &[u8]) -> bool {
    const ONLY_IN_HEADS: [&str; 15] = [
        "accept-encoding",
        "age",
        "cache-control",
        "content-range",
        "date",
        "expires",
        "location",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "retry-after",
        "set-cookie",
        "vary",
        "www-authenticate",
    ];
    let plain = reserved::plain(name);
    let name = plain.as_deref().or_else(|| std::str::from_utf8(name).ok()).unwrap_or_default();
    reserved::why(name).is_some()
        || STEERING.contains(&name)
        || ONLY_IN_HEADS.contains(&name)
        || name.starts_with("if-")
        || name.starts_with("access-control-")
}

/// Judges a name that is not in plain spelling, by the one it could be taken for.
fn disguised(plain: &str) -> Result<Option<Why>, HygieneFault> {
    if STEERING.contains(&plain) {
        return Err(HygieneFault::FieldDisguised);
    }
    Ok(reserved::why(plain))
}

/// Judges a field of the connection before it is removed.
fn of_connection(
    name: &HeaderName,
    headers: &HeaderMap,
    version: Version,
) -> Result<(), HygieneFault> {
    let mut values = headers.get_all(name).iter();
    if version == Version::HTTP_2 {
        let trailers =
            |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"trailers");
        match *name {
            // RFC 9113 §8.2.2: TE MUST NOT contain any value other than "trailers"
            header::TE if values.all(trailers) => return Ok(()),
            header::TE => return Err(HygieneFault::TeInHttp2),
            header::EXPECT | header::TRAILER => return Ok(()),
            // RFC 9113 §8.2.2: connection-specific fields make a message malformed
            header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => {
                return Err(HygieneFault::ConnectionFieldInHttp2);
            }
            _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => {
                return Err(HygieneFault::ConnectionFieldInHttp2);
            }
            _ => return Ok(()),
        }
    }
    if *name != header::CONNECTION {
        return Ok(());
    }
    let named = |option: &str| {
        let option = option.trim_matches([' ', '\t']);
        option.is_empty()
            || CONNECTION_OPTIONS.iter().any(|known| option.eq_ignore_ascii_case(known))
    };
    let fits =
        |value: &http::HeaderValue| value.to_str().is_ok_and(|text| text.split(',').all(named));
    if values.all(fits) { Ok(()) } else { Err(HygieneFault::ConnectionNamesField) }
}

#[cfg(test)]
mod tests {
    use super::HygieneFault::*;
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        map
    }

    fn cleansed(lines: &[(&str, &str)], version: Version) -> Result<Vec<String>, HygieneFault> {
        let mut headers = map(lines);
        cleanse(&mut headers, version)?;
        let mut left: Vec<String> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        left.sort();
        Ok(left)
    }

    #[test]
    fn reserved_fields_are_removed_in_every_spelling() {
        let names = [
            "portcullis-identity",
            "portcullis-anything",
            "portcullis_identity",
            "Portcullis.Identity",
            "x-user-id",
            "X_USER_ID",
            "x-user",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-uri",
            "x-forwarded-user",
            "forwarded",
            "x-real-ip",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "proxy",
            "x-auth-request-user",
            "x-authenticated-userid",
            "x-remote-user",
            "remote-user",
            "remote_user",
            "client-cert",
            "client-cert-chain",
            "x-ssl-client-verify",
            "x-consumer-username",
            "x-goog-authenticated-user-email",
            "x-ms-client-principal-id",
            "true-client-ip",
            "cf-connecting-ip",
            "x-envoy-external-address",
            "request-id",
            "proxy-authorization",
            "keep-alive",
            "trailer",
            "te",
            "expect",
            "impersonate-user",
        ];
        for name in names {
            let left = cleansed(&[("accept", "*/*"), (name, "1"), (name, "2")], Version::HTTP_11);
            assert_eq!(left, Ok(vec!["accept".to_owned()]), "{name}");
        }
    }

    #[test]
    fn the_application_keeps_its_fields() {
        let lines = [
            ("host", "a"),
            ("x-api-key", "k"),
            ("x-portcullis", "1"),
            ("cookie", "a=b"),
            ("my_field", "1"),
        ];
        let left = cleansed(&lines, Version::HTTP_2).unwrap();
        assert_eq!(left, ["cookie", "host", "my_field", "x-api-key", "x-portcullis"]);
    }

    #[test]
    fn connection_options_are_removed() {
        for value in
            ["close", "keep-alive", "Keep-Alive, TE", "close,,", "upgrade, HTTP2-Settings", ""]
        {
            let left = cleansed(&[("connection", value), ("te", "gzip")], Version::HTTP_11);
            assert_eq!(left, Ok(vec![]), "{value}");
        }
    }

    #[test]
    fn connection_names_field() {
        for value in [
            "authorization",
            "close, Authorization",
            "host",
            "cookie",
            "x-forwarded-for",
            "portcullis-identity",
            "content-length",
            "x-anything",
            "close\u{1f}",
        ] {
            let Ok(value) = http::HeaderValue::from_bytes(value.as_bytes()) else { continue };
            let mut headers = map(&[("connection", "close")]);
            headers.append(header::CONNECTION, value);
            assert_eq!(cleanse(&mut headers, Version::HTTP_11), Err(ConnectionNamesField));
        }
    }

    #[test]
    fn connection_field_in_http2() {
        for name in ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"]
        {
            assert_eq!(
                cleansed(&[(name, "close")], Version::HTTP_2),
                Err(ConnectionFieldInHttp2),
                "{name}"
            );
        }
    }

    #[test]
    fn te_in_http2() {
        assert_eq!(cleansed(&[("te", "gzip")], Version::HTTP_2), Err(TeInHttp2));
        assert_eq!(
            cleansed(&[("te", "trailers"), ("te", "gzip")], Version::HTTP_2),
            Err(TeInHttp2)
        );
        assert_eq!(cleansed(&[("te", "trailers")], Version::HTTP_2), Ok(vec![]));
    }

    #[test]
    fn field_disguised() {
        for name in [
            "content_length",
            "transfer_encoding",
            "content.type",
            "content_encoding",
            "transfer.encoding",
        ] {
            assert_eq!(cleansed(&[(name, "1")], Version::HTTP_11), Err(FieldDisguised), "{name}");
        }
    }

    #[test]
    fn field_twice() {
        for name in ["content-type", "content-length", "content-encoding"] {
            assert_eq!(
                cleansed(&[(name, "1"), (name, "1")], Version::HTTP_2),
                Err(FieldTwice),
                "{name}"
            );
        }
        assert!(cleansed(&[("accept", "a"), ("accept", "b")], Version::HTTP_2).is_ok());
    }

    #[test]
    fn fields_too_many() {
        let lines = vec![("a", "1"); 101];
        assert_eq!(cleansed(&lines, Version::HTTP_2), Err(FieldsTooMany));
        assert!(cleansed(&lines[..100], Version::HTTP_2).is_ok());
    }

    #[test]
    fn trailers() {
        for name in [
            "Host",
            "content-length",
            "Transfer_Encoding",
            "authorization",
            "X-User-Id",
            "portcullis-identity",
            "if-match",
            "Connection",
            "cookie",
            "Set-Cookie",
            "Range",
        ] {
            assert!(forbidden_in_trailers(name.as_bytes()), "{name}");
        }
        for name in ["Server-Timing", "x-checksum", "grpc-status", "ETag", "Digest"] {
            assert!(!forbidden_in_trailers(name.as_bytes()), "{name}");
        }
    }
}
