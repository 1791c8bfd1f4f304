//! The rules and the requests that are measured: tables of the demo's kind, so many operations of
//! them, and a caller whom each of them lets in.

use portcullis_core::fault::{Place, Placed};
use portcullis_core::jose::claims::Attribute;
use portcullis_core::scope::Scopes;
use portcullis_core::web::Address;
use portcullis_policy::access::{
    AlternativeDraft, ApiDraft, AttributeType, LineDraft, PolicyFile, ScopeDraft, StepUpDraft,
    Vocabulary,
};
use portcullis_policy::compile::{Rules, compile};
use portcullis_policy::entities::{Caller, Circumstances, UserCaller};
use portcullis_policy::resource::Resource;
use portcullis_policy::table::OperationId;

const NOW: i64 = 1_795_478_400;

/// The kinds of line, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `allow`, `scope`.
    Plain,
    /// … and `when` on the path and the caller.
    Bound,
    /// … two tables, a step-up, networks.
    Full,
}

/// Rules and what is asked of them.
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) caller: Caller,
    pub(crate) circumstances: Circumstances,
}

/// A request that is allowed.
pub(crate) struct Asked {
    pub(crate) operation: OperationId,
    pub(crate) resource: Resource,
}

impl World {
    /// So many operations, and one `forbid` over those that write.
    pub(crate) fn of(operations: usize) -> Result<Self, String> {
        let lines = (0..operations).map(line).collect();
        let at = Address::parse("https://api.pay.example/v1").map_err(|e| format!("{e:?}"))?;
        let api = ApiDraft {
            name: placed("payments"),
            at: Placed::new(at, place()),
            document: None,
            lines,
        };
        let forbid = PolicyFile {
            file: "night.cedar".into(),
            text: "forbid(principal, action in Action::\"write\", resource)\nwhen { context.now < 0 };\n"
                .into(),
        };
        let rules = compile(&[api], &[forbid], &vocabulary()).map_err(|f| format!("{f:#?}"))?;
        Ok(World { rules, caller: caller(), circumstances: circumstances()? })
    }

    /// Requests of one shape, spread over all operations of it.
    pub(crate) fn asked(&self, shape: Shape) -> Vec<Asked> {
        let of_shape = |(position, _): &(usize, _)| shape_of(*position) == shape;
        let operations = self.rules.operations().enumerate().filter(of_shape);
        operations
            .map(|(_, operation)| Asked {
                operation: operation.id,
                resource: Resource::of_path(vec![("account".into(), "a1".into())]),
            })
            .collect()
    }
}

fn shape_of(position: usize) -> Shape {
    match position % 3 {
        0 => Shape::Plain,
        1 => Shape::Bound,
        _ => Shape::Full,
    }
}

fn line(position: usize) -> LineDraft {
    let method = if shape_of(position) == Shape::Full { "POST" } else { "GET" };
    let mut table = AlternativeDraft::new(place());
    table.allow = vec![placed("user")];
    table.shared = Some(placed("measured"));
    let alternatives = match shape_of(position) {
        Shape::Plain => {
            table.scope = Some(ScopeDraft::All(placed("payments:read")));
            vec![table]
        }
        Shape::Bound => {
            table.scope = Some(ScopeDraft::All(placed("payments:read")));
            table.when = Some(placed("resource.account == principal.account"));
            vec![table]
        }
        Shape::Full => {
            let mut support = AlternativeDraft::new(place());
            support.allow = vec![placed("role:support")];
            support.scope = Some(ScopeDraft::All(placed("payments:write")));
            support.shared = Some(placed("measured"));
            table.scope = Some(ScopeDraft::All(placed("payments:write")));
            table.when = Some(placed("resource.account == principal.account"));
            table.from = vec![placed("192.168.0.0/16"), placed("10.0.0.0/8")];
            table.step_up = Some(StepUpDraft { need: placed("mfa within 5m"), when: None });
            vec![support, table]
        }
    };
    LineDraft {
        key: placed(&format!("{method} /accounts/{{account}}/part{position}")),
        line: position + 1,
        alternatives,
    }
}

fn caller() -> Caller {
    let text = |text: &str| Attribute::String(text.to_owned());
    Caller::User(UserCaller {
        id: "u_0190a0b100007000".into(),
        issuer: "https://login.pay.example".into(),
        tenant: Some("acme".into()),
        roles: vec!["clerk".into(), "auditor".into()],
        groups: vec!["staff".into()],
        attributes: [("account".into(), text("a1")), ("branch".into(), text("b7"))].into(),
    })
}

fn circumstances() -> Result<Circumstances, String> {
    let scopes = Scopes::parse("openid payments:read payments:write profile");
    Ok(Circumstances {
        now: NOW,
        ip: std::net::IpAddr::from([10, 0, 0, 7]),
        client: Some("app".into()),
        scopes: scopes.map_err(|error| error.to_string())?,
        acr: Some("aal2".into()),
        amr: vec!["pwd".into(), "otp".into()],
        ages: [("any", 30), ("mfa", 60), ("password", 30), ("totp", 60)].into(),
        dpop: false,
        mtls: false,
        actors: Vec::new(),
    })
}

fn vocabulary() -> Vocabulary {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Vocabulary {
        roles: words(&["support", "clerk", "auditor"]),
        groups: words(&["staff"]),
        scopes: words(&["payments:read", "payments:write"]),
        attributes: vec![
            ("account".into(), AttributeType::String),
            ("branch".into(), AttributeType::String),
        ],
        factors: words(&["totp"]),
        now: NOW,
        ..Vocabulary::default()
    }
}

fn placed(text: &str) -> Placed<String> {
    Placed::new(text.to_owned(), place())
}

fn place() -> Place {
    Place { file: "bench.toml".into(), bytes: 0..1 }
}
