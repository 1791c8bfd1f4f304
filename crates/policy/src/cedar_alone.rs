//! Cedar without the compiled evaluator: what `bench/decide` measures it against. Nothing that serves
//! a request asks here.

use std::collections::HashSet;

use cedar_policy::{Decision, PolicySet};

use crate::compile::Rules;
use crate::decide::{Verdict, judge_with_cedar};
use crate::entities::{Caller, Facts, Frame, Question};

/// Judges by Cedar over the operation's own policies.
pub fn judge(rules: &Rules, question: &Question<'_>) -> Verdict {
    judge_with_cedar(rules, question)
}

/// Every policy of every operation in one set, as an engine would have it that knows no operations.
pub struct WholeSet(PolicySet);

impl WholeSet {
    /// Of these rules.
    pub fn of(rules: &Rules) -> Self {
        let mut known = HashSet::new();
        let mut set = PolicySet::new();
        for policy in rules.entries.iter().flat_map(|entry| &entry.policies) {
            // A forbid of a file stands at every operation that it touches.
            if known.insert(policy.id().clone()) {
                // Refused only when the id is there already.
                let _ = set.add(policy.clone());
            }
        }
        WholeSet(set)
    }

    /// How many policies it has.
    pub fn count(&self) -> usize {
        self.0.num_of_policies()
    }

    /// Whether Cedar allows, over the whole set, with no more of the question than its operation reads.
    pub fn allows(&self, rules: &Rules, question: &Question<'_>) -> bool {
        let Some(entry) = rules.entry(question.operation) else { return false };
        let caller =
            if entry.operation.authenticates { question.caller } else { &Caller::Anonymous };
        let frame = Frame {
            names: &rules.names,
            action: &entry.action,
            parameters: &entry.parameters,
            uses: &entry.uses,
            needs: &entry.needs,
        };
        Facts::of(&frame, caller, question).is_some_and(|facts| {
            let response = rules.authorizer.is_authorized(&facts.request, &self.0, &facts.entities);
            response.decision() == Decision::Allow
        })
    }
}
