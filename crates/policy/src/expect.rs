//! `expect`: what single requests must meet: `user{account=a1} GET payments:/accounts/a2/payments ->
//! 403`.
//!
//! `WHO{FACTS} METHOD API:/path -> STATUS`. WHO is `anyone`, `user`, `role:x`, `group:x`, `service` or
//! `service:x`. Facts are attributes, and `role group tenant scope client acr mfa passkey totp password
//! (how long ago) ip bound via`, and of the request `owner body header.NAME`; a value with a space, a
//! comma or a brace stands in quotes. The path is the API's, behind its `at`; 200 means "let through".

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use portcullis_core::fault::{Fault, Placed};
use portcullis_core::jose::claims::Attribute;
use portcullis_core::scope::Scopes;
use portcullis_core::time::duration;

use crate::access::{AttributeType, Vocabulary};
use crate::compile::Rules;
use crate::entities::{Caller, Circumstances, UserCaller};
use crate::explain::{Asked, Explanation, explain};
use crate::line::inside;
use crate::nearest::advice;
use crate::schema::AGES;

/// Most expectations of a file.
pub const MAX_EXPECTATIONS: usize = 1_000;

/// An expectation that was understood.
pub struct Expectation {
    /// As written.
    pub text: Placed<String>,
    /// The status that must come.
    pub status: u16,
    request: Request,
}

/// What came of one.
pub struct Outcome {
    /// As written.
    pub text: Placed<String>,
    /// The status that must come.
    pub expected: u16,
    /// What would meet the request.
    pub came: Explanation,
}

impl Outcome {
    /// Whether it is as expected.
    pub fn holds(&self) -> bool {
        self.expected == self.came.status
    }
}

/// The request of an expectation.
struct Request {
    caller: Caller,
    circumstances: Circumstances,
    method: String,
    api: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    owner: Option<String>,
}

/// Reads expectations.
///
/// # Errors
/// `ExpectationMalformed` and unknown names, each with its place.
pub fn read(
    written: &[Placed<String>],
    rules: &Rules,
    vocabulary: &Vocabulary,
) -> Result<Vec<Expectation>, Vec<Fault>> {
    if let Some(beyond) = written.get(MAX_EXPECTATIONS) {
        let message = format!("more than {MAX_EXPECTATIONS} expectations");
        let remedy = "keep the ones that matter, or say them as invariants".into();
        return Err(vec![Fault::error("ListTooLong", beyond.place.clone(), message, remedy)]);
    }
    let (mut read, mut faults) = (Vec::new(), Vec::new());
    for text in written {
        match (Reader { text, rules, vocabulary }).expectation() {
            Ok(expectation) => read.push(expectation),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

/// Tries them.
pub fn run(rules: &Rules, expectations: &[Expectation], _: &Vocabulary) -> Vec<Outcome> {
    expectations
        .iter()
        .map(|expectation| Outcome {
            text: expectation.text.clone(),
            expected: expectation.status,
            came: expectation.request.explained(rules),
        })
        .collect()
}

impl Request {
    fn explained(&self, rules: &Rules) -> Explanation {
        let at = rules.operations().find(|one| *one.api == *self.api).map(|one| &one.at);
        let host = at.map(|at| at.authority()).unwrap_or_default();
        let target = format!("{}{}", at.map(|at| at.path()).unwrap_or_default(), self.target);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target.as_str(), None),
        };
        let asked = Asked {
            host: &host,
            method: &self.method,
            path,
            query,
            headers: &self.headers,
            body: self.body.as_deref().map(str::as_bytes),
            owner: self.owner.as_deref(),
        };
        explain(rules, &asked, &self.caller, &self.circumstances)
    }
}

struct Reader<'r> {
    text: &'r Placed<String>,
    rules: &'r Rules,
    vocabulary: &'r Vocabulary,
}

/// A part of the text, with where it stands.
#[derive(Clone)]
struct Part<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Part<'t> {
    fn range(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    fn cut(&self, start: usize, end: usize) -> Part<'t> {
        Part { text: self.text.get(start..end).unwrap_or_default(), at: self.at + start }
    }

    fn trimmed(&self) -> Part<'t> {
        let start = self.text.len() - self.text.trim_start().len();
        Part { text: self.text.trim(), at: self.at + start }
    }
}

impl<'r> Reader<'r> {
    fn fault(
        &self,
        rule: &'static str,
        at: Range<usize>,
        message: String,
        remedy: String,
    ) -> Fault {
        Fault::error(rule, inside(&self.text.place, at), message, remedy)
    }

    fn malformed(&self, part: &Part<'_>, what: &str) -> Fault {
        let remedy = "write `WHO{fact=value} METHOD API:/path -> STATUS`, as in `user{account=a1} GET \
                      payments:/accounts/a2 -> 403`";
        let message = format!("`{}` is {what}", part.text);
        self.fault("ExpectationMalformed", part.range(), message, remedy.into())
    }

    fn expectation(&self) -> Result<Expectation, Fault> {
        let whole = Part { text: &self.text.value, at: 0 };
        let Some(arrow) = whole.text.rfind("->") else {
            return Err(self.malformed(&whole, "no expectation: it has no `->`"));
        };
        let status = whole.cut(arrow + 2, whole.text.len()).trimmed();
        let number = status.text.parse::<u16>().ok().filter(|status| (100..600).contains(status));
        let number = number.ok_or_else(|| self.malformed(&status, "no status"))?;
        let before = whole.cut(0, arrow).trimmed();
        let (who, facts, rest) = self.split(&before)?;
        let mut request = self.request(&rest)?;
        request.caller = self.caller(&who)?;
        for fact in facts {
            self.fact(&mut request, &fact)?;
        }
        complete(&mut request.circumstances.ages);
        Ok(Expectation { text: self.text.clone(), status: number, request })
    }

    /// WHO, each fact, and what follows.
    fn split(&self, before: &Part<'r>) -> Result<(Part<'r>, Vec<Part<'r>>, Part<'r>), Fault> {
        let end = before.text.find(['{', ' ']).unwrap_or(before.text.len());
        let who = before.cut(0, end);
        if !before.text.get(end..).is_some_and(|rest| rest.starts_with('{')) {
            return Ok((who, Vec::new(), before.cut(end, before.text.len()).trimmed()));
        }
        let (mut facts, mut start, mut quote) = (Vec::new(), end + 1, None);
        for (at, c) in before.text.char_indices().skip_while(|(at, _)| *at <= end) {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(c),
                (None, ',' | '}') => {
                    let fact = before.cut(start, at).trimmed();
                    if !fact.text.is_empty() {
                        facts.push(fact);
                    }
                    start = at + 1;
                    if c == '}' {
                        let rest = before.cut(at + 1, before.text.len()).trimmed();
                        return Ok((who, facts, rest));
                    }
                }
                (None, _) => {}
            }
        }
        Err(self.malformed(&before.cut(end, before.text.len()), "not closed by `}`"))
    }

    /// `METHOD API:/path`, of nobody yet.
    fn request(&self, rest: &Part<'r>) -> Result<Request, Fault> {
        let Some((method, target)) = rest.text.split_once(' ') else {
            return Err(self.malformed(rest, "no request"));
        };
        let method_part = rest.cut(0, method.len());
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(self.malformed(&method_part, "no method"));
        }
        let target = rest.cut(rest.text.len() - target.len(), rest.text.len()).trimmed();
        let Some((api, path)) = target.text.split_once(":/") else {
            return Err(self.malformed(&target, "no `API:/path`"));
        };
        let mut known: Vec<&str> = self.rules.operations().map(|one| &*one.api).collect();
        known.dedup();
        if !known.contains(&api) {
            let message = format!("there is no API `{api}` with a line");
            let remedy =
                advice(api, known.iter().copied(), || "write the name of an [api.NAME]".into());
            let at = target.cut(0, api.len()).range();
            return Err(self.fault("UnknownApi", at, message, remedy));
        }
        Ok(Request {
            caller: Caller::Anonymous,
            circumstances: Circumstances::unproven(
                self.vocabulary.now,
                IpAddr::V4(Ipv4Addr::LOCALHOST),
            ),
            method: method.to_owned(),
            api: api.to_owned(),
            target: format!("/{path}"),
            headers: Vec::new(),
            body: None,
            owner: None,
        })
    }

    fn caller(&self, who: &Part<'_>) -> Result<Caller, Fault> {
        let (kind, name) = who.text.split_once(':').unwrap_or((who.text, ""));
        let user = UserCaller { id: "u_someone".into(), ..UserCaller::default() };
        let name_of = |known: &[String], kind: &str| self.named(who, known, (kind, name));
        match (kind, name) {
            ("anyone", "") => Ok(Caller::Anonymous),
            ("user", "") => Ok(Caller::User(user)),
            ("role", _) => {
                let roles = vec![name_of(&self.vocabulary.roles, "role")?];
                Ok(Caller::User(UserCaller { roles, ..user }))
            }
            ("group", _) => {
                let groups = vec![name_of(&self.vocabulary.groups, "group")?];
                Ok(Caller::User(UserCaller { groups, ..user }))
            }
            ("service", "") => Ok(Caller::Service { id: "some-service".into(), tenant: None }),
            ("service", _) => {
                let id = name_of(&self.vocabulary.services, "service")?;
                Ok(Caller::Service { id, tenant: None })
            }
            _ => {
                let words = ["anyone", "user", "role:x", "group:x", "service", "service:x"];
                let remedy =
                    advice(who.text, words, || format!("write one of `{}`", words.join(" ")));
                Err(crate::line::unknown_principal(
                    &inside(&self.text.place, who.range()),
                    who.text,
                    remedy,
                ))
            }
        }
    }

    fn named(
        &self,
        part: &Part<'_>,
        known: &[String],
        (kind, name): (&str, &str),
    ) -> Result<String, Fault> {
        if known.iter().any(|one| one == name) {
            return Ok(name.to_owned());
        }
        let remedy = advice(name, known.iter().map(String::as_str), || {
            format!("add `{name}` to the file's {kind}s first")
        });
        let place = inside(&self.text.place, part.range());
        Err(crate::line::unknown_principal(&place, &format!("{kind}:{name}"), remedy))
    }

    fn fact(&self, request: &mut Request, fact: &Part<'_>) -> Result<(), Fault> {
        let Some((name, value)) = fact.text.split_once('=') else {
            return Err(self.malformed(fact, "no `fact=value`"));
        };
        let value = value.trim();
        let bare =
            |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let value = bare('"').or_else(|| bare('\'')).unwrap_or(value);
        let name = name.trim();
        let here = &mut request.circumstances;
        let wrong = |what: &str| self.malformed(fact, what);
        match name {
            "scope" => {
                here.scopes = Scopes::parse(value).map_err(|_| wrong("no list of scopes"))?
            }
            "client" => here.client = Some(value.into()),
            "acr" => here.acr = Some(value.into()),
            "ip" => here.ip = value.parse().map_err(|_| wrong("no address"))?,
            "via" => here.actors.push(value.strip_prefix("service:").unwrap_or(value).into()),
            "bound" if value == "dpop" => here.dpop = true,
            "bound" if value == "mtls" => here.mtls = true,
            "owner" => request.owner = Some(value.into()),
            "body" => request.body = Some(value.into()),
            _ if name.starts_with("header.") => {
                let header = name.trim_start_matches("header.").to_ascii_lowercase();
                request.headers.push((header, value.into()));
            }
            _ if AGES.contains(&name) => {
                let age = duration(value).map_err(|_| wrong("no duration"))?;
                let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
                for known in AGES.into_iter().filter(|known| *known == name) {
                    here.ages.insert(known, age);
                }
            }
            _ => return self.fact_of_caller(request, fact, (name, value)),
        }
        Ok(())
    }

    fn fact_of_caller(
        &self,
        request: &mut Request,
        fact: &Part<'_>,
        (name, value): (&str, &str),
    ) -> Result<(), Fault> {
        match (&mut request.caller, name) {
            (Caller::Service { tenant, .. }, "tenant") => *tenant = Some(value.into()),
            (Caller::User(user), "tenant") => user.tenant = Some(value.into()),
            (Caller::User(user), "id") => user.id = value.into(),
            (Caller::User(user), "role") => {
                user.roles.push(self.named(fact, &self.vocabulary.roles, ("role", value))?);
            }
            (Caller::User(user), "group") => {
                user.groups.push(self.named(fact, &self.vocabulary.groups, ("group", value))?);
            }
            (Caller::User(user), _) => {
                let attribute = self.attribute(fact, (name, value))?;
                user.attributes.insert(name.to_owned(), attribute);
            }
            (Caller::Anonymous | Caller::Service { .. }, _) => {
                return Err(self.malformed(fact, "a fact about a user"));
            }
        }
        Ok(())
    }

    fn attribute(&self, fact: &Part<'_>, (name, value): (&str, &str)) -> Result<Attribute, Fault> {
        let declared = self.vocabulary.attributes.iter().find(|(known, _)| known == name);
        let Some((_, kind)) = declared else {
            let known = self.vocabulary.attributes.iter().map(|(known, _)| known.as_str());
            let remedy = advice(name, known.chain(["scope", "role", "group", "tenant"]), || {
                format!("declare `{name}` under `[identity.attributes]`")
            });
            let message = format!("there is no fact `{name}`");
            return Err(self.fault("UnknownAttribute", fact.range(), message, remedy));
        };
        let read = match kind {
            AttributeType::String => Some(Attribute::String(value.into())),
            AttributeType::Integer => value.parse().ok().map(Attribute::Integer),
            AttributeType::Bool => value.parse().ok().map(Attribute::Bool),
        };
        read.ok_or_else(|| self.malformed(fact, "a value of another type than declared"))
    }
}

/// Adds what a token would say besides the factors named, where nothing else was said: `any` is the
/// latest; `mfa` the older of two, or a passkey, which is two by itself (NIST SP 800-63B §2.2.2).
pub fn complete(ages: &mut BTreeMap<&'static str, i64>) {
    let age = |name: &str| ages.get(name).copied();
    let known = ["passkey", "totp", "password", "mfa"].into_iter().filter_map(age).min();
    let both = age("totp").zip(age("password")).map(|(totp, password)| totp.max(password));
    let mfa = [both, age("passkey")].into_iter().flatten().min();
    for (name, age) in [("any", known), ("mfa", mfa)] {
        if let Some(age) = age {
            ages.entry(name).or_insert(age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{place, rules, vocabulary};

    const TABLE: &str = "'GET /rates' = { allow = 'anyone' }\n\
        'GET /accounts/{account}' = { allow = 'user', scope = 'payments:read', when = 'resource.account == principal.account' }\n\
        'POST /settlements' = { allow = ['service:ledger', 'role:admin'], bound = 'dpop' }";

    fn placed(text: &str) -> Placed<String> {
        Placed::new(text.to_owned(), place(100..100 + text.len() + 2))
    }

    fn came(text: &str) -> (u16, bool) {
        let (rules, words) = (rules(TABLE), vocabulary());
        let read = read(&[placed(text)], &rules, &words).unwrap_or_else(|f| panic!("{f:?}"));
        let outcome = run(&rules, &read, &words).remove(0);
        (outcome.came.status, outcome.holds())
    }

    #[test]
    fn a_request_meets_what_it_would_meet() {
        for (text, status) in [
            ("anyone GET payments:/rates -> 200", 200),
            ("anyone GET payments:/nothing -> 404", 404),
            ("anyone DELETE payments:/rates -> 405", 405),
            ("anyone GET payments:/accounts/a1 -> 401", 401),
            ("user{account=a1, scope=\"payments:read\"} GET payments:/accounts/a1 -> 200", 200),
            ("user{account=a1,scope='payments:read'} GET payments:/accounts/a2 -> 403", 403),
            ("user{account=a1} GET payments:/accounts/a1 -> 403", 403),
            ("service:ledger{bound=dpop} POST payments:/settlements -> 200", 200),
            ("service:ledger POST payments:/settlements -> 401", 401),
            ("role:admin{bound=dpop, mfa=2m, ip=10.0.0.1} POST payments:/settlements->200", 200),
            (
                "user{role=admin, bound=dpop, via=service:mailer} POST payments:/settlements -> 403",
                403,
            ),
        ] {
            assert_eq!(came(text), (status, true), "{text}");
        }
        assert_eq!(came("anyone GET payments:/rates -> 403"), (200, false));
    }

    #[test]
    fn factors_say_what_a_token_would_say_of_them() {
        for (said, came) in [
            (&[][..], &[][..]),
            (&[("password", 9)], &[("any", 9), ("password", 9)]),
            (&[("passkey", 9)], &[("any", 9), ("mfa", 9), ("passkey", 9)]),
            (
                &[("password", 9), ("totp", 5)],
                &[("any", 5), ("mfa", 9), ("password", 9), ("totp", 5)],
            ),
            (&[("mfa", 9)], &[("any", 9), ("mfa", 9)]),
            (&[("mfa", 9), ("passkey", 5)], &[("any", 5), ("mfa", 9), ("passkey", 5)]),
        ] {
            let mut ages: BTreeMap<&'static str, i64> = said.iter().copied().collect();
            complete(&mut ages);
            assert_eq!(ages.into_iter().collect::<Vec<_>>(), came, "{said:?}");
        }
    }

    #[test]
    fn what_is_no_expectation_is_told_with_its_place() {
        let (rules, words) = (rules(TABLE), vocabulary());
        for (text, rule, spot) in [
            ("anyone GET payments:/rates", "ExpectationMalformed", "anyone GET payments:/rates"),
            ("anyone GET payments:/rates -> fine", "ExpectationMalformed", "fine"),
            ("anyone GET payments:/rates -> 99", "ExpectationMalformed", "99"),
            ("anyone get payments:/rates -> 200", "ExpectationMalformed", "get"),
            ("anyone GET /rates -> 200", "ExpectationMalformed", "/rates"),
            ("anyone GET payment:/rates -> 200", "UnknownApi", "payment"),
            ("anybody GET payments:/rates -> 200", "UnknownPrincipal", "anybody"),
            ("role:amdin GET payments:/rates -> 200", "UnknownPrincipal", "role:amdin"),
            (
                "user{account=a1 GET payments:/rates -> 200",
                "ExpectationMalformed",
                "{account=a1 GET payments:/rates",
            ),
            ("user{acount=a1} GET payments:/rates -> 200", "UnknownAttribute", "acount=a1"),
            ("user{level=high} GET payments:/rates -> 200", "ExpectationMalformed", "level=high"),
            ("user{mfa=soon} GET payments:/rates -> 200", "ExpectationMalformed", "mfa=soon"),
            ("anyone{account=a1} GET payments:/rates -> 200", "ExpectationMalformed", "account=a1"),
        ] {
            let faults = read(&[placed(text)], &rules, &words).err().unwrap();
            let [fault] = faults.as_slice() else { panic!("{faults:?}") };
            let bytes = fault.place.clone().unwrap().bytes;
            let found = text.get(bytes.start - 101..bytes.end - 101).unwrap();
            assert_eq!((fault.rule, found), (rule, spot), "{text}");
            assert!(!fault.remedy.is_empty());
        }
    }
}
