//! From drafts to rules: each line judged, each table compiled to a Cedar `permit` against its own
//! operation's schema. All faults are collected, so that a person mends a file in one go.

use std::sync::Arc;

use cedar_policy::{Authorizer, EntityUid, Policy, PolicyId, PolicySet};
use portcullis_core::fault::{Fault, Severity};
use portcullis_core::web::Address;

use crate::access::{ApiDraft, Vocabulary};
use crate::clause::{Alternative, Principal};
use crate::condition::Condition;
use crate::credential::{self, Accepts, Bound};
use crate::documented;
use crate::entities::{Names, Needs, uid};
use crate::line::{self, Closed, Line};
use crate::parameter::Parameter;
use crate::schema::{self, PrincipalKind};
use crate::shape::LineKey;
use crate::table::{Found, Mounted, OperationId, Table, Target, Trie};
use crate::types;

/// Most lines over all APIs.
pub const MAX_LINES: usize = 5_000;

/// One generation of rules: table, operations, policies; immutable.
pub struct Rules {
    pub(crate) table: Table,
    pub(crate) entries: Vec<Entry>,
    pub(crate) names: Names,
    pub(crate) authorizer: Authorizer,
}

/// One operation with all that decides it.
pub(crate) struct Entry {
    pub(crate) operation: Operation,
    pub(crate) key: LineKey,
    pub(crate) closed: Option<Closed>,
    pub(crate) alternatives: Vec<Alternative>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) action: EntityUid,
    pub(crate) policies: PolicySet,
    pub(crate) needs: Needs,
    /// Positions of alternatives that Cedar's types prove false for every caller.
    pub(crate) impossible: Vec<usize>,
}

/// What the gateway needs to know of an operation besides its rule.
pub struct Operation {
    /// Its number.
    pub id: OperationId,
    /// The API's name.
    pub api: Arc<str>,
    /// The API's `at`, which is also the audience of its tokens.
    pub at: Arc<Address>,
    /// `GET /accounts/{account}`.
    pub key: Arc<str>,
    /// `file:line`.
    pub rule: Arc<str>,
    /// Whether credentials are read: `false` when some alternative allows `anyone`.
    pub authenticates: bool,
    /// Names of its limits: the union of its alternatives'. Empty: the default. `none` alone: none,
    /// with a reason in the file.
    pub limits: Vec<Arc<str>>,
    /// First-byte timeout.
    pub timeout: std::time::Duration,
    /// Largest body.
    pub body_max: u64,
    /// How it is recorded.
    pub audit: AuditLevel,
    /// Scopes that its alternatives name (for metadata and challenges).
    pub scopes: Vec<String>,
    /// To what every caller's token must be bound: what challenges ask for. `None` when some table
    /// takes an unbound token.
    pub bound: Option<Bound>,
    /// Whether some table takes a token that is bound by a certificate: its host asks for one.
    pub asks_certificate: bool,
    /// Whether an API key will do (`accept = "key"`).
    pub accepts_key: bool,
}

/// How a line is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditLevel {
    /// Refusals only.
    None,
    /// One in a hundred, and refusals.
    Sampled,
    /// Every decision (the default).
    All,
    /// Every decision, each clause with its inputs also when allowed.
    Full,
}

/// Compiles all APIs of a file.
///
/// # Errors
/// Every fault of severity `Error`. Gaps do not stop a load; see [`crate::coverage::gaps`].
pub fn compile(apis: &[ApiDraft], vocabulary: &Vocabulary) -> Result<Rules, Vec<Fault>> {
    let mut faults = schema_faults(vocabulary);
    let count: usize = apis.iter().map(|api| api.lines.len()).sum();
    if count > MAX_LINES {
        faults.push(too_many_lines(apis, count));
        return Err(faults);
    }
    let mut table = Table::default();
    let mut entries = Vec::with_capacity(count);
    for api in apis {
        compile_api(api, vocabulary, (&mut table, &mut entries), &mut faults);
    }
    let targets = entries.iter().map(|entry: &Entry| Target {
        open: entry.closed.is_none(),
        parameters: entry.parameters.clone(),
    });
    table.set_targets(targets.collect());
    match Names::new() {
        Some(names) if faults.is_empty() => {
            Ok(Rules { table, entries, names, authorizer: Authorizer::new() })
        }
        _ => Err(faults),
    }
}

impl Rules {
    /// Finds the operation of a request. `host` is the authority in lower case without a default
    /// port; `path` the canonical path, percent-encoded as it was sent.
    pub fn find(&self, host: &str, method: &str, path: &str) -> Found<'_> {
        self.table.find(host, method, path)
    }

    /// The operation of a number.
    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        self.entry(id).map(|entry| &entry.operation)
    }

    /// All operations, in the file's order.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.entries.iter().map(|entry| &entry.operation)
    }

    /// The audience (an API's `at`) for a set of scopes when no `resource` was asked: the one API
    /// whose lines use them, else `None` (RFC 8707 §2 `invalid_target`). Scopes that no line uses
    /// (`openid`) point nowhere; when none points anywhere and there is one API, it is that one.
    pub fn audience_of(&self, scopes: &portcullis_core::scope::Scopes) -> Option<Arc<Address>> {
        let mut all: Vec<&Arc<Address>> = Vec::new();
        let mut used: Vec<&Arc<Address>> = Vec::new();
        for operation in self.operations() {
            if !all.contains(&&operation.at) {
                all.push(&operation.at);
            }
            let uses = operation.scopes.iter().any(|scope| scopes.contains(scope));
            if uses && !used.contains(&&operation.at) {
                used.push(&operation.at);
            }
        }
        match (used.as_slice(), all.as_slice()) {
            ([one], _) | ([], [one]) => Some(Arc::clone(one)),
            _ => None,
        }
    }

    /// Whether the decision of the operation is a function of the token and these rules alone, so that the gateway may keep a verdict beside the verified token for as
    /// long as token and rules generation stay.
    ///
    /// Sound because no table of such a line has `when`, `from` or `until`: its policies are made
    /// by [`Alternative::policy`] of `allow`, `scope`, `bound` and `via` alone, which read `principal`
    /// (kind, id, roles, groups) and `context.{scopes, dpop, mtls, actors}`; all of these are fixed
    /// by the token: a bound token is refused before the decision wherever its proof is missing. Parameters, time
    /// and address occur in no policy of the operation, and one operation is decided by its own
    /// policies only. A closed line is pure too: it never allows.
    pub fn pure_line(&self, id: OperationId) -> bool {
        self.entry(id).is_some_and(|entry| entry.alternatives.iter().all(Alternative::is_pure))
    }

    pub(crate) fn entry(&self, id: OperationId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)
    }
}

fn compile_api(
    api: &ApiDraft,
    vocabulary: &Vocabulary,
    built: (&mut Table, &mut Vec<Entry>),
    faults: &mut Vec<Fault>,
) {
    let (table, entries) = built;
    let (shared, mut trie) = (ApiShared::of(api), Trie::new());
    for draft in &api.lines {
        let Some(line) = line::read(draft, vocabulary, faults) else { continue };
        let id = OperationId(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        if let Some(twin) = trie.insert(&line.key.shape, line.key.method, id) {
            let rule = entries.get(twin.0 as usize).map(|entry| Arc::clone(&entry.operation.rule));
            faults.push(shape_twice(&line, rule.as_deref().unwrap_or("another line")));
            continue;
        }
        let document = api.document.as_ref().map(|document| &document.value);
        let parameters = documented::parameters(&line.key, document);
        if let Some(entry) = compile_line(line, id, (&shared, &parameters, vocabulary), faults) {
            entries.push(entry);
        }
    }
    documented::check_rules(api, faults);
    let at = &api.at.value;
    if table.mount(&at.authority(), at.path(), trie) == Mounted::Occupied {
        faults.push(Fault::error(
            "AddressTwice",
            api.at.place.clone(),
            format!("another API stands at `{at}` already"),
            "give each API an address of its own, or write both in one table".into(),
        ));
    }
}

/// What all lines of an API share.
struct ApiShared {
    name: Arc<str>,
    at: Arc<Address>,
}

impl ApiShared {
    fn of(api: &ApiDraft) -> Self {
        ApiShared { name: api.name.value.as_str().into(), at: Arc::new(api.at.value.clone()) }
    }
}

/// Validates the line's tables against its schema; `None` after a fault.
fn compile_line(
    line: Line,
    id: OperationId,
    around: (&ApiShared, &[Parameter], &Vocabulary),
    faults: &mut Vec<Fault>,
) -> Option<Entry> {
    let (shared, parameters, vocabulary) = around;
    let key: Arc<str> = line.key.to_string().into();
    let kinds = kinds(&line.alternatives);
    // A closed line has no policy; it still has a place in the table.
    let validator = schema::validator(&key, parameters, &kinds, vocabulary)?;
    let before = faults.len();
    let mut policies = PolicySet::new();
    let mut impossible = Vec::new();
    for (position, alternative) in line.alternatives.iter().enumerate() {
        types::check_names(alternative, parameters, vocabulary, faults);
        if faults.len() > before {
            continue;
        }
        let source = alternative.policy(&key);
        let policy = Policy::parse(Some(PolicyId::new(&*alternative.rule)), &source).ok();
        match policy {
            Some(policy) => {
                let proof = types::validate(&validator, &policy, (&source, alternative), faults);
                if proof == types::Proof::Impossible {
                    impossible.push(position);
                }
                policies.add(policy).ok()?;
            }
            None => faults.push(types::unreadable(alternative)),
        }
    }
    if faults.len() > before {
        return None;
    }
    Some(Entry {
        operation: operation(&line, id, (shared, &key)),
        action: uid("Action", &key)?,
        needs: needs(&line.alternatives),
        key: line.key,
        closed: line.closed,
        alternatives: line.alternatives,
        parameters: parameters.to_vec(),
        policies,
        impossible,
    })
}

fn operation(line: &Line, id: OperationId, around: (&ApiShared, &Arc<str>)) -> Operation {
    let (shared, key) = around;
    let mut scopes: Vec<String> = Vec::new();
    for scope in line.alternatives.iter().filter_map(|alternative| alternative.scope.as_ref()) {
        for name in scope.named().iter() {
            if !scopes.iter().any(|known| known == name) {
                scopes.push(name.to_owned());
            }
        }
    }
    let is_public = line.alternatives.iter().any(|a| a.admits(PrincipalKind::Anonymous));
    Operation {
        id,
        api: Arc::clone(&shared.name),
        at: Arc::clone(&shared.at),
        key: Arc::clone(key),
        rule: Arc::clone(&line.rule),
        authenticates: !is_public,
        limits: line.settings.limits.clone(),
        timeout: line.settings.timeout,
        body_max: line.settings.body_max,
        audit: line.settings.audit,
        scopes,
        bound: credential::bound_of(&line.alternatives),
        asks_certificate: line.alternatives.iter().any(|a| a.bound.is_some_and(Bound::takes_mtls)),
        accepts_key: line.settings.accepts == Accepts::TokensAndKeys && line.closed.is_none(),
    }
}

/// The kinds that the line names; a closed line is given one, for its (empty) schema.
fn kinds(alternatives: &[Alternative]) -> Vec<PrincipalKind> {
    let mut kinds: Vec<PrincipalKind> = alternatives
        .iter()
        .flat_map(|alternative| alternative.allow.iter().map(Principal::kind))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() { vec![PrincipalKind::User] } else { kinds }
}

fn needs(alternatives: &[Alternative]) -> Needs {
    let mut needs = Needs::default();
    for alternative in alternatives {
        for principal in &alternative.allow {
            let parent = match principal {
                Principal::Role(name) => uid("Role", name),
                Principal::Group(name) => uid("Group", name),
                Principal::Anyone
                | Principal::User
                | Principal::Service
                | Principal::NamedService(_) => None,
            };
            if let Some(parent) = parent {
                needs.parent(parent);
            }
        }
        if alternative.scope.is_some() {
            needs.context("scopes");
        }
        if alternative.bound.is_some_and(Bound::takes_dpop) {
            needs.context("dpop");
        }
        if alternative.bound.is_some_and(Bound::takes_mtls) {
            needs.context("mtls");
        }
        if !alternative.admits(PrincipalKind::Anonymous) {
            needs.context("actors");
        }
        if !alternative.from.is_empty() {
            needs.context("ip");
        }
        if alternative.until.is_some() {
            needs.context("now");
        }
        let condition: Option<&Condition> = alternative.when.as_ref().map(|(when, _)| when);
        if let Some(condition) = condition {
            needs.condition(condition);
        }
    }
    needs
}

fn shape_twice(line: &Line, twin: &str) -> Fault {
    Fault::error(
        "ShapeTwice",
        line.place.clone(),
        format!("`{}` has the same method and shape as `{twin}`", line.key),
        "keep one of the two; alternatives go into one line as an array of tables".into(),
    )
}

fn too_many_lines(apis: &[ApiDraft], count: usize) -> Fault {
    Fault {
        rule: "TooManyLines",
        severity: Severity::Error,
        place: apis.first().map(|api| api.name.place.clone()),
        message: format!("the tables have {count} lines"),
        remedy: format!("keep to {MAX_LINES}; a final `/**` covers many operations with one rule"),
    }
}

fn schema_faults(vocabulary: &Vocabulary) -> Vec<Fault> {
    let taken = |name: &String| schema::RESERVED_ATTRIBUTES.contains(&name.as_str());
    let mut faults = Vec::new();
    for (name, _) in &vocabulary.attributes {
        if taken(name) || !crate::shape::is_parameter_name(name) {
            faults.push(Fault {
                rule: "AttributeReserved",
                severity: Severity::Error,
                place: None,
                message: format!("`{name}` cannot be the name of a declared attribute"),
                remedy: format!(
                    "use lower case letters, digits and `_`, and none of `{}`",
                    schema::RESERVED_ATTRIBUTES.join(" ")
                ),
            });
        }
    }
    faults
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
