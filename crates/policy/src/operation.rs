//! One line made an operation: its policies gathered, and what the gateway needs to know besides.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use portcullis_core::fault::Fault;
use portcullis_core::web::Address;

use crate::access::{ApiDraft, LineDraft};
use crate::body;
use crate::compile::{Built, Entry, JudgedBody, Operation};
use crate::credential::{self, Accepts, Bound};
use crate::declared::{Declared, Uses};
use crate::entities::uid;
use crate::entry::{Gathered, Policies};
use crate::line::Line;
use crate::openapi::DocumentedOperation;
use crate::schema::PrincipalKind;
use crate::settings::Settings;
use crate::shape::LineKey;
use crate::table::OperationId;

/// What all lines of an API share.
pub(crate) struct ApiShared {
    name: Arc<str>,
    at: Arc<Address>,
}

impl ApiShared {
    pub(crate) fn of(api: &ApiDraft) -> Self {
        ApiShared { name: api.name.value.as_str().into(), at: Arc::new(api.at.value.clone()) }
    }
}

/// Where a line comes from.
pub(crate) struct Source<'s> {
    pub(crate) shared: &'s ApiShared,
    pub(crate) draft: &'s LineDraft,
    pub(crate) declared: &'s Declared,
    pub(crate) operations: &'s [&'s DocumentedOperation],
}

/// Gathers and validates the line's policies; `None` after a fault.
pub(crate) fn compile_line(
    line: Line,
    id: OperationId,
    from: &Source<'_>,
    (built, faults): (&mut Built<'_>, &mut Vec<Fault>),
) -> Option<Entry> {
    let key: Arc<str> = line.key.to_string().into();
    let tags = tags(from.operations);
    let groups = groups(&from.shared.name, &line.key, &tags);
    built.actions.push(Arc::clone(&key));
    built.actions.extend(groups.iter().map(Arc::clone));
    let gathered = Gathered {
        key: &key,
        groups: &groups,
        alternatives: &line.alternatives,
        declared: from.declared,
    };
    let gathered = built.gathering.gather(&gathered, faults)?;
    let body = judged_body(&line.settings, from, &gathered.uses, faults)?;
    let mut operation = operation(&line, id, (from.shared, &key));
    operation.query.clone_from(&gathered.uses.query);
    operation.header.clone_from(&gathered.uses.header);
    operation.body = body;
    operation.owner = line.settings.owner.clone().filter(|_| gathered.uses.owner);
    operation.tags = tags;
    let Policies { policies, marks, lowered, cedar, bare, needs, .. } = gathered;
    Some(Entry {
        operation,
        action: uid("Action", &key)?,
        key: line.key,
        closed: line.closed,
        alternatives: line.alternatives,
        parameters: from.declared.parameters.clone(),
        policies,
        marks,
        lowered,
        cedar,
        bare,
        needs,
        uses: gathered.uses,
        waits: gathered.waits,
        forbids_wait: gathered.forbids_wait,
        impossible: gathered.impossible,
        response: line.settings.response,
        distrusted: AtomicBool::new(false),
    })
}

fn tags(operations: &[&DocumentedOperation]) -> Vec<Arc<str>> {
    let mut tags: Vec<Arc<str>> = Vec::new();
    for tag in operations.iter().flat_map(|operation| &operation.tags) {
        if !tags.iter().any(|known| **known == **tag) {
            tags.push(tag.as_str().into());
        }
    }
    tags
}

/// The groups of an action: `read` or `write` (`ANY` is both), the API's, both together, its tags.
fn groups(api: &Arc<str>, key: &LineKey, tags: &[Arc<str>]) -> Vec<Arc<str>> {
    // RFC 9110 §9.2.1: safe methods; what is not known to be safe writes.
    let directions: &[&str] = match key.method {
        "GET" | "OPTIONS" => &["read"],
        "ANY" => &["read", "write"],
        _ => &["write"],
    };
    let plain = directions.iter().map(|one| Arc::from(*one));
    let of_api = directions.iter().map(|one| Arc::from(format!("{api}:{one}")));
    let own = [Arc::clone(api), Arc::from(format!("{api}:{key}"))];
    let tagged = tags.iter().map(|tag| Arc::from(format!("tag:{tag}")));
    plain.chain(of_api).chain(own).chain(tagged).collect()
}

/// What is read of the body before the decision; `None` after a fault.
fn judged_body(
    settings: &Settings,
    from: &Source<'_>,
    uses: &Uses,
    faults: &mut Vec<Fault>,
) -> Option<Option<JudgedBody>> {
    let (Some(shape), false) = (&from.declared.body, uses.body.is_empty()) else {
        return Some(None);
    };
    let max = settings.body_written.as_ref();
    if let Some(max) = max.filter(|max| max.value > body::MAX_BYTES) {
        faults.push(Fault::error(
            "BodyTooLargeToJudge",
            max.place.clone(),
            format!("a rule reads this body, and it may have {} bytes", max.value),
            format!("keep to {} bytes, or leave the condition out", body::MAX_BYTES),
        ));
        return None;
    }
    let is_json = |kind: &str| kind == "application/json" || kind.ends_with("+json");
    if !settings.body_types.is_empty() && !settings.body_types.iter().all(|kind| is_json(kind)) {
        faults.push(Fault::error(
            "BodyTypeUnjudged",
            from.draft.key.place.clone(),
            "a rule reads this body, and `types` lets in more than JSON".into(),
            "name JSON types alone, as in `application/json`".into(),
        ));
        return None;
    }
    Some(Some(JudgedBody {
        max: max.map_or(body::DEFAULT_MAX, |max| max.value),
        shape: Arc::new(shape.clone()),
        fields: uses.body.clone(),
    }))
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
        query: Vec::new(),
        header: Vec::new(),
        body: None,
        owner: None,
        body_types: line.settings.body_types.clone(),
        response: line.settings.response.as_ref().map(|response| response.rule.clone()),
        tags: Vec::new(),
    }
}
