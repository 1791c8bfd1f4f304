//! HTTP/2 by hand, for heads that no library sends: one stream, literal fields (RFC 7541 §6.2.2),
//! and of the answer the status alone.

use super::server::Server;
use super::wire::{self, Answer, Wire};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Sends a head as written, a field a line (`:method GET`); the status of its answer, or `None`
/// when the stream or the connection was ended instead.
pub(crate) fn ask(server: &Server, name: &str, lines: &[Vec<u8>]) -> Option<Answer> {
    let mut wire = open(server, name)?;
    drop(wire.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(lines))));
    loop {
        match next(&mut wire)? {
            (HEADERS, _, payload) => {
                return Some(Answer { status: status(&payload)?, ..Answer::default() });
            }
            (RST_STREAM | GOAWAY, ..) => return None,
            _ => {}
        }
    }
}

/// Sends a head whose body comes only after the answer; whether the answer came whole and the stream
/// was left alone until the body had ended.
pub(crate) fn keeps_stream_of_late_body(server: &Server, lines: &[Vec<u8>], body: &[u8]) -> bool {
    let work = || -> Option<bool> {
        let mut wire = open(server, "localhost")?;
        wire.send(&frame(HEADERS, END_HEADERS, 1, &block(lines))).ok()?;
        while !matches!(next(&mut wire)?, (HEADERS | DATA, flags, _) if flags & END_STREAM != 0) {}
        // The answer to a ping comes after whatever the server had to say before.
        for bytes in [
            frame(PING, 0, 0, &[1; 8]),
            frame(DATA, END_STREAM, 1, body),
            frame(PING, 0, 0, &[2; 8]),
        ] {
            wire.send(&bytes).ok()?;
        }
        loop {
            match next(&mut wire)? {
                (RST_STREAM | GOAWAY, ..) => return Some(false),
                (PING, _, payload) if payload == [2; 8] => return Some(true),
                _ => {}
            }
        }
    };
    work().unwrap_or(false)
}

/// A connection with the preface and our (empty) settings on it (RFC 9113 §3.4).
fn open(server: &Server, name: &str) -> Option<Wire> {
    let ca = std::fs::read(server.ca_path()).expect("a CA");
    let mut wire = Wire::tls(server.ports.api, name, wire::trust(&ca, &[b"h2"])).ok()?;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    drop(wire.send(&bytes));
    Some(wire)
}

/// The next frame: its type, flags and payload.
fn next(wire: &mut Wire) -> Option<(u8, u8, Vec<u8>)> {
    let head = wire.take(9)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    Some((head[3], head[4], wire.take(length)?))
}

fn block(lines: &[Vec<u8>]) -> Vec<u8> {
    let mut block = Vec::new();
    for line in lines {
        let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        block.push(0);
        text(&mut block, &line[..space]);
        text(&mut block, line.get(space + 1..).unwrap_or_default());
    }
    block
}

fn text(block: &mut Vec<u8>, text: &[u8]) {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
    block.push(length.expect("short texts only"));
    block.extend_from_slice(text);
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len() % 256).unwrap_or(0);
    let high = u8::try_from(payload.len() / 256).expect("short frames only");
    let mut bytes = vec![0, high, length, kind, flags, 0, 0, 0, stream];
    bytes.extend_from_slice(payload);
    bytes
}

/// `:status` of a field block: it comes first, and its name is number 8 to 14 of the static table
/// (RFC 7541 appendix A).
fn status(block: &[u8]) -> Option<u16> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let first = *block.first()?;
    if first & 0x80 != 0 {
        return INDEXED.get(usize::from(first & 0x7f).checked_sub(8)?).copied();
    }
    let length = *block.get(1)?;
    let bytes = block.get(2..2 + usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(bytes).ok()?.parse().ok();
    }
    digits(bytes).parse().ok()
}

/// The digits of RFC 7541 appendix B: 0 to 2 are 00000 to 00010, 3 to 9 are 011001 to 011111.
fn digits(bytes: &[u8]) -> String {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut text, mut rest) = (String::new(), bits.as_str());
    while text.len() < 3 {
        let width = if rest.starts_with("000") { 5 } else { 6 };
        let Some((code, after)) = rest.split_at_checked(width) else { break };
        let value = u8::from_str_radix(code, 2).unwrap_or(0);
        let digit = if width == 5 { value } else { value.saturating_sub(0b01_1001) + 3 };
        text.push(char::from(b'0' + digit));
        rest = after;
    }
    text
}
