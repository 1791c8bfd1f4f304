//! HTTP/2 by hand, for heads that no library sends: one stream, literal fields (RFC 7541 §6.2.2),
//! and of the answer the status alone.

use super::server::Server;
use super::wire::{self, Answer, Wire};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM_AND_HEADERS: u8 = 5;

/// Sends a head as written, a field a line (`:method GET`); the status of its answer, or `None`
/// when the stream or the connection was ended instead.
pub(crate) fn ask(server: &Server, name: &str, lines: &[Vec<u8>]) -> Option<Answer> {
    let ca = std::fs::read(server.ca_path()).expect("a CA");
    let mut wire = Wire::tls(server.ports.api, name, wire::trust(&ca, &[b"h2"])).ok()?;
    let mut block = Vec::new();
    for line in lines {
        let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        block.push(0);
        text(&mut block, &line[..space]);
        text(&mut block, line.get(space + 1..).unwrap_or_default());
    }
    // RFC 9113 §3.4: the preface, then our (empty) settings.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_STREAM_AND_HEADERS, 1, &block));
    drop(wire.send(&bytes));
    loop {
        let head = wire.take(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = wire.take(length)?;
        match head[3] {
            HEADERS => return Some(Answer { status: status(&payload)?, ..Answer::default() }),
            RST_STREAM | GOAWAY => return None,
            _ => {}
        }
    }
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
