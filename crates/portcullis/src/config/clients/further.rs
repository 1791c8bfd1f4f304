//! What a client may say beyond its type: grants, binding, refresh, logout, details, its name.

use portcullis_core::client::{
    Binding, ClientRecord, ClientType, GrantType, Profile, RefreshLife, SubjectType,
};
use portcullis_core::time;
use portcullis_core::web::{Address, Redirect};

use super::super::access::duration_malformed;
use super::super::identity::https;
use super::super::known;
use super::super::reader::{Environment, Reading, Section, advised};

/// Longest name of a client for people, in bytes.
const MAX_NAME: usize = 100;
/// Most redirects after a logout.
const MAX_POST_LOGOUT: usize = 16;

/// Reads the keys that most clients leave out.
pub(super) fn read(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
    client: ClientRecord,
) -> ClientRecord {
    let client = ClientRecord { name: name(reading, section), ..client };
    let grants = grants(reading, section, &client);
    let binding = bound(reading, section, &client);
    let refresh = refresh(reading, section, client.refresh);
    let subject = subject(reading, section, &client);
    let flag = |reading: &mut Reading<'_>, name: &str| {
        section.value(name).is_some_and(|value| reading.flag(value, name))
    };
    let client = ClientRecord {
        grants,
        binding,
        refresh,
        subject,
        post_logout: post_logout(reading, section, client.kind),
        back_channel_logout: back_channel(reading, section),
        introspects: introspects(reading, section),
        signed_userinfo: flag(reading, "signed_userinfo"),
        signed_requests: flag(reading, "signed_requests"),
        details: words(reading, section, "details"),
        ..client
    };
    judge_signed_requests(reading, section, &client);
    judge_profile(reading, section, &client);
    client
}

fn name(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<String> {
    let written = section.text(reading, "name")?;
    let plain = !written.value.trim().is_empty() && !written.value.chars().any(char::is_control);
    if !plain || written.value.len() > MAX_NAME {
        let message =
            format!("`name` is empty, holds control characters or is over {MAX_NAME} bytes");
        let remedy = "write the name that people know the application by";
        reading.fault("NameMalformed", written.place.bytes, message, remedy);
        return None;
    }
    Some(written.value)
}

/// The short words of the file for the grants of the wire.
const GRANTS: [(&str, GrantType); 6] = [
    ("code", GrantType::AuthorizationCode),
    ("refresh", GrantType::RefreshToken),
    ("client_credentials", GrantType::ClientCredentials),
    ("device", GrantType::DeviceCode),
    ("token_exchange", GrantType::TokenExchange),
    ("jwt_bearer", GrantType::JwtBearer),
];

fn grants(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
    client: &ClientRecord,
) -> Vec<GrantType> {
    if section.value("grants").is_none() {
        return client.grants.clone();
    }
    let mut grants = Vec::new();
    for written in section.texts(reading, "grants") {
        let span = written.place.bytes.clone();
        match GRANTS.iter().find(|(word, _)| *word == written.value) {
            None => {
                let message = format!("`{}` is not a grant", written.value);
                let remedy = known::suggest(&written.value, GRANTS.iter().map(|(word, _)| *word));
                reading.fault("GrantUnknown", span, message, remedy);
            }
            Some((_, grant)) if may(client.kind, *grant) => grants.push(*grant),
            Some((word, _)) => {
                let message = format!("a client of this type may not use the grant `{word}`");
                let remedy = "only `service` clients speak for themselves or exchange tokens; only \
                              clients with redirects use codes";
                reading.fault("GrantOfAnotherType", span, message, remedy);
            }
        }
    }
    grants
}

/// Which grants make sense for a type: RFC 6749 §4.4 (confidential only), RFC 8693 and 7523 for
/// software that proves itself, codes where there are redirects.
fn may(kind: ClientType, grant: GrantType) -> bool {
    match grant {
        GrantType::AuthorizationCode => {
            matches!(kind, ClientType::Spa | ClientType::Native | ClientType::Web)
        }
        GrantType::RefreshToken => kind != ClientType::Service,
        GrantType::DeviceCode => matches!(kind, ClientType::Native | ClientType::Device),
        GrantType::ClientCredentials => kind == ClientType::Service,
        GrantType::TokenExchange | GrantType::JwtBearer => {
            matches!(kind, ClientType::Service | ClientType::Web)
        }
    }
}

fn bound(reading: &mut Reading<'_>, section: &Section<'_>, client: &ClientRecord) -> Binding {
    let Some(value) = section.value("bound") else { return client.binding };
    if reading.flag(value, "bound") {
        return Binding::Required;
    }
    if client.is_confidential() {
        let message = "a confidential client's tokens are bound (FAPI 2.0 §5.3.2.1)";
        let remedy = "write `waivers = { bearer_tokens = \"DATE\" }` to go without until a date";
        reading.fault("BoundWaivedForever", value.span(), message, remedy);
    }
    Binding::Offered
}

fn refresh(reading: &mut Reading<'_>, section: &Section<'_>, usual: RefreshLife) -> RefreshLife {
    let Some(value) = section.value("refresh") else { return usual };
    let Some(inner) = Section::open(reading, value, &known::REFRESH) else { return usual };
    let mut time = |name: &str| {
        let written = inner.text(reading, name)?;
        match time::duration(&written.value) {
            Ok(duration) => Some(duration),
            Err(malformed) => {
                duration_malformed(reading, &written, malformed);
                None
            }
        }
    };
    let life = RefreshLife {
        idle: time("idle").unwrap_or(usual.idle),
        max: time("max").unwrap_or(usual.max),
    };
    if life.idle > life.max {
        let message = "`idle` is longer than `max`";
        reading.fault("RefreshNeverIdle", value.span(), message, "write a shorter `idle`");
    }
    life
}

fn subject(reading: &mut Reading<'_>, section: &Section<'_>, client: &ClientRecord) -> SubjectType {
    let Some(written) = section.text(reading, "subject") else { return SubjectType::Public };
    match &*written.value {
        "public" => SubjectType::Public,
        "pairwise" => {
            // OpenID Connect Core §8.1: without a sector identifier the redirects' host is it, and
            // there must be one alone.
            let mut hosts: Vec<String> =
                client.redirects.iter().filter_map(|to| host(to.as_str())).collect();
            hosts.sort();
            hosts.dedup();
            match hosts.as_slice() {
                [sector] => SubjectType::Pairwise { sector: sector.clone() },
                [] | [_, _, ..] => {
                    let message = "`pairwise` needs redirects of one host alone";
                    let remedy = "register one client per host, or write `subject = \"public\"`";
                    reading.fault("SectorUnclear", written.place.bytes, message, remedy);
                    SubjectType::Public
                }
            }
        }
        other => {
            let message = format!("`{other}` is no kind of subject");
            let remedy = "write `\"public\"` or `\"pairwise\"`";
            reading.fault("SubjectUnknown", written.place.bytes, message, remedy);
            SubjectType::Public
        }
    }
}

fn host(redirect: &str) -> Option<String> {
    let (_, rest) = redirect.split_once("://")?;
    rest.split(['/', ':', '?']).next().map(str::to_owned)
}

fn post_logout(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
    kind: ClientType,
) -> Vec<Redirect> {
    let Some(value) = section.value("post_logout") else { return Vec::new() };
    let written = reading.strings(value, "post_logout", Environment::Allowed);
    if written.len() > MAX_POST_LOGOUT {
        let message = format!("more than {MAX_POST_LOGOUT} addresses after a logout");
        reading.fault("ListTooLong", value.span(), message, "write fewer");
        return Vec::new();
    }
    written.iter().filter_map(|written| super::redirect(reading, written, kind)).collect()
}

fn back_channel(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Address> {
    let written = section.text_or_variable(reading, "back_channel_logout")?;
    https(reading, &written, "back_channel_logout")
}

/// The APIs whose tokens it may introspect, by their `at`.
fn introspects(reading: &mut Reading<'_>, section: &Section<'_>) -> Vec<String> {
    let mut audiences = Vec::new();
    for written in section.texts(reading, "introspects") {
        match Address::parse(&written.value) {
            Ok(address) => audiences.push(address.to_string()),
            Err(malformed) => {
                let (wrong, remedy) = advised(malformed.0);
                let message = format!("`{}`: {wrong}", written.value);
                reading.fault("AddressMalformed", written.place.bytes, message, remedy);
            }
        }
    }
    audiences
}

fn words(reading: &mut Reading<'_>, section: &Section<'_>, name: &str) -> Vec<String> {
    section.texts(reading, name).into_iter().map(|written| written.value).collect()
}

fn judge_signed_requests(reading: &mut Reading<'_>, section: &Section<'_>, client: &ClientRecord) {
    if client.signed_requests && client.keys().is_none() {
        let span = section.value("signed_requests").map_or(section.span.clone(), |v| v.span());
        let message = "`signed_requests` needs keys to verify them with (RFC 9101)";
        reading.fault("RequestsUnverifiable", span, message, "add `keys`, or leave it out");
    }
}

/// A written `profile` must say what the rest comes to: it is there for the reader.
fn judge_profile(reading: &mut Reading<'_>, section: &Section<'_>, client: &ClientRecord) {
    let Some(written) = section.text(reading, "profile") else { return };
    let actual = match client.profile() {
        Profile::Fapi2 => "fapi2",
        Profile::Public => "public",
        Profile::Compat => "compat",
    };
    if written.value != actual {
        let message =
            format!("`profile = \"{}\"`, but this client comes to `{actual}`", written.value);
        let remedy = "the profile follows from `type` and `waivers`: change those, or leave it out";
        reading.fault("ProfileOther", written.place.bytes, message, remedy);
    }
}
