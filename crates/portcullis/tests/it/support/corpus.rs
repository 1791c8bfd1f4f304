//! The reader of the attack corpus (`tests/attacks/*.attack`): plain text to values, nothing else.
//! It knows no server, so that `portcullis selftest` can take it over as it is. The format is
//! described in `tests/attacks/README.md`.

pub(crate) mod story;

use self::story::Step;
use super::forge::{Recipe, Sign};

/// One attack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attack {
    /// What is tried.
    pub(crate) name: String,
    /// Why it must fail: the RFC, or the advisory that it comes from.
    pub(crate) why: String,
    /// Where it is sent.
    pub(crate) door: Door,
    /// The name asked for in TLS.
    pub(crate) sni: Option<String>,
    /// The bytes, with `${…}` to be filled in and `\r \n \t \0 \\ \xNN` to be read.
    pub(crate) bytes: String,
    /// An HTTP/2 head instead of bytes: one field a line, pseudo-fields first.
    pub(crate) http2: Vec<String>,
    /// A story instead of one request: its `step` and `expect` lines as they stand there.
    story: Vec<(&'static str, String)>,
    /// The story once for each spelling.
    pub(crate) tales: Vec<Vec<Step>>,
    /// The token to forge.
    pub(crate) token: Option<Recipe>,
    /// The spellings to try, one after the other, as `${each}`.
    pub(crate) each: Vec<String>,
    /// What must be answered: all of these.
    pub(crate) expect: Vec<Expect>,
    /// What the upstream must have seen: all of these.
    pub(crate) upstream: Vec<Glimpse>,
    /// Why it still succeeds: the record then must fail, so that it is mended together with the gap.
    pub(crate) gap: Option<String>,
}

/// Where an attack is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Door {
    /// The API's TLS port.
    #[default]
    Api,
    /// The issuer's TLS port.
    Issuer,
    /// The plain port.
    Plain,
    /// In clear, at the API's TLS port.
    Clear,
}

/// What must be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// One of these statuses; 0 stands for a connection that ends without an answer.
    Status(Vec<u16>),
    /// The rule that the record names.
    Reason(String),
    /// A field of the answer holds a text.
    Field(String, String),
    /// A field is not there.
    NoField(String),
    /// The body holds a text.
    Body(String),
    /// The connection ends behind the answer.
    Closes,
    /// The OAuth error of the answer, or of the redirect.
    Error(String),
    /// A member of the JSON answer, by its path (`cnf.jkt`), says this.
    Member(String, String),
    /// It is there and says something else.
    OtherMember(String, String),
    /// It is not there.
    NoMember(String),
    /// A claim of the access token in the answer says this.
    Claim(String, String),
    /// That token has no such claim.
    NoClaim(String),
    /// Two texts that were kept differ, and neither is empty.
    OtherKept(String, String),
    /// The redirect carries a code.
    Code,
    /// No code came.
    NoCode,
    /// Of requests at once, so many had this status.
    Times(usize, u16),
    /// Of requests at once, all that succeeded have the same member.
    Alike(String),
    /// Of requests at once, no two that succeeded have different members; perhaps none did.
    NoFork(String),
    /// A command ended with this exit code.
    Exit(u16),
    /// The other issuer was asked for its keys so many times, or fewer, since the last step.
    Fetches(usize),
}

/// What the upstream must have seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Glimpse {
    /// Not a byte.
    Silent,
    /// Nothing whole: a head perhaps, but no request to act on.
    NothingWhole,
    /// Exactly one request, with this method and target.
    Sees(String),
    /// That request has exactly this one value of a field.
    Field(String, String),
    /// That request has no such field.
    NoField(String),
    /// That request holds this text nowhere in its head.
    Never(String),
}

/// Reads a file.
///
/// # Errors
/// The line and what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Vec<Attack>, String> {
    let mut attacks = Vec::new();
    let mut attack = Attack::default();
    for (number, line) in text.lines().enumerate() {
        let at = |fault: &str| format!("line {}: {fault}", number + 1);
        let line = line.trim_end();
        if line == "---" {
            attacks.push(finished(std::mem::take(&mut attack)).map_err(|fault| at(&fault))?);
        } else if !line.is_empty() && !line.starts_with('#') {
            let (key, value) = line.split_once(':').ok_or_else(|| at("no `key: value`"))?;
            take(&mut attack, key, value.strip_prefix(' ').unwrap_or(value))
                .map_err(|fault| at(&fault))?;
        }
    }
    attacks.push(finished(attack).map_err(|fault| format!("the last record: {fault}"))?);
    Ok(attacks)
}

fn take(attack: &mut Attack, key: &str, value: &str) -> Result<(), String> {
    let text = value.to_owned();
    match key {
        "name" => attack.name = text,
        "why" => attack.why = text,
        "door" => attack.door = door(value)?,
        "sni" => attack.sni = Some(text),
        "send" => attack.bytes.push_str(value),
        "request" => {
            attack.bytes = format!("{value} HTTP/1.1\\r\\nHost: ${{host}}\\r\\n\\r\\n");
        }
        "field" => {
            // Behind the head's last line, before the empty one.
            let end = attack.bytes.rfind("\\r\\n\\r\\n").ok_or("`field` before `request`")?;
            attack.bytes.insert_str(end, &format!("\\r\\n{value}"));
        }
        "body" => attack.bytes.push_str(value),
        "h2" => attack.http2.push(text),
        "each" => attack.each.push(text),
        "token" => {
            let sign = Sign::parse(value).ok_or_else(|| format!("`{value}` signs nothing"))?;
            attack.token.get_or_insert_default().sign = sign;
        }
        "token-header" => attack.token.get_or_insert_default().header = Some(text),
        "token-claims" => attack.token.get_or_insert_default().claims = Some(text),
        "token-shape" => attack.token.get_or_insert_default().shape = Some(text),
        "step" => attack.story.push(("step", text)),
        "expect" if attack.story.is_empty() => attack.expect.push(expectation(value)?),
        "expect" => attack.story.push(("expect", text)),
        "gap" => attack.gap = Some(text),
        "upstream" => attack.upstream.push(glimpse(value)?),
        _ => return Err(format!("`{key}` is no key of an attack")),
    }
    Ok(())
}

fn door(word: &str) -> Result<Door, String> {
    match word {
        "api" => Ok(Door::Api),
        "issuer" => Ok(Door::Issuer),
        "plain" => Ok(Door::Plain),
        "clear" => Ok(Door::Clear),
        _ => Err(format!("`{word}` is no door")),
    }
}

fn expectation(value: &str) -> Result<Expect, String> {
    let (word, rest) = value.split_once(' ').unwrap_or((value, ""));
    let two = || rest.split_once(' ').ok_or_else(|| format!("`{value}` lacks a part"));
    Ok(match word {
        "status" => {
            let statuses: Result<Vec<u16>, _> = rest
                .split(" or ")
                .map(|status| if status == "closed" { Ok(0) } else { status.parse() })
                .collect();
            Expect::Status(statuses.map_err(|_| format!("`{rest}` are no statuses"))?)
        }
        "reason" => Expect::Reason(rest.to_owned()),
        "field" => two().map(|(name, text)| Expect::Field(name.to_owned(), text.to_owned()))?,
        "no-field" => Expect::NoField(rest.to_owned()),
        "body" => Expect::Body(rest.to_owned()),
        "closes" => Expect::Closes,
        "error" => Expect::Error(rest.to_owned()),
        "member" => two().map(|(name, text)| Expect::Member(name.to_owned(), text.to_owned()))?,
        "other-member" => {
            two().map(|(name, text)| Expect::OtherMember(name.to_owned(), text.to_owned()))?
        }
        "no-member" => Expect::NoMember(rest.to_owned()),
        "claim" => two().map(|(name, text)| Expect::Claim(name.to_owned(), text.to_owned()))?,
        "no-claim" => Expect::NoClaim(rest.to_owned()),
        "other-kept" => {
            two().map(|(one, other)| Expect::OtherKept(one.to_owned(), other.to_owned()))?
        }
        "code" => Expect::Code,
        "no-code" => Expect::NoCode,
        "times" => {
            let (times, status) = two()?;
            Expect::Times(number(times)?, number(status)?)
        }
        "alike" => Expect::Alike(rest.to_owned()),
        "no-fork" => Expect::NoFork(rest.to_owned()),
        "exit" => Expect::Exit(number(rest)?),
        "fetches" => Expect::Fetches(number(rest)?),
        _ => return Err(format!("`{word}` cannot be expected")),
    })
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

impl Expect {
    /// The same with its text filled in.
    fn filled(&self, fill: &dyn Fn(&str) -> String) -> Expect {
        match self {
            Expect::Field(name, text) => Expect::Field(name.clone(), fill(text)),
            Expect::Body(text) => Expect::Body(fill(text)),
            Expect::Member(name, text) => Expect::Member(name.clone(), fill(text)),
            Expect::OtherMember(name, text) => Expect::OtherMember(name.clone(), fill(text)),
            Expect::Claim(name, text) => Expect::Claim(name.clone(), fill(text)),
            other => other.clone(),
        }
    }
}

fn glimpse(value: &str) -> Result<Glimpse, String> {
    let (word, rest) = value.split_once(' ').unwrap_or((value, ""));
    let two = || rest.split_once(' ').ok_or_else(|| format!("`{value}` lacks a part"));
    Ok(match word {
        "silent" => Glimpse::Silent,
        "nothing-whole" => Glimpse::NothingWhole,
        "sees" => Glimpse::Sees(rest.to_owned()),
        "field" => two().map(|(name, text)| Glimpse::Field(name.to_owned(), text.to_owned()))?,
        "no-field" => Glimpse::NoField(rest.to_owned()),
        "never" => Glimpse::Never(rest.to_owned()),
        _ => return Err(format!("`{word}` cannot be seen upstream")),
    })
}

/// A record without a name, a reason, something to send, or something to expect is no attack.
fn finished(mut attack: Attack) -> Result<Attack, String> {
    let told = !attack.story.is_empty();
    let sent = !attack.bytes.is_empty() || !attack.http2.is_empty() || attack.token.is_some();
    for (missing, what) in [
        (attack.name.is_empty(), "name"),
        (attack.why.is_empty(), "why"),
        (attack.bytes.is_empty() == attack.http2.is_empty() && !told, "send, request or h2"),
        (told && sent, "step without send"),
        (told != attack.expect.is_empty(), "expect"),
        (told != attack.upstream.is_empty(), "upstream"),
    ] {
        if missing {
            return Err(format!("`{}` needs `{what}`", attack.name));
        }
    }
    let spells = attack.bytes.contains("${each}")
        || attack.http2.iter().any(|line| line.contains("${each}"))
        || attack.token.iter().any(|token| format!("{token:?}").contains("${each}"))
        || attack.story.iter().any(|(_, text)| text.contains("${each}"));
    if spells == attack.each.is_empty() {
        return Err(format!("`{}` has `each` without `${{each}}`, or the other way", attack.name));
    }
    let placed = attack.bytes.contains("${token}")
        || attack.each.iter().any(|spelling| spelling.contains("${token}"));
    if attack.token.is_some() && !placed {
        take(&mut attack, "field", "Authorization: Bearer ${token}")?;
    }
    if attack.each.is_empty() {
        attack.each.push(String::new());
    }
    if told {
        let tales = attack.each.iter().map(|each| tale(&attack.story, each));
        let tales: Result<_, String> = tales.collect();
        attack.tales = tales.map_err(|fault| format!("`{}`: {fault}", attack.name))?;
    }
    Ok(attack)
}

/// A story in one spelling, which may be whole words of a step.
fn tale(lines: &[(&str, String)], each: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for (key, text) in lines {
        let text = text.replace("${each}", each);
        match steps.last_mut() {
            Some(step) if *key == "expect" => step.expect.push(expectation(&text)?),
            _ => steps.push(story::read(&text)?),
        }
    }
    story::whole(&steps)?;
    Ok(steps)
}

/// Reads `\r \n \t \0 \\ \xNN`.
pub(crate) fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'0') => bytes.push(0),
            Some(b'x') => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                let hex = String::from_utf8_lossy(&hex).into_owned();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap_or_else(|_| panic!("\\x{hex}")));
            }
            Some(other) => bytes.push(other),
            None => bytes.push(b'\\'),
        }
    }
    bytes
}

/// Fills in `${…}` by `of`; `${repeat X N}` is X, N times.
pub(crate) fn filled(text: &str, of: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').unwrap_or_else(|| panic!("`${{{after}` is open"));
        out.push_str(before);
        let repeated = name.strip_prefix("repeat ").and_then(|words| words.rsplit_once(' '));
        match repeated {
            Some((piece, times)) => out.push_str(&piece.repeat(times.parse().expect("a number"))),
            None => out.push_str(&of(name).unwrap_or_else(|| panic!("`${{{name}}}` is nothing"))),
        }
        rest = after;
    }
    out + rest
}
