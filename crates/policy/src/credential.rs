//! What a line asks of the credential itself: that its token be bound (`bound`), that an API key will
//! do (`accept`), and through whose hands it may have come (`via`).
//!
//! All of it is fixed by the credential, never by the request around it: a bound token always comes
//! with its proof, since authentication refuses it otherwise. So a line of these keys stays pure.

use portcullis_core::fault::{Fault, Placed};

use crate::access::{AlternativeDraft, LineDraft, Vocabulary};
use crate::clause::{Alternative, Principal};
use crate::nearest::advice;
use crate::schema::PrincipalKind;

/// To what a token must be bound (`bound`): RFC 9449, RFC 8705.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `"dpop"`: to a key whose proof comes with each request.
    Dpop,
    /// `"mtls"`: to the certificate of the connection.
    Mtls,
    /// `"dpop or mtls"`.
    Either,
}

impl Bound {
    const WORDS: [(&'static str, Bound); 4] = [
        ("dpop", Bound::Dpop),
        ("mtls", Bound::Mtls),
        ("dpop or mtls", Bound::Either),
        ("mtls or dpop", Bound::Either),
    ];

    /// As the operator writes it.
    pub fn words(self) -> &'static str {
        match self {
            Bound::Dpop => "dpop",
            Bound::Mtls => "mtls",
            Bound::Either => "dpop or mtls",
        }
    }

    /// Whether a DPoP key will do.
    pub fn takes_dpop(self) -> bool {
        matches!(self, Bound::Dpop | Bound::Either)
    }

    /// Whether a certificate will do.
    pub fn takes_mtls(self) -> bool {
        matches!(self, Bound::Mtls | Bound::Either)
    }

    /// Whether what is bound so is bound by the other too.
    pub(crate) fn includes(self, other: Bound) -> bool {
        (self.takes_dpop() || !other.takes_dpop()) && (self.takes_mtls() || !other.takes_mtls())
    }

    /// What either of two will do for.
    fn or(self, other: Bound) -> Bound {
        if self == other { self } else { Bound::Either }
    }

    pub(crate) fn cedar(self) -> &'static str {
        match self {
            Bound::Dpop => "context.dpop",
            Bound::Mtls => "context.mtls",
            Bound::Either => "context.dpop || context.mtls",
        }
    }
}

/// What all tables of a line ask for: a token that is bound by none of it passes nowhere. `None` when
/// some table takes a token that is not bound.
pub(crate) fn bound_of(alternatives: &[Alternative]) -> Option<Bound> {
    let mut all = alternatives.iter().map(|table| table.bound);
    let first = all.next()??;
    all.try_fold(first, |wide, next| Some(wide.or(next?)))
}

/// Reads `bound`.
pub(crate) fn read_bound(word: &Placed<String>, faults: &mut Vec<Fault>) -> Option<Bound> {
    let known = Bound::WORDS.iter().find(|(text, _)| *text == word.value);
    if known.is_none() {
        let remedy = advice(&word.value, Bound::WORDS.iter().map(|(text, _)| *text), || {
            "write `dpop`, `mtls` or `dpop or mtls`".into()
        });
        let message = format!("a token cannot be bound by `{}`", word.value);
        faults.push(Fault::error("BoundUnknown", word.place.clone(), message, remedy));
    }
    known.map(|(_, bound)| *bound)
}

/// Reads `via`: services by name, since whoever may act for others is named one by one.
pub(crate) fn read_via(
    words: &[Placed<String>],
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) -> Vec<String> {
    let mut via = Vec::new();
    for word in words {
        let name = word.value.strip_prefix("service:");
        if let Some(name) = name.filter(|name| vocabulary.services.iter().any(|one| one == name)) {
            via.push(name.to_owned());
            continue;
        }
        let known: Vec<String> =
            vocabulary.services.iter().map(|name| format!("service:{name}")).collect();
        let remedy = advice(&word.value, known.iter().map(String::as_str), || {
            "name services of `[clients]`, as in `via = [\"service:agent\"]`".into()
        });
        let message = format!("`{}` is no service that the file knows", word.value);
        faults.push(Fault::error("UnknownActor", word.place.clone(), message, remedy));
    }
    via
}

/// Whether the line takes API keys. Every table says so or none does: a key is shown before it is
/// known which table will hold.
pub(crate) fn read_accept(draft: &LineDraft, faults: &mut Vec<Fault>) -> Accepts {
    let written = || draft.alternatives.iter().filter_map(|table| table.accept.as_ref());
    for word in written().filter(|word| word.value != "key") {
        let remedy = match word.value.as_str() {
            "cookie" => "it is designed but not built yet: send an access token".to_owned(),
            other => advice(other, ["key"], || "write `key`, or leave it out".into()),
        };
        let message = format!("`{}` is no credential that a line can accept", word.value);
        faults.push(Fault::error("AcceptUnknown", word.place.clone(), message, remedy));
    }
    let Some(first) = written().next() else { return Accepts::Tokens };
    if written().count() < draft.alternatives.len() {
        faults.push(Fault::error(
            "SettingDiffers",
            first.place.clone(),
            "the tables of one line differ in `accept`".into(),
            "write the same `accept` in each".into(),
        ));
    }
    Accepts::TokensAndKeys
}

/// The credentials that a line takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepts {
    Tokens,
    TokensAndKeys,
}

/// Refuses what cannot go together: `anyone` shows no credential, and a key is bound by nothing.
pub(crate) fn check(table: &AlternativeDraft, allow: &[Principal], faults: &mut Vec<Fault>) {
    let via = table.via.first();
    if allow.contains(&Principal::Anyone) {
        let bound = table.bound.as_ref().map(|word| ("BoundOnAnyone", "bound", word));
        let accept = table.accept.as_ref().map(|word| ("AcceptOnAnyone", "accept", word));
        let via = via.map(|word| ("ViaOnAnyone", "via", word));
        for (rule, key, word) in bound.into_iter().chain(accept).chain(via) {
            faults.push(Fault::error(
                rule,
                word.place.clone(),
                format!("`{key}` on a line for `anyone`, whose credentials are never read"),
                format!("write `allow = \"user\"`, or leave `{key}` out"),
            ));
        }
        return;
    }
    let Some(accept) = &table.accept else { return };
    if table.bound.is_some() {
        faults.push(Fault::error(
            "KeyNeverBound",
            accept.place.clone(),
            "an API key is bound by nothing, and `bound` asks for it".into(),
            "leave `accept` or `bound` out".into(),
        ));
    }
    if !allow.is_empty() && !allow.iter().any(|one| one.kind() == PrincipalKind::Service) {
        faults.push(Fault::error(
            "KeyForNoService",
            accept.place.clone(),
            "API keys belong to services, and the table allows none".into(),
            "allow `service` or `service:x`, or leave `accept` out".into(),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Rules, compile};
    use crate::coverage;
    use crate::decide::{Verdict, judge};
    use crate::entities::{Caller, Circumstances, Question};
    use crate::resource::Resource;
    use crate::table::{Found, OperationId};
    use crate::testing::{HOST, api, circumstances, faults, rules, service, user, vocabulary};

    fn id(rules: &Rules, path: &str) -> OperationId {
        match rules.find(HOST, "GET", path) {
            Found::Operation(id, _) => id,
            Found::NotFound | Found::MethodNotAllowed(_) => panic!("{path}"),
        }
    }

    fn asked(rules: &Rules, caller: &Caller, with: &Circumstances) -> &'static str {
        let operation = id(rules, "/v1/a");
        let question =
            Question { operation, resource: &Resource::default(), caller, circumstances: with };
        match judge(rules, &question) {
            Verdict::Allow { .. } => "allow",
            Verdict::Deny(denial) => denial.reason,
            Verdict::NeedsBody | Verdict::NeedsOwner => "needs more",
        }
    }

    fn bound(by: Option<Bound>) -> Circumstances {
        let (dpop, mtls) = (by == Some(Bound::Dpop), by == Some(Bound::Mtls));
        Circumstances { dpop, mtls, ..circumstances("") }
    }

    fn through(actors: &[&str]) -> Circumstances {
        let actors = actors.iter().map(|name| (*name).to_owned()).collect();
        Circumstances { actors, ..circumstances("") }
    }

    #[test]
    fn a_token_is_bound_as_the_line_says() {
        for (words, dpop, mtls, both) in [
            ("dpop", "allow", "TokenUnbound", Bound::Dpop),
            ("mtls", "TokenUnbound", "allow", Bound::Mtls),
            ("dpop or mtls", "allow", "allow", Bound::Either),
            ("mtls or dpop", "allow", "allow", Bound::Either),
        ] {
            let rules = rules(&format!("'GET /a' = {{ allow = 'user', bound = '{words}' }}"));
            assert_eq!(asked(&rules, &user("a1"), &bound(None)), "TokenUnbound", "{words}");
            assert_eq!(asked(&rules, &user("a1"), &bound(Some(Bound::Dpop))), dpop, "{words}");
            assert_eq!(asked(&rules, &user("a1"), &bound(Some(Bound::Mtls))), mtls, "{words}");
            let operation = rules.operation(id(&rules, "/v1/a")).unwrap();
            assert_eq!(operation.bound, Some(both));
            assert_eq!(operation.asks_certificate, both.takes_mtls());
        }
    }

    #[test]
    fn a_delegated_token_passes_only_where_every_actor_is_named() {
        let closed = rules("'GET /a' = { allow = 'user' }");
        let one = rules("'GET /a' = { allow = 'user', via = 'service:mailer' }");
        let two =
            rules("'GET /a' = { allow = 'user', via = ['service:mailer', 'service:ledger'] }");
        for (rules, actors, expected) in [
            (&closed, &[][..], "allow"),
            (&closed, &["mailer"], "ActorNotNamed"),
            (&one, &[], "allow"),
            (&one, &["mailer"], "allow"),
            (&one, &["mailer", "ledger"], "ActorNotNamed"),
            (&one, &["ledger", "mailer"], "ActorNotNamed"),
            (&one, &["partner|mailer"], "ActorNotNamed"),
            (&two, &["mailer", "ledger"], "allow"),
            (&two, &["mailer", "other"], "ActorNotNamed"),
        ] {
            assert_eq!(asked(rules, &user("a1"), &through(actors)), expected, "{actors:?}");
        }
        let open = rules("'GET /a' = { allow = 'anyone' }");
        assert_eq!(asked(&open, &Caller::Anonymous, &through(&[])), "allow");
    }

    #[test]
    fn one_table_that_holds_whole_suffices() {
        let rules = rules(
            "'GET /a' = [{ allow = 'user', bound = 'dpop' }, { allow = 'service', via = 'service:mailer' }]",
        );
        let delegated = through(&["mailer"]);
        assert_eq!(asked(&rules, &user("a1"), &bound(None)), "TokenUnbound");
        assert_eq!(asked(&rules, &user("a1"), &delegated), "TokenUnbound");
        assert_eq!(asked(&rules, &service("ledger"), &delegated), "allow");
        let operation = rules.operation(id(&rules, "/v1/a")).unwrap();
        assert_eq!(operation.bound, None, "some table takes an unbound token");
    }

    #[test]
    fn what_the_token_fixes_keeps_a_line_pure() {
        for line in [
            "'GET /a' = { allow = 'user', bound = 'dpop or mtls', via = 'service:mailer' }",
            "'GET /a' = { allow = 'service', accept = 'key' }",
        ] {
            let rules = rules(line);
            assert!(rules.pure_line(id(&rules, "/v1/a")), "{line}");
        }
        let rules = rules("'GET /a' = { allow = 'user', when = 'context.dpop' }");
        assert!(!rules.pure_line(id(&rules, "/v1/a")));
        assert_eq!(asked(&rules, &user("a1"), &bound(Some(Bound::Dpop))), "allow");
        assert_eq!(asked(&rules, &user("a1"), &bound(Some(Bound::Mtls))), "ConditionFalse");
    }

    #[test]
    fn keys_are_accepted_by_the_whole_line() {
        let accepts = |line: &str| {
            let rules = rules(line);
            rules.operation(id(&rules, "/v1/a")).unwrap().accepts_key
        };
        assert!(accepts("'GET /a' = { allow = 'service:ledger', accept = 'key' }"));
        assert!(accepts(
            "'GET /a' = [{ allow = 'service', accept = 'key' }, { allow = ['user', 'service:mailer'], accept = 'key' }]"
        ));
        assert!(!accepts("'GET /a' = { allow = 'service' }"));
    }

    #[test]
    fn each_fault_has_its_name() {
        for (line, expected) in [
            ("{ allow = 'anyone', bound = 'dpop' }", "BoundOnAnyone"),
            ("{ allow = 'anyone', accept = 'key' }", "AcceptOnAnyone"),
            ("{ allow = 'anyone', via = 'service:mailer' }", "ViaOnAnyone"),
            ("{ allow = 'user', bound = 'dpop and mtls' }", "BoundUnknown"),
            ("{ allow = 'user', bound = 'DPoP' }", "BoundUnknown"),
            ("{ allow = 'user', via = 'service:nobody' }", "UnknownActor"),
            ("{ allow = 'user', via = 'service' }", "UnknownActor"),
            ("{ allow = 'user', via = 'mailer' }", "UnknownActor"),
            ("{ allow = 'service', accept = 'cookie' }", "AcceptUnknown"),
            ("{ allow = 'service', accept = 'basic' }", "AcceptUnknown"),
            ("{ allow = 'service', accept = 'key', bound = 'mtls' }", "KeyNeverBound"),
            ("{ allow = 'user', accept = 'key' }", "KeyForNoService"),
            ("[{ allow = 'service', accept = 'key' }, { allow = 'user' }]", "SettingDiffers"),
        ] {
            let found: Vec<&str> =
                faults(&format!("'GET /a' = {line}")).iter().map(|fault| fault.rule).collect();
            assert_eq!(found, [expected], "{line}");
        }
    }

    #[test]
    fn the_matrix_and_the_gaps_know_them() {
        let line = "'GET /a' = { allow = 'user', bound = 'dpop', via = 'service:mailer' }";
        let row = coverage::matrix(&rules(line)).remove(0);
        assert_eq!(
            (row.user.as_str(), row.condition.as_str()),
            ("if", "bound by dpop and also via mailer")
        );
        for (second, shadowed) in [
            ("{ allow = 'user', bound = 'dpop' }", true),
            ("{ allow = 'user', bound = 'dpop', via = 'service:mailer' }", true),
            ("{ allow = 'user', bound = 'dpop', via = 'service:ledger' }", false),
            ("{ allow = 'user', bound = 'dpop or mtls' }", false),
            ("{ allow = 'user' }", false),
        ] {
            let first = "{ allow = 'user', bound = 'dpop', via = 'service:mailer' }";
            let apis = [api(&format!("'GET /a' = [{first}, {second}]"))];
            let rules = compile(&apis, &[], &vocabulary()).unwrap();
            let gaps = coverage::gaps(&apis, &rules, &vocabulary());
            assert_eq!(gaps.iter().any(|gap| gap.rule == "RuleShadowed"), shadowed, "{second}");
        }
    }
}
