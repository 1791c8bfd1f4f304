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
use std::net::IpAddr;
use std::rc::Rc;

use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_policy::decide::{self, Denial, Permit};
use portcullis_policy::entities::{Caller, Circumstances, Question};
use portcullis_policy::table::OperationId;

use crate::authenticate::Presence;
use crate::house::HouseLine;
use crate::hygiene::Cleansed;
use crate::limit::Counted;
use crate::memory::Kit;
use crate::record::{Draft, Stage};
use crate::refusal::Refusal;
use crate::route::Destination;
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
    /// To an upstream.
    Upstream { cleansed: Box<Cleansed>, kit: Rc<Kit>, presence: Presence },
    /// To a page of ours.
    House { cleansed: Box<Cleansed>, line: Box<HouseLine>, presence: Presence },
}

impl Approved {
    /// Opens it. `None` for an operation without a permit, which `approve` never makes.
    pub(crate) fn depart(self) -> Option<Departure> {
        let (cleansed, destination, presence) = self.counted.into_identified().into_parts();
        match (destination, self.leave) {
            (Destination::Operation { kit, .. }, Leave::Permit(permit)) => (permit.operation()
                == kit.id)
                .then_some(Departure::Upstream { cleansed, kit, presence }),
            (Destination::Operation { kit, .. }, Leave::Standing(permit)) => (permit.operation()
                == kit.id)
                .then_some(Departure::Upstream { cleansed, kit, presence }),
            (Destination::House(line), Leave::House) => {
                Some(Departure::House { cleansed, line, presence })
            }
            (Destination::Operation { .. }, Leave::House)
            | (Destination::House(_), Leave::Permit(_) | Leave::Standing(_)) => None,
        }
    }
}

/// Asks policy.
///
/// # Errors
/// [`Refusal::Denied`]; [`Refusal::PermitForeign`] when a permit is not this request's.
pub(crate) fn approve(
    snapshot: &Snapshot,
    counted: Counted,
    draft: &mut Draft<'_>,
) -> Result<Approved, Refusal> {
    draft.stage = Stage::Authorize;
    let identified = counted.identified();
    let Destination::Operation { kit, parameters } = identified.destination() else {
        // Operators' policies are never asked about our own pages: a bad one must not be able to
        // lock the login page.
        return Ok(Approved { counted, leave: Leave::House });
    };
    if let Some(permit) = permits(kit, identified.presence()).of(kit.id) {
        draft.decide();
        draft.rule = Some(permit.rule().clone());
        return Ok(Approved { counted, leave: Leave::Standing(permit) });
    }
    let cleansed = identified.cleansed();
    let (now, ip, serial) = (cleansed.at, cleansed.ip, cleansed.serial);
    let ask = |caller: &Caller, circumstances: &Circumstances| {
        let question = Question { operation: kit.id, parameters, caller, circumstances };
        decide::decide(&snapshot.rules, &question, serial)
    };
    let decided = match identified.presence() {
        Presence::Token(known) => known.in_circumstances(now, ip, |c| ask(&known.caller, c)),
        Presence::Unread => ask(&Caller::Anonymous, &anonymous(now, ip)),
    };
    draft.decide();
    let permit = decided.map_err(|denial| refuse(denial, draft))?;
    // INVARIANT: one permit, one request: what policy permitted is what is sent.
    if permit.serial() != serial || permit.operation() != kit.id {
        return Err(Refusal::PermitForeign);
    }
    draft.rule = Some(permit.rule().clone());
    if !kit.pure {
        draft.clauses = permit.clauses().to_vec();
        return Ok(Approved { counted, leave: Leave::Permit(permit) });
    }
    let permit = Rc::new(permit);
    permits(kit, identified.presence()).keep(permit.clone());
    Ok(Approved { counted, leave: Leave::Standing(permit) })
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

fn refuse(mut denial: Denial, draft: &mut Draft<'_>) -> Refusal {
    draft.rule = Some(denial.rule.clone());
    draft.clauses = std::mem::take(&mut denial.clauses);
    Refusal::Denied(Box::new(denial))
}

fn anonymous(now: Timestamp, ip: IpAddr) -> Circumstances {
    Circumstances {
        now: now.unix(),
        ip,
        client: None,
        scopes: Scopes::default(),
        acr: None,
        amr: Vec::new(),
        ages: Default::default(),
        dpop: false,
        mtls: false,
        actors: Vec::new(),
    }
}
