//! The guard and the parser behind it, on the same bytes: whatever the guard lets pass, both read as
//! the same messages. A canary stands behind each stream, where a smuggled request would.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::Guard;

/// One message, as either side reads it.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Message {
    line: String,
    fields: Vec<(String, Vec<u8>)>,
    /// `None` while it is not whole.
    body: Option<Vec<u8>>,
}

/// What the guard lets pass, and how it cuts it.
fn guarded(stream: &[u8]) -> (usize, Vec<Message>) {
    let (mut guard, mut passed) = (Guard::default(), 0);
    let (mut messages, mut head_at, mut body_at) = (Vec::<Message>::new(), 0, 0);
    for shown in 1..=stream.len() {
        let heads = guard.heads();
        let Some(rest) = stream.get(passed..shown) else { continue };
        passed += guard.judge(rest).passed;
        if guard.heads() > heads {
            messages.push(head(&stream[head_at..passed]));
            body_at = passed;
        }
        if guard.between_messages() && passed == shown {
            if let Some(last) = messages.last_mut().filter(|last| last.body.is_none()) {
                last.body = Some(body(last, &stream[body_at..passed]));
            }
            head_at = passed;
        }
    }
    (passed, messages)
}

fn head(bytes: &[u8]) -> Message {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    // Bytes above ASCII as they are: both sides are to see the same ones.
    let text: String = bytes.iter().copied().map(char::from).collect();
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let line = lines.next().unwrap();
    // A scheme has no case (RFC 3986 §3.1); hyper writes it small.
    let line = match line.split_once(' ') {
        Some((method, target)) if !target.starts_with('/') => {
            let (scheme, rest) = target.split_once("://").unwrap_or(("", target));
            format!("{method} {}://{rest}", scheme.to_ascii_lowercase())
        }
        _ => line.to_owned(),
    };
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.trim_matches([' ', '\t']).chars().map(|c| c as u8).collect();
        (name.to_ascii_lowercase(), value)
    };
    Message { line, fields: sorted(lines.map(field).collect()), body: None }
}

/// The order of different names means nothing, and maps do not keep it.
fn sorted(mut fields: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

fn body(message: &Message, mut framed: &[u8]) -> Vec<u8> {
    if !message.fields.iter().any(|(name, _)| name == "transfer-encoding") {
        return framed.to_vec();
    }
    let mut whole = Vec::new();
    loop {
        let end = framed.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let line = std::str::from_utf8(&framed[..end]).unwrap_or("0");
        let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&framed[end + 2..end + 2 + size]);
        framed = &framed[end + 2 + size + 2..];
    }
}

/// What hyper makes of bytes, as the listener sets it up.
fn parsed(bytes: &[u8]) -> Vec<Message> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen: Rc<RefCell<Vec<Message>>> = Rc::default();
    runtime.block_on(async {
        let (mut mine, theirs) = tokio::io::duplex(1024 * 1024);
        mine.write_all(bytes).await.unwrap();
        mine.shutdown().await.unwrap();
        let service = service_fn(|request: http::Request<Incoming>| {
            let seen = seen.clone();
            async move {
                let (parts, body) = request.into_parts();
                let line = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
                let fields = parts.headers.iter();
                let fields =
                    fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
                let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
                seen.borrow_mut().push(Message { line, fields: sorted(fields.collect()), body });
                Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.half_close(true).max_buf_size(64 * 1024);
        builder.serve_connection(TokioIo::new(theirs), service).await.ok();
    });
    seen.take()
}

/// Whether a message may end its connection: hyper then reads no further, and nothing is smuggled.
fn is_last(message: &Message) -> bool {
    let closes = |value: &[u8]| value.to_ascii_lowercase().windows(5).any(|word| word == b"close");
    message.line.ends_with("/1.0")
        || message.fields.iter().any(|(name, value)| name == "connection" && closes(value))
}

fn agree(stream: &[u8]) -> Result<(), TestCaseError> {
    let (passed, ours) = guarded(stream);
    let theirs = parsed(&stream[..passed]);
    let last = ours.iter().position(is_last).map_or(ours.len(), |at| at + 1);
    let read = theirs.len().clamp(last, ours.len());
    prop_assert_eq!(&ours[..read], &theirs, "{:?}", String::from_utf8_lossy(stream));
    Ok(())
}

/// Pieces of messages, good and bad.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = |texts: &'static [&'static str]| {
        proptest::sample::select(texts).prop_map(|text| text.as_bytes().to_vec())
    };
    let heads = text(&[
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a?{x}=[1]|^ HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t \r\n\r\n",
        "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "DELETE /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n\r\n\r",
    ]);
    let lines = text(&[
        "Content-Length: 5\r\n",
        "Content-Length: 0005\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: Chunked \r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "\r\n",
    ]);
    let chunks = text(&[
        "5\r\nhello\r\n",
        "5;a=b\r\nhello\r\n",
        "5;\"\r\nhello\r\n",
        "05\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "A\r\n0123456789\r\n",
        "fffffffffffffff\r\n",
        "0\r\n\r\n",
        "0\r\nX: y\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "00\r\n\r\n",
        "\n",
        "\r",
        "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    ]);
    prop_oneof![4 => heads, 2 => lines, 3 => chunks]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn the_parser_reads_what_the_guard_read(
        pieces in vec(piece(), 1..6),
        edits in vec((any::<u16>(), 0..3u8, proptest::sample::select(
            b"\r\n\t :;,.%#\0\x0b\x7f\x80\xff0159aAfgxX/\\?\"-_+HTP".to_vec(),
        )), 0..4),
    ) {
        let mut stream = pieces.concat();
        for (place, kind, byte) in edits {
            let place = usize::from(place) % (stream.len() + 1);
            match kind {
                0 => stream.insert(place, byte),
                1 if place < stream.len() => stream[place] = byte,
                _ if place < stream.len() => drop(stream.remove(place)),
                _ => {}
            }
        }
        stream.extend_from_slice(b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n");
        agree(&stream)?;
    }
}
