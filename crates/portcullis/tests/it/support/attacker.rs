//! Carries out attacks against a server with a canary upstream: what is answered, what is recorded,
//! what the upstream saw, and whether the next request of somebody else is still answered with its
//! own answer.

use std::fmt::Write as _;

use portcullis_core::time::Clock;

use super::corpus::{self, Attack, Door, Expect, Glimpse};
use super::server::{Server, request};
use super::upstream::Seen;
use super::wire::{Answer, Wire};
use super::{forge, frames, judge, seed};

/// The attacker, and the canary beside.
pub(crate) struct Attacker<'s> {
    server: &'s Server,
    canary: Wire,
    canaries: usize,
}

/// One attempt: an attack in one spelling.
struct Attempt<'a> {
    attack: &'a Attack,
    each: &'a str,
    token: Option<String>,
}

impl<'s> Attacker<'s> {
    /// Against a server.
    pub(crate) fn new(server: &'s Server) -> Attacker<'s> {
        Attacker { server, canary: server.connect(server.ports.api), canaries: 0 }
    }

    /// Tries every spelling of an attack; what came out otherwise than it must, in words.
    pub(crate) fn carry_out(&mut self, attack: &Attack) -> Vec<String> {
        let mut faults = Vec::new();
        for each in &attack.each {
            let mut said = String::new();
            self.attempt(attack, each, &mut said);
            if !said.is_empty() {
                faults.push(format!("{} [{each}]: {said}", attack.name));
            }
        }
        faults
    }

    fn attempt(&mut self, attack: &Attack, each: &str, said: &mut String) {
        self.server.upstream.settle();
        self.server.upstream.take();
        let begun = self.server.upstream.begun();
        let attempt = self.prepared(attack, each);
        let (answer, mut wire) = self.strike(&attempt);
        for expect in &attack.expect {
            self.judge(expect, answer.as_ref(), wire.as_mut(), said);
        }
        self.sing(said);
        self.server.upstream.settle();
        let begun = self.server.upstream.begun() - begun - 2;
        let seen: Vec<Seen> = self.server.upstream.take();
        let foreign: Vec<&Seen> =
            seen.iter().filter(|seen| !seen.line.contains("canary=")).collect();
        for glimpse in &attack.upstream {
            let fill = |text: &str| self.fill(&attempt, text);
            look(&glimpse.clone().map(&fill), (begun, &foreign), said);
        }
    }

    fn prepared<'a>(&self, attack: &'a Attack, each: &'a str) -> Attempt<'a> {
        let mut attempt = Attempt { attack, each, token: None };
        let recipe = attack.token.clone().map(|mut recipe| {
            for text in [&mut recipe.header, &mut recipe.claims, &mut recipe.shape] {
                *text = text.as_deref().map(|text| self.fill(&attempt, text));
            }
            recipe
        });
        attempt.token = recipe.map(|recipe| forge::make(self.server, &recipe));
        attempt
    }

    fn fill(&self, attempt: &Attempt<'_>, text: &str) -> String {
        let ports = self.server.ports;
        corpus::filled(text, &|name| {
            if let Some(offset) = name.strip_prefix("now") {
                let offset: i64 = if offset.is_empty() { 0 } else { offset.parse().ok()? };
                return Some((seed::Wall.now().unix() + offset).to_string());
            }
            Some(match name {
                // A spelling may name the other placeholders.
                "each" => self.fill(attempt, attempt.each),
                "token" => attempt.token.clone()?,
                "host" => match attempt.attack.door {
                    Door::Issuer => format!("localhost:{}", ports.issuer),
                    Door::Api | Door::Plain | Door::Clear => {
                        let name = attempt.attack.sni.as_deref().unwrap_or("localhost");
                        format!("{name}:{}", ports.api)
                    }
                },
                "api" => ports.api.to_string(),
                "issuer" => ports.issuer.to_string(),
                "issuer-url" => self.server.issuer(),
                "audience" => self.server.audience(),
                "account" => self.server.people[0].account.clone(),
                "upstream" => format!("127.0.0.1:{}", self.server.upstream.port),
                "silent" => self.server.silent.local_addr().ok()?.to_string(),
                _ => return None,
            })
        })
    }

    /// Sends the attack; its answer, and the connection behind it.
    fn strike(&self, attempt: &Attempt<'_>) -> (Option<Answer>, Option<Wire>) {
        let ports = self.server.ports;
        let name = attempt.attack.sni.as_deref().unwrap_or("localhost");
        if !attempt.attack.http2.is_empty() {
            let lines = attempt.attack.http2.iter().map(|line| self.fill(attempt, line));
            let lines: Vec<Vec<u8>> = lines.map(|line| corpus::unescaped(&line)).collect();
            return (frames::ask(self.server, name, &lines), None);
        }
        let wire = match attempt.attack.door {
            Door::Api => self.server.connect_as(ports.api, name),
            Door::Issuer => self.server.connect_as(ports.issuer, name),
            Door::Plain => Wire::plain(ports.plain),
            Door::Clear => Wire::plain(ports.api),
        };
        let Ok(mut wire) = wire else { return (None, None) };
        let bytes = corpus::unescaped(&self.fill(attempt, &attempt.attack.bytes));
        // A server that has heard enough closes while we still send.
        drop(wire.send(&bytes));
        let head = attempt.attack.bytes.starts_with("HEAD ");
        let answer = if head { wire.answer_to_head() } else { wire.answer() };
        (answer, Some(wire))
    }

    fn judge(
        &self,
        expect: &Expect,
        answer: Option<&Answer>,
        wire: Option<&mut Wire>,
        said: &mut String,
    ) {
        let fits = match expect {
            Expect::Closes => wire.is_none_or(Wire::is_closed),
            expect => judge::holds(self.server, expect, answer),
        };
        if !fits {
            // By hand, HTTP/2 shows no `Request-Id` to find the record by.
            let recorded = answer.filter(|came| !came.field("request-id").is_empty());
            let reason = recorded.map(|came| self.server.record(came)["reason"].to_string());
            let status = answer.map_or(0, |came| came.status);
            let _ = write!(said, "expected {expect:?}, came {status} ({reason:?}); ");
        }
    }

    /// A request of somebody else, on a connection of old and on a new one: each must get its own
    /// answer, and the upstream must have seen each as it was sent.
    fn sing(&mut self, said: &mut String) {
        for fresh in [false, true] {
            self.canaries += 1;
            if fresh {
                self.canary = self.server.connect(self.server.ports.api);
            }
            let target = format!("/rates?canary={}", self.canaries);
            let bytes = request(&format!("GET /v1{target}"), self.server.ports.api, &[], b"");
            let sent = self.canary.send(&bytes);
            let answer = sent.ok().and_then(|()| self.canary.answer()).unwrap_or_default();
            let line = answer.json()["line"].as_str().unwrap_or_default().to_owned();
            if answer.status != 200 || line != format!("GET /base{target}") {
                let _ = write!(said, "the canary is poisoned: {} {line}; ", answer.status);
                self.canary = self.server.connect(self.server.ports.api);
            }
        }
    }
}

impl Glimpse {
    fn map(self, fill: &dyn Fn(&str) -> String) -> Glimpse {
        match self {
            Glimpse::Sees(line) => Glimpse::Sees(fill(&line)),
            Glimpse::Field(name, value) => Glimpse::Field(name, fill(&value)),
            Glimpse::Never(text) => Glimpse::Never(fill(&text)),
            other => other,
        }
    }
}

/// Compares what must have been seen with what was: heads begun, and requests that were whole.
fn look(glimpse: &Glimpse, (begun, seen): (usize, &[&Seen]), said: &mut String) {
    let whole: Vec<&&Seen> = seen.iter().filter(|seen| !seen.line.starts_with("BROKEN")).collect();
    let one = whole.first();
    let fits = match glimpse {
        Glimpse::Silent => begun == 0 && seen.is_empty(),
        Glimpse::NothingWhole => whole.is_empty(),
        Glimpse::Sees(line) => whole.len() == 1 && one.is_some_and(|one| one.line == *line),
        Glimpse::Field(name, value) => one.is_some_and(|one| one.all(name) == [value]),
        Glimpse::NoField(name) => one.is_some_and(|one| one.all(name).is_empty()),
        Glimpse::Never(text) => one.is_some_and(|one| !format!("{one:?}").contains(text.as_str())),
    };
    if !fits {
        let _ = write!(said, "the upstream must {glimpse:?}, but began {begun} and saw {seen:?}; ");
    }
}
