//! What `check` finds in files that load: nothing here stops a start, each is something that a
//! person has to see. One function per gap, each with the place and what to do.

use cedar_policy::Effect;
use portcullis_core::fault::{Fault, Place};

use crate::access::{AlternativeDraft, ApiDraft, LineDraft, Vocabulary};
use crate::clause::{Alternative, Grants, Objects, ScopeClause};
use crate::compile::{Entry, Rules};
use crate::condition::Root;
use crate::documented::{Owned, covers, owners};
use crate::line::Closed;
use crate::openapi::{Document, DocumentedSecurity};
use crate::schema::PrincipalKind;
use crate::shape::LineKey;

/// See [`crate::coverage::gaps`].
pub(crate) fn find(apis: &[ApiDraft], rules: &Rules, vocabulary: &Vocabulary) -> Vec<Fault> {
    let mut gaps = Vec::new();
    // Compiled without a fault, so every line has an entry, in the same order.
    let mut entries = rules.entries.iter();
    for api in apis {
        let lines: Vec<(&LineDraft, &Entry)> =
            api.lines.iter().zip(entries.by_ref().take(api.lines.len())).collect();
        if let Some(document) = &api.document {
            against_document(&lines, &document.value, &document.place, &mut gaps);
        }
        for (draft, entry) in lines {
            review_pending(draft, entry, &mut gaps);
            public_without_reason(draft, entry, &mut gaps);
            object_unbound(draft, entry, &mut gaps);
            factor_unavailable(entry, vocabulary, &mut gaps);
            never_satisfiable(entry, vocabulary, &mut gaps);
            alternative_shadowed(entry, &mut gaps);
        }
    }
    of_files(rules, &mut gaps);
    gaps
}

/// Policies of Cedar files that do nothing where they stand.
fn of_files(rules: &Rules, gaps: &mut Vec<Fault>) {
    for rule in &rules.files {
        let id = &rule.id;
        if let Some(line) = &rule.outside {
            gaps.push(Fault::gap(
                "PermitOutsideTable",
                rule.place.clone(),
                format!("`{id}` permits on `{line}`, whose line does not ask for it: it is ignored there"),
                "write `allow = \"policy\"` on that line, or narrow the policy's head".into(),
            ));
        }
        if !rule.fires && rule.effect == Effect::Forbid {
            gaps.push(Fault::gap(
                "ForbidNeverFires",
                rule.place.clone(),
                format!("`{id}` forbids nothing: no open line has an action that it speaks of"),
                "mend its head, or leave it out".into(),
            ));
        }
    }
}

/// A factor that nobody here can have.
fn factor_unavailable(entry: &Entry, vocabulary: &Vocabulary, gaps: &mut Vec<Fault>) {
    for table in &entry.alternatives {
        let Some(step_up) = &table.step_up else { continue };
        if step_up.factors.iter().any(|factor| is_available(factor.age(), vocabulary)) {
            continue;
        }
        gaps.push(Fault::gap(
            "FactorUnavailable",
            table.place.clone(),
            format!(
                "nobody can satisfy `{}`: people have {}",
                step_up.words(),
                vocabulary.factors.join(", ")
            ),
            "name a factor of `mfa` under [identity], or add it there".into(),
        ));
    }
}

fn is_available(factor: &str, vocabulary: &Vocabulary) -> bool {
    match factor {
        // Everyone has a password; any second factor makes two.
        "any" | "password" => true,
        "mfa" => !vocabulary.factors.is_empty(),
        other => vocabulary.factors.iter().any(|known| known == other),
    }
}

fn against_document(
    lines: &[(&LineDraft, &Entry)],
    document: &Document,
    place: &Place,
    gaps: &mut Vec<Fault>,
) {
    let keys: Vec<&LineKey> = lines.iter().map(|(_, entry)| &entry.key).collect();
    let owned = owners(&keys, document);
    for one in &owned {
        match one.line.and_then(|line| lines.get(line)) {
            None => gaps.push(without_rule(one, document, place)),
            Some((draft, entry)) => gaps.extend(weaker_than_document(one, draft, entry)),
        }
    }
    for (position, (draft, entry)) in lines.iter().enumerate() {
        let owns = owned.iter().any(|one| one.line == Some(position));
        let covered: Vec<usize> = owned
            .iter()
            .filter(|one| covers(&entry.key, one.operation))
            .filter_map(|one| one.line)
            .collect();
        if owns || covered.is_empty() {
            continue;
        }
        let owner = covered.first().and_then(|line| lines.get(*line));
        let owner = owner.map_or_else(String::new, |(_, other)| other.operation.key.to_string());
        gaps.push(Fault::gap(
            "RuleShadowed",
            draft.key.place.clone(),
            format!("every operation that `{}` could answer for belongs to other lines", entry.key),
            format!("leave the line out, or `{owner}`, which takes the first of them"),
        ));
    }
}

fn without_rule(one: &Owned<'_>, document: &Document, place: &Place) -> Fault {
    let operation = one.operation;
    let key = format!("{} {}", operation.method, operation.path);
    Fault::gap(
        "OperationWithoutRule",
        place.clone(),
        format!("`{key}` of `{}` has no line, so it is closed", document.file),
        format!("add `\"{key}\" = {{ allow = \"nobody\" }}`, or say who may call it"),
    )
}

/// The document asks for more than the line does: compared by credentials and scopes alone.
fn weaker_than_document(one: &Owned<'_>, draft: &LineDraft, entry: &Entry) -> Option<Fault> {
    let weaker = |asked: &str| {
        Some(Fault::gap(
            "WeakerThanDocument",
            draft.key.place.clone(),
            format!("the document asks for {asked}, and `{}` lets callers in without", entry.key),
            "ask for it here too, or mend the document".into(),
        ))
    };
    if entry.closed.is_some() {
        return None;
    }
    match &one.operation.security {
        DocumentedSecurity::Silent | DocumentedSecurity::Public => None,
        _ if !entry.operation.authenticates => weaker("credentials"),
        DocumentedSecurity::Other(_) => None,
        DocumentedSecurity::Scopes(lists) => {
            let suffices = |table: &Alternative| demands(table.scope.as_ref(), lists);
            if entry.alternatives.iter().all(suffices) {
                return None;
            }
            let lists: Vec<String> =
                lists.iter().map(|list| format!("the scope `{}`", list.join(" "))).collect();
            weaker(&lists.join(" or "))
        }
    }
}

/// Whether every token that passes the clause has all scopes of one of the lists.
fn demands(scope: Option<&ScopeClause>, lists: &[Vec<String>]) -> bool {
    let satisfied = |held: &[&str]| {
        lists.iter().any(|list| list.iter().all(|needed| held.contains(&needed.as_str())))
    };
    match scope {
        None => satisfied(&[]),
        Some(ScopeClause::All(scopes)) => satisfied(&scopes.iter().collect::<Vec<_>>()),
        Some(ScopeClause::Any(scopes)) => scopes.iter().all(|one| satisfied(&[one])),
    }
}

fn review_pending(draft: &LineDraft, entry: &Entry, gaps: &mut Vec<Fault>) {
    let (word, remedy) = match entry.closed {
        Some(Closed::Review) => ("REVIEW", "write who may call it, as in `allow = \"user\"`"),
        Some(Closed::ReviewPublic) => {
            ("REVIEW-PUBLIC", "the document calls it public: write `anyone`, or who may call it")
        }
        Some(Closed::Nobody) | None => return,
    };
    let first = draft.alternatives.first().and_then(|table| table.allow.first());
    gaps.push(Fault::gap(
        "ReviewPending",
        first.map_or(&draft.key.place, |word| &word.place).clone(),
        format!("`{}` is still `{word}`, so it is closed", entry.key),
        remedy.into(),
    ));
}

fn public_without_reason(draft: &LineDraft, entry: &Entry, gaps: &mut Vec<Fault>) {
    if matches!(entry.key.method, "GET" | "OPTIONS") {
        return;
    }
    for table in &draft.alternatives {
        let anyone = table.allow.iter().find(|word| word.value == "anyone");
        if let (Some(anyone), None) = (anyone, &table.public) {
            gaps.push(Fault::gap(
                "PublicWithoutReason",
                anyone.place.clone(),
                format!("`{}` can write, and is open to `anyone`", entry.key),
                "say why in `public = \"…\"`, or name who may call it".into(),
            ));
        }
    }
}

/// A parameter that neither a condition binds nor `shared` explains.
///
/// Proved where nothing is reported: in every request that a table without `shared` lets through to
/// a user or service, each parameter equals an attribute of the caller or a constant of the rule.
/// The proof looks at `==`, `contains` over constants, `&&`, `||` and `if`; a condition that binds
/// in another way is reported although it binds. Not looked at: what a final `**` takes, which has
/// no name, and lines for `anyone`, where there is no caller to bind to.
fn object_unbound(draft: &LineDraft, entry: &Entry, gaps: &mut Vec<Fault>) {
    if entry.closed.is_some() || !entry.operation.authenticates {
        return;
    }
    for parameter in &entry.parameters {
        let tables = draft.alternatives.iter().zip(&entry.alternatives).enumerate();
        let unbound = |(position, (draft, table)): &(usize, (&AlternativeDraft, &Alternative))| {
            let bound =
                table.when.as_ref().is_some_and(|(when, _)| when.binds.contains(&*parameter.name));
            // What a file permits is for the file to bind; whose an object is says `owner`.
            let owned = table.objects == Objects::CallersOwn || table.grants == Grants::Files;
            !bound && !owned && draft.shared.is_none() && !entry.impossible.contains(position)
        };
        let Some((_, (_, table))) = tables.into_iter().find(unbound) else { continue };
        let name = &parameter.name;
        gaps.push(Fault::gap(
            "ObjectUnbound",
            draft.key.place.clone(),
            format!("nothing in `{}` ties `{name}` to the caller: one caller reaches another's", table.rule),
            format!("compare it, as in `when = \"resource.{name} == principal.id\"`, or say why all may in `shared = \"…\"`"),
        ));
    }
}

/// A table that lets nobody in: the simple cases.
fn never_satisfiable(entry: &Entry, vocabulary: &Vocabulary, gaps: &mut Vec<Fault>) {
    for (position, table) in entry.alternatives.iter().enumerate() {
        let mut gap = |message: String, remedy: &str| {
            gaps.push(Fault::gap(
                "NeverSatisfiable",
                table.place.clone(),
                format!("`{}` lets no one in: {message}", table.rule),
                remedy.into(),
            ));
        };
        if let Some((end, words)) = &table.until
            && *end <= vocabulary.now
        {
            gap(format!("it ended when `{words}` began"), "leave it out, or write a later date");
        }
        if !entry.operation.authenticates && !table.admits(PrincipalKind::Anonymous) {
            let message = "a line for `anyone` reads no credentials";
            gap(message.into(), "leave `anyone` or this table out");
        } else if entry.impossible.contains(&position) {
            let message = "its condition is false for every caller";
            gap(message.into(), "mend the condition, or leave the table out");
        }
        for (kind, name) in kinds_lacking(table, vocabulary) {
            let kind = kind.name().to_ascii_lowercase();
            let message = format!("a {kind} never has `{name}`, which its condition reads");
            gap(message, "write one table per kind of caller, in an array");
        }
    }
}

/// Kinds that the table names but whose callers can never have an attribute that it reads.
fn kinds_lacking<'t>(
    table: &'t Alternative,
    vocabulary: &Vocabulary,
) -> Vec<(PrincipalKind, &'t str)> {
    let Some((condition, _)) = &table.when else { return Vec::new() };
    let mut lacking = Vec::new();
    for kind in [PrincipalKind::User, PrincipalKind::Service] {
        // Reading an attribute guards the whole clause, so lacking it means never.
        let missing = condition
            .guarded_attributes(Root::Principal)
            .find(|name| table.admits(kind) && !kind.may_have(name, vocabulary));
        lacking.extend(missing.map(|name| (kind, name)));
    }
    lacking
}

/// A table that adds nothing to an earlier one: the same or wider callers, no clause that it lacks.
fn alternative_shadowed(entry: &Entry, gaps: &mut Vec<Fault>) {
    for (position, later) in entry.alternatives.iter().enumerate() {
        let earlier = entry.alternatives.iter().take(position);
        let Some(wider) = earlier.into_iter().find(|earlier| includes(earlier, later)) else {
            continue;
        };
        gaps.push(Fault::gap(
            "RuleShadowed",
            later.place.clone(),
            format!("`{}` lets in no one that `{}` does not", later.rule, wider.rule),
            "leave one of the two out".into(),
        ));
    }
}

fn includes(wider: &Alternative, narrower: &Alternative) -> bool {
    let callers =
        narrower.allow.iter().all(|one| wider.allow.iter().any(|allowed| allowed.includes(one)));
    let scopes = match (&wider.scope, &narrower.scope) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(ScopeClause::All(few)), Some(ScopeClause::All(many))) => few.is_subset(many),
        (Some(ScopeClause::Any(many)), Some(ScopeClause::Any(few))) => few.is_subset(many),
        (Some(ScopeClause::Any(some)), Some(ScopeClause::All(all))) => {
            !some.intersection(all).is_empty()
        }
        (Some(ScopeClause::All(_)), Some(ScopeClause::Any(_))) => false,
    };
    let networks = wider.from.is_empty()
        || (!narrower.from.is_empty()
            && narrower.from.iter().all(|net| wider.from.iter().any(|wide| wide.contains(net))));
    let dates = match (&wider.until, &narrower.until) {
        (None, _) => true,
        (Some((late, _)), Some((early, _))) => early <= late,
        (Some(_), None) => false,
    };
    let conditions = match (&wider.when, &narrower.when) {
        (None, _) => true,
        (Some((a, _)), Some((b, _))) => a.text == b.text,
        (Some(_), None) => false,
    };
    let bindings = match (wider.bound, narrower.bound) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide.includes(narrow),
        (Some(_), None) => false,
    };
    let actors = narrower.via.iter().all(|actor| wider.via.contains(actor));
    let freshness = match (&wider.step_up, &narrower.step_up) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide.words() == narrow.words(),
        (Some(_), None) => false,
    };
    let objects = wider.objects == Objects::Anyones || narrower.objects == wider.objects;
    // Permits of files are another's words: nothing is said of what they include.
    let grants = wider.grants == Grants::Table && narrower.grants == Grants::Table;
    grants
        && freshness
        && objects
        && callers
        && scopes
        && networks
        && dates
        && conditions
        && bindings
        && actors
}
