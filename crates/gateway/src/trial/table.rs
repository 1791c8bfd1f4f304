//! The rules and the pages of the trials.

use portcullis_core::fault::{Place, Placed};
use portcullis_core::limit::Limit;
use portcullis_core::web::{Address, Origin};
use portcullis_policy::access::{
    AlternativeDraft, ApiDraft, AttributeType, LineDraft, OwnerDraft, ScopeDraft, StepUpDraft,
    Vocabulary,
};
use portcullis_policy::compile::{Rules, compile};
use portcullis_policy::openapi;

use super::{APP, AT};
use crate::house::{HouseLine, Reads};
use crate::snapshot::HouseTable;

fn place() -> Place {
    Place { file: "portcullis.toml".into(), bytes: 0..0 }
}

fn placed<T>(value: T) -> Placed<T> {
    Placed::new(value, place())
}

/// The lines of the trials' API.
fn lines() -> Vec<LineDraft> {
    let line = |line: usize, key: &str, edit: &dyn Fn(&mut AlternativeDraft)| {
        let mut table = AlternativeDraft::new(place());
        edit(&mut table);
        LineDraft { key: placed(key.into()), line, alternatives: vec![table] }
    };
    let allow = |table: &mut AlternativeDraft, who: &str| table.allow = vec![placed(who.into())];
    let scope = |table: &mut AlternativeDraft, scope: &str| {
        table.scope = Some(ScopeDraft::All(placed(scope.into())));
    };
    vec![
        line(1, "GET /rates", &|t| allow(t, "anyone")),
        line(2, "GET /accounts/{account}", &|t| {
            allow(t, "user");
            scope(t, "payments:read");
            t.when = Some(placed("resource.account == principal.account".into()));
            t.limit = Some(placed("normal".into()));
        }),
        line(3, "POST /settlements", &|t| {
            allow(t, "service:ledger");
            scope(t, "payments:settle");
        }),
        line(4, "GET /secrets", &|t| allow(t, "nobody")),
        line(5, "POST /upload", &|t| {
            allow(t, "user");
            t.body_max = Some(placed(64 * 1024));
        }),
        line(6, "GET /things/**", &|t| allow(t, "user")),
        line(7, "GET /slow", &|t| {
            allow(t, "anyone");
            t.timeout = Some(placed("300ms".into()));
        }),
        line(9, "GET /quiet", &|t| {
            allow(t, "user");
            t.audit = Some(placed("none".into()));
        }),
        line(10, "GET /full", &|t| {
            allow(t, "user");
            scope(t, "payments:read");
            t.audit = Some(placed("full".into()));
        }),
        line(11, "GET /bound", &|t| {
            allow(t, "user");
            t.bound = Some(placed("dpop or mtls".into()));
        }),
        line(12, "GET /keyed", &|t| {
            allow(t, "service");
            scope(t, "payments:read");
            t.accept = Some(placed("key".into()));
        }),
        line(13, "GET /relayed", &|t| {
            allow(t, "user");
            t.via = vec![placed("service:agent".into())];
        }),
        line(14, "GET /admin", &|t| allow(t, "role:admin")),
        line(8, "POST /slow", &|t| {
            allow(t, "user");
            t.timeout = Some(placed("300ms".into()));
        }),
    ]
}

/// Small orders.
const FEW: &str = "resource.body.amount <= 1000";

/// Lines whose rules read more of a request than its head.
fn judged_lines(orders: &str) -> Vec<LineDraft> {
    let line = |line: usize, key: &str, edit: &dyn Fn(&mut AlternativeDraft)| {
        let mut table = AlternativeDraft::new(place());
        table.allow = vec![placed("user".into())];
        edit(&mut table);
        LineDraft { key: placed(key.into()), line, alternatives: vec![table] }
    };
    let when = |table: &mut AlternativeDraft, text: &str| table.when = Some(placed(text.into()));
    let amount = |table: &mut AlternativeDraft| {
        let field = |name: &str, kind: &str| (placed(name.into()), placed(kind.into()));
        table.body_fields = vec![field("amount", "integer"), field("note", "string")];
    };
    let owner = |table: &mut AlternativeDraft| {
        table.scope = Some(ScopeDraft::All(placed("payments:read".into())));
        table.owner = Some(OwnerDraft {
            lookup: placed("GET /internal/owner/{invoice}".into()),
            field: placed("/owner".into()),
        });
    };
    vec![
        line(20, "POST /orders", &|t| {
            t.scope = Some(ScopeDraft::All(placed("payments:read".into())));
            amount(t);
            when(t, orders);
        }),
        line(21, "PATCH /orders/{order}", &|t| {
            amount(t);
            when(t, FEW);
            t.shared = Some(placed("orders are everybody's".into()));
            t.body_types = vec![placed("application/merge-patch+json".into())];
        }),
        line(22, "GET /invoices/{invoice}", &owner),
        line(23, "PUT /invoices/{invoice}", &|t| {
            owner(t);
            amount(t);
            when(t, FEW);
        }),
        line(24, "GET /search", &|t| {
            t.query = vec![(placed("account".into()), placed("string".into()))];
            when(t, "resource.query.account == principal.account");
        }),
        line(25, "POST /transfers", &|t| {
            amount(t);
            t.step_up = Some(StepUpDraft {
                need: placed("mfa within 5m".into()),
                when: Some(placed("resource.body.amount > 1000".into())),
            });
        }),
        line(26, "GET /vault", &|t| {
            t.step_up = Some(StepUpDraft { need: placed("mfa within 5m".into()), when: None });
        }),
        line(27, "POST /pictures", &|t| t.body_types = vec![placed("image/png".into())]),
        line(28, "POST /slow-orders", &|t| {
            amount(t);
            when(t, FEW);
            t.timeout = Some(placed("300ms".into()));
        }),
        line(29, "POST /large-orders", &|t| {
            amount(t);
            when(t, FEW);
            t.body_max = Some(placed(1024 * 1024));
        }),
    ]
}

/// Fields are declared by a document alone.
const DOCUMENT: &str = r#"{ "openapi": "3.0.3", "info": { "title": "t", "version": "1" },
    "paths": { "/tagged": { "get": { "parameters": [
        { "name": "X-Account", "in": "header", "schema": { "type": "string" } }
    ] } } } }"#;

fn documented_lines() -> Vec<LineDraft> {
    let mut table = AlternativeDraft::new(place());
    table.allow = vec![placed("user".into())];
    table.when = Some(placed("resource.header.x_account == principal.account".into()));
    vec![LineDraft { key: placed("GET /tagged".into()), line: 40, alternatives: vec![table] }]
}

/// The rules of the trials.
pub(crate) fn rules(limits: &[(&str, &str)]) -> Rules {
    rules_where(limits, FEW)
}

/// The same with another condition on orders.
pub(crate) fn rules_where(limits: &[(&str, &str)], orders: &str) -> Rules {
    compiled(limits, lines().into_iter().chain(judged_lines(orders)).collect())
}

/// Without the lines that read more than a head, and each operation under another number.
pub(crate) fn other_rules(limits: &[(&str, &str)]) -> Rules {
    compiled(limits, lines().into_iter().rev().collect())
}

fn compiled(limits: &[(&str, &str)], lines: Vec<LineDraft>) -> Rules {
    let api = ApiDraft {
        name: placed("payments".into()),
        at: placed(Address::parse(AT).unwrap()),
        document: None,
        lines,
    };
    let document = openapi::read("payments.json", DOCUMENT).unwrap();
    let documented = ApiDraft {
        name: placed("documented".into()),
        at: placed(Address::parse("https://api.example/doc").unwrap()),
        document: Some(placed(document)),
        lines: documented_lines(),
    };
    let vocabulary = Vocabulary {
        roles: vec!["admin".into()],
        services: vec!["ledger".into(), "agent".into()],
        scopes: vec!["payments:read".into(), "payments:settle".into()],
        limits: limits
            .iter()
            .map(|(name, words)| ((*name).into(), Limit::parse(words).unwrap().needs_identity()))
            .collect(),
        attributes: vec![("account".into(), AttributeType::String)],
        factors: vec!["totp".into(), "passkey".into()],
        now: 1_800_000_000,
        ..Vocabulary::default()
    };
    compile(&[api, documented], &[], &vocabulary).unwrap_or_else(|faults| panic!("{faults:?}"))
}

pub(crate) fn house_table() -> HouseTable {
    let line = |method, page, reads| HouseLine {
        method,
        page,
        reads,
        limit: "default".into(),
        cors: vec![Origin::parse(APP).unwrap()],
        body_max: 1024,
    };
    let lines = [
        ("/login", vec![line("GET", "login_page", Reads::Session)]),
        ("/oauth/token", vec![line("POST", "token", Reads::Client)]),
        ("/oauth/userinfo", vec![line("GET", "userinfo", Reads::Token)]),
    ];
    let entry =
        |(path, lines): (&str, Vec<HouseLine>)| (("login.example".into(), path.into()), lines);
    lines.into_iter().map(entry).collect()
}
