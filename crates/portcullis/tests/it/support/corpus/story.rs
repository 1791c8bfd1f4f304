//! The steps of a story: an attack that takes several requests. A step is a verb of a closed list,
//! what the verb needs, and what is changed against the honest request. Words, not code: whoever
//! carries it out (`support/story`, later `portcullis selftest`) knows how the honest request looks.

use super::Expect;

/// Most steps of a story.
const STEPS_MAX: usize = 40;
/// Most words of a step.
const WORDS_MAX: usize = 64;
/// Most requests at once.
const AT_ONCE_MAX: usize = 64;

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// What is done: a word of `VERBS`.
    pub(crate) verb: String,
    /// How often at once.
    pub(crate) at_once: usize,
    /// What the verb needs, in its order.
    pub(crate) words: Vec<String>,
    /// `name:value`: how the honest request is made otherwise.
    pub(crate) switches: Vec<(String, String)>,
    /// Single members that differ.
    pub(crate) changes: Vec<Change>,
    /// What must come of it; nothing stands for: what comes of the honest request.
    pub(crate) expect: Vec<Expect>,
}

/// A member that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) part: Part,
    pub(crate) name: String,
    pub(crate) how: How,
}

/// What a member belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A parameter of the form or the query.
    Parameter,
    /// A field of the request's head.
    Field,
    /// A claim, or a member of the header, of the client's assertion.
    Assertion,
    AssertionHeader,
    /// The same of the DPoP proof.
    Proof,
    ProofHeader,
    /// The same of the request object (JAR).
    Object,
    ObjectHeader,
    /// The same of a token that is forged.
    Claim,
    Header,
}

/// How it differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It says something else.
    Says(String),
    /// It stands there once more.
    Again(String),
    /// It is left out.
    Missing,
}

/// Verb, and the fewest and the most words that it needs.
const VERBS: &[(&str, usize, usize)] = &[
    ("code", 2, 2),
    ("push", 1, 1),
    ("authorize", 1, 1),
    ("login", 1, 1),
    ("consent", 1, 1),
    ("visit", 1, 1),
    ("submit", 0, 0),
    ("post", 1, 1),
    ("browser", 1, 1),
    ("redeem", 1, 1),
    ("refresh", 1, 1),
    ("credentials", 1, 1),
    ("exchange", 1, 1),
    ("assert", 1, 1),
    ("begin", 1, 1),
    ("poll", 1, 1),
    ("introspect", 1, 1),
    ("revoke", 1, 1),
    ("userinfo", 1, 1),
    ("call", 2, 2),
    ("forge", 1, 1),
    ("admin", 1, 12),
    ("edit", 2, 2),
    ("issuer", 1, 1),
    ("restart", 0, 0),
    ("wait", 1, 1),
    ("keep", 2, 2),
];

/// Switches and what they may say; nothing stands for any text.
const SWITCHES: &[(&str, &[&str])] = &[
    // The client's proof of itself.
    ("auth", &["none", "assertion", "certificate", "secret", "federated", "again", "basic"]),
    // Whose key signs the assertion, the object or the forged token.
    ("key", &[]),
    ("object-key", &[]),
    // The DPoP proof: the client's own key, another one, the same proof again, none, one with the
    // private key in it, two of them.
    ("proof", &["own", "other", "again", "none", "private", "doubled"]),
    // The scheme of `Authorization`.
    ("scheme", &["bearer", "dpop", "none"]),
    // The certificate shown in TLS.
    ("certificate", &[]),
    // The origin that is talked to.
    ("door", &["issuer", "mtls", "plain"]),
    // Of requests at once: the same bytes, or each made anew.
    ("copies", &["alike"]),
    // The server is killed while they are under way, and started again.
    ("restart", &["amid"]),
    // How far a login goes.
    ("until", &["password", "second-factor"]),
];

/// Reads the value of a `step` line.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(value: &str) -> Result<Step, String> {
    let mut words = words(value)?;
    let mut step = Step { at_once: 1, ..Step::default() };
    if words.first().is_some_and(|word| word == "parallel") {
        let count = words.get(1).and_then(|count| count.parse().ok()).unwrap_or(0);
        if !(2..=AT_ONCE_MAX).contains(&count) {
            return Err(format!("`parallel` is for 2 to {AT_ONCE_MAX}"));
        }
        step.at_once = count;
        words.drain(..2);
    }
    let Some((verb, rest)) = words.split_first() else { return Err("an empty step".into()) };
    let known = VERBS.iter().find(|(known, ..)| known == verb);
    let (_, least, most) = known.ok_or_else(|| format!("`{verb}` is no verb of a step"))?;
    step.verb.clone_from(verb);
    for word in rest {
        if step.words.len() < *least || (*least < *most && step.words.len() < *most) {
            step.words.push(word.clone());
        } else {
            changed(&mut step, word)?;
        }
    }
    if step.words.len() < *least {
        return Err(format!("`{verb}` needs {least} words"));
    }
    if step.verb == "wait" && !step.words[0].parse().is_ok_and(|ms: u64| ms <= 3_000) {
        return Err("`wait` is for at most 3000 milliseconds".into());
    }
    Ok(step)
}

/// A story of so many steps, with something to expect.
pub(super) fn whole(steps: &[Step]) -> Result<(), String> {
    if steps.len() > STEPS_MAX {
        return Err(format!("more than {STEPS_MAX} steps"));
    }
    if steps.iter().all(|step| step.expect.is_empty()) {
        return Err("a story that expects nothing".into());
    }
    Ok(())
}

fn changed(step: &mut Step, word: &str) -> Result<(), String> {
    let (sign, word) = match word.as_bytes().first() {
        Some(b'+' | b'-') => word.split_at(1),
        _ => ("", word),
    };
    if sign == "-" {
        let (part, name) = part(word);
        step.changes.push(Change { part, name, how: How::Missing });
        return Ok(());
    }
    let at = word.find([':', '=']).ok_or_else(|| format!("`{word}` changes nothing"))?;
    let (name, value) = (&word[..at], &word[at + 1..]);
    if word[at..].starts_with(':') {
        let (_, values) = SWITCHES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| format!("`{name}` is no switch"))?;
        if !(values.is_empty() || values.contains(&value)) {
            return Err(format!("`{name}` may say {values:?}"));
        }
        step.switches.push((name.to_owned(), value.to_owned()));
        return Ok(());
    }
    let (part, name) = part(name);
    let value = value.to_owned();
    let how = if sign == "+" { How::Again(value) } else { How::Says(value) };
    step.changes.push(Change { part, name, how });
    Ok(())
}

fn part(name: &str) -> (Part, String) {
    let parts = [
        ("field.", Part::Field),
        ("assertion.", Part::Assertion),
        ("assertion-header.", Part::AssertionHeader),
        ("proof.", Part::Proof),
        ("proof-header.", Part::ProofHeader),
        ("object.", Part::Object),
        ("object-header.", Part::ObjectHeader),
        ("claim.", Part::Claim),
        ("header.", Part::Header),
    ];
    let found = parts.iter().find_map(|(start, part)| Some((*part, name.strip_prefix(start)?)));
    found.map_or((Part::Parameter, name.to_owned()), |(part, rest)| (part, rest.to_owned()))
}

/// Cut at spaces that stand in no `'…'` and in no `${…}`.
fn words(value: &str) -> Result<Vec<String>, String> {
    let mut words = vec![String::new()];
    let (mut quoted, mut filled) = (false, false);
    for c in value.chars() {
        let word = words.last_mut().expect("one at least");
        match c {
            '\'' if !filled => quoted = !quoted,
            ' ' if !quoted && !filled => words.push(String::new()),
            c => {
                filled = (filled && c != '}') || (c == '{' && word.ends_with('$'));
                word.push(c);
            }
        }
    }
    words.retain(|word| !word.is_empty());
    if quoted {
        return Err("a `'` that is open".into());
    }
    if words.len() > WORDS_MAX {
        return Err(format!("more than {WORDS_MAX} words"));
    }
    Ok(words)
}

impl Step {
    /// What a switch says.
    pub(crate) fn switch(&self, name: &str) -> Option<&str> {
        let mut found = self.switches.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// The changes of a part.
    pub(crate) fn changes(&self, part: Part) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.part == part)
    }

    /// The same step with every text filled in.
    pub(crate) fn filled(&self, fill: &dyn Fn(&str) -> String) -> Step {
        let mut step = self.clone();
        step.words.iter_mut().for_each(|word| *word = fill(word));
        for (_, value) in &mut step.switches {
            *value = fill(value);
        }
        for change in &mut step.changes {
            if let How::Says(value) | How::Again(value) = &mut change.how {
                *value = fill(value);
            }
        }
        step.expect = step.expect.iter().map(|expect| expect.filled(fill)).collect();
        step
    }
}
