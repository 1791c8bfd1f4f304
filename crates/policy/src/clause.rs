//! One alternative of a line, judged and ready: who, and what narrows it.
//!
//! Each clause is here twice: as Cedar's text, which decides, and as a few lines of Rust, which say
//! *why* when Cedar said no. Where the two disagree the answer is no (see [`crate::decide`]).

use std::fmt::Write as _;
use std::sync::Arc;

use ipnet::IpNet;
use portcullis_core::fault::Place;
use portcullis_core::scope::Scopes;

use crate::condition::Condition;
use crate::credential::Bound;
use crate::entities::{Caller, Circumstances};
use crate::schema::PrincipalKind;
use crate::step_up::StepUpClause;

/// One table of a line.
pub(crate) struct Alternative {
    /// `file:line.alternative`, also the policy's id.
    pub(crate) rule: Arc<str>,
    /// Where the table starts.
    pub(crate) place: Place,
    /// An OR; never empty. With `policy`, everyone of whom permits of files can speak.
    pub(crate) allow: Vec<Principal>,
    /// Whose permit it is.
    pub(crate) grants: Grants,
    /// Scopes asked for.
    pub(crate) scope: Option<ScopeClause>,
    /// To what the token must be bound.
    pub(crate) bound: Option<Bound>,
    /// Services that may act for the subject; empty: no one may.
    pub(crate) via: Vec<String>,
    /// Networks; empty means any.
    pub(crate) from: Vec<IpNet>,
    /// The moment the line ends, Unix seconds, with its words.
    pub(crate) until: Option<(i64, String)>,
    /// The condition, with its place.
    pub(crate) when: Option<(Condition, Place)>,
    /// How fresh a factor has to be.
    pub(crate) step_up: Option<StepUpClause>,
    /// Whose objects are meant.
    pub(crate) objects: Objects,
}

/// Who permits what a table allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grants {
    /// The table itself.
    Table,
    /// `allow = "policy"`: a permit in a Cedar file, which the table only narrows.
    Files,
}

/// Whose objects a table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Objects {
    /// Anyone's.
    Anyones,
    /// `owner`: those of the caller.
    CallersOwn,
}

/// Whom a table allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Principal {
    Anyone,
    User,
    Service,
    Role(String),
    Group(String),
    NamedService(String),
}

/// The `scope` key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScopeClause {
    All(Scopes),
    Any(Scopes),
}

impl Alternative {
    /// Whether nothing but the credential decides: caller, scopes, binding, actors.
    pub(crate) fn is_pure(&self) -> bool {
        self.when.is_none()
            && self.from.is_empty()
            && self.until.is_none()
            && self.step_up.is_none()
            && self.objects == Objects::Anyones
            && self.grants == Grants::Table
    }

    /// Whether it admits callers of a kind.
    pub(crate) fn admits(&self, kind: PrincipalKind) -> bool {
        self.allow.iter().any(|principal| principal.kind() == kind)
    }

    /// The Cedar policy: one `permit`, a `when` per clause. Its action is left open: an operation is
    /// decided by its own policies alone.
    pub(crate) fn policy(&self) -> String {
        let head = format!("@id({:?})\npermit(principal, action, resource)\n", &*self.rule);
        format!("{head}{};", self.clauses())
    }

    /// A `when` per clause.
    pub(crate) fn clauses(&self) -> String {
        let mut text = String::new();
        let principals: Vec<String> = self.allow.iter().map(Principal::cedar).collect();
        clause(&mut text, &principals.join(" || "));
        if let Some(scope) = &self.scope {
            clause(&mut text, &scope.cedar());
        }
        if let Some(bound) = self.bound {
            clause(&mut text, bound.cedar());
        }
        // Also without `via`: then a delegated token passes nowhere.
        if !self.admits(PrincipalKind::Anonymous) {
            clause(&mut text, &self.actors());
        }
        if !self.from.is_empty() {
            let networks: Vec<String> = self
                .from
                .iter()
                .map(|network| format!("context.ip.isInRange(ip(\"{network}\"))"))
                .collect();
            clause(&mut text, &networks.join(" || "));
        }
        if let Some((end, _)) = &self.until {
            clause(&mut text, &format!("context.now < {end}"));
        }
        if let Some((condition, _)) = &self.when {
            clause(&mut text, &condition.guarded);
        }
        if let Some(step_up) = &self.step_up {
            clause(&mut text, &step_up.cedar());
        }
        if self.objects == Objects::CallersOwn {
            clause(&mut text, "resource.owner == principal.id");
        }
        text
    }

    /// Its conditions, each with its place: what the operator wrote in Cedar.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = (&Condition, &Place)> {
        let when = self.when.iter().map(|(condition, place)| (condition, place));
        let needed = self.step_up.iter().filter_map(|step_up| step_up.when.as_ref());
        when.chain(needed.map(|needed| (&needed.condition, &needed.place)))
    }
}

impl Alternative {
    /// Whether each actor of a delegated token is named.
    fn admits_actors(&self, actors: &[String]) -> bool {
        self.admits(PrincipalKind::Anonymous) || actors.iter().all(|actor| self.via.contains(actor))
    }

    fn actors(&self) -> String {
        // Cedar's strict mode has no type for the empty set.
        if self.via.is_empty() {
            return "context.actors.isEmpty()".into();
        }
        let names: Vec<String> = self.via.iter().map(|name| format!("{name:?}")).collect();
        format!("[{}].containsAll(context.actors)", names.join(", "))
    }
}

fn clause(text: &mut String, condition: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "when {{ {condition} }}");
}

impl Principal {
    /// The kind of caller that it can be.
    pub(crate) fn kind(&self) -> PrincipalKind {
        match self {
            Principal::Anyone => PrincipalKind::Anonymous,
            Principal::User | Principal::Role(_) | Principal::Group(_) => PrincipalKind::User,
            Principal::Service | Principal::NamedService(_) => PrincipalKind::Service,
        }
    }

    /// Whether a caller is one.
    pub(crate) fn is(&self, caller: &Caller) -> bool {
        match (self, caller) {
            (Principal::Anyone, Caller::Anonymous)
            | (Principal::User, Caller::User(_))
            | (Principal::Service, Caller::Service { .. }) => true,
            (Principal::Role(role), Caller::User(user)) => user.roles.contains(role),
            (Principal::Group(group), Caller::User(user)) => user.groups.contains(group),
            (Principal::NamedService(name), Caller::Service { id, .. }) => name == id,
            (
                Principal::Anyone
                | Principal::User
                | Principal::Service
                | Principal::Role(_)
                | Principal::Group(_)
                | Principal::NamedService(_),
                _,
            ) => false,
        }
    }

    /// Whether everyone that `other` is, this is too.
    pub(crate) fn includes(&self, other: &Principal) -> bool {
        self == other
            || matches!(
                (self, other),
                (Principal::User, Principal::Role(_) | Principal::Group(_))
                    | (Principal::Service, Principal::NamedService(_))
            )
    }

    /// As the operator writes it.
    pub(crate) fn words(&self) -> String {
        match self {
            Principal::Anyone => "anyone".into(),
            Principal::User => "user".into(),
            Principal::Service => "service".into(),
            Principal::Role(name) => format!("role:{name}"),
            Principal::Group(name) => format!("group:{name}"),
            Principal::NamedService(name) => format!("service:{name}"),
        }
    }

    fn cedar(&self) -> String {
        match self {
            Principal::Anyone => "principal is Anonymous".into(),
            Principal::User => "principal is User".into(),
            Principal::Service => "principal is Service".into(),
            Principal::Role(name) => format!("principal is User in Role::{name:?}"),
            Principal::Group(name) => format!("principal is User in Group::{name:?}"),
            // Cedar's strict mode compares entities of one type alone.
            Principal::NamedService(name) => {
                format!("(principal is Service && principal == Service::{name:?})")
            }
        }
    }
}

impl ScopeClause {
    /// Whether a token's scopes suffice.
    pub(crate) fn holds(&self, scopes: &Scopes) -> bool {
        match self {
            ScopeClause::All(needed) => needed.is_subset(scopes),
            ScopeClause::Any(needed) => !needed.intersection(scopes).is_empty(),
        }
    }

    /// Scopes that would suffice: all of them, or the first.
    pub(crate) fn sufficient(&self) -> String {
        match self {
            ScopeClause::All(needed) => needed.to_string(),
            ScopeClause::Any(needed) => needed.iter().next().unwrap_or_default().to_owned(),
        }
    }

    /// Every scope named.
    pub(crate) fn named(&self) -> &Scopes {
        match self {
            ScopeClause::All(scopes) | ScopeClause::Any(scopes) => scopes,
        }
    }

    /// `"a b"` or `any of a, b`.
    pub(crate) fn words(&self) -> String {
        match self {
            ScopeClause::All(scopes) => scopes.to_string(),
            ScopeClause::Any(scopes) => format!("any of {}", joined(scopes.iter())),
        }
    }

    fn cedar(&self) -> String {
        let (scopes, method) = match self {
            ScopeClause::All(scopes) => (scopes, "containsAll"),
            ScopeClause::Any(scopes) => (scopes, "containsAny"),
        };
        let quoted: Vec<String> = scopes.iter().map(|scope| format!("{scope:?}")).collect();
        format!("context.scopes.{method}([{}])", quoted.join(", "))
    }
}

/// The clauses of a table, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClauseKind {
    Allow,
    Scope,
    Bound,
    Via,
    From,
    Until,
    When,
    StepUp,
    Owner,
    /// `allow = "policy"`: no permit of a file holds.
    Policy,
}

impl ClauseKind {
    /// The audit reason when it fails.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            ClauseKind::Allow => "PrincipalNotAllowed",
            ClauseKind::Scope => "ScopeMissing",
            ClauseKind::Bound => "TokenUnbound",
            ClauseKind::Via => "ActorNotNamed",
            ClauseKind::From => "NetworkForeign",
            ClauseKind::Until => "LineEnded",
            ClauseKind::When => "ConditionFalse",
            ClauseKind::StepUp => "StepUpNeeded",
            ClauseKind::Owner => "OwnerForeign",
            ClauseKind::Policy => "PolicySilent",
        }
    }
}

impl Alternative {
    /// Its clauses but those that Cedar tells, each with whether it holds, its words and its inputs.
    pub(crate) fn plain_clauses(
        &self,
        caller: &Caller,
        circumstances: &Circumstances,
    ) -> Vec<(ClauseKind, portcullis_core::audit::Clause)> {
        let clause = |words: String, held: bool, inputs: String| portcullis_core::audit::Clause {
            clause: words,
            held,
            inputs,
        };
        let held = self.allow.iter().any(|principal| principal.is(caller));
        let words = match self.grants {
            Grants::Table => {
                format!("allow = {}", listed(self.allow.iter().map(Principal::words)))
            }
            Grants::Files => "allow = \"policy\"".to_owned(),
        };
        let mut clauses = vec![(ClauseKind::Allow, clause(words, held, who(caller)))];
        if let Some(scope) = &self.scope {
            let words = match scope {
                ScopeClause::All(scopes) => format!("scope = \"{scopes}\""),
                ScopeClause::Any(scopes) => {
                    let names: Vec<String> = scopes.iter().map(|s| format!("\"{s}\"")).collect();
                    format!("scope = {{ any = [{}] }}", names.join(", "))
                }
            };
            let held = scope.holds(&circumstances.scopes);
            let inputs = format!("scopes={}", circumstances.scopes);
            clauses.push((ClauseKind::Scope, clause(words, held, inputs)));
        }
        clauses.extend(self.credential_clauses(circumstances));
        if !self.from.is_empty() {
            let ip = circumstances.ip.to_canonical();
            let held = self.from.iter().any(|network| network.contains(&ip));
            let words = format!("from = {}", listed(self.from.iter().map(ToString::to_string)));
            clauses.push((ClauseKind::From, clause(words, held, format!("ip={ip}"))));
        }
        if let Some((end, written)) = &self.until {
            let held = circumstances.now < *end;
            let inputs = format!("now={}", circumstances.now);
            clauses
                .push((ClauseKind::Until, clause(format!("until = \"{written}\""), held, inputs)));
        }
        clauses
    }
}

impl Alternative {
    /// What is asked of the credential; `via` is told where it is written or something came by it.
    fn credential_clauses(
        &self,
        circumstances: &Circumstances,
    ) -> Vec<(ClauseKind, portcullis_core::audit::Clause)> {
        let mut clauses = Vec::new();
        let clause = |clause: String, held: bool, inputs: String| portcullis_core::audit::Clause {
            clause,
            held,
            inputs,
        };
        if let Some(bound) = self.bound {
            let (dpop, mtls) = (circumstances.dpop, circumstances.mtls);
            let held = (bound.takes_dpop() && dpop) || (bound.takes_mtls() && mtls);
            let words = format!("bound = \"{}\"", bound.words());
            let inputs = format!("dpop={dpop} mtls={mtls}");
            clauses.push((ClauseKind::Bound, clause(words, held, inputs)));
        }
        if !self.via.is_empty() || !circumstances.actors.is_empty() {
            let words = match self.via.as_slice() {
                [] => "via = []".to_owned(),
                via => {
                    format!("via = {}", listed(via.iter().map(|name| format!("service:{name}"))))
                }
            };
            let held = self.admits_actors(&circumstances.actors);
            let inputs = format!("actors={}", circumstances.actors.join(","));
            clauses.push((ClauseKind::Via, clause(words, held, inputs)));
        }
        clauses
    }
}

/// `"a"`, or `["a", "b"]`.
fn listed(words: impl Iterator<Item = String>) -> String {
    let quoted: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    match quoted.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn joined<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

fn who(caller: &Caller) -> String {
    let mut text = format!("caller={}", caller.label());
    if let Caller::User(user) = caller {
        // Writing to a string cannot fail.
        if !user.roles.is_empty() {
            let _ = write!(text, " roles={}", user.roles.join(","));
        }
        if !user.groups.is_empty() {
            let _ = write!(text, " groups={}", user.groups.join(","));
        }
    }
    text
}
