//! One request and one answer on a connection that is open already: HTTP/1.1, bounded in its head, its
//! body and its fields. Knows no address policy and follows nothing.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST,
    HeaderMap, HeaderValue, USER_AGENT,
};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::time::Duration;

use portcullis_core::fetch::{Body, FetchFault, FetchRequest, Fetched};
use portcullis_core::secret::Secret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::target::Target;

/// Largest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Most fields in an answer.
const MAX_FIELDS: usize = 64;
/// Most digits of a `max-age`: over 300 years.
const MAX_AGE_DIGITS: usize = 10;

/// The request to be sent.
pub(super) fn request(
    target: &Target,
    asked: FetchRequest,
) -> Result<Request<Full<Bytes>>, FetchFault> {
    let unfit = || FetchFault::AddressUnfit(target.address.authority());
    let method = if asked.post.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::builder()
        .method(method)
        .uri(target.path.as_str())
        // RFC 9110 §7.2: the host that was meant, not the address that it led to.
        .header(HOST, target.address.authority())
        .header(ACCEPT, asked.accept)
        // A compressed answer would be bounded before it is inflated, not after.
        .header(ACCEPT_ENCODING, "identity")
        // Some public servers refuse whoever does not say a name.
        .header(USER_AGENT, "Portcullis")
        // RFC 9112 §9.6: the next fetch judges its address anew, on a connection of its own.
        .header(CONNECTION, "close");
    if let Some(field) = &asked.authorization {
        let mut value = HeaderValue::from_str(field.expose()).map_err(|_| unfit())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let body = match asked.post {
        Some(Body { content_type, bytes }) => {
            request = request.header(CONTENT_TYPE, content_type);
            Bytes::from_owner(Outgoing(bytes))
        }
        None => Bytes::new(),
    };
    request.body(Full::new(body)).map_err(|_| unfit())
}

/// A body on its way out, zeroised when it is sent.
struct Outgoing(Secret<Vec<u8>>);

impl AsRef<[u8]> for Outgoing {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// Why a conversation ended without an answer.
#[derive(Debug)]
pub(super) enum Ended {
    /// The connection broke, or what came is no HTTP; the cause in words.
    Broken(String),
    /// The head or the body is longer than was asked for.
    TooLarge,
}

/// Sends the request and reads the whole answer.
pub(super) async fn converse<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<Fetched, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_FIELDS).max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(ended)?;
    // The connection lives exactly as long as this conversation: a set that is dropped aborts what
    // is in it.
    let mut driven = JoinSet::new();
    driven.spawn(connection);
    let (head, body) = sender.send_request(request).await.map_err(ended)?.into_parts();
    let body = read(body, max_bytes).await?;
    Ok(Fetched {
        status: head.status.as_u16(),
        content_type: content_type(&head.headers),
        max_age: max_age(&head.headers),
        body,
    })
}

/// Reads a body of at most `max_bytes`; a declared length that is longer is not even read.
async fn read(mut body: Incoming, max_bytes: usize) -> Result<Vec<u8>, Ended> {
    let allowed = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    if body.size_hint().lower() > allowed {
        return Err(Ended::TooLarge);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        // Trailers are nobody's.
        let Ok(data) = frame.map_err(ended)?.into_data() else { continue };
        if data.len() > max_bytes.saturating_sub(bytes.len()) {
            return Err(Ended::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn ended(fault: hyper::Error) -> Ended {
    if fault.is_parse_too_large() { Ended::TooLarge } else { Ended::Broken(fault.to_string()) }
}

/// RFC 9110 §8.3.1: compared without case; parameters never choose how something is read.
fn content_type(fields: &HeaderMap) -> Option<String> {
    let mut values = fields.get_all(CONTENT_TYPE).iter();
    // Two of them are two opinions.
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    Some(essence.to_ascii_lowercase()).filter(|essence| !essence.is_empty())
}

/// RFC 9111 §5.2.2.1, strictly: digits alone, one opinion. Whatever is unclear is no opinion, so that
/// nobody is believed for longer than they said.
fn max_age(fields: &HeaderMap) -> Option<Duration> {
    let mut found = None;
    for value in fields.get_all(CACHE_CONTROL) {
        for directive in value.to_str().ok()?.split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            // RFC 9111 §5.2.2.4, §5.2.2.5
            if directive == "no-store" || directive.starts_with("no-cache") {
                return None;
            }
            let Some(digits) = directive.strip_prefix("max-age") else { continue };
            let digits = digits.strip_prefix('=')?;
            let sized = (1..=MAX_AGE_DIGITS).contains(&digits.len());
            if !sized || found.is_some() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            found = digits.parse().ok().map(Duration::from_secs);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(name, HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn max_age_is_read_strictly() {
        let table: [(&[&str], Option<u64>); 20] = [
            (&[], None),
            (&["max-age=300"], Some(300)),
            (&["public, MAX-AGE=60 , must-revalidate"], Some(60)),
            (&["public", "max-age=60"], Some(60)),
            (&["max-age=0"], Some(0)),
            (&["max-age=9999999999"], Some(9_999_999_999)),
            (&["max-age=99999999999"], None),
            (&["max-age=300, no-store"], None),
            (&["no-store", "max-age=300"], None),
            (&["no-cache, max-age=300"], None),
            (&["max-age=300, max-age=600"], None),
            (&["max-age=300", "max-age=300"], None),
            (&["max-age=-1"], None),
            (&["max-age=+5"], None),
            (&["max-age=1.5"], None),
            (&["max-age=\"300\""], None),
            (&["max-age = 300"], None),
            (&["max-age="], None),
            (&["max-age"], None),
            (&["s-maxage=300"], None),
        ];
        for (values, expected) in table {
            let read = max_age(&fields("cache-control", values));
            assert_eq!(read, expected.map(Duration::from_secs), "{values:?}");
        }
    }

    #[test]
    fn a_content_type_is_lower_case_without_parameters() {
        let table: [(&[&str], Option<&str>); 6] = [
            (&[], None),
            (&["Application/JSON; charset=UTF-8"], Some("application/json")),
            (&["application/jwk-set+json"], Some("application/jwk-set+json")),
            (&["application/json ;x"], Some("application/json")),
            (&["; charset=UTF-8"], None),
            (&["application/json", "text/html"], None),
        ];
        for (values, expected) in table {
            assert_eq!(content_type(&fields("content-type", values)).as_deref(), expected);
        }
    }
}
