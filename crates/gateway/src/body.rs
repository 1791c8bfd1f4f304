//! Stage 8, where a rule reads the body: it is read whole, once, before the decision, and the bytes
//! that were judged are the bytes that are sent.
//!
//! Whatever two readers could understand apart is refused here or by [`portcullis_policy::body`]:
//! another type than JSON, a content coding, a second character set. Reads nothing of a caller whom
//! anything else refuses: [`crate::authorize`] calls it last. Bodies that no rule reads are streamed
//! by [`crate::forward`] and never held.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portcullis_policy::body;
use portcullis_policy::compile::JudgedBody;
use portcullis_policy::field::Value;

use crate::hygiene::Cleansed;
use crate::memory::Kit;
use crate::refusal::Refusal;

/// Most bytes of judged bodies that one worker holds: 256 of the usual largest. Only callers whom
/// everything else admits get to fill it.
pub(crate) const MAX_BUFFERED: usize = 16 * 1024 * 1024;
/// A judged body is small: whoever needs longer to send it holds memory for nothing.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a judged body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each group is documented; each name is the rule that it breaks")]
pub enum ReadFault {
    /// 415: not JSON in UTF-8, or none of the types that the line takes.
    BodyTypeForeign,
    /// 415: compressed, or coded otherwise.
    BodyEncoded,
    /// 503: this worker holds too many.
    BodiesCrowded,
}

/// The values of the members that rules read; the body itself stays with the request.
///
/// # Errors
/// The rule that it breaks. What was not read is then still on its way.
pub(crate) async fn judge(
    room: &Room,
    cleansed: &mut Cleansed,
    (kit, judged): (&Kit, &JudgedBody),
) -> Result<Vec<Option<Value>>, Refusal> {
    let fields = &cleansed.parts.headers;
    among(fields, &kit.body_types)?;
    json(fields, &kit.body_types)?;
    // RFC 9110 §8.4: a coding would have to be undone first, and the bytes judged were not those sent.
    if fields.contains_key(header::CONTENT_ENCODING) {
        return Err(Refusal::Unread(ReadFault::BodyEncoded));
    }
    // Before the client is told to go on (RFC 9110 §10.1.1): a length that is too large is known
    // from the head alone.
    let max = judged.max.min(kit.body_max);
    if cleansed.body.size_hint().lower() > max {
        return Err(Refusal::BodyTooLarge);
    }
    let incoming = cleansed.body.arriving().ok_or(Refusal::Miswired)?;
    let gathering = gather(room, incoming, max);
    let gathered = tokio::time::timeout(BODY_TIMEOUT.min(kit.timeout), gathering).await;
    let buffered = gathered.map_err(|_| Refusal::BodySlow)??;
    let values = body::read(&judged.shape, &judged.fields, &buffered.bytes);
    let values = values.map_err(Refusal::Body)?;
    cleansed.body.judged(buffered);
    Ok(values)
}

/// Whether a body is of a type that the line takes; any, where it names none.
pub(crate) fn among(fields: &HeaderMap, types: &[Box<str>]) -> Result<(), Refusal> {
    let taken = types.is_empty()
        || media_type(fields).is_some_and(|(essence, _)| {
            types.iter().any(|known| known.eq_ignore_ascii_case(essence))
        });
    if taken { Ok(()) } else { Err(Refusal::Unread(ReadFault::BodyTypeForeign)) }
}

/// Whether a body says that it is JSON in UTF-8: `application/json`, or a `+json` that the line names.
fn json(fields: &HeaderMap, types: &[Box<str>]) -> Result<(), Refusal> {
    let is_json = |essence: &str| match essence.to_ascii_lowercase() {
        essence if essence == "application/json" => true,
        // RFC 6839 §3.1
        essence => !types.is_empty() && essence.ends_with("+json"),
    };
    match media_type(fields) {
        Some((essence, parameters)) if is_json(essence) && in_utf8(parameters) => Ok(()),
        Some(_) | None => Err(Refusal::Unread(ReadFault::BodyTypeForeign)),
    }
}

/// Type and parameters of the one `Content-Type`. `None` for none, several, or no media type.
pub(crate) fn media_type(fields: &HeaderMap) -> Option<(&str, &str)> {
    let mut all = fields.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let text = only.to_str().ok()?;
    // RFC 9110 §5.3: a list in one line is two fields; §8.3 knows no list of types.
    if text.contains(',') {
        return None;
    }
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let essence = essence.trim_matches([' ', '\t']);
    let (kind, subtype) = essence.split_once('/')?;
    // RFC 9110 §5.6.2
    let is_token = |text: &str| {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !text.is_empty() && text.bytes().all(token)
    };
    (is_token(kind) && is_token(subtype)).then_some((essence, parameters))
}

/// RFC 8259 §8.1: JSON is UTF-8. Another `charset`, or a second one, might be believed upstream.
pub(crate) fn in_utf8(parameters: &str) -> bool {
    let mut charsets = 0;
    parameters.split(';').all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !name.trim().eq_ignore_ascii_case("charset") {
            return true;
        }
        charsets += 1;
        charsets == 1 && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    })
}

async fn gather(room: &Room, body: &mut Incoming, max: u64) -> Result<Buffered, Refusal> {
    let mut taken = room.take();
    let mut bytes: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::BodyBroken)?;
        // Trailers are dropped, as in `relay`.
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > max {
            return Err(Refusal::BodyTooLarge);
        }
        // By what arrived, not by what a head promises: room is taken by those who really send.
        taken.more(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(Buffered { bytes: bytes.into(), _taken: taken })
}

/// The judged bytes, and the room that they take until they are sent or dropped.
pub(crate) struct Buffered {
    bytes: Bytes,
    _taken: Taken,
}

impl Buffered {
    /// All of them, once.
    pub(crate) fn give(&mut self) -> Option<Bytes> {
        Some(std::mem::take(&mut self.bytes)).filter(|bytes| !bytes.is_empty())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// What is left of [`MAX_BUFFERED`] on one worker.
pub(crate) struct Room(Rc<Cell<usize>>);

impl Default for Room {
    fn default() -> Self {
        Room(Rc::new(Cell::new(MAX_BUFFERED)))
    }
}

impl Room {
    pub(crate) fn take(&self) -> Taken {
        Taken { left: self.0.clone(), bytes: 0 }
    }

    /// Bytes left.
    #[cfg(test)]
    pub(crate) fn left(&self) -> &Cell<usize> {
        &self.0
    }
}

/// Room taken by one body; given back when dropped.
pub(crate) struct Taken {
    left: Rc<Cell<usize>>,
    bytes: usize,
}

impl Taken {
    pub(crate) fn more(&mut self, bytes: usize) -> Result<(), Refusal> {
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.ok_or(Refusal::Unread(ReadFault::BodiesCrowded))?);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.left.set(self.left.get() + self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(values: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(header::CONTENT_TYPE, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn body_type_foreign() {
        let (any, named): (&[Box<str>], &[Box<str>]) =
            (&[], &["application/json".into(), "application/merge-patch+json".into()]);
        type Row<'r> = (&'r [&'r str], &'r [Box<str>], bool);
        let table: [Row<'_>; 20] = [
            (&["application/json"], any, true),
            (&["Application/JSON; charset=UTF-8"], any, true),
            (&["application/json;charset=\"utf-8\""], any, true),
            (&["application/json; profile=x"], any, true),
            (&["application/json; charset=utf-16"], any, false),
            (&["application/json; charset=utf-7"], any, false),
            (&["application/json; charset=utf-8; charset=utf-16"], any, false),
            (&["application/json; charset="], any, false),
            (&["application/json", "application/json"], any, false),
            (&["application/json, text/plain"], any, false),
            (&["application/json text/plain"], any, false),
            (&["text/plain"], any, false),
            (&["application/jsonx"], any, false),
            (&["application/x-www-form-urlencoded"], any, false),
            (&["json"], any, false),
            (&[], any, false),
            (&["application/merge-patch+json"], any, false),
            (&["application/merge-patch+json"], named, true),
            (&["application/problem+json"], named, false),
            (&["application/json"], named, true),
        ];
        for (values, types, passes) in table {
            let map = fields(values);
            let judged = among(&map, types).and_then(|()| json(&map, types));
            assert_eq!(judged.is_ok(), passes, "{values:?} {types:?}");
        }
    }

    #[test]
    fn a_line_takes_the_types_that_it_names() {
        let types: &[Box<str>] = &["image/png".into()];
        assert!(among(&fields(&["image/png"]), types).is_ok());
        assert!(among(&fields(&["IMAGE/PNG; a=b"]), types).is_ok());
        assert!(among(&fields(&["image/jpeg"]), types).is_err());
        assert!(among(&fields(&[]), types).is_err());
        assert!(among(&fields(&["anything"]), &[]).is_ok());
    }

    #[test]
    fn bodies_crowded() {
        let room = Room::default();
        let mut one = room.take();
        assert!(one.more(MAX_BUFFERED).is_ok());
        let mut other = room.take();
        assert!(matches!(other.more(1), Err(Refusal::Unread(ReadFault::BodiesCrowded))));
        drop(other);
        assert_eq!(room.left().get(), 0, "what was refused gives nothing back");
        drop(one);
        assert_eq!(room.left().get(), MAX_BUFFERED);
    }
}
