//! What an introspection answer says (RFC 7662 §2.2): a pure judgement over its bytes.

use std::time::Duration;

use portcullis_core::foreign::{ForeignIssuer, Subjects};
use portcullis_core::jose::claims::ForeignClaims;
use portcullis_core::jose::jws::{self, TokenFault};
use portcullis_core::jose::verify::LEEWAY_S;
use portcullis_core::time::Timestamp;
use serde_json::{Map, Value};

use super::ForeignFault;

/// How long an answer is believed: a token revoked at its issuer works here no longer than that.
pub(super) const BELIEVED: Duration = Duration::from_secs(30);

/// Reads an answer of status 200.
///
/// # Errors
/// [`ForeignFault::NotForeign`] when the issuer says that the token is not active, or not its own;
/// [`ForeignFault::NeverReached`] when it said nothing that can be understood.
pub(super) fn judge(
    body: &[u8],
    issuer: &ForeignIssuer,
    now: Timestamp,
) -> Result<ForeignClaims, ForeignFault> {
    let mut raw = jws::strict_object(body).map_err(|_| ForeignFault::NeverReached)?;
    // RFC 7662 §2.2: REQUIRED, a boolean. `"true"` and 1 are not one.
    match raw.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(ForeignFault::NotForeign),
        Some(_) | None => return Err(ForeignFault::NeverReached),
    }
    match raw.get("iss") {
        None => drop(raw.insert("iss".into(), issuer.issuer.clone().into())),
        Some(iss) if iss.as_str() == Some(&issuer.issuer) => {}
        Some(_) => return Err(TokenFault::IssuerWrong.into()),
    }
    // RFC 7662 §4: the resource must see that the token is meant for it. `aud` is optional there and
    // not here: an issuer that names none answers for the tokens of all its other APIs.
    if !raw.contains_key("aud") {
        return Err(TokenFault::AudienceWrong.into());
    }
    let latest = now.after(BELIEVED).unix();
    raw.entry("exp").or_insert_with(|| latest.into());
    name_the_service(&mut raw, issuer);
    let claims = ForeignClaims::read(raw)?;
    if !claims.aud.iter().any(|aud| issuer.audience.contains(aud)) {
        return Err(TokenFault::AudienceWrong.into());
    }
    // An issuer whose clock or cache is behind calls dead tokens active.
    if now.unix() >= claims.exp {
        return Err(TokenFault::Expired.into());
    }
    let soon = now.unix().saturating_add(LEEWAY_S);
    if claims.nbf.is_some_and(|nbf| nbf > soon) || claims.iat.is_some_and(|iat| iat > soon) {
        return Err(TokenFault::NotYetValid.into());
    }
    Ok(claims)
}

/// RFC 9068 §2.2: a client that acts for itself is the subject. Issuers of software's tokens often
/// leave `sub` out of their answers; where the subjects are people, its absence stays a fault.
fn name_the_service(raw: &mut Map<String, Value>, issuer: &ForeignIssuer) {
    match issuer.map.subjects {
        Subjects::Users => {}
        Subjects::Services => {
            if let (None, Some(client)) = (raw.get("sub"), raw.get("client_id")) {
                let client = client.clone();
                raw.insert("sub".into(), client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::testing::{NOW, introspected};
    use portcullis_core::foreign::ClaimMap;
    use serde_json::json;

    fn of(body: impl ToString) -> Result<ForeignClaims, ForeignFault> {
        judge(body.to_string().as_bytes(), &introspected("https://as.example/i"), NOW)
    }

    fn active(more: Value) -> Value {
        let mut body = json!({ "active": true, "sub": "u1", "aud": "https://api.example" });
        for (name, value) in more.as_object().unwrap() {
            match value.is_null() {
                true => drop(body.as_object_mut().unwrap().remove(name)),
                false => body[name] = value.clone(),
            }
        }
        body
    }

    #[test]
    fn an_active_token_has_claims() {
        let claims = of(active(json!({ "scope": "a b", "client_id": "c", "exp": NOW.unix() + 9 })));
        let claims = claims.unwrap();
        assert_eq!((claims.sub.as_str(), claims.exp), ("u1", NOW.unix() + 9));
        assert_eq!(claims.iss, "https://as.example");
        assert_eq!(claims.client.as_deref(), Some("c"));
        let listed = of(active(json!({ "aud": ["x", "https://api.example"] }))).unwrap();
        assert_eq!(listed.exp, NOW.unix() + 30, "without `exp` it is asked about again soon");
    }

    #[test]
    fn each_rule_refuses_an_answer() {
        use ForeignFault::{NeverReached, NotForeign, Token};
        let now = NOW.unix();
        let table = [
            (json!({ "active": false }), NotForeign),
            (json!({}), NeverReached),
            (json!([]), NeverReached),
            (json!("active"), NeverReached),
            (active(json!({ "active": "true" })), NeverReached),
            (active(json!({ "active": 1 })), NeverReached),
            (active(json!({ "active": null })), NeverReached),
            (active(json!({ "iss": "https://as.example/" })), Token(TokenFault::IssuerWrong)),
            (active(json!({ "iss": "https://other.example" })), Token(TokenFault::IssuerWrong)),
            (active(json!({ "iss": 7 })), Token(TokenFault::IssuerWrong)),
            (active(json!({ "aud": null })), Token(TokenFault::AudienceWrong)),
            (active(json!({ "aud": "https://other.example" })), Token(TokenFault::AudienceWrong)),
            (active(json!({ "aud": [] })), Token(TokenFault::AudienceWrong)),
            (active(json!({ "aud": "https://api.example/" })), Token(TokenFault::AudienceWrong)),
            (active(json!({ "aud": 7 })), Token(TokenFault::ClaimMalformed)),
            (active(json!({ "sub": null })), Token(TokenFault::ClaimMalformed)),
            (active(json!({ "sub": ["a"] })), Token(TokenFault::ClaimMalformed)),
            (active(json!({ "sub": null, "client_id": "c" })), Token(TokenFault::ClaimMalformed)),
            (active(json!({ "exp": now })), Token(TokenFault::Expired)),
            (active(json!({ "exp": now - 9 })), Token(TokenFault::Expired)),
            (active(json!({ "exp": "9999999999" })), Token(TokenFault::ClaimMalformed)),
            (active(json!({ "exp": 9999999999.5 })), Token(TokenFault::ClaimMalformed)),
            (active(json!({ "nbf": now + 60 })), Token(TokenFault::NotYetValid)),
            (active(json!({ "iat": now + 60 })), Token(TokenFault::NotYetValid)),
            (active(json!({ "cnf": { "unknown": "x" } })), Token(TokenFault::ClaimMalformed)),
        ];
        for (body, expected) in table {
            assert_eq!(of(&body).err(), Some(expected), "{body}");
        }
        let doubled = r#"{"active":false,"active":true,"sub":"a","aud":"https://api.example"}"#;
        assert_eq!(of(doubled).err(), Some(NeverReached));
    }

    #[test]
    fn software_without_a_subject_is_its_client() {
        let issuer = ForeignIssuer {
            map: ClaimMap { subjects: Subjects::Services, ..ClaimMap::default() },
            ..introspected("https://as.example/i")
        };
        let body = active(json!({ "sub": null, "client_id": "c" })).to_string();
        assert_eq!(judge(body.as_bytes(), &issuer, NOW).unwrap().sub, "c");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = judge(&bytes, &introspected("https://as.example/i"), NOW);
        }
    }
}
