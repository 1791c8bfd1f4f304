//! One operation's policies, gathered: its tables', the permits that its line leaves to files, and
//! every forbid that touches it; each validated against the operation's own schema, lowered for the
//! compiled evaluator, and put into Cedar's sets.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Effect, Policy, PolicyId};
use portcullis_core::fault::Fault;

use crate::access::Vocabulary;
use crate::cedar_files::{FilePolicies, FilePolicy};
use crate::clause::{Alternative, Grants, Objects, Principal};
use crate::condition::Survey;
use crate::declared::{Declared, Uses};
use crate::entities::Needs;
use crate::expr::{self, Lowered, Slots};
use crate::schema::{Outline, PrincipalKind, Validators};
use crate::stage::{CedarSets, Mark, Origin, Waits};
use crate::types::{self, Proof};

/// What all lines of a file share while they are compiled.
pub(crate) struct Gathering<'g> {
    pub(crate) vocabulary: &'g Vocabulary,
    pub(crate) files: &'g FilePolicies,
    pub(crate) validators: Validators<'g>,
    /// What validation said of a policy of a file, by its position and the validator.
    proofs: HashMap<(usize, usize), Proof>,
    /// Policies of files that failed somewhere: said once.
    broken: HashSet<usize>,
    /// Policies of files that some operation has.
    pub(crate) used: HashSet<usize>,
    /// Permits that touch a line without `allow = "policy"`, with the first such operation.
    pub(crate) outside: HashMap<usize, Arc<str>>,
}

/// The line for which policies are gathered.
pub(crate) struct Gathered<'l> {
    /// The action's name.
    pub(crate) key: &'l Arc<str>,
    /// The action's groups.
    pub(crate) groups: &'l [Arc<str>],
    pub(crate) alternatives: &'l [Alternative],
    pub(crate) declared: &'l Declared,
}

/// The policies of one operation.
pub(crate) struct Policies {
    pub(crate) policies: Vec<Policy>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) lowered: Option<Vec<Lowered>>,
    pub(crate) cedar: CedarSets,
    /// Permits of files as they are written, not narrowed by the line's table.
    pub(crate) bare: Option<CedarSets>,
    pub(crate) needs: Needs,
    pub(crate) uses: Uses,
    pub(crate) waits: Waits,
    pub(crate) forbids_wait: Waits,
    pub(crate) impossible: Vec<usize>,
}

impl<'g> Gathering<'g> {
    /// Nothing gathered yet.
    pub(crate) fn new(files: &'g FilePolicies, vocabulary: &'g Vocabulary) -> Self {
        Gathering {
            vocabulary,
            files,
            validators: Validators::new(vocabulary),
            proofs: HashMap::new(),
            broken: HashSet::new(),
            used: HashSet::new(),
            outside: HashMap::new(),
        }
    }

    /// The policies of a line; `None` after a fault.
    pub(crate) fn gather(
        &mut self,
        line: &Gathered<'_>,
        faults: &mut Vec<Fault>,
    ) -> Option<Policies> {
        let before = faults.len();
        for alternative in line.alternatives {
            types::check_names(alternative, line.declared, self.vocabulary, faults);
        }
        if faults.len() > before {
            return None;
        }
        let kinds = kinds(line.alternatives);
        let touching = self.touching(line);
        let mut uses = Uses::default();
        for alternative in line.alternatives {
            uses.owner = uses.owner || alternative.objects == Objects::CallersOwn;
            for (condition, _) in alternative.conditions() {
                uses.add(&condition.reads, line.declared);
            }
        }
        let all = &self.files.all;
        for file in touching.iter().filter_map(|position| all.get(*position)) {
            uses.add(&file.survey.reads, line.declared);
        }
        let outline = Outline { parameters: &line.declared.parameters, kinds: &kinds, uses: &uses };
        let validator = self.validators.of(&outline)?;
        let mut draft = Draft::default();
        self.tables(line, validator, &mut draft, faults);
        self.files_of(line, (&touching, validator), &mut draft, faults);
        if faults.len() > before {
            return None;
        }
        draft.finish(line, uses)
    }

    /// The policies of files that can fire for callers of the line, by position.
    fn touching(&mut self, line: &Gathered<'_>) -> Vec<usize> {
        if line.alternatives.is_empty() {
            return Vec::new();
        }
        let names: Vec<Arc<str>> =
            std::iter::once(line.key).chain(line.groups).map(Arc::clone).collect();
        let mut found = self.files.touching(&names, &callers(line.alternatives));
        let files = self.files;
        let left_to_files = line.alternatives.iter().any(|table| table.grants == Grants::Files);
        if !left_to_files {
            let is_permit = |position: &mut usize| {
                files.all.get(*position).is_some_and(|one| one.effect == Effect::Permit)
            };
            for position in found.extract_if(.., is_permit) {
                self.outside.entry(position).or_insert_with(|| Arc::clone(line.key));
            }
        }
        found
    }

    fn tables(
        &mut self,
        line: &Gathered<'_>,
        validator: usize,
        draft: &mut Draft,
        faults: &mut Vec<Fault>,
    ) {
        let Some(validator) = self.validators.number(validator) else { return };
        for (position, alternative) in line.alternatives.iter().enumerate() {
            let source = alternative.policy();
            let Some(policy) = parse(&alternative.rule, &source) else {
                faults.push(types::unreadable(alternative));
                continue;
            };
            let origin = types::Origin::Table(alternative, &source);
            let proof = types::validate(validator, &policy, origin, faults);
            if proof == Proof::Impossible {
                draft.impossible.push(position);
            }
            match alternative.grants {
                Grants::Table => draft.add(&alternative.rule, Origin::Table(position), policy),
                // Its clauses are told also where no permit of a file touches the line.
                Grants::Files => draft.needs.survey(&survey(&policy)),
            }
        }
    }

    fn files_of(
        &mut self,
        line: &Gathered<'_>,
        (touching, validator): (&[usize], usize),
        draft: &mut Draft,
        faults: &mut Vec<Fault>,
    ) {
        let files = self.files;
        let mut forbids: Vec<&FilePolicy> = Vec::new();
        for position in touching {
            let Some(file) = files.all.get(*position) else { continue };
            match self.proof(*position, (file, line.key), validator, faults) {
                None => continue,
                // What can err is kept: a forbid that errs denies.
                Some(Proof::Impossible) if !file.survey.arithmetic => continue,
                Some(Proof::Impossible | Proof::Open) => {}
            }
            self.used.insert(*position);
            match file.effect {
                Effect::Forbid => forbids.push(file),
                Effect::Permit => permit(line, file, draft),
            }
            if let Some(parent) = &file.parent {
                draft.needs.parent(parent.clone());
            }
        }
        for file in forbids {
            draft.add(&file.id, Origin::Forbid, file.policy.clone());
        }
    }

    /// What validation says of a policy of a file for an operation; `None`: it is refused.
    fn proof(
        &mut self,
        position: usize,
        (file, key): (&FilePolicy, &str),
        validator: usize,
        faults: &mut Vec<Fault>,
    ) -> Option<Proof> {
        if self.broken.contains(&position) {
            return None;
        }
        if let Some(known) = self.proofs.get(&(position, validator)) {
            return Some(*known);
        }
        let before = faults.len();
        let origin = types::Origin::File(file, key);
        let judge = self.validators.number(validator)?;
        let proof = types::validate(judge, &file.policy, origin, faults);
        if faults.len() > before {
            self.broken.insert(position);
            return None;
        }
        self.proofs.insert((position, validator), proof);
        Some(proof)
    }
}

/// A permit of a file counts only as far as the line's table lets it.
fn permit(line: &Gathered<'_>, file: &FilePolicy, draft: &mut Draft) {
    let tables = line.alternatives.iter().enumerate();
    for (position, table) in tables.filter(|(_, table)| table.grants == Grants::Files) {
        let source = format!("{}\n{};", file.source, table.clauses());
        if let Some(policy) = parse(&file.id, &source) {
            draft.add(&file.id, Origin::Permit(position), policy);
            draft.bare.push(file.policy.clone());
        }
    }
}

fn parse(id: &str, source: &str) -> Option<Policy> {
    Policy::parse(Some(PolicyId::new(id)), source).ok()
}

fn survey(policy: &Policy) -> Survey {
    let json = policy.to_json().unwrap_or_default();
    json.get("conditions").map(Survey::of).unwrap_or_default()
}

/// Policies while they are gathered.
#[derive(Default)]
struct Draft {
    policies: Vec<Policy>,
    marks: Vec<Mark>,
    bare: Vec<Policy>,
    needs: Needs,
    impossible: Vec<usize>,
}

impl Draft {
    fn add(&mut self, id: &Arc<str>, origin: Origin, policy: Policy) {
        let survey = survey(&policy);
        self.needs.survey(&survey);
        self.marks.push(Mark { id: Arc::clone(id), origin, waits: Waits::of(&survey) });
        self.policies.push(policy);
    }

    fn finish(mut self, line: &Gathered<'_>, uses: Uses) -> Option<Policies> {
        // `resource has owner` waits for nothing where no owner can be looked up.
        let known = Waits { body: !uses.body.is_empty(), owner: uses.owner };
        // The compiled evaluator takes an owner that is not there for one that is not known yet.
        let speaks_of_none = self.marks.iter().any(|mark| mark.waits.owner && !known.owner);
        for mark in &mut self.marks {
            mark.waits = mark.waits.and(known);
        }
        let together = |marks: &mut dyn Iterator<Item = &Mark>| {
            marks.map(|mark| mark.waits).fold(Waits::default(), Waits::or)
        };
        let waits = together(&mut self.marks.iter());
        let is_forbid = |mark: &&Mark| mark.origin == Origin::Forbid;
        let forbids_wait = together(&mut self.marks.iter().filter(is_forbid));
        let slots = Slots {
            action: line.key,
            groups: line.groups,
            parameters: &line.declared.parameters,
            query: &uses.query,
            header: &uses.header,
            body: &uses.body,
        };
        let lowered = self.policies.iter().map(|policy| expr::lower(policy, &slots).ok());
        Some(Policies {
            lowered: if speaks_of_none { None } else { lowered.collect() },
            cedar: CedarSets::of(self.policies.iter(), waits)?,
            bare: match self.bare.as_slice() {
                [] => None,
                bare => Some(CedarSets::of(bare.iter(), waits)?),
            },
            policies: self.policies,
            marks: self.marks,
            needs: self.needs,
            uses,
            waits,
            forbids_wait,
            impossible: self.impossible,
        })
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

/// The kinds of caller that a line meets: on a line for `anyone` nobody is anyone else.
fn callers(alternatives: &[Alternative]) -> Vec<PrincipalKind> {
    let kinds = kinds(alternatives);
    match kinds.contains(&PrincipalKind::Anonymous) {
        true => vec![PrincipalKind::Anonymous],
        false => kinds,
    }
}
