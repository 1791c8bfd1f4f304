//! Stage 5: which operation, or which page of ours, a request asks for.
//!
//! One exact look-up in the house's table, then the one table of routes of policy. Decides nothing
//! about rights; but a preflight is answered here, since a browser sends no credentials with it.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use http::Method;
use portcullis_core::web::Origin;
use portcullis_policy::resource::Resource;
use portcullis_policy::table::Found;

use crate::cors::{self, Preflight};
use crate::house::HouseLine;
use crate::hygiene::Cleansed;
use crate::journey::{Halt, Worker};
use crate::limit::{self, Admitted};
use crate::memory::Kit;
use crate::record::{Draft, Stage};
use crate::refusal::Refusal;
use crate::snapshot::{HouseTable, Snapshot};

/// A request whose destination is known.
pub struct Routed {
    admitted: Admitted,
    destination: Destination,
}

/// Where a request wants to go.
pub(crate) enum Destination {
    /// An operation of an API.
    Operation {
        kit: Rc<Kit>,
        /// The path's parameters, decoded once; none where no rule reads them.
        resource: Resource,
    },
    /// A page of ours.
    House(Box<HouseLine>),
}

impl Routed {
    pub(crate) fn cleansed(&self) -> &Cleansed {
        self.admitted.cleansed()
    }
    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }
    /// An operation's request and what is known of it for its rules; `None` for a page of ours.
    pub(crate) fn learn(&mut self) -> Option<(&mut Cleansed, &mut Resource)> {
        match &mut self.destination {
            Destination::Operation { resource, .. } => {
                Some((self.admitted.cleansed_mut(), resource))
            }
            Destination::House(_) => None,
        }
    }
    pub(crate) fn into_parts(self) -> (Box<Cleansed>, Destination) {
        (self.admitted.into_cleansed(), self.destination)
    }
}

/// Finds the destination.
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::MethodNotAllowed`] (both charge the peer once more),
/// [`Refusal::OriginForeign`]; or the answer to a preflight.
pub(crate) fn find(
    worker: &Worker,
    snapshot: &Snapshot,
    admitted: Admitted,
    draft: &mut Draft<'_>,
) -> Result<Routed, Halt> {
    draft.stage = Stage::Route;
    let cleansed = admitted.cleansed();
    let found = match house_lines(&snapshot.house, cleansed) {
        Some(lines) => house_line(lines, cleansed, draft),
        None => operation(worker, snapshot, cleansed, draft),
    };
    match found {
        Ok(destination) => Ok(Routed { admitted, destination }),
        Err(halt) => {
            if let Halt::Refused(Refusal::NotFound | Refusal::MethodNotAllowed(_)) = &halt {
                let counters = worker.gateway.counters.as_ref();
                limit::charge_probe(counters, snapshot, cleansed.ip, draft.at);
            }
            Err(halt)
        }
    }
}

fn operation(
    worker: &Worker,
    snapshot: &Snapshot,
    cleansed: &Cleansed,
    draft: &mut Draft<'_>,
) -> Result<Destination, Halt> {
    let asked = cors::preflight(&cleansed.parts);
    let method = asked.as_ref().map_or(&cleansed.parts.method, |preflight| &preflight.method);
    let found = snapshot.rules.find(&cleansed.authority, method.as_str(), &cleansed.path);
    let (id, parameters) = match found {
        Found::Operation(id, parameters) => (id, parameters),
        Found::NotFound => return Err(Refusal::NotFound.into()),
        Found::MethodNotAllowed(methods) => return Err(Refusal::method(methods).into()),
    };
    let kit = worker.kits.of(snapshot, &worker.pool, id).ok_or(Refusal::Miswired)?;
    draft.rule = Some(kit.rule.clone());
    draft.audit = kit.audit;
    draft.cors = cors::reader(&cleansed.parts.headers, &kit.api.browsers);
    draft.api = Some(kit.api.clone());
    if let Some(preflight) = asked {
        return Err(answer_preflight(cleansed, &preflight, &kit.api.browsers, draft));
    }
    let parameters = match kit.pure {
        // No policy of such a line reads them, and it tells no clause that does.
        true => Vec::new(),
        false => parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    Ok(Destination::Operation { resource: Resource::of_path(parameters), kit })
}

fn answer_preflight(
    cleansed: &Cleansed,
    preflight: &Preflight,
    allowed: &[Origin],
    draft: &mut Draft<'_>,
) -> Halt {
    match cors::reader(&cleansed.parts.headers, allowed) {
        Some(origin) => {
            draft.cors = Some(origin);
            Halt::Answered(Box::new(cors::welcome(&cleansed.parts.headers, preflight)))
        }
        None => Refusal::OriginForeign.into(),
    }
}

fn house_line(
    lines: &[HouseLine],
    cleansed: &Cleansed,
    draft: &mut Draft<'_>,
) -> Result<Destination, Halt> {
    let asked = cors::preflight(&cleansed.parts);
    let method = asked.as_ref().map_or(&cleansed.parts.method, |preflight| &preflight.method);
    // RFC 9110 §9.3.2: HEAD is GET without the content, so it takes GET's line.
    let wanted = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let Some(line) = lines.iter().find(|line| line.method == wanted) else {
        return Err(Refusal::method(lines.iter().map(|line| line.method)).into());
    };
    draft.cors = cors::reader(&cleansed.parts.headers, &line.cors);
    match asked {
        Some(preflight) => Err(answer_preflight(cleansed, &preflight, &line.cors, draft)),
        None => Ok(Destination::House(Box::new(line.clone()))),
    }
}

fn house_lines<'t>(table: &'t HouseTable, cleansed: &Cleansed) -> Option<&'t Vec<HouseLine>> {
    let key: &dyn Place = &(&*cleansed.authority, &*cleansed.path);
    table.get(key)
}

/// (authority, path), borrowed or owned: a look-up must not copy its key on every request.
trait Place {
    fn pair(&self) -> (&str, &str);
}

impl Place for (&str, &str) {
    fn pair(&self) -> (&str, &str) {
        *self
    }
}

impl Place for (Box<str>, Box<str>) {
    fn pair(&self) -> (&str, &str) {
        (&self.0, &self.1)
    }
}

impl<'p> Borrow<dyn Place + 'p> for (Box<str>, Box<str>) {
    fn borrow(&self) -> &(dyn Place + 'p) {
        self
    }
}

// INVARIANT: hashes as the owned pair does, field by field; a test holds the two together.
impl Hash for dyn Place + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pair().hash(state);
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.pair() == other.pair()
    }
}

impl Eq for dyn Place + '_ {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_borrowed_place_finds_the_owned_one() {
        let mut table = HouseTable::new();
        table.insert(("login.example".into(), "/login".into()), Vec::new());
        let find = |authority: &'static str, path: &'static str| {
            let key: &dyn Place = &(authority, path);
            table.contains_key(key)
        };
        assert!(find("login.example", "/login"));
        for (authority, path) in [
            ("login.example", "/login/"),
            ("login.example/", "login"),
            ("", "/login"),
            ("login.example", ""),
        ] {
            assert!(!find(authority, path), "{authority} {path}");
        }
    }
}
