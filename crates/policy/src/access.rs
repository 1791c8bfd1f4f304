//! The access line as the operator wrote it: `"METHOD /path" = { allow = …, … }` (`7-authorization`).
//!
//! The binary reads TOML into these drafts, each value with its place; [`crate::compile`] judges
//! them. Nothing here decides.

use portcullis_core::fault::Placed;
use portcullis_core::web::Address;

use crate::openapi::Document;

/// One `[api.NAME]` with its table.
pub struct ApiDraft {
    /// The API's name.
    pub name: Placed<String>,
    /// Where callers reach it; also its tokens' audience.
    pub at: Placed<Address>,
    /// Its OpenAPI document, if it has one, with the place of the `openapi` key.
    pub document: Option<Placed<Document>>,
    /// Its lines in the order written.
    pub lines: Vec<LineDraft>,
}

/// One line: a key and its alternatives (one table, or an array of at most eight).
pub struct LineDraft {
    /// `"GET /accounts/{account}"`.
    pub key: Placed<String>,
    /// The line of the key in its file, from 1: rules are named `file:line.alternative`.
    pub line: usize,
    /// One that passes whole suffices.
    pub alternatives: Vec<AlternativeDraft>,
}

/// One table of a line. Keys that are designed but not built never get here: the binary's reader
/// refuses them by name.
pub struct AlternativeDraft {
    /// Where the table starts.
    pub place: portcullis_core::fault::Place,
    /// Principals, an OR: `anyone user service role:x group:x service:x nobody REVIEW REVIEW-PUBLIC`;
    /// `policy` alone leaves it to permits in Cedar files, which the table's other keys narrow.
    pub allow: Vec<Placed<String>>,
    /// Scopes.
    pub scope: Option<ScopeDraft>,
    /// A Cedar condition.
    pub when: Option<Placed<String>>,
    /// Networks, CIDR.
    pub from: Vec<Placed<String>>,
    /// `dpop`, `mtls`, `dpop or mtls`: to what the token must be bound.
    pub bound: Option<Placed<String>>,
    /// `key`: an API key will do; in every table of the line, or in none.
    pub accept: Option<Placed<String>>,
    /// `service:x`: through whose hands a delegated token may have come.
    pub via: Vec<Placed<String>>,
    /// The line's end, a date.
    pub until: Option<Placed<String>>,
    /// Why a writing operation is open to `anyone`.
    pub public: Option<Placed<String>>,
    /// Why a parameter is bound by nothing.
    pub shared: Option<Placed<String>>,
    /// Why the document lacks this operation.
    pub undocumented: Option<Placed<String>>,
    /// The limit's name, or `none`.
    pub limit: Option<Placed<String>>,
    /// Why `limit = "none"`.
    pub limit_reason: Option<Placed<String>>,
    /// `none sampled all full`.
    pub audit: Option<Placed<String>>,
    /// First-byte timeout in words.
    pub timeout: Option<Placed<String>>,
    /// Largest body, in bytes (1 MiB unless written).
    pub body_max: Option<Placed<u64>>,
    /// `body = { fields = { amount = "integer" } }`: members declared where the document does not,
    /// with their types (`string integer number boolean`, or one of them in brackets for an array).
    pub body_fields: Vec<(Placed<String>, Placed<String>)>,
    /// `body = { types = ["application/json"] }`.
    pub body_types: Vec<Placed<String>>,
    /// `body = { extra = "allow" }`: members that nobody declared pass (a gap).
    pub body_extra: Option<Placed<String>>,
    /// `query = { status = "string" }`: parameters declared where the document does not.
    pub query: Vec<(Placed<String>, Placed<String>)>,
    /// `owner = { lookup, field }`: the caller's own objects alone.
    pub owner: Option<OwnerDraft>,
    /// `step_up = "mfa within 5m"`, or `{ need, when }`.
    pub step_up: Option<StepUpDraft>,
    /// `response = […]`, or `{ all = […], "role:x" = […] }`; the same in every table of the line.
    pub response: Vec<FieldGroupDraft>,
}

/// `owner = { lookup = "GET /internal/owner/{id}", field = "/owner" }`.
pub struct OwnerDraft {
    /// Method and path at the API's upstream.
    pub lookup: Placed<String>,
    /// RFC 6901 pointer.
    pub field: Placed<String>,
}

/// `step_up`.
pub struct StepUpDraft {
    /// `mfa within 5m`, `passkey or totp within 15m`.
    pub need: Placed<String>,
    /// When it is needed; always, if nothing is written. Absent or erring: needed.
    pub when: Option<Placed<String>>,
}

/// One group of `response`.
pub struct FieldGroupDraft {
    /// `role:x` and the like; `None` for everyone whom the line lets in.
    pub to: Option<Placed<String>>,
    /// Members.
    pub members: Vec<Placed<String>>,
}

/// One Cedar file of `[policy] policies`: a `forbid` there always counts, a `permit` only on lines
/// with `allow = "policy"`.
pub struct PolicyFile {
    /// Its name as messages show it.
    pub file: std::sync::Arc<str>,
    /// Its text.
    pub text: std::sync::Arc<str>,
}

impl AlternativeDraft {
    /// A table that says nothing yet, for a reader to fill.
    pub fn new(place: portcullis_core::fault::Place) -> Self {
        AlternativeDraft {
            place,
            allow: Vec::new(),
            scope: None,
            when: None,
            from: Vec::new(),
            bound: None,
            accept: None,
            via: Vec::new(),
            until: None,
            public: None,
            shared: None,
            undocumented: None,
            limit: None,
            limit_reason: None,
            audit: None,
            timeout: None,
            body_max: None,
            body_fields: Vec::new(),
            body_types: Vec::new(),
            body_extra: None,
            query: Vec::new(),
            owner: None,
            step_up: None,
            response: Vec::new(),
        }
    }
}

/// `scope = "a b"` (all of them) or `{ any = ["a", "b"] }`.
pub enum ScopeDraft {
    /// Every one.
    All(Placed<String>),
    /// At least one.
    Any(Vec<Placed<String>>),
}

/// The names that rules may speak of; everything else is an error in the file.
#[derive(Default)]
pub struct Vocabulary {
    /// `identity.roles`.
    pub roles: Vec<String>,
    /// `identity.groups`.
    pub groups: Vec<String>,
    /// Ids of `service` clients.
    pub services: Vec<String>,
    /// Scopes that some client may be granted.
    pub scopes: Vec<String>,
    /// Limits: name, and whether it needs an identity.
    pub limits: Vec<(String, bool)>,
    /// `identity.attributes`: name and type.
    pub attributes: Vec<(String, AttributeType)>,
    /// Factors that people can have (`identity.mfa.factors`): `totp`, `passkey`, `recovery`.
    pub factors: Vec<String>,
    /// When the file is judged (for `until` dates that passed), Unix seconds.
    pub now: i64,
}

/// The type of a declared attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeType {
    /// `"string"`.
    String,
    /// `"integer"`.
    Integer,
    /// `"bool"`.
    Bool,
}
