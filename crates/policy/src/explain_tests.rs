//! What `explain` answers is what the gateway would: stage, status, reason.

use super::*;
use crate::testing::{HOST, circumstances, rules, user, with_role};

const TABLE: &str = "
'POST /pay/{account}' = { allow = 'user', query = { dry = 'boolean' }, \
   body = { max = 60, fields = { amount = 'number' } }, \
   when = '!(resource.query has dry) && resource.body.amount.lessThan(decimal(\"1000.0\"))', \
   step_up = { need = 'mfa within 5m', when = 'resource.body.amount.greaterThan(decimal(\"100.0\"))' }, \
   owner = { lookup = 'GET /owner/{account}', field = '/owner' } }
'GET /bound' = { allow = 'user', bound = 'dpop' }
'GET /open' = { allow = 'anyone' }";

#[test]
fn every_way_to_a_no_has_its_status() {
    let rules = rules(TABLE);
    let (own, none) = (Some("u_1"), None);
    let small: Option<&[u8]> = Some(br#"{"amount": 99.5}"#);
    let large: Option<&[u8]> = Some(br#"{"amount": 100.0001}"#);
    let pay = ("POST", "/v1/pay/a1");
    for (request, query, body, owner, expected) in [
        (("GET", "/v1/zzz"), None, None, none, ("route", 404, "NotFound")),
        (("GET", "/v1/pay/a1"), None, None, none, ("route", 405, "MethodNotAllowed")),
        (pay, Some("dry=maybe"), None, none, ("route", 400, "ParameterIllTyped")),
        (pay, Some("dry=true&dry=true"), None, none, ("route", 400, "ParameterDoubled")),
        (pay, Some("dry=true"), None, none, ("authorize", 0, "")),
        (pay, Some("dry=true"), small, own, ("authorize", 403, "ConditionFalse")),
        (pay, Some("other=1"), None, none, ("authorize", 0, "")),
        (pay, None, small, none, ("authorize", 0, "")),
        (pay, None, small, own, ("authorize", 200, "")),
        (pay, None, small, Some("u_2"), ("authorize", 404, "OwnerForeign")),
        (pay, None, large, own, ("authorize", 401, "StepUpNeeded")),
        (pay, None, Some(b"{}"), own, ("authorize", 403, "ConditionFalse")),
        (pay, None, Some(b"{"), own, ("authorize", 400, "BodyMalformed")),
        (
            pay,
            None,
            Some(br#"{"amount": 1, "x": 1}"#),
            own,
            ("authorize", 400, "BodyMemberUndeclared"),
        ),
        (
            pay,
            None,
            Some(br#"{"amount": 1, "amount": 2}"#),
            own,
            ("authorize", 400, "BodyMemberDoubled"),
        ),
        (pay, None, Some(&[b' '; 61]), own, ("authorize", 413, "BodyTooLarge")),
        (("GET", "/v1/bound"), None, None, none, ("authorize", 401, "TokenUnbound")),
        (("GET", "/v1/open"), None, None, none, ("authorize", 200, "")),
    ] {
        let (method, path) = request;
        let asked = Asked { host: HOST, method, path, query, headers: &[], body, owner };
        let told = explain(&rules, &asked, &user("a1"), &circumstances(""));
        let came = (told.stage, told.status, told.reason.as_deref().unwrap_or_default());
        assert_eq!(came, expected, "{asked:?}");
        assert_eq!(told.remedy.is_some(), told.status != 200, "{asked:?}");
    }
}

#[test]
fn nobody_is_told_more_than_the_gateway_tells() {
    let rules = rules(TABLE);
    let asked = Asked { host: HOST, method: "POST", path: "/v1/pay/a1", ..Asked::default() };
    let told = explain(&rules, &asked, &Caller::Anonymous, &circumstances(""));
    assert_eq!((told.stage, told.status), ("authenticate", 401));
    let told = explain(&rules, &asked, &with_role("admin"), &circumstances(""));
    assert_eq!(told.status, 0, "the body has to be said");
    assert!(matches!(told.verdict, Some(Verdict::NeedsBody)));
}
