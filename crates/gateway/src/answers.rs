//! Stage 11 on lines with `response`: of a JSON answer only the members go out that the line names
//! for this caller, each byte for byte as the upstream wrote it.
//!
//! An allow-list: what cannot be filtered never passes. Of a success it is 502; of a redirect or an
//! error the status passes and the body does not. Reads nothing of requests but what would keep an
//! answer from being read. Which groups a caller sees is policy's ([`Permit::groups`]).
//!
//! [`Permit::groups`]: portcullis_policy::decide::Permit::groups

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use portcullis_policy::compile::ResponseRule;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::body::{self, Room};
use crate::refusal::Refusal;

/// Largest answer that is filtered (`7-authorization`, bounds).
pub(crate) const MAX_ANSWER: u64 = 1024 * 1024;

/// The members of problem details (RFC 9457 §3.1): an error may always say what it is.
const PROBLEM: [&str; 5] = ["type", "title", "status", "detail", "instance"];

/// Fields that speak of the bytes which the upstream sent: a validator or digest of what was left
/// out would tell of it (RFC 9110 §8.8.3, RFC 9530), and a part of it cannot be filtered (§14).
const OF_OTHER_BYTES: [&str; 8] = [
    "content-length",
    "etag",
    "content-md5",
    "digest",
    "content-digest",
    "repr-digest",
    "accept-ranges",
    "content-range",
];

/// What one caller sees of one operation's answers.
pub(crate) struct Filter {
    members: Members,
    method: Method,
    /// How long an answer may take to arrive whole.
    patience: Duration,
    sees: Sees,
}

/// Whether all callers of the line see the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sees {
    Alike,
    Apart,
}

/// Members of an object that go out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Members {
    /// All of the value, whatever it is.
    Whole,
    /// These members; arrays are looked through.
    Named(BTreeMap<Box<str>, Members>),
}

impl Filter {
    /// Of a line's rule and the groups that the permit shows, by position.
    pub(crate) fn of(
        rule: &ResponseRule,
        shown: &[usize],
        (method, patience): (&Method, Duration),
    ) -> Self {
        let mut members = Members::Named(BTreeMap::new());
        for group in shown.iter().filter_map(|at| rule.groups.get(*at)) {
            group.members.iter().for_each(|member| members.add(member));
        }
        let apart = rule.groups.iter().any(|group| group.to.is_some());
        Filter {
            members,
            method: method.clone(),
            patience,
            sees: if apart { Sees::Apart } else { Sees::Alike },
        }
    }

    /// Asks the upstream for an answer that can be read: whole, and without a coding. RFC 9110
    /// §12.5.3: a request without `Accept-Encoding` would take any.
    pub(crate) fn prepare(fields: &mut HeaderMap) {
        fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        fields.remove(header::RANGE);
        fields.remove(header::IF_RANGE);
    }

    /// The answer as the caller may see it. `read` is called when the upstream's was read to its end.
    ///
    /// # Errors
    /// [`Refusal::ResponseUnfiltered`] for a success that cannot be filtered;
    /// [`Refusal::UpstreamSlow`]; no room for it.
    pub(crate) async fn filtered<B>(
        &self,
        room: &Room,
        response: Response<B>,
        read: impl FnOnce(),
    ) -> Result<Response<Bytes>, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (mut parts, body) = response.into_parts();
        let readable = is_readable(&parts.headers) && parts.status != StatusCode::PARTIAL_CONTENT;
        undress(&mut parts.headers, self.sees);
        if body.is_end_stream() {
            read();
            return Ok(Response::from_parts(parts, Bytes::new()));
        }
        if self.has_no_content(parts.status) {
            return Ok(Response::from_parts(parts, Bytes::new()));
        }
        let bytes = match readable {
            true => gather(room, body, self.patience).await?,
            false => None,
        };
        let kept = bytes.and_then(|bytes| {
            read();
            keep(self.of_status(parts.status).as_ref().unwrap_or(&self.members), &bytes)
        });
        match kept {
            Some(kept) => Ok(Response::from_parts(parts, kept.into())),
            None if parts.status.is_success() => Err(Refusal::ResponseUnfiltered),
            None => {
                parts.headers.remove(header::CONTENT_TYPE);
                parts.headers.remove(header::CONTENT_ENCODING);
                Ok(Response::from_parts(parts, Bytes::new()))
            }
        }
    }

    /// RFC 9110 §9.3.2, §15.3.5, §15.4.5: answers that have no content, whatever their fields say.
    fn has_no_content(&self, status: StatusCode) -> bool {
        self.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// Of an error, the members of problem details besides the line's own.
    fn of_status(&self, status: StatusCode) -> Option<Members> {
        let is_error = status.is_client_error() || status.is_server_error();
        is_error.then(|| {
            let mut members = self.members.clone();
            PROBLEM.iter().for_each(|member| members.add(member));
            members
        })
    }
}

impl Members {
    /// Adds `a.b`; what is whole stays whole.
    fn add(&mut self, dotted: &str) {
        let Members::Named(named) = self else { return };
        match dotted.split_once('.') {
            None => drop(named.insert(dotted.into(), Members::Whole)),
            Some((first, rest)) => {
                let inner = named.entry(first.into()).or_insert(Members::Named(BTreeMap::new()));
                inner.add(rest);
            }
        }
    }
}

/// JSON in UTF-8 (RFC 8259 §8.1), without a coding.
fn is_readable(fields: &HeaderMap) -> bool {
    let is_json = |essence: &str| {
        // RFC 6839 §3.1
        let essence = essence.to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    };
    let mut codings = fields.get_all(header::CONTENT_ENCODING).iter();
    let plain = codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let json = body::media_type(fields)
        .is_some_and(|(essence, parameters)| is_json(essence) && body::in_utf8(parameters));
    plain && json
}

fn undress(fields: &mut HeaderMap, sees: Sees) {
    for name in OF_OTHER_BYTES {
        fields.remove(HeaderName::from_static(name));
    }
    if sees == Sees::Apart {
        // A cache between us and the callers would hand one's answer to another (RFC 9111 §3.5: a
        // `public` answer to a request with credentials may be shared).
        let private = HeaderValue::from_static("private, no-store");
        fields.insert(header::CACHE_CONTROL, private);
    }
}

/// The whole body; `None` when it is too large or breaks off.
async fn gather<B>(room: &Room, mut body: B, patience: Duration) -> Result<Option<Vec<u8>>, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > MAX_ANSWER {
        return Ok(None);
    }
    let mut taken = room.take();
    let reading = async {
        let mut bytes: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Ok(None) };
            // Trailers are dropped, as in `relay`.
            let Ok(data) = frame.into_data() else { continue };
            if (bytes.len() + data.len()) as u64 > MAX_ANSWER {
                return Ok(None);
            }
            taken.more(data.len())?;
            bytes.extend_from_slice(&data);
        }
        Ok(Some(bytes))
    };
    tokio::time::timeout(patience, reading).await.map_err(|_| Refusal::UpstreamSlow)?
}

/// What goes out of a JSON text; `None` when it is not JSON, when a member that goes out stands
/// twice, or when the whole is a value that has no members to choose from.
fn keep(members: &Members, json: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(json.len());
    let mut reader = serde_json::Deserializer::from_slice(json);
    let kept = Keep { members, out: &mut out }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    (kept == Kept::Yes).then_some(out)
}

/// Whether a value was written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    /// It is a value where members were named: nothing of it goes out.
    No,
}

/// Writes what goes out of one value.
struct Keep<'a> {
    members: &'a Members,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Keep<'_> {
    type Value = Kept;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Kept, D::Error> {
        match self.members {
            Members::Whole => {
                let raw = <&RawValue>::deserialize(reader)?;
                self.out.extend_from_slice(raw.get().as_bytes());
                Ok(Kept::Yes)
            }
            Members::Named(named) => reader.deserialize_any(Walk { named, keep: self }),
        }
    }
}

/// Walks an object or an array whose members were named. Nesting is the reader's limit (128).
struct Walk<'a> {
    named: &'a BTreeMap<Box<str>, Members>,
    keep: Keep<'a>,
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Kept;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kept, A::Error> {
        let out = self.keep.out;
        let mut gone: Vec<&str> = Vec::with_capacity(self.named.len());
        out.push(b'{');
        let start = out.len();
        while let Some(found) = map.next_key_seed(Name { named: self.named })? {
            let Some((name, members)) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            // RFC 8259 §4: which of two a reader takes is anyone's guess.
            if gone.contains(&name) {
                return Err(A::Error::custom("a member stands twice"));
            }
            let before = out.len();
            if before > start {
                out.push(b',');
            }
            write_name(out, name).map_err(A::Error::custom)?;
            let kept = map.next_value_seed(Keep { members, out: &mut *out })?;
            if kept == Kept::No {
                out.truncate(before);
            }
            gone.push(name);
        }
        out.push(b'}');
        Ok(Kept::Yes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kept, A::Error> {
        let Keep { members, out } = self.keep;
        out.push(b'[');
        let start = out.len();
        loop {
            let before = out.len();
            if before > start {
                out.push(b',');
            }
            match seq.next_element_seed(Keep { members, out: &mut *out })? {
                Some(Kept::Yes) => {}
                Some(Kept::No) => out.truncate(before),
                None => {
                    out.truncate(before);
                    break;
                }
            }
        }
        out.push(b']');
        Ok(Kept::Yes)
    }

    /// `null` says that there is nothing to choose from.
    fn visit_unit<E>(self) -> Result<Kept, E> {
        self.keep.out.extend_from_slice(b"null");
        Ok(Kept::Yes)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Kept, E> {
        Ok(Kept::No)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Kept, E> {
        Ok(Kept::No)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Kept, E> {
        Ok(Kept::No)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Kept, E> {
        Ok(Kept::No)
    }
    fn visit_str<E>(self, _: &str) -> Result<Kept, E> {
        Ok(Kept::No)
    }
}

fn write_name(out: &mut Vec<u8>, name: &str) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *out, name)?;
    out.push(b':');
    Ok(())
}

/// Reads a member's name: the one that goes out, or `None`.
struct Name<'a> {
    named: &'a BTreeMap<Box<str>, Members>,
}

impl<'a, 'de> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<(&'a str, &'a Members)>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'a, 'de> Visitor<'de> for Name<'a> {
    type Value = Option<(&'a str, &'a Members)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.named.get_key_value(name).map(|(name, members)| (&**name, members)))
    }
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
