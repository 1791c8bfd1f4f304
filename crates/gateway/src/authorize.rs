//! Stage 8: policy's yes, bound to its request.
//!
//! [`Approved`] is the only thing that [`crate::forward`] sends, and this file the only place that
//! makes one: for an operation from policy's [`Permit`], for a page of ours from its house line,
//! whose rule is built in. The rules themselves are policy's.
//!
//! It cannot be forged elsewhere:
//! ```compile_fail,E0451
//! use portcullis_gateway::authorize::Approved;
//! use portcullis_gateway::limit::Counted;
//! fn send(counted: Counted) -> Approved { Approved { counted, leave: loop {} } }
//! ```
//! The twin, which only takes one:
//! ```
//! use portcullis_gateway::authorize::Approved;
//! use portcullis_gateway::limit::Counted;
//! fn send(counted: Counted, approved: Approved) -> Approved { drop(counted); approved }
//! ```

use std::cell::RefCell;
use std::rc::Rc;

use http::HeaderMap;
use http::header::HeaderName;
use portcullis_policy::compile::OwnerLookup;
use portcullis_policy::decide::{self, Denial, Permit, Undecided};
use portcullis_policy::entities::{Caller, Circumstances, Question};
use portcullis_policy::field::{Field, Value};
use portcullis_policy::query::{self, QueryFault};
use portcullis_policy::resource::Resource;
use portcullis_policy::table::OperationId;

use crate::authenticate::Presence;
use crate::body;
use crate::house::HouseLine;
use crate::hygiene::{Cleansed, reserved};
use crate::journey::Worker;
use crate::limit::Counted;
use crate::memory::Kit;
use crate::owners::Errand;
use crate::record::{Draft, Stage};
use crate::refusal::Refusal;
use crate::route::Destination;
use crate::shadow::{self, Decided};
use crate::snapshot::Snapshot;

/// A request that may be sent on.
pub struct Approved {
    counted: Counted,
    leave: Leave,
}

/// By what a request may be sent on.
enum Leave {
    /// Policy's yes to this very request.
    Permit(Permit),
    /// Policy's yes to an earlier request of the same token (or of nobody) for the same operation
    /// under the same generation, where policy says that nothing else enters the decision
    /// ([`portcullis_policy::compile::Rules::pure_line`]).
    Standing(Rc<Permit>),
    /// The built-in rule of a page of ours.
    House,
}

/// An approved request, opened up by the stage that sends it.
pub(crate) enum Departure {
    /// To an upstream; `groups` are those of the answer that the caller sees.
    Upstream { cleansed: Box<Cleansed>, kit: Rc<Kit>, presence: Presence, groups: Vec<usize> },
    /// To a page of ours.
    House { cleansed: Box<Cleansed>, line: Box<HouseLine>, presence: Presence },
}

impl Approved {
    /// Opens it. `None` for an operation without a permit, which `approve` never makes.
    pub(crate) fn depart(self) -> Option<Departure> {
        let (cleansed, destination, presence) = self.counted.into_identified().into_parts();
        match (destination, self.leave) {
            (Destination::Operation { kit, .. }, Leave::Permit(permit)) => {
                by_permit(&permit, (cleansed, kit, presence))
            }
            (Destination::Operation { kit, .. }, Leave::Standing(permit)) => {
                by_permit(&permit, (cleansed, kit, presence))
            }
            (Destination::House(line), Leave::House) => {
                Some(Departure::House { cleansed, line, presence })
            }
            (Destination::Operation { .. }, Leave::House)
            | (Destination::House(_), Leave::Permit(_) | Leave::Standing(_)) => None,
        }
    }
}

fn by_permit(
    permit: &Permit,
    (cleansed, kit, presence): (Box<Cleansed>, Rc<Kit>, Presence),
) -> Option<Departure> {
    let groups = permit.groups().to_vec();
    (permit.operation() == kit.id).then_some(Departure::Upstream {
        cleansed,
        kit,
        presence,
        groups,
    })
}

/// Asks policy; and where a rule reads the body, or whose the object is, learns that first.
///
/// # Errors
/// [`Refusal::Denied`]; what is wrong with that which a rule reads; [`Refusal::PermitForeign`] when a
/// permit is not this request's.
pub(crate) async fn approve(
    worker: &Worker,
    snapshot: &Snapshot,
    mut counted: Counted,
    draft: &mut Draft<'_>,
) -> Result<Approved, Refusal> {
    draft.stage = Stage::Authorize;
    let identified = counted.identified();
    let Destination::Operation { kit, .. } = identified.destination() else {
        // Operators' policies are never asked about our own pages: a bad one must not be able to
        // lock the login page.
        return Ok(Approved { counted, leave: Leave::House });
    };
    if let Some(permit) = permits(kit, identified.presence()).of(kit.id) {
        draft.decide();
        draft.rule = Some(permit.rule().clone());
        shadow::compare(snapshot, identified, Decided::Allowed, draft);
        return Ok(Approved { counted, leave: Leave::Standing(permit) });
    }
    let kit = kit.clone();
    let bench = Bench { worker, snapshot, kit: &kit };
    bench.read_parameters(&mut counted)?;
    let decided = match bench.decide(&counted) {
        Err(Undecided::NeedsBody | Undecided::NeedsOwner) => {
            // Apart, since it is seldom: a journey must be small (see its test).
            Box::pin(bench.learn(&mut counted, draft)).await
        }
        Err(Undecided::Denied(denial)) => Err(refuse(*denial, draft)),
        Ok(permit) => Ok(permit),
    };
    draft.decide();
    draft.note(snapshot, counted.identified());
    shadow::compare(snapshot, counted.identified(), Decided::of(&decided), draft);
    let permit = decided?;
    // INVARIANT: one permit, one request: what policy permitted is what is sent.
    if permit.serial() != counted.identified().cleansed().serial || permit.operation() != kit.id {
        return Err(Refusal::PermitForeign);
    }
    draft.rule = Some(permit.rule().clone());
    if !kit.pure {
        draft.clauses = permit.clauses().to_vec();
        return Ok(Approved { counted, leave: Leave::Permit(permit) });
    }
    let permit = Rc::new(permit);
    permits(&kit, counted.identified().presence()).keep(permit.clone());
    Ok(Approved { counted, leave: Leave::Standing(permit) })
}

/// Where one request is judged.
///
/// INVARIANT: one snapshot from the first question to the last, however long the body or the owner
/// takes: no two generations decide one request.
struct Bench<'a> {
    worker: &'a Worker,
    snapshot: &'a Snapshot,
    kit: &'a Rc<Kit>,
}

impl Bench<'_> {
    /// Reads what was declared of query and fields: after authentication and the caller's limits, so
    /// that probing is metered.
    fn read_parameters(&self, counted: &mut Counted) -> Result<(), Refusal> {
        if self.kit.pure {
            return Ok(());
        }
        let operation = self.snapshot.rules.operation(self.kit.id).ok_or(Refusal::Miswired)?;
        if operation.query.is_empty() && operation.header.is_empty() {
            return Ok(());
        }
        let (cleansed, resource) = counted.identified_mut().learn().ok_or(Refusal::Miswired)?;
        let read = query::read(&operation.query, cleansed.query.as_deref());
        resource.query = read.map_err(Refusal::Parameter)?;
        let read = |field: &Field| header_value(&cleansed.parts.headers, field);
        let values: Result<Vec<_>, _> = operation.header.iter().map(read).collect();
        resource.header = values.map_err(Refusal::Parameter)?;
        Ok(())
    }

    fn decide(&self, counted: &Counted) -> Result<Permit, Undecided> {
        let identified = counted.identified();
        let cleansed = identified.cleansed();
        let (now, ip, serial) = (cleansed.at, cleansed.ip, cleansed.serial);
        let operation = self.kit.id;
        let nothing = Resource::default();
        let resource = match identified.destination() {
            Destination::Operation { resource, .. } => resource,
            Destination::House(_) => &nothing,
        };
        let ask = |caller: &Caller, circumstances: &Circumstances| {
            let question = Question { operation, resource, caller, circumstances };
            decide::decide(&self.snapshot.rules, &question, serial)
        };
        match identified.presence() {
            Presence::Token(known) => known.in_circumstances(now, ip, |c| ask(&known.caller, c)),
            Presence::Unread => ask(&Caller::Anonymous, &Circumstances::unproven(now.unix(), ip)),
        }
    }

    /// Learns what the decision needs, the body before the owner, each once, and decides.
    async fn learn(&self, counted: &mut Counted, draft: &mut Draft<'_>) -> Result<Permit, Refusal> {
        let operation = self.snapshot.rules.operation(self.kit.id).ok_or(Refusal::Miswired)?;
        let mut decided = self.decide(counted);
        if let (Err(Undecided::NeedsBody), Some(judged)) = (&decided, &operation.body) {
            let (cleansed, resource) = counted.identified_mut().learn().ok_or(Refusal::Miswired)?;
            let judging = body::judge(&self.worker.bodies, cleansed, (self.kit, judged));
            resource.body = Some(judging.await?);
            decided = self.decide(counted);
        }
        if let (Err(Undecided::NeedsOwner), Some(lookup)) = (&decided, &operation.owner) {
            return self.ask_owner(counted, lookup, draft).await;
        }
        match decided {
            Ok(permit) => Ok(permit),
            Err(Undecided::Denied(denial)) => Err(refuse(*denial, draft)),
            // Asked for twice, or for what the operation does not have.
            Err(Undecided::NeedsBody | Undecided::NeedsOwner) => Err(Refusal::Miswired),
        }
    }

    /// The last question: whose the object is.
    ///
    /// INVARIANT: "not yours" and "not there" are one answer, and one piece of work: the decision is
    /// made for an object that is not there too, and thrown away.
    async fn ask_owner(
        &self,
        counted: &mut Counted,
        lookup: &OwnerLookup,
        draft: &mut Draft<'_>,
    ) -> Result<Permit, Refusal> {
        let owners = &self.worker.gateway.owners;
        let errand = self.errand(counted, lookup).ok_or(Refusal::Miswired)?;
        let looked = owners.look_up(&errand, draft).await?;
        let owner = looked.owner.as_deref().unwrap_or_default().to_owned();
        let (_, resource) = counted.identified_mut().learn().ok_or(Refusal::Miswired)?;
        resource.owner = Some(owner);
        let refusal = match (self.decide(counted), looked.owner.is_some()) {
            (Ok(permit), true) => {
                owners.keep(looked);
                return Ok(permit);
            }
            (Err(Undecided::NeedsBody | Undecided::NeedsOwner), _) => {
                return Err(Refusal::Miswired);
            }
            (Err(Undecided::Denied(denial)), there) => {
                // Ours, and not a matter of the id: it must be seen.
                let erred = denial.reason == DISAGREE;
                match (refuse(*denial, draft), there) {
                    (denied, _) if erred => return Err(denied),
                    (_, true) => Refusal::OwnerForeign,
                    (_, false) => Refusal::ObjectMissing,
                }
            }
            (Ok(_), false) => Refusal::ObjectMissing,
        };
        let errand = self.errand(counted, lookup).ok_or(Refusal::Miswired)?;
        Err(owners.charge(&errand, refusal, draft))
    }

    fn errand<'e>(&'e self, counted: &'e Counted, lookup: &'e OwnerLookup) -> Option<Errand<'e>> {
        let identified = counted.identified();
        let Destination::Operation { resource, .. } = identified.destination() else {
            return None;
        };
        Some(Errand {
            worker: self.worker,
            snapshot: self.snapshot,
            kit: self.kit,
            lookup,
            cleansed: identified.cleansed(),
            presence: identified.presence(),
            resource,
        })
    }
}

/// The value of a declared field; at most one line of it, in one spelling.
pub(crate) fn header_value(fields: &HeaderMap, field: &Field) -> Result<Option<Value>, QueryFault> {
    // CGI, WSGI and PHP read `x_account` as they read `x-account`: one would be judged, the other
    // believed.
    let disguised = |name: &HeaderName| {
        reserved::plain(name.as_str().as_bytes()).is_some_and(|plain| *plain == *field.name)
    };
    if fields.keys().any(disguised) {
        return Err(QueryFault::ParameterDoubled);
    }
    let mut all = fields.get_all(&*field.name).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => {
            let text = only.to_str().map_err(|_| QueryFault::ParameterIllTyped)?;
            query::header(&field.kind, text).map(Some)
        }
        (Some(_), Some(_)) => Err(QueryFault::ParameterDoubled),
    }
}

/// Where the standing permits of a caller are kept: beside what they are a function of, so that
/// they die with it (the token's entry, or the operation's kit; both die with the generation).
fn permits<'a>(kit: &'a Kit, presence: &'a Presence) -> &'a StandingPermits {
    match presence {
        Presence::Token(known) => &known.permits,
        Presence::Unread => &kit.permits,
    }
}

/// Operations whose permit is kept beside one token.
const MAX_STANDING: usize = 32;

/// Permits that hold for every request alike.
#[derive(Default)]
pub(crate) struct StandingPermits(RefCell<Vec<Rc<Permit>>>);

impl StandingPermits {
    fn of(&self, operation: OperationId) -> Option<Rc<Permit>> {
        self.0.borrow().iter().find(|permit| permit.operation() == operation).cloned()
    }

    fn keep(&self, permit: Rc<Permit>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < MAX_STANDING {
            kept.push(permit);
        }
    }
}

/// The reason of a denial that is a fault of ours.
const DISAGREE: &str = "EvaluatorsDisagree";

fn refuse(mut denial: Denial, draft: &mut Draft<'_>) -> Refusal {
    if denial.reason == DISAGREE {
        // Loud: two readings of one rule are a hole, whichever of them is right.
        tracing::error!(rule = %denial.rule, "the evaluators of a rule disagree; it was denied");
    }
    draft.rule = Some(denial.rule.clone());
    draft.clauses = std::mem::take(&mut denial.clauses);
    Refusal::Denied(Box::new(denial))
}
