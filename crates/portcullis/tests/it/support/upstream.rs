//! An upstream that remembers every request that reached it. HTTP/1.1 over plain threads, read
//! strictly: bytes that are no request are remembered as one that nobody sent.
//!
//! The last segment of the path says what it answers: `big` streams bytes, `slow` waits until it is
//! released, `rude` says what an upstream may not say; everything else is echoed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Method and target.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    /// The body's bytes, as far as they are kept.
    pub(crate) body: Vec<u8>,
    /// How long the body was.
    pub(crate) length: usize,
}

impl Seen {
    /// A field's values.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let found = self.fields.iter().filter(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).collect()
    }
}

/// Bytes of a body that are kept.
const KEPT: usize = 64 * 1024;
/// How many bytes `big` sends.
pub(crate) const BIG: usize = 32 * 1024 * 1024;

/// The upstream.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    begun: AtomicUsize,
    ended: AtomicUsize,
    sent: AtomicUsize,
    released: Mutex<Release>,
    release: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Release {
    #[default]
    Held,
    Free,
}

impl Upstream {
    /// Starts one; its threads end with the process.
    pub(crate) fn start() -> Upstream {
        let listener = TcpListener::bind(("127.0.0.1", super::ports::free())).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared::default());
        let upstream = Upstream { port, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || converse(&shared, stream));
            }
        });
        upstream
    }

    /// What has arrived so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what has arrived, and hands it out.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Heads that have arrived so far, whatever became of their bodies.
    pub(crate) fn begun(&self) -> usize {
        self.shared.begun.load(Ordering::SeqCst)
    }

    /// Waits until each head that came has been noted with what became of its body: a request that
    /// was cut off is noticed here only when its connection ends, which may be after the answer.
    pub(crate) fn settle(&self) {
        let ended = || self.shared.ended.load(Ordering::SeqCst) == self.begun();
        super::wait_for("the upstream to end what it began", || ended().then_some(()));
    }

    /// Bytes of big answers that have been got rid of.
    pub(crate) fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Lets the slow answers go.
    pub(crate) fn release(&self) {
        *self.shared.released.lock().unwrap_or_else(PoisonError::into_inner) = Release::Free;
        self.shared.release.notify_all();
    }
}

impl Shared {
    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn wait(&self) {
        let held = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        let released = self.release.wait_while(held, |release| *release == Release::Held);
        drop(released);
    }
}

fn converse(shared: &Shared, stream: TcpStream) {
    drop(stream.set_nodelay(true));
    let Ok(mut out) = stream.try_clone() else { return };
    let mut input = BufReader::new(stream);
    while let Some(mut seen) = head(&mut input) {
        shared.begun.fetch_add(1, Ordering::SeqCst);
        let target = seen.line.split(' ').nth(1).unwrap_or_default();
        let page = target.split('?').next().unwrap_or_default().rsplit('/').next();
        let page = page.unwrap_or_default().to_owned();
        if page == "slow" {
            // Noted before it is answered, so that a test knows that it is on its way; and not read
            // on, so that whoever sends must wait.
            shared.note(seen.clone());
            shared.wait();
            let slow = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow";
            let read = body(&mut input, &mut seen);
            if read.is_none() || out.write_all(slow.as_bytes()).is_err() {
                return;
            }
            continue;
        }
        if body(&mut input, &mut seen).is_none() {
            shared.note(Seen { line: format!("BROKEN {}", seen.line), ..seen });
            return;
        }
        shared.note(seen.clone());
        if answer(shared, &mut out, (&page, &seen)).is_err() {
            return;
        }
    }
}

/// `None` at the end of the connection. What is no head is remembered as nobody's.
fn head(input: &mut BufReader<TcpStream>) -> Option<Seen> {
    let first = line(input)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let known = matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS");
    let line_is_whole = known && words.next() == Some("HTTP/1.1") && target.starts_with('/');
    let prefix = if line_is_whole { "" } else { "NOBODY'S " };
    let mut seen = Seen { line: format!("{prefix}{method} {target}"), ..Seen::default() };
    loop {
        let field = line(input)?;
        if field.is_empty() {
            return Some(seen);
        }
        let (name, value) = field.split_once(':').unwrap_or((&field, ""));
        seen.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn line(input: &mut BufReader<TcpStream>) -> Option<String> {
    let mut bytes = Vec::new();
    let length = input.read_until(b'\n', &mut bytes).ok()?;
    if length == 0 {
        return None;
    }
    Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned())
}

fn body(input: &mut BufReader<TcpStream>, seen: &mut Seen) -> Option<()> {
    if seen.all("transfer-encoding") == ["chunked"] {
        loop {
            let size = usize::from_str_radix(line(input)?.trim(), 16).ok()?;
            if size == 0 {
                while !line(input)?.is_empty() {}
                return Some(());
            }
            take(input, seen, size)?;
            line(input)?;
        }
    }
    match seen.all("content-length").first().map(|length| length.parse()) {
        Some(Ok(length)) => take(input, seen, length),
        Some(Err(_)) => None,
        None => Some(()),
    }
}

fn take(input: &mut BufReader<TcpStream>, seen: &mut Seen, length: usize) -> Option<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = length;
    while left > 0 {
        let want = left.min(buffer.len());
        let got = input.read(&mut buffer[..want]).ok()?;
        if got == 0 {
            return None;
        }
        let keep = got.min(KEPT.saturating_sub(seen.body.len()));
        seen.body.extend_from_slice(&buffer[..keep]);
        seen.length += got;
        left -= got;
    }
    Some(())
}

fn answer(
    shared: &Shared,
    out: &mut TcpStream,
    (page, seen): (&str, &Seen),
) -> std::io::Result<()> {
    match page {
        "big" => {
            write!(out, "HTTP/1.1 200 OK\r\ncontent-length: {BIG}\r\n\r\n")?;
            let piece = vec![b'b'; 64 * 1024];
            (0..BIG / piece.len()).try_for_each(|_| {
                out.write_all(&piece)?;
                shared.sent.fetch_add(piece.len(), Ordering::SeqCst);
                Ok(())
            })
        }
        "rude" => out.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nPortcullis-Identity: mine\r\n\
              Access-Control-Allow-Origin: *\r\nSet-Cookie: __Host-pc-session=stolen\r\n\
              Set-Cookie: theirs=1\r\nRequest-Id: theirs\r\n\r\nok",
        ),
        _ => {
            let text = serde_json::json!({ "line": seen.line, "length": seen.length }).to_string();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
            write!(out, "{head}\r\ncontent-length: {}\r\n\r\n", text.len())?;
            // RFC 9110 §9.3.2: an answer to HEAD ends after its head.
            if seen.line.starts_with("HEAD ") { Ok(()) } else { out.write_all(text.as_bytes()) }
        }
    }
}
