//! What is said of a credential that is not good, and the challenge beside it: RFC 6750 §3, RFC 9449
//! §7.1, with the `resource_metadata` of RFC 9728 §5.1.

use http::StatusCode;
use http::header::HeaderValue;
use portcullis_core::jose::dpop::ProofFault;
use portcullis_core::jose::jws::TokenFault;
use portcullis_policy::decide::StepUp;

use super::{Face, face};
use crate::authenticate::{CredentialFault, Scheme};
use crate::record::Draft;

/// Algorithms of proofs, for challenges (RFC 9449 §7.1).
const PROOF_ALGORITHMS: &str = "ES256 EdDSA Ed25519 PS256";

/// RFC 9470 §3.
const INSUFFICIENT_LOGIN: &str = "insufficient_user_authentication";

/// What `WWW-Authenticate` says, behind scheme, realm and metadata.
pub(super) enum Challenge {
    /// Nothing: credentials would not help.
    None,
    /// RFC 6750 §3.1: no error code where no credential was sent.
    Plain,
    /// `error="…"`.
    Error(&'static str),
    /// `error="insufficient_scope"` with the scope that would do.
    Scope(String),
    /// `error="insufficient_user_authentication"` with the login that would do.
    StepUp(StepUp),
}

impl Challenge {
    /// In the scheme of the credential that was shown, or else that the operation asks for.
    pub(super) fn text(&self, detail: &str, draft: &Draft<'_>) -> Option<HeaderValue> {
        let scheme = match draft.scheme {
            Scheme::Bearer => "Bearer",
            Scheme::Dpop => "DPoP",
        };
        let api = draft.api.as_ref();
        let realm = api.map_or("portcullis", |api| &api.name);
        let mut text = format!("{scheme} realm=\"{realm}\"");
        match self {
            Challenge::None => return None,
            Challenge::Plain => {}
            Challenge::Error(error) => {
                text.push_str(&format!(", error=\"{error}\", error_description=\"{detail}\""));
            }
            Challenge::Scope(scope) => {
                text.push_str(&format!(", error=\"insufficient_scope\", scope=\"{scope}\""));
            }
            Challenge::StepUp(step_up) => {
                text.push_str(&format!(
                    ", error=\"{INSUFFICIENT_LOGIN}\", error_description=\"{detail}\""
                ));
                push_step_up(step_up, &mut text);
            }
        }
        if draft.scheme == Scheme::Dpop {
            text.push_str(&format!(", algs=\"{PROOF_ALGORITHMS}\""));
        }
        if let Some(api) = api {
            text.push_str(", resource_metadata=\"");
            text.push_str(&api.resource_metadata);
            text.push('"');
        }
        HeaderValue::from_str(&text).ok()
    }
}

/// RFC 9470 §3: any of these, the preferred first; and how old the login may be, in seconds.
fn push_step_up(step_up: &StepUp, text: &mut String) {
    if !step_up.acr_values.is_empty() {
        text.push_str(&format!(", acr_values=\"{}\"", step_up.acr_values.join(" ")));
    }
    if let Some(seconds) = step_up.max_age {
        text.push_str(&format!(", max_age=\"{seconds}\""));
    }
}

/// What the caller sees of a fault.
pub(super) fn face_of(fault: CredentialFault) -> Face {
    use CredentialFault::*;
    match fault {
        Missing => {
            unauthorized("credential_missing", "an access token is needed", Challenge::Plain)
        }
        SchemeForeign => unauthorized(
            "credential_missing",
            "an access token is needed, in the scheme `Bearer` or `DPoP`",
            Challenge::Plain,
        ),
        Malformed => invalid("the access token is malformed"),
        Token(TokenFault::Expired) => invalid("the access token expired"),
        Token(_) => invalid("the access token is not valid here"),
        // RFC 9449 §7.1: the scheme must be the token's.
        TokenNotOfKey => invalid("the access token is bound to no key; send it as `Bearer`"),
        ProofMissing => {
            invalid("the access token is bound to a key; send it as `DPoP` with a proof")
        }
        CertificateMissing | CertificateOther => {
            invalid("the access token is bound to a certificate that this connection did not show")
        }
        Proof(ProofFault::NonceWanted) => unauthorized(
            "use_dpop_nonce",
            "the proof needs the nonce of this answer",
            Challenge::Error("use_dpop_nonce"),
        ),
        IssuerEnded => invalid("the access token's issuer is not accepted any more"),
        IssuerUnreached => face(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the access token's issuer cannot be reached; try again",
        ),
        Proof(ProofFault::Crowded) | IssuersCrowded | Crowded => face(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "too much work at the moment; try again",
        ),
        Proof(_) | ProofDoubled | ProofUnreadable | ProofKeyOther => unauthorized(
            "invalid_dpop_proof",
            "the proof is not valid for this request",
            Challenge::Error("invalid_dpop_proof"),
        ),
        KeyForged | KeyDead | KeyNetworkForeign => invalid("the API key is not valid here"),
        KeyMisplaced => unauthorized(
            "credential_missing",
            "send the API key as `Authorization: Bearer`",
            Challenge::Plain,
        ),
        KeyNotAccepted => invalid("this operation takes no API keys"),
        // RFC 6750 §3.1: more than one method, or a malformed request, is `invalid_request`.
        Doubled => Face {
            challenge: Challenge::Error("invalid_request"),
            ..face(StatusCode::BAD_REQUEST, "invalid_request", "send exactly one credential")
        },
    }
}

/// The record's reason: the rule broken.
pub(super) fn reason_of(fault: CredentialFault) -> String {
    use CredentialFault::*;
    match fault {
        Token(fault) => format!("Token{fault:?}"),
        Proof(fault) => format!("Proof{fault:?}"),
        Missing | Doubled | SchemeForeign | Malformed => format!("Credential{fault:?}"),
        other => format!("{other:?}"),
    }
}

/// A token that is not bound, where every caller's must be (RFC 9449 §7.1, RFC 8705 §3).
pub(super) fn face_of_unbound() -> Face {
    invalid("this operation wants a token that is bound to a key or certificate")
}

/// RFC 9470 §3: the token is good, but not the login behind it.
pub(super) fn face_of_step_up(step_up: &StepUp) -> Face {
    unauthorized(
        INSUFFICIENT_LOGIN,
        "a stronger or more recent login is needed for this",
        Challenge::StepUp(step_up.clone()),
    )
}

pub(super) fn unauthorized(code: &'static str, detail: &'static str, challenge: Challenge) -> Face {
    Face { status: StatusCode::UNAUTHORIZED, code, detail, challenge }
}

fn invalid(detail: &'static str) -> Face {
    unauthorized("invalid_token", detail, Challenge::Error("invalid_token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_up_says_what_would_do() {
        let step_up = |acr_values: &[&str], max_age| StepUp {
            acr_values: acr_values.iter().map(ToString::to_string).collect(),
            max_age,
        };
        for (step_up, words) in [
            (step_up(&["aal2"], Some(300)), ", acr_values=\"aal2\", max_age=\"300\""),
            (step_up(&["aal2", "aal1"], None), ", acr_values=\"aal2 aal1\""),
            (step_up(&[], Some(0)), ", max_age=\"0\""),
        ] {
            let mut text = String::new();
            push_step_up(&step_up, &mut text);
            assert_eq!(text, words);
        }
    }

    #[test]
    fn each_fault_has_its_status_and_code() {
        use CredentialFault::*;
        let table = [
            (Missing, 401, "credential_missing"),
            (Doubled, 400, "invalid_request"),
            (SchemeForeign, 401, "credential_missing"),
            (Malformed, 401, "invalid_token"),
            (Token(TokenFault::Expired), 401, "invalid_token"),
            (Token(TokenFault::Revoked), 401, "invalid_token"),
            (TokenNotOfKey, 401, "invalid_token"),
            (ProofMissing, 401, "invalid_token"),
            (ProofDoubled, 401, "invalid_dpop_proof"),
            (ProofUnreadable, 401, "invalid_dpop_proof"),
            (ProofKeyOther, 401, "invalid_dpop_proof"),
            (Proof(ProofFault::Malformed), 401, "invalid_dpop_proof"),
            (Proof(ProofFault::Replayed), 401, "invalid_dpop_proof"),
            (Proof(ProofFault::NonceWanted), 401, "use_dpop_nonce"),
            (Proof(ProofFault::Crowded), 503, "unavailable"),
            (CertificateMissing, 401, "invalid_token"),
            (CertificateOther, 401, "invalid_token"),
            (KeyMisplaced, 401, "credential_missing"),
            (KeyNotAccepted, 401, "invalid_token"),
            (KeyForged, 401, "invalid_token"),
            (KeyDead, 401, "invalid_token"),
            (KeyNetworkForeign, 401, "invalid_token"),
            (IssuerEnded, 401, "invalid_token"),
            (IssuerUnreached, 503, "unavailable"),
            (IssuersCrowded, 503, "unavailable"),
            (Crowded, 503, "unavailable"),
        ];
        for (fault, status, code) in table {
            let face = face_of(fault);
            assert_eq!((face.status.as_u16(), face.code), (status, code), "{fault:?}");
            let challenged = !matches!(face.challenge, Challenge::None);
            assert_eq!(challenged, matches!(status, 400 | 401), "{fault:?}");
            assert!(!reason_of(fault).is_empty() && !reason_of(fault).contains('('));
            let words = face.detail;
            assert!(words.is_ascii() && !words.contains(['"', '\\']), "it goes into a challenge");
        }
    }
}
