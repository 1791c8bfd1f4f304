//! What `explain` is asked, read from the command line: a target, a caller, circumstances.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

use portcullis_core::jose::claims::Attribute;
use portcullis_core::scope::Scopes;
use portcullis_core::time;
use portcullis_core::web::Address;
use portcullis_policy::access::AttributeType;
use portcullis_policy::entities::{Caller, Circumstances, UserCaller};
use portcullis_policy::explain;

use super::explain::Question;
use crate::config::{Api, Config};

/// The request asked about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Upper case.
    pub(crate) method: String,
    /// The authority.
    pub(crate) host: String,
    /// From `/`, without a query.
    pub(crate) path: String,
    /// What stood behind `?`.
    pub(crate) query: Option<String>,
    /// Header fields: `header.NAME=VALUE`, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// `body=TEXT` or `body=@FILE`.
    pub(crate) body: Option<Vec<u8>>,
    /// `owner=ID`.
    pub(crate) owner: Option<String>,
}

/// Largest body that a file may hold: more than any line lets through to a rule.
const MAX_BODY_BYTES: u64 = 2 * 1024 * 1024;

/// Why a question cannot be answered; the text says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct AskedWrongly(String);

fn wrongly<T>(message: String) -> Result<T, AskedWrongly> {
    Err(AskedWrongly(message))
}

impl Asked {
    /// Finds the host: from a whole address, `--host`, the API whose `at` owns the path, or the
    /// only one that there is.
    pub(crate) fn read(config: &Config, question: &Question) -> Result<Asked, AskedWrongly> {
        let mut asked = Asked::target(config, question)?;
        for fact in &question.with {
            if let Some((key, value)) = fact.split_once('=') {
                asked.take(key.trim(), value)?;
            }
        }
        Ok(asked)
    }

    /// What the request itself carries; other facts are the caller's.
    fn take(&mut self, key: &str, value: &str) -> Result<(), AskedWrongly> {
        match key {
            "owner" => self.owner = Some(value.into()),
            "body" => self.body = Some(body(value)?),
            _ => {
                if let Some(name) = key.strip_prefix("header.") {
                    self.headers.push((name.to_ascii_lowercase(), value.into()));
                }
            }
        }
        Ok(())
    }

    /// As policy is asked.
    pub(crate) fn request(&self) -> explain::Asked<'_> {
        explain::Asked {
            host: &self.host,
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: self.body.as_deref(),
            owner: self.owner.as_deref(),
        }
    }

    fn target(config: &Config, arguments: &Question) -> Result<Asked, AskedWrongly> {
        let method = arguments.method.to_ascii_uppercase();
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_alphabetic()) {
            return wrongly(format!("`{}` is not a method", arguments.method));
        }
        if let Some(rest) = arguments.path.strip_prefix("https://") {
            let slash = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(slash);
            let address = Address::parse(&format!("https://{authority}"))
                .map_err(|malformed| AskedWrongly(format!("`{authority}` {malformed}")))?;
            let path = if path.is_empty() { "/" } else { path };
            return Ok(Asked::of(method, address.authority(), path));
        }
        if !arguments.path.starts_with('/') {
            let message = format!("`{}` is not a path: it starts with `/`", arguments.path);
            return wrongly(message);
        }
        let host = match &arguments.host {
            Some(host) => host.to_ascii_lowercase(),
            None => host_of(config, without_query(&arguments.path))?,
        };
        Ok(Asked::of(method, host, &arguments.path))
    }

    fn of(method: String, host: String, target: &str) -> Asked {
        let target = target.split('#').next().unwrap_or_default();
        Asked {
            method,
            host,
            path: without_query(target).to_owned(),
            query: target.split_once('?').map(|(_, query)| query.to_owned()),
            headers: Vec::new(),
            body: None,
            owner: None,
        }
    }
}

/// The text itself, or the file that `@` names.
fn body(value: &str) -> Result<Vec<u8>, AskedWrongly> {
    let Some(file) = value.strip_prefix('@') else { return Ok(value.as_bytes().to_vec()) };
    let unreadable = |error: std::io::Error| AskedWrongly(format!("cannot read `{file}`: {error}"));
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    let mut bytes = Vec::new();
    opened.take(MAX_BODY_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

fn host_of(config: &Config, path: &str) -> Result<String, AskedWrongly> {
    let owns = |api: &&Api| {
        let rest = path.strip_prefix(api.at.path());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut owners: Vec<String> =
        config.apis.iter().filter(owns).map(|api| api.at.authority()).collect();
    if owners.is_empty() {
        owners = config.apis.iter().map(|api| api.at.authority()).collect();
    }
    owners.sort();
    owners.dedup();
    match owners.as_slice() {
        [one] => Ok(one.clone()),
        [] => wrongly("the file has no API".into()),
        several => wrongly(format!("several hosts; say one with `--host`: {}", several.join(", "))),
    }
}

/// Who asks, and in which circumstances.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Who.
    pub(crate) caller: Caller,
    /// When and whence.
    pub(crate) circumstances: Circumstances,
}

impl Facts {
    /// Reads `--as` and each `--with`.
    pub(crate) fn read(
        config: &Config,
        arguments: &Question,
        now: i64,
    ) -> Result<Facts, AskedWrongly> {
        let mut facts = Facts {
            caller: caller(config, &arguments.caller)?,
            circumstances: Circumstances::unproven(now, IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        if let Caller::Service { id, .. } = &facts.caller {
            // A service is its client, and may ask for all that the file grants it.
            facts.circumstances.client = Some(id.clone());
            if let Some(client) = config.client(id) {
                facts.circumstances.scopes = client.scopes.clone();
            }
        }
        for fact in &arguments.with {
            let Some((key, value)) = fact.split_once('=') else {
                return wrongly(format!("`{fact}` is not `KEY=VALUE`"));
            };
            let key = key.trim();
            let of_request = matches!(key, "owner" | "body") || key.starts_with("header.");
            if !of_request {
                facts.take(config, key, value)?;
            }
        }
        Ok(facts)
    }

    fn take(&mut self, config: &Config, key: &str, value: &str) -> Result<(), AskedWrongly> {
        let here = &mut self.circumstances;
        match key {
            "scope" => {
                here.scopes = Scopes::parse(value)
                    .map_err(|malformed| AskedWrongly(format!("`{value}` is {malformed}")))?;
            }
            "ip" => {
                here.ip = value
                    .parse()
                    .map_err(|_| AskedWrongly(format!("`{value}` is not an address")))?;
            }
            "client" => here.client = Some(value.into()),
            "acr" => here.acr = Some(value.into()),
            "mfa" | "passkey" | "totp" | "password" => {
                let age = time::duration(value).map_err(|_| {
                    AskedWrongly(format!("`{key}={value}`: write `{key}=2m`, how long ago"))
                })?;
                factor(here, key, i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
            }
            "bound" => match value {
                "dpop" => here.dpop = true,
                "mtls" => here.mtls = true,
                _ => return wrongly(format!("`bound={value}`: write bound=dpop or bound=mtls")),
            },
            "via" => here.actors.push(value.strip_prefix("service:").unwrap_or(value).into()),
            "amr" => here.amr = value.split_whitespace().map(str::to_owned).collect(),
            _ => return self.take_of_user(config, key, value),
        }
        Ok(())
    }

    fn take_of_user(
        &mut self,
        config: &Config,
        key: &str,
        value: &str,
    ) -> Result<(), AskedWrongly> {
        let Caller::User(user) = &mut self.caller else {
            return wrongly(format!("`{key}` is a fact about a user; ask `--as user:NAME`"));
        };
        match key {
            "role" => user.roles.push(named(&config.identity.roles, "role", value)?),
            "group" => user.groups.push(named(&config.identity.groups, "group", value)?),
            "tenant" => user.tenant = Some(value.into()),
            _ => {
                let attribute = attribute(config, key, value)?;
                user.attributes.insert(key.into(), attribute);
            }
        }
        Ok(())
    }

    /// The caller for people: `user:alice, role admin, account=a1, scope payments:read, ip …`.
    pub(crate) fn words(&self) -> String {
        words(&self.caller, &self.circumstances)
    }
}

/// A factor proven so many seconds ago; it is also the latest of all, and two of them are `mfa`.
fn factor(here: &mut Circumstances, name: &str, age: i64) {
    let names: [&'static str; 4] = ["mfa", "passkey", "totp", "password"];
    for known in names.into_iter().filter(|known| *known == name).chain(["any"]) {
        let kept = here.ages.entry(known).or_insert(age);
        *kept = age.min(*kept);
    }
}

/// A caller for people, with what decides.
pub(crate) fn words(caller: &Caller, here: &Circumstances) -> String {
    let mut words = vec![caller.label()];
    if let Caller::User(user) = caller {
        words.extend(user.roles.iter().map(|role| format!("role {role}")));
        words.extend(user.groups.iter().map(|group| format!("group {group}")));
        words.extend(user.attributes.iter().map(|(name, value)| match value {
            Attribute::String(text) => format!("{name}={text}"),
            Attribute::Integer(number) => format!("{name}={number}"),
            Attribute::Bool(flag) => format!("{name}={flag}"),
        }));
    }
    if *caller != Caller::Anonymous {
        let scopes = &here.scopes;
        let none = scopes.is_empty();
        words.push(if none { "no scope".into() } else { format!("scope {scopes}") });
        words.extend(here.dpop.then(|| "bound by dpop".into()));
        words.extend(here.mtls.then(|| "bound by mtls".into()));
        words.extend(here.actors.iter().map(|actor| format!("via {actor}")));
    }
    let factors = here.ages.iter().filter(|(name, _)| **name != "any");
    words.extend(factors.map(|(name, age)| format!("{name} {age}s ago")));
    words.push(format!("ip {}", here.ip));
    words.join(", ")
}

fn caller(config: &Config, who: &str) -> Result<Caller, AskedWrongly> {
    let user = |id: &str| UserCaller {
        id: id.into(),
        issuer: config.identity.issuer.to_string(),
        ..UserCaller::default()
    };
    match who.split_once(':') {
        None if who == "anyone" => Ok(Caller::Anonymous),
        None if who == "user" => Ok(Caller::User(user("u_someone"))),
        Some(("user", name)) if !name.is_empty() => Ok(Caller::User(user(name))),
        Some(("role", role)) => {
            let roles = vec![named(&config.identity.roles, "role", role)?];
            Ok(Caller::User(UserCaller { roles, ..user("u_someone") }))
        }
        Some(("service", id)) => {
            let id = named(&config.vocabulary().services, "service", id)?;
            Ok(Caller::Service { id, tenant: None })
        }
        _ => wrongly(format!(
            "`{who}` is no caller: write `anyone`, `user:NAME`, `role:NAME` or `service:NAME`"
        )),
    }
}

/// A name that the file knows: a typing error must not look like a refusal.
fn named(known: &[String], kind: &str, name: &str) -> Result<String, AskedWrongly> {
    if known.iter().any(|one| one == name) {
        return Ok(name.into());
    }
    let known: Vec<String> = known.iter().map(|one| format!("`{one}`")).collect();
    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
    wrongly(format!("`{name}` is no {kind} of the file (it has {known})"))
}

fn attribute(config: &Config, name: &str, value: &str) -> Result<Attribute, AskedWrongly> {
    let declared = config.identity.attributes.iter().find(|(known, _)| known == name);
    let Some((_, kind)) = declared else {
        let attributes = config.identity.attributes.iter().map(|(known, _)| format!(", `{known}`"));
        let attributes: String = attributes.collect();
        return wrongly(format!(
            "`{name}` is no fact: write `scope`, `ip`, `client`, `acr`, `amr`, `role`, `group`, \
             `tenant`{attributes}"
        ));
    };
    let read = match kind {
        AttributeType::String => Some(Attribute::String(value.into())),
        AttributeType::Integer => value.parse().ok().map(Attribute::Integer),
        AttributeType::Bool => value.parse().ok().map(Attribute::Bool),
    };
    match read {
        Some(attribute) => Ok(attribute),
        None => wrongly(format!("`{name}` is declared as another type than `{value}`")),
    }
}
