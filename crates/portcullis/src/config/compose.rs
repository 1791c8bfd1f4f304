//! What no table sees alone: hosts, origins and names across the file, and the compiled rules.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use portcullis_core::client::{Authentication, CertificateRule, ClientRecord, ClientType};
use portcullis_core::fault::{Fault, Severity};
use portcullis_core::foreign::ForeignIssuer;
use portcullis_core::limit::Limit;
use portcullis_core::web::Address;
use portcullis_policy::access::{ApiDraft, Vocabulary};
use portcullis_policy::compile::{Rules, compile};
use portcullis_policy::coverage;
use portcullis_policy::expect::{self, Outcome};

use super::clients::Written;
use super::known;
use super::limits::{BUILT_IN, OnLines};
use super::loader::Sources;
use super::reader::{Reading, Section};
use super::settings::{Api, Config, Identity, Server};
use super::{api, clients, identity, issuers, limits, policy, server};

/// Reads every table, compares them, compiles the rules. `None` when something is missing that a
/// [`Config`] cannot be without; the faults tell in either case.
pub(crate) fn compose(reading: &mut Reading<'_>, root: &Section<'_>) -> Option<Config> {
    let mut server = server::read(reading, root);
    let identity = identity::read(reading, root);
    let clients = clients::read(reading, root);
    let issuers = issuers::read(reading, root, identity.as_ref());
    let limits = limits::read(reading, root);
    // Unknown names are only worth telling when everything that makes names was read.
    let policy = policy::read(reading, root);
    let names_known = reading.faults.is_empty();
    let (apis, drafts): (Vec<Api>, Vec<ApiDraft>) =
        api::read(reading, root).into_iter().map(|read| (read.api, read.draft)).unzip();
    if let Some(identity) = &identity {
        judge_origins(reading, &identity.issuer, &apis);
        judge_mtls(reading, identity, &apis);
        let mtls = identity.mtls.as_ref().map(|mtls| &mtls.at);
        let ours = std::iter::once(&identity.issuer).chain(mtls);
        let hosts = ours.chain(apis.iter().map(|api| &*api.at));
        judge_crossings(reading, identity, &apis, (&clients, &issuers));
        if let Some(server) = &mut server {
            judge_domains(reading, root, server, hosts);
        }
    }
    let (server, identity) = (server?, identity?);
    let now = reading.now().unix();
    let clients: Vec<Arc<ClientRecord>> =
        clients.into_iter().map(|written| written.client).collect();
    let vocabulary = vocabulary(&identity, &clients, &limits, now);
    if !names_known {
        return None;
    }
    let rules: Rules = compile(&drafts, &policy.files, &vocabulary)
        .map_err(|faults| merge(reading, faults))
        .ok()?;
    judge_certificate_lines(reading, &identity.issuer, &rules, &apis);
    expect::read(&policy.expect, &rules, &vocabulary)
        .map_err(|faults| merge(reading, faults))
        .ok()?;
    Some(Config {
        file: reading.file.clone(),
        server,
        identity,
        clients,
        issuers,
        limits,
        apis,
        rules,
        sources: Sources::default(),
        watched: Vec::new(),
        policy,
        drafts,
        vocabulary,
    })
}

/// Adds the compiler's faults to the readers'.
fn merge(reading: &mut Reading<'_>, faults: Vec<Fault>) {
    for fault in faults {
        if !reading.faults.contains(&fault) {
            reading.faults.push(fault);
        }
    }
}

/// The issuer's origin serves no upstream, so that a page stored there can't act on the login.
fn judge_origins(reading: &mut Reading<'_>, issuer: &Address, apis: &[Api]) {
    for api in apis.iter().filter(|api| api.at.origin() == issuer.origin()) {
        let message = format!("`{}` shares its origin with the issuer", api.at);
        let remedy = "give the login a host or a port of its own: a page that the upstream serves \
                      could act on it";
        reading.fault("IssuerOriginShared", api.at_place.bytes.clone(), message, remedy);
    }
}

/// TLS asks for certificates by host name (SNI), before it knows the port: whoever shares the host is
/// asked too, and browsers would show a prompt at the login.
fn judge_mtls(reading: &mut Reading<'_>, identity: &Identity, apis: &[Api]) {
    let Some(mtls) = &identity.mtls else { return };
    let shared = apis.iter().any(|api| api.at.host() == mtls.at.host())
        || identity.issuer.host() == mtls.at.host();
    if shared && !reading.for_a_laptop() {
        let message = format!("`{}` shares its host with the issuer or an API", mtls.at);
        let remedy = "give client certificates a host of their own, `https://mtls.HOST`";
        reading.fault("MtlsHostShared", mtls.place.bytes.clone(), message, remedy);
    }
}

/// The same for an API with a line that takes a certificate.
fn judge_certificate_lines(
    reading: &mut Reading<'_>,
    issuer: &Address,
    rules: &Rules,
    apis: &[Api],
) {
    let asks = |api: &&Api| {
        let mut lines = rules.operations().filter(|operation| operation.api == api.name);
        api.at.host() == issuer.host() && lines.any(|operation| operation.asks_certificate)
    };
    for api in apis.iter().filter(asks) {
        if !reading.for_a_laptop() && !issuer.is_loopback() {
            let message =
                format!("a line of `{}` takes certificates at the issuer's host", api.name);
            let remedy = "give the API a host of its own, or write `bound = \"dpop\"`: browsers \
                          would be asked for certificates at the login";
            reading.fault("MtlsHostShared", api.at_place.bytes.clone(), message, remedy);
        }
    }
}

/// What one table says of another: certificates need an origin that asks for them, federated clients
/// an issuer, detail types their words.
fn judge_crossings(
    reading: &mut Reading<'_>,
    identity: &Identity,
    apis: &[Api],
    (clients, issuers): (&[Written], &[Arc<ForeignIssuer>]),
) {
    for Written { client, span } in clients {
        match &client.authentication {
            Authentication::Certificate(rule) => {
                judge_certificate(reading, identity, rule, (client, span));
            }
            Authentication::Federated(federated) => {
                if !issuers.iter().any(|issuer| issuer.name == federated.issuer) {
                    let message = format!("`{}` is not in [issuers]", federated.issuer);
                    let names = issuers.iter().map(|issuer| issuer.name.as_str());
                    let remedy = match issuers {
                        [] => format!("add [issuers.{}]", federated.issuer),
                        [..] => known::suggest(&federated.issuer, names),
                    };
                    reading.fault("IssuerUnknown", span.clone(), message, remedy);
                }
            }
            Authentication::None | Authentication::Keys(_) | Authentication::SecretDigest(_) => {}
        }
        for audience in &client.introspects {
            if !apis.iter().any(|api| api.at.to_string() == *audience) {
                let message = format!("`{}` introspects `{audience}`, which is no API", client.id);
                reading.fault("AudienceUnknown", span.clone(), message, "write an API's `at`");
            }
        }
        for kind in &client.details {
            judge_details(reading, identity, kind, span);
        }
    }
    for api in apis {
        for kind in &api.details {
            judge_details(reading, identity, kind, &api.at_place.bytes);
        }
    }
}

fn judge_certificate(
    reading: &mut Reading<'_>,
    identity: &Identity,
    rule: &CertificateRule,
    (client, span): (&ClientRecord, &Range<usize>),
) {
    let chained = !matches!(rule, CertificateRule::Pinned(_));
    let ca = identity.mtls.as_ref().is_some_and(|mtls| mtls.ca_pem.is_some());
    if identity.mtls.is_none() || (chained && !ca) {
        let message = format!("`{}` shows a certificate that nobody asks for", client.id);
        let remedy = "add `mtls = { at = \"https://mtls.HOST\", ca = \"clients-ca.pem\" }` to \
                      [identity]";
        reading.fault("MtlsMissing", span.clone(), message, remedy);
    }
}

fn judge_details(reading: &mut Reading<'_>, identity: &Identity, kind: &str, span: &Range<usize>) {
    if !identity.detail_words.contains_key(kind) {
        let message = format!("the authorization_details type `{kind}` has no words");
        let remedy = "add it to [identity.details] with the words of the consent page";
        reading.fault("DetailsUnknown", span.clone(), message, remedy);
    }
}

/// Each host that callers use stands in `domains`, which is filled from them when left out.
fn judge_domains<'a>(
    reading: &mut Reading<'_>,
    root: &Section<'_>,
    server: &mut Server,
    hosts: impl Iterator<Item = &'a Address>,
) {
    let hosts: BTreeSet<&str> = hosts.map(Address::host).collect();
    let table = root.value("server").and_then(|value| value.get_ref().as_table());
    let Some(written) = table.and_then(|table| table.get("domains")) else {
        server.domains = hosts.into_iter().map(str::to_owned).collect();
        return;
    };
    for host in hosts.into_iter().filter(|host| !server.domains.iter().any(|name| name == host)) {
        let message = format!("`{host}` is used by this file and is not among `domains`");
        let remedy = format!("add `\"{host}\"`, or leave `domains` out");
        reading.fault("DomainMissing", written.span(), message, remedy);
    }
}

/// The names that rules may speak of.
fn vocabulary(
    identity: &Identity,
    clients: &[Arc<ClientRecord>],
    limits: &HashMap<Arc<str>, Arc<Limit>>,
    now: i64,
) -> Vocabulary {
    let services = clients.iter().filter(|client| client.kind == ClientType::Service);
    // A scope with words for the consent page may be granted to clients of the store.
    let granted = clients.iter().flat_map(|client| client.scopes.iter());
    let strangers = identity.documents.iter().flat_map(|strangers| strangers.scopes.iter());
    let selves = identity.registration.iter().flat_map(|own| own.scopes.iter());
    let words = identity.scope_words.keys().map(String::as_str);
    let scopes: BTreeSet<&str> = granted.chain(words).chain(strangers).chain(selves).collect();
    let closed = |name: &str| {
        BUILT_IN.iter().any(|limit| limit.name == name && limit.on_lines == OnLines::No)
    };
    let mut limits: Vec<(String, bool)> = limits
        .iter()
        .filter(|(name, _)| !closed(name))
        .map(|(name, limit)| (name.to_string(), limit.needs_identity()))
        .collect();
    limits.sort();
    Vocabulary {
        roles: identity.roles.clone(),
        groups: identity.groups.clone(),
        services: services.map(|client| client.id.to_string()).collect(),
        scopes: scopes.into_iter().map(str::to_owned).collect(),
        limits,
        attributes: identity.attributes.clone(),
        factors: vec!["totp".into()],
        now,
    }
}

impl Config {
    /// The access tables as written.
    pub(crate) fn api_drafts(&self) -> &[ApiDraft] {
        &self.drafts
    }

    /// The names that rules may speak of.
    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Every gap: what is closed or unproven without being an error.
    pub(crate) fn gaps(&self) -> Vec<Fault> {
        coverage::gaps(&self.drafts, &self.rules, &self.vocabulary)
            .into_iter()
            .chain(self.outcomes().iter().filter_map(unmet))
            .map(|gap| Fault { severity: Severity::Gap, ..gap })
            .collect()
    }

    /// Each expectation with what came.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let read = expect::read(&self.policy.expect, &self.rules, &self.vocabulary);
        read.map(|read| expect::run(&self.rules, &read, &self.vocabulary)).unwrap_or_default()
    }

    /// Compiles the rules anew, after `dev` moved the APIs.
    pub(crate) fn recompile(&mut self) -> Result<(), Vec<Fault>> {
        self.rules = compile(&self.drafts, &self.policy.files, &self.vocabulary)?;
        Ok(())
    }

    /// One client of the file.
    pub(crate) fn client(&self, id: &str) -> Option<&Arc<ClientRecord>> {
        self.clients.iter().find(|client| client.id.as_str() == id)
    }
}

fn unmet(outcome: &Outcome) -> Option<Fault> {
    if outcome.holds() {
        return None;
    }
    let message = format!("`{}`: {} came", outcome.text.value, outcome.came.status);
    let remedy = "mend the line, or the expectation; `portcullis expect` explains it";
    Some(Fault::gap("ExpectationFailed", outcome.text.place.clone(), message, remedy.into()))
}
