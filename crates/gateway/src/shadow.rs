//! `serve --shadow`: other rules judge each decision too, and decide nothing. Where they would have
//! said otherwise, the record says so and a figure counts it.
//!
//! Judged is what reached stage 8: a request without a line, or without a good credential, has no
//! identity that other rules could ask about (`replay` says the same). Nothing is read or fetched for
//! them: what only they need makes them undecided.

use http::HeaderMap;
use portcullis_core::audit::Shadow;
use portcullis_policy::compile::{Operation, Rules};
use portcullis_policy::decide::{self, Permit, Verdict};
use portcullis_policy::entities::{Caller, Circumstances, Question};
use portcullis_policy::field::Field;
use portcullis_policy::query;
use portcullis_policy::replay::status_of;
use portcullis_policy::resource::Resource;
use portcullis_policy::table::{Found, OperationId};

use crate::authenticate::{Identified, Presence};
use crate::authorize::header_value;
use crate::hygiene::Cleansed;
use crate::record::{Draft, Figures, count};
use crate::refusal::Refusal;
use crate::route::Destination;
use crate::snapshot::Snapshot;

/// What the rules in force said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    /// Yes.
    Allowed,
    /// No.
    Refused,
    /// Nothing: what they read cannot be read, or was not to be had.
    Nothing,
}

impl Decided {
    /// Of a decision.
    pub(crate) fn of(decided: &Result<Permit, Refusal>) -> Self {
        match decided {
            Ok(_) => Decided::Allowed,
            Err(Refusal::Denied(_) | Refusal::OwnerForeign | Refusal::ObjectMissing) => {
                Decided::Refused
            }
            Err(_) => Decided::Nothing,
        }
    }
}

/// Judges a request by the other rules, if there are any, and notes what differs.
pub(crate) fn compare(
    snapshot: &Snapshot,
    identified: &Identified,
    decided: Decided,
    draft: &mut Draft<'_>,
) {
    let Some(rules) = &snapshot.shadow else { return };
    let figures = draft.figures();
    if decided == Decided::Nothing {
        return;
    }
    count(&figures.shadow_judged_total);
    draft.shadow = difference(judge(rules, snapshot, identified), decided, figures);
}

/// What other rules say.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Allow(String),
    Refuse(Shadow),
    Undecided,
}

fn difference(said: Said, decided: Decided, figures: &Figures) -> Option<Shadow> {
    let allowed = decided == Decided::Allowed;
    match said {
        Said::Allow(reason) if !allowed => {
            count(&figures.shadow_gained_total);
            Some(Shadow { status: 200, reason })
        }
        Said::Refuse(shadow) if allowed => {
            count(&figures.shadow_lost_total);
            Some(shadow)
        }
        Said::Allow(_) | Said::Refuse(_) => None,
        Said::Undecided => {
            count(&figures.shadow_undecided_total);
            None
        }
    }
}

fn judge(rules: &Rules, snapshot: &Snapshot, identified: &Identified) -> Said {
    let cleansed = identified.cleansed();
    let refuse = |status: u16, reason: &str| Said::Refuse(Shadow { status, reason: reason.into() });
    let method = cleansed.parts.method.as_str();
    let (id, parameters) = match rules.find(&cleansed.authority, method, &cleansed.path) {
        Found::Operation(id, parameters) => (id, parameters),
        Found::NotFound => return refuse(404, "NotFound"),
        Found::MethodNotAllowed(_) => return refuse(405, "MethodNotAllowed"),
    };
    let Some(operation) = rules.operation(id) else { return Said::Undecided };
    let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let Some(resource) = resource(operation, cleansed, parameters) else {
        return refuse(400, "ParameterRefused");
    };
    let resource = learnt(snapshot, identified, (operation, resource));
    match ask(rules, identified, (id, operation), &resource) {
        Some(Verdict::Allow { rule, .. }) => Said::Allow(rule.to_string()),
        Some(Verdict::Deny(denial)) => refuse(status_of(&denial), denial.reason),
        Some(Verdict::NeedsBody | Verdict::NeedsOwner) | None => Said::Undecided,
    }
}

/// `None` where the other rules ask for a credential and none was read.
fn ask(
    rules: &Rules,
    identified: &Identified,
    (id, operation): (OperationId, &Operation),
    resource: &Resource,
) -> Option<Verdict> {
    let cleansed = identified.cleansed();
    let (now, ip) = (cleansed.at, cleansed.ip);
    match identified.presence() {
        Presence::Token(known) => known.in_circumstances(now, ip, |circumstances| {
            let caller = &known.caller;
            let question = Question { operation: id, resource, caller, circumstances };
            Some(decide::judge(rules, &question))
        }),
        Presence::Unread if operation.authenticates => None,
        Presence::Unread => {
            let (caller, circumstances) =
                (&Caller::Anonymous, &Circumstances::unproven(now.unix(), ip));
            let question = Question { operation: id, resource, caller, circumstances };
            Some(decide::judge(rules, &question))
        }
    }
}

/// Path, query and fields as the other operation declares them.
fn resource(
    operation: &Operation,
    cleansed: &Cleansed,
    parameters: Vec<(String, String)>,
) -> Option<Resource> {
    let query = query::read(&operation.query, cleansed.query.as_deref()).ok()?;
    let fields: &HeaderMap = &cleansed.parts.headers;
    let read = |field: &Field| header_value(fields, field).ok();
    let header = operation.header.iter().map(read).collect::<Option<Vec<_>>>()?;
    Some(Resource { parameters, query, header, body: None, owner: None })
}

/// With what the rules in force have read of body and owner, where the others read the same.
fn learnt(
    snapshot: &Snapshot,
    identified: &Identified,
    (operation, resource): (&Operation, Resource),
) -> Resource {
    let Destination::Operation { kit, resource: known } = identified.destination() else {
        return resource;
    };
    let Some(ours) = snapshot.rules.operation(kit.id) else { return resource };
    let fields = |operation: &Operation| operation.body.as_ref().map(|body| body.fields.clone());
    let same_body = fields(ours).is_some() && fields(ours) == fields(operation);
    let same_owner = ours.owner.is_some() && ours.owner == operation.owner;
    Resource {
        body: known.body.clone().filter(|_| same_body),
        owner: known.owner.clone().filter(|_| same_owner),
        ..resource
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_change_is_noted() {
        let refuse = || Said::Refuse(Shadow { status: 403, reason: "ScopeMissing".into() });
        let allow = || Said::Allow("new.toml:1.1".into());
        let figures = Figures::default();
        let noted = |said, decided| difference(said, decided, &figures).map(|shadow| shadow.status);
        assert_eq!(noted(allow(), Decided::Allowed), None);
        assert_eq!(noted(refuse(), Decided::Refused), None);
        assert_eq!(noted(Said::Undecided, Decided::Allowed), None);
        assert_eq!(noted(refuse(), Decided::Allowed), Some(403));
        assert_eq!(noted(allow(), Decided::Refused), Some(200));
        let read = |figure: &std::sync::atomic::AtomicU64| {
            figure.load(std::sync::atomic::Ordering::Relaxed)
        };
        let counted = [
            &figures.shadow_gained_total,
            &figures.shadow_lost_total,
            &figures.shadow_undecided_total,
        ];
        assert_eq!(counted.map(read), [1, 1, 1]);
    }

    #[test]
    fn what_was_not_decided_is_not_compared() {
        assert_eq!(Decided::of(&Err(Refusal::ObjectMissing)), Decided::Refused);
        assert_eq!(Decided::of(&Err(Refusal::BodySlow)), Decided::Nothing);
        assert_eq!(Decided::of(&Err(Refusal::ObjectsExhausted)), Decided::Nothing);
    }
}
