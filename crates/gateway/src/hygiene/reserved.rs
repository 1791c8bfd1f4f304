//! The fields that a client cannot send, each with the reason.
//!
//! An upstream behind a gateway believes such fields, because its last gateway set them. So none of
//! them gets through, in any spelling, on any operation. `forward` sets ours afterwards.

/// Why a field does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Of the connection, not of the request (RFC 9110 §7.6.1).
    Connection,
    /// Portcullis sets it.
    Ours,
    /// Upstreams take it for who is calling.
    Identity,
    /// Upstreams take it for a client certificate that somebody verified.
    Certificate,
    /// Upstreams take it for where the request came from, or over what.
    Origin,
    /// Upstreams take it for the target in place of the request line's.
    Target,
    /// Upstreams take it for the method in place of the request line's.
    Method,
    /// CGI turns it into `HTTP_PROXY`, which HTTP clients obey (CVE-2016-5385).
    Environment,
}

/// How a name is compared: in lower case, with `-` for every other separator.
#[derive(Clone, Copy)]
enum Name {
    Is(&'static str),
    Starts(&'static str),
}

use Name::{Is, Starts};

/// By first letter (of `x-…`, the letter behind it), so that a look-up reads few lines.
const TABLE: &[(Name, Why)] = &[
    (Starts("cf-access-"), Why::Identity),
    (Starts("cf-connecting-ip"), Why::Origin),
    (Starts("client-cert"), Why::Certificate),
    (Is("client-ip"), Why::Origin),
    (Is("connection"), Why::Connection),
    (Is("expect"), Why::Connection),
    (Starts("fastly-client-"), Why::Origin),
    (Starts("forwarded"), Why::Origin),
    (Is("front-end-https"), Why::Origin),
    (Is("http2-settings"), Why::Connection),
    (Starts("impersonate-"), Why::Identity),
    (Is("keep-alive"), Why::Connection),
    (Starts("oidc-"), Why::Identity),
    (Is("portcullis"), Why::Ours),
    (Starts("portcullis-"), Why::Ours),
    (Is("proxy"), Why::Environment),
    (Starts("proxy-"), Why::Connection),
    (Starts("remote-"), Why::Identity),
    (Is("request-id"), Why::Ours),
    (Is("request-uri"), Why::Target),
    (Is("script-name"), Why::Target),
    (Starts("ssl-client-"), Why::Certificate),
    (Is("te"), Why::Connection),
    (Is("trailer"), Why::Connection),
    (Is("transfer-encoding"), Why::Connection),
    (Starts("true-client-"), Why::Origin),
    (Is("upgrade"), Why::Connection),
    (Starts("x-accel-"), Why::Target),
    (Starts("x-amzn-oidc-"), Why::Identity),
    (Starts("x-apigateway-api-userinfo"), Why::Identity),
    (Starts("x-appengine-"), Why::Origin),
    (Starts("x-arr-"), Why::Certificate),
    (Starts("x-auth-"), Why::Identity),
    (Starts("x-authenticated-"), Why::Identity),
    (Starts("x-azure-client"), Why::Origin),
    (Starts("x-azure-socket"), Why::Origin),
    (Starts("x-client-cert"), Why::Certificate),
    (Is("x-client-dn"), Why::Certificate),
    (Is("x-client-ip"), Why::Origin),
    (Is("x-client-verify"), Why::Certificate),
    (Starts("x-cluster-client-"), Why::Origin),
    (Starts("x-consumer-"), Why::Identity),
    (Starts("x-credential-"), Why::Identity),
    (Starts("x-endpoint-api-userinfo"), Why::Identity),
    (Starts("x-envoy-"), Why::Origin),
    (Starts("x-forwarded"), Why::Origin),
    (Starts("x-goog-authenticated-"), Why::Identity),
    (Starts("x-goog-iap-"), Why::Identity),
    (Is("x-host"), Why::Target),
    (Is("x-http-destinationurl"), Why::Target),
    (Is("x-http-host-override"), Why::Target),
    (Starts("x-http-method"), Why::Method),
    (Starts("x-impersonate"), Why::Identity),
    (Is("x-method"), Why::Method),
    (Starts("x-method-override"), Why::Method),
    (Starts("x-ms-client-principal"), Why::Identity),
    (Starts("x-original-"), Why::Target),
    (Starts("x-originating-"), Why::Origin),
    (Starts("x-override-"), Why::Target),
    (Starts("x-portcullis-"), Why::Ours),
    (Starts("x-proxy-"), Why::Target),
    (Starts("x-real-"), Why::Origin),
    (Starts("x-remote-"), Why::Identity),
    (Starts("x-rewrite-"), Why::Target),
    (Is("x-scheme"), Why::Origin),
    (Starts("x-script-name"), Why::Target),
    (Starts("x-ssl-"), Why::Certificate),
    (Is("x-url-scheme"), Why::Origin),
    (Is("x-user"), Why::Identity),
    (Starts("x-user-"), Why::Identity),
    (Is("x-userinfo"), Why::Identity),
    (Starts("x-webauth-"), Why::Identity),
];

/// Where the lines of each key stand in [`TABLE`]: a letter of the alphabet for a name's first, the
/// same again behind it for the first letter after `x-`.
static PLACES: [(usize, usize); 52] = places();

const fn places() -> [(usize, usize); 52] {
    let mut places = [(0, 0); 52];
    let mut left = TABLE;
    let mut at = 0;
    while let Some(((Is(name) | Starts(name), _), rest)) = left.split_first() {
        if let Some(key) = key(name.as_bytes())
            && let Some(place) = places.as_mut_slice().split_at_mut(key).1.first_mut()
        {
            if place.1 == 0 {
                place.0 = at;
            }
            place.1 = at + 1;
        }
        left = rest;
        at += 1;
    }
    places
}

const fn key(name: &[u8]) -> Option<usize> {
    match name {
        [b'x', b'-', letter @ b'a'..=b'z', ..] => Some((*letter - b'a') as usize + 26),
        [letter @ b'a'..=b'z', ..] => Some((*letter - b'a') as usize),
        _ => None,
    }
}

/// Why a name does not get through, if it does not. The name is in lower case, and `-` is its only
/// separator: see [`plain`].
#[inline]
pub(crate) fn why(name: &str) -> Option<Why> {
    let (from, to) = *PLACES.get(key(name.as_bytes())?)?;
    let fits = |line: &&(Name, Why)| match line.0 {
        Is(whole) => name == whole,
        Starts(start) => name.starts_with(start),
    };
    TABLE.get(from..to)?.iter().find(fits).map(|line| line.1)
}

/// A name as the table spells it, when it is spelt otherwise: lower case, and `-` for each byte that
/// CGI, WSGI or PHP fold to the same `_` as `-`.
#[inline]
pub(crate) fn plain(name: &[u8]) -> Option<String> {
    // Without an early exit: names are short, and nearly all are plain.
    let plain = |b: u8| b.is_ascii_lowercase() | b.is_ascii_digit() | (b == b'-');
    if name.iter().fold(true, |all, b| all & plain(*b)) {
        return None;
    }
    let fold =
        |b: &u8| if b.is_ascii_alphanumeric() { char::from(b.to_ascii_lowercase()) } else { '-' };
    Some(name.iter().map(fold).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_grouped_by_its_key() {
        let keys: Vec<_> =
            TABLE.iter().map(|(Is(name) | Starts(name), _)| key(name.as_bytes())).collect();
        assert!(keys.is_sorted());
        for (Is(name) | Starts(name), reason) in TABLE {
            assert!(plain(name.as_bytes()).is_none(), "{name}");
            assert_eq!(why(name), Some(*reason), "{name}");
        }
    }

    #[test]
    fn what_clients_send_gets_through() {
        for name in [
            "host",
            "accept",
            "accept-language",
            "authorization",
            "cookie",
            "content-type",
            "content-length",
            "user-agent",
            "origin",
            "referer",
            "sec-fetch-site",
            "dpop",
            "range",
            "if-none-match",
            "x-requested-with",
            "x-request-id",
            "x-api-key",
            "x-portcullis",
            "x-csrf-token",
            "traceparent",
            "idempotency-key",
            "forward",
            "x-userland",
            "1",
            "-x",
        ] {
            assert_eq!(why(name), None, "{name}");
        }
    }

    #[test]
    fn spellings_are_folded() {
        for (name, folded) in [
            ("x_forwarded_for", "x-forwarded-for"),
            ("X.Real.IP", "x-real-ip"),
            ("transfer_encoding", "transfer-encoding"),
            ("x~user~id", "x-user-id"),
        ] {
            assert_eq!(plain(name.as_bytes()).as_deref(), Some(folded));
        }
    }
}
