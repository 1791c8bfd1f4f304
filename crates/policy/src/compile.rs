//! From drafts to rules: each line judged, each table compiled to a Cedar `permit`, Cedar files laid
//! over the operations that they speak of. All faults are collected, so that a person mends a file in
//! one go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cedar_policy::{Authorizer, Effect, EntityUid, Policy};
use portcullis_core::fault::{Fault, Place, Severity};
use portcullis_core::web::Address;

use crate::access::{ApiDraft, PolicyFile, Vocabulary};
use crate::body::BodyShape;
use crate::cedar_files::FilePolicies;
use crate::clause::Alternative;
use crate::credential::Bound;
use crate::declared::{Declared, Uses};
use crate::documented;
use crate::entities::{Names, Needs};
use crate::entry::Gathering;
use crate::expr::Lowered;
use crate::field::Field;
use crate::line::{self, Around, Closed, Line};
use crate::openapi::DocumentedOperation;
use crate::operation::{ApiShared, Source, compile_line};
use crate::parameter::Parameter;
use crate::response::Response;
use crate::schema;
use crate::shape::LineKey;
use crate::stage::{CedarSets, Mark, Waits};
use crate::table::{Found, Mounted, OperationId, Table, Target, Trie};

/// Most lines over all APIs.
pub const MAX_LINES: usize = 5_000;

/// Most policies over all Cedar files.
pub const MAX_POLICIES: usize = 5_000;
/// Longest Cedar file, in bytes.
pub const MAX_POLICY_FILE_BYTES: usize = 8 * 1024 * 1024;
/// Names of APIs that are actions already.
const RESERVED_APIS: [&str; 3] = ["read", "write", "tag"];

/// One generation of rules: table, operations, policies; immutable.
pub struct Rules {
    pub(crate) table: Table,
    pub(crate) entries: Vec<Entry>,
    pub(crate) names: Names,
    pub(crate) authorizer: Authorizer,
    /// The policies of files, in their order, with what became of them.
    pub(crate) files: Vec<FileRule>,
    /// Decisions by the compiled evaluator, for the sample that Cedar decides too.
    pub(crate) decisions: AtomicU64,
    pub(crate) disagreements: AtomicU64,
}

/// One policy of a Cedar file.
pub(crate) struct FileRule {
    /// `file.cedar:line`.
    pub(crate) id: Arc<str>,
    pub(crate) place: Place,
    pub(crate) effect: Effect,
    /// Whether some operation has it.
    pub(crate) fires: bool,
    /// For a permit, the first operation that it speaks of and that does not say
    /// `allow = "policy"`: there it is ignored.
    pub(crate) outside: Option<Arc<str>>,
}

/// One operation with all that decides it.
pub(crate) struct Entry {
    pub(crate) operation: Operation,
    pub(crate) key: LineKey,
    pub(crate) closed: Option<Closed>,
    pub(crate) alternatives: Vec<Alternative>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) action: EntityUid,
    /// Every Cedar policy that decides the operation: tables, then permits of files, then forbids.
    pub(crate) policies: Vec<Policy>,
    /// What each of them is.
    pub(crate) marks: Vec<Mark>,
    /// The same for the compiled evaluator, in the same order; `None`: Cedar decides.
    pub(crate) lowered: Option<Vec<Lowered>>,
    /// The same as Cedar takes them.
    pub(crate) cedar: CedarSets,
    /// Permits of files, not narrowed by the table.
    pub(crate) bare: Option<CedarSets>,
    pub(crate) needs: Needs,
    pub(crate) uses: Uses,
    /// What any of its policies waits for, and any of its forbids.
    pub(crate) waits: Waits,
    pub(crate) forbids_wait: Waits,
    /// Positions of alternatives that Cedar's types prove false for every caller.
    pub(crate) impossible: Vec<usize>,
    pub(crate) response: Option<Response>,
    /// Set when the two evaluators disagreed: Cedar decides from then on.
    pub(crate) distrusted: AtomicBool,
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
    /// Query parameters that rules read: each at most once in a request ([`crate::query::read`]).
    pub query: Vec<Field>,
    /// Header fields that rules read, in lower case: each at most once.
    pub header: Vec<Field>,
    /// What is to be read of the body before the decision, where a rule needs it.
    pub body: Option<JudgedBody>,
    /// How the object's owner is found, where a rule needs it.
    pub owner: Option<OwnerLookup>,
    /// Media types that the body may have (`body = { types = […] }`); empty: any.
    pub body_types: Vec<Box<str>>,
    /// Which members of an answer go out; `None`: the answer passes as it is.
    pub response: Option<ResponseRule>,
    /// Tags of the document.
    pub tags: Vec<Arc<str>>,
}

/// A body that rules read: JSON, parsed once ([`crate::body::read`]), sent on byte for byte.
#[derive(Clone, Debug)]
pub struct JudgedBody {
    /// Most bytes (64 KiB; at most 1 MiB).
    pub max: u64,
    /// What it may hold.
    pub shape: Arc<BodyShape>,
    /// The members that rules read, in the order of [`crate::resource::Resource::body`].
    pub fields: Vec<Field>,
}

/// `owner = { lookup = "GET /internal/owner/{id}", field = "/owner" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerLookup {
    /// The path at the API's upstream, behind its prefix: literal pieces, and positions in
    /// [`crate::resource::Resource::parameters`] whose values are encoded anew.
    pub path: Vec<LookupPiece>,
    /// RFC 6901 pointer to the owner in the answer.
    pub field: Box<str>,
}

/// A piece of a look-up's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupPiece {
    /// As it is.
    Literal(Box<str>),
    /// The value of a path parameter, percent-encoded as one segment.
    Parameter(usize),
}

/// `response = ["id", "name"]`, with more for some principals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseRule {
    /// Each group: who sees it besides everyone whom the line lets in, and the members, dotted
    /// (`owner.name`; arrays are looked through).
    pub groups: Vec<FieldGroup>,
}

/// Members of an answer that go out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldGroup {
    /// `None`: every caller of the line; else `role:x`, `group:x`, `service:x`, `user`, `service`.
    pub to: Option<Box<str>>,
    /// The members.
    pub members: Vec<Box<str>>,
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
pub fn compile(
    apis: &[ApiDraft],
    policies: &[PolicyFile],
    vocabulary: &Vocabulary,
) -> Result<Rules, Vec<Fault>> {
    let mut faults = schema_faults(vocabulary);
    let count: usize = apis.iter().map(|api| api.lines.len()).sum();
    if count > MAX_LINES {
        faults.push(too_many_lines(apis, count));
        return Err(faults);
    }
    let files = FilePolicies::read(policies, vocabulary, &mut faults);
    let mut built = Built {
        table: Table::default(),
        entries: Vec::with_capacity(count),
        gathering: Gathering::new(&files, vocabulary),
        actions: Vec::new(),
    };
    for api in apis {
        compile_api(api, &mut built, &mut faults);
    }
    let Built { mut table, entries, gathering, actions } = built;
    if faults.is_empty() {
        files.check_actions(&actions, &mut faults);
    }
    let targets = entries.iter().map(|entry: &Entry| Target {
        open: entry.closed.is_none(),
        parameters: entry.parameters.clone(),
    });
    table.set_targets(targets.collect());
    let names = Names::new().filter(|_| faults.is_empty()).ok_or(faults)?;
    Ok(Rules {
        table,
        entries,
        names,
        authorizer: Authorizer::new(),
        files: file_rules(&gathering),
        decisions: AtomicU64::new(0),
        disagreements: AtomicU64::new(0),
    })
}

/// What is built, line by line.
pub(crate) struct Built<'b> {
    table: Table,
    entries: Vec<Entry>,
    pub(crate) gathering: Gathering<'b>,
    /// Every action and group.
    pub(crate) actions: Vec<Arc<str>>,
}

fn file_rules(gathering: &Gathering<'_>) -> Vec<FileRule> {
    let all = gathering.files.all.iter().enumerate();
    all.map(|(position, file)| FileRule {
        id: Arc::clone(&file.id),
        place: file.place.clone(),
        effect: file.effect,
        fires: gathering.used.contains(&position),
        outside: gathering.outside.get(&position).map(Arc::clone),
    })
    .collect()
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
    /// Sound because no table of such a line has `when`, `from`, `until`, `step_up` or `owner`, and no
    /// Cedar file speaks of the operation: its policies are made
    /// by [`Alternative::policy`] of `allow`, `scope`, `bound` and `via` alone, which read `principal`
    /// (kind, id, roles, groups) and `context.{scopes, dpop, mtls, actors}`; all of these are fixed
    /// by the token: a bound token is refused before the decision wherever its proof is missing. Parameters, time
    /// and address occur in no policy of the operation, and one operation is decided by its own
    /// policies only. A closed line is pure too: it never allows.
    pub fn pure_line(&self, id: OperationId) -> bool {
        self.entry(id).is_some_and(|entry| {
            entry.alternatives.iter().all(Alternative::is_pure)
                && entry.marks.len() == entry.alternatives.len()
        })
    }

    /// How often Cedar contradicted the compiled evaluator in the sample that both decide. Anything
    /// but 0 is a defect; the request was denied, and Cedar decides its operation since.
    pub fn disagreements(&self) -> u64 {
        self.disagreements.load(Ordering::Relaxed)
    }

    pub(crate) fn entry(&self, id: OperationId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)
    }
}

fn compile_api(api: &ApiDraft, built: &mut Built<'_>, faults: &mut Vec<Fault>) {
    let name = &api.name;
    if RESERVED_APIS.contains(&name.value.as_str()) {
        faults.push(Fault::error(
            "ApiNameReserved",
            name.place.clone(),
            format!("`{}` is the name of an action", name.value),
            format!("name the API otherwise than `{}`", RESERVED_APIS.join("`, `")),
        ));
    }
    let (shared, mut trie) = (ApiShared::of(api), Trie::new());
    let keys: Vec<Option<LineKey>> =
        api.lines.iter().map(|draft| line::read_key(draft, faults)).collect();
    let document = api.document.as_ref().map(|document| &document.value);
    let mut owned = owned(&keys, document);
    for (position, (draft, key)) in api.lines.iter().zip(keys).enumerate() {
        let operations = owned.get_mut(position).map(std::mem::take).unwrap_or_default();
        let parameters =
            key.as_ref().map(|key| documented::parameters(key, document)).unwrap_or_default();
        let mut declared = Declared::of(parameters, &operations);
        declared.extend(draft, faults);
        let around = Around { vocabulary: built.gathering.vocabulary, declared: &declared };
        let Some(line) = line::read(draft, key, around, faults) else { continue };
        let id = OperationId(u32::try_from(built.entries.len()).unwrap_or(u32::MAX));
        if let Some(twin) = trie.insert(&line.key.shape, line.key.method, id) {
            let twin = built.entries.get(twin.0 as usize);
            let rule = twin.map(|entry| Arc::clone(&entry.operation.rule));
            faults.push(shape_twice(&line, rule.as_deref().unwrap_or("another line")));
            continue;
        }
        let from = Source { shared: &shared, draft, declared: &declared, operations: &operations };
        if let Some(entry) = compile_line(line, id, &from, (built, faults)) {
            built.entries.push(entry);
        }
    }
    documented::check_rules(api, faults);
    let at = &api.at.value;
    if built.table.mount(&at.authority(), at.path(), trie) == Mounted::Occupied {
        faults.push(Fault::error(
            "AddressTwice",
            api.at.place.clone(),
            format!("another API stands at `{at}` already"),
            "give each API an address of its own, or write both in one table".into(),
        ));
    }
}

/// The documented operations for which each line answers.
fn owned<'d>(
    keys: &[Option<LineKey>],
    document: Option<&'d crate::openapi::Document>,
) -> Vec<Vec<&'d DocumentedOperation>> {
    let mut owned: Vec<Vec<&DocumentedOperation>> = vec![Vec::new(); keys.len()];
    let Some(document) = document else { return owned };
    let (positions, known): (Vec<usize>, Vec<&LineKey>) = keys
        .iter()
        .enumerate()
        .filter_map(|(position, key)| Some((position, key.as_ref()?)))
        .unzip();
    for one in documented::owners(&known, document) {
        let position = one.line.and_then(|line| positions.get(line));
        if let Some(line) = position.and_then(|position| owned.get_mut(*position)) {
            line.push(one.operation);
        }
    }
    owned
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
