//! Another issuer, on loopback: it serves the key set that the tests' [issuers] name, in whatever
//! mood a test wants it, and counts who asks. It mints nothing; `story` signs with its key.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::sign::SigningKey;

/// What it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Its keys.
    #[default]
    Keys,
    /// 500.
    Broken,
    /// More than anybody wants to read.
    Huge,
    /// Sends the asker to a link-local address.
    Redirects,
    /// No JSON.
    Garbage,
}

impl Mood {
    /// Reads the word of a story.
    pub(crate) fn parse(word: &str) -> Option<Mood> {
        Some(match word {
            "keys" => Mood::Keys,
            "broken" => Mood::Broken,
            "huge" => Mood::Huge,
            "redirects" => Mood::Redirects,
            "garbage" => Mood::Garbage,
            _ => return None,
        })
    }
}

/// The other issuer; its threads end with the process.
pub(crate) struct Foreign {
    pub(crate) port: u16,
    pub(crate) key: SigningKey,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    mood: Mutex<Mood>,
    asked: AtomicUsize,
}

impl Foreign {
    /// Starts it.
    pub(crate) fn start() -> Foreign {
        let listener = TcpListener::bind(("127.0.0.1", super::ports::free())).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let key = SigningKey::generate(Algorithm::EdDsa).expect("a key");
        let set = JwkSet::new(vec![key.public()]).to_json().to_string();
        let shared = Arc::new(Shared::default());
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (served, set) = (served.clone(), set.clone());
                std::thread::spawn(move || drop(answer(&served, &set, stream)));
            }
        });
        Foreign { port, key, shared }
    }

    /// What it answers from now on.
    pub(crate) fn turn(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// How often its keys have been asked for.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Its `iss`; `path` as in `/cluster`.
    pub(crate) fn issuer(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn answer(shared: &Shared, set: &str, mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mood = *shared.mood.lock().unwrap_or_else(PoisonError::into_inner);
    let known = first.starts_with("GET /jwks ");
    shared.asked.fetch_add(usize::from(known), Ordering::SeqCst);
    let (status, fields, body) = match mood {
        _ if !known => ("500 Unwell", "", String::new()),
        Mood::Keys => ("200 OK", "content-type: application/json\r\n", set.to_owned()),
        Mood::Broken => ("500 Unwell", "", String::new()),
        Mood::Huge => ("200 OK", "content-type: application/json\r\n", " ".repeat(8 << 20) + set),
        Mood::Redirects => {
            ("302 Found", "location: http://169.254.169.254/jwks\r\n", String::new())
        }
        Mood::Garbage => ("200 OK", "content-type: application/json\r\n", "{\"keys\":".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{fields}content-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(body.as_bytes())
}
