//! What the gateway says no with: one variant per rule broken, mapped to status, code, challenge and
//! public words here and nowhere else.
//!
//! The variant's name is the record's reason; the answer says less (`denial::Problem`), unless the
//! snapshot's [`Reasons`] say otherwise. What is said of a credential stands in [`credential`].

mod credential;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use portcullis_core::denial::Problem;
use portcullis_core::jose::dpop::ProofFault;
use portcullis_policy::body::BodyFault;
use portcullis_policy::decide::Denial;
use portcullis_policy::query::QueryFault;

use crate::authenticate::CredentialFault;
use crate::body::ReadFault;
use crate::guard::WireFault;
use crate::hygiene::HygieneFault;
use crate::journey::Answer;
use crate::owners::OwnerFault;
use crate::record::{Draft, Outcome};
use crate::relay::AnswerBody;
use crate::snapshot::{Reasons, Snapshot};
use crate::upstream::UpstreamFault;
use credential::{Challenge, face_of, face_of_step_up, face_of_unbound, reason_of};

/// A no, and by which stage.
#[derive(Debug)]
#[allow(missing_docs, reason = "each group is documented; each name is the rule that it breaks")]
pub enum Refusal {
    /// Stage 2: the bytes.
    Wire(WireFault),
    /// Stage 3: not a canonical request.
    Hygiene(HygieneFault),
    /// Stage 4: the address or its prefix.
    PeerLimited,
    /// Stage 5: no such place, no such method (with those that are), a preflight of a stranger.
    NotFound,
    MethodNotAllowed(String),
    OriginForeign,
    /// Stage 6: the credential.
    Credential(CredentialFault),
    CredentialInQuery,
    CredentialExposed,
    FailuresExhausted,
    /// Stage 7: the caller's limits.
    CallerLimited,
    /// Stage 8: what a rule reads can be read in two ways, or not at all.
    Parameter(QueryFault),
    Body(BodyFault),
    Unread(ReadFault),
    /// Stage 8: the object is another's, or is not there; its caller tried too many such; the API did
    /// not say whose it is.
    OwnerForeign,
    ObjectMissing,
    ObjectsExhausted,
    OwnerUnavailable(OwnerFault),
    /// Stage 8: policy's no; a permit of another request; a snapshot that contradicts itself.
    Denied(Box<Denial>),
    PermitForeign,
    Miswired,
    /// Stage 9: the body.
    BodyTooLarge,
    BodySlow,
    BodyBroken,
    /// Stage 10: the upstream, or a page of ours, did not answer.
    Upstream(UpstreamFault),
    UpstreamSlow,
    HouseSlow,
    /// Stage 11: the upstream's answer breaks HTTP's rules, or asks for another protocol.
    UpstreamFramingUnclear,
    UpstreamSwitches,
    /// Stage 11: an answer of which only some members may go out cannot be read for them.
    ResponseUnfiltered,
    /// The plain listener serves nothing.
    HttpsOnly,
}

/// What the caller sees.
struct Face {
    status: StatusCode,
    code: &'static str,
    detail: &'static str,
    challenge: Challenge,
}

fn face(status: StatusCode, code: &'static str, detail: &'static str) -> Face {
    Face { status, code, detail, challenge: Challenge::None }
}

impl Refusal {
    /// A 405 with the methods that are there (RFC 9110 §15.5.6: `Allow` MUST be sent).
    pub(crate) fn method<'m>(methods: impl IntoIterator<Item = &'m str>) -> Self {
        let methods: Vec<&str> = methods.into_iter().collect();
        Refusal::MethodNotAllowed(methods.join(", "))
    }

    fn face(&self) -> Face {
        use Refusal::*;
        match self {
            Wire(fault) => {
                let status = status(fault.status());
                face(status, request_code(status), "the request breaks HTTP's rules")
            }
            Hygiene(fault) => {
                let status = status(fault.status());
                let words = match fault.status() {
                    421 => "this host is not served here",
                    _ => "the request is not in canonical form",
                };
                face(status, request_code(status), words)
            }
            PeerLimited => face(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "too many requests from this address",
            ),
            CallerLimited => face(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "too many requests by this caller",
            ),
            NotFound => face(StatusCode::NOT_FOUND, "not_found", "nothing is served here"),
            MethodNotAllowed(_) => face(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this method is not served here",
            ),
            OriginForeign => face(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "pages of this origin may not call this API",
            ),
            Credential(fault) => face_of(*fault),
            CredentialInQuery | CredentialExposed | FailuresExhausted | HttpsOnly => {
                self.face_of_credential()
            }
            Denied(denial) => face_of_denial(denial),
            Parameter(_) | Body(_) | Unread(_) => self.face_of_content(),
            // One answer, byte for byte, and that of a place where nothing is: whether an object
            // exists is told to its owner alone.
            OwnerForeign | ObjectMissing => NotFound.face(),
            ObjectsExhausted => face(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "too many requests for objects that are not this caller's",
            ),
            OwnerUnavailable(_) => face(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "it cannot be told whose this is; try again",
            ),
            PermitForeign | Miswired => contradicted(),
            BodyTooLarge
            | BodySlow
            | BodyBroken
            | Upstream(_)
            | UpstreamSlow
            | HouseSlow
            | UpstreamFramingUnclear
            | UpstreamSwitches
            | ResponseUnfiltered => self.face_of_transfer(),
        }
    }

    fn face_of_credential(&self) -> Face {
        use Refusal::*;
        match self {
            CredentialInQuery => Face {
                challenge: Challenge::Error("invalid_request"),
                ..face(
                    StatusCode::BAD_REQUEST,
                    "invalid_request",
                    "send the access token in `Authorization`, never in the address",
                )
            },
            CredentialExposed => Face {
                challenge: Challenge::Error("invalid_request"),
                ..face(
                    StatusCode::BAD_REQUEST,
                    "credential_exposed",
                    "the access token stood in the address; it has been revoked",
                )
            },
            FailuresExhausted => face(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "too many failed authentications from this address",
            ),
            _ => face(StatusCode::FORBIDDEN, "https_only", "this API is served over HTTPS only"),
        }
    }

    fn face_of_content(&self) -> Face {
        use Refusal::*;
        match self {
            Parameter(_) => face(
                StatusCode::BAD_REQUEST,
                "invalid_parameter",
                "a parameter of this operation must stand once, in its canonical form",
            ),
            Unread(ReadFault::BodyTypeForeign) => face(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "body_type_unsupported",
                "this operation takes another type of body",
            ),
            Unread(ReadFault::BodyEncoded) => face(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "body_encoded",
                "this operation takes the body without a content coding",
            ),
            Unread(ReadFault::BodiesCrowded) => face(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "too much work at the moment; try again",
            ),
            _ => face(
                StatusCode::BAD_REQUEST,
                "invalid_body",
                "the body is not JSON of the form that this operation takes",
            ),
        }
    }

    fn face_of_transfer(&self) -> Face {
        use Refusal::*;
        match self {
            BodyTooLarge => face(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "the body is larger than this operation takes",
            ),
            BodySlow => {
                face(StatusCode::REQUEST_TIMEOUT, "body_slow", "the body did not arrive in time")
            }
            BodyBroken => face(StatusCode::BAD_REQUEST, "body_broken", "the body broke off"),
            Upstream(UpstreamFault::Busy) | HouseSlow => face(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "too much work at the moment; try again",
            ),
            UpstreamSlow => {
                face(StatusCode::GATEWAY_TIMEOUT, "upstream_slow", "the API did not answer in time")
            }
            Upstream(UpstreamFault::Unreachable(_) | UpstreamFault::Tls(_)) => {
                face(StatusCode::BAD_GATEWAY, "upstream_unreachable", "the API cannot be reached")
            }
            _ => face(StatusCode::BAD_GATEWAY, "upstream_broken", "the API's answer is not usable"),
        }
    }

    /// The record's reason: the rule broken.
    pub(crate) fn reason(&self) -> String {
        use Refusal::*;
        match self {
            Wire(fault) => fault.rule().to_owned(),
            Hygiene(fault) => fault.rule().to_owned(),
            Credential(fault) => reason_of(*fault),
            Denied(denial) => denial.reason.to_owned(),
            Parameter(fault) => format!("{fault:?}"),
            Body(fault) => format!("{fault:?}"),
            Unread(fault) => format!("{fault:?}"),
            OwnerUnavailable(fault) => format!("OwnerUnavailable: {fault}"),
            Upstream(fault) => format!("Upstream{}: {fault}", fault.name()),
            MethodNotAllowed(_) => "MethodNotAllowed".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// `deny`, or `error` for what is nobody's decision.
    pub(crate) fn decision(&self) -> &'static str {
        use Refusal::*;
        match self {
            Credential(
                CredentialFault::IssuerUnreached
                | CredentialFault::IssuersCrowded
                | CredentialFault::Proof(ProofFault::Crowded),
            )
            | PermitForeign
            | Miswired
            | Unread(ReadFault::BodiesCrowded)
            | OwnerUnavailable(_)
            | Upstream(_)
            | UpstreamSlow
            | HouseSlow
            | UpstreamFramingUnclear
            | UpstreamSwitches
            | ResponseUnfiltered => "error",
            _ => "deny",
        }
    }

    /// The answer, and the outcome for the record.
    pub(crate) fn answer(self, snapshot: &Snapshot, draft: &Draft<'_>) -> (Answer, Outcome) {
        let face = self.face();
        let (reason, decision) = (self.reason(), self.decision());
        let outcome = Outcome { status: face.status.as_u16(), decision, reason };
        let title = face.status.canonical_reason().unwrap_or("Refused");
        let mut problem = Problem::new(face.status.as_u16(), face.code, title, draft.id.as_str());
        problem.detail = Some(match snapshot.reasons {
            Reasons::Recorded => face.detail.to_owned(),
            Reasons::Answered => explained(face.detail, &outcome.reason, draft),
        });
        let mut answer = Answer::new(AnswerBody::whole(Bytes::from(problem.to_json())));
        *answer.status_mut() = face.status;
        let fields = answer.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        fields.insert(header::CONTENT_TYPE, json);
        // RFC 9111 §5.2.2.5: a refusal is of one moment and one caller.
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.add_fields(fields, face, draft);
        (answer, outcome)
    }

    fn add_fields(&self, fields: &mut HeaderMap, face: Face, draft: &Draft<'_>) {
        if let Some(challenge) = face.challenge.text(face.detail, draft) {
            fields.insert(header::WWW_AUTHENTICATE, challenge);
        }
        match self {
            Refusal::MethodNotAllowed(methods) => {
                if let Ok(methods) = HeaderValue::from_str(methods) {
                    fields.insert(header::ALLOW, methods);
                }
            }
            // RFC 9112 §9.6: after bytes that cannot be read as one message, no other may follow.
            Refusal::Wire(_) => {
                fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        let wait = match face.status {
            StatusCode::TOO_MANY_REQUESTS => {
                Some(draft.standing.as_ref().map_or(1, |standing| standing.retry_after_s()))
            }
            StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        };
        if let Some(seconds) = wait {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

fn face_of_denial(denial: &Denial) -> Face {
    match &denial.scope_needed {
        Some(scope) => Face {
            challenge: Challenge::Scope(scope.clone()),
            ..face(
                StatusCode::FORBIDDEN,
                "insufficient_scope",
                "the access token lacks a scope for this",
            )
        },
        None if let Some(step_up) = &denial.step_up => face_of_step_up(step_up),
        None if denial.reason == "TokenUnbound" => face_of_unbound(),
        // A closed line is no place: it answers as if nothing were there.
        None if denial.reason == "Closed" => Refusal::NotFound.face(),
        None => face(StatusCode::FORBIDDEN, "forbidden", "this caller may not do this"),
    }
}

fn contradicted() -> Face {
    let words = "the gateway contradicts itself and refuses";
    face(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", words)
}

/// On a laptop the answer says what the record says.
fn explained(detail: &str, reason: &str, draft: &Draft<'_>) -> String {
    let mut words = format!("{detail} (stage {}, reason {reason}", draft.stage.name());
    if let Some(rule) = &draft.rule {
        words.push_str(", rule ");
        words.push_str(rule);
    }
    for clause in draft.clauses.iter().filter(|clause| !clause.held) {
        words.push_str(&format!("; `{}` does not hold: {}", clause.clause, clause.inputs));
    }
    words.push(')');
    words
}

fn request_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::MISDIRECTED_REQUEST => "misdirected_request",
        StatusCode::URI_TOO_LONG => "uri_too_long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "fields_too_large",
        StatusCode::NOT_IMPLEMENTED => "method_unknown",
        StatusCode::REQUEST_TIMEOUT => "head_slow",
        StatusCode::EXPECTATION_FAILED => "expectation_unknown",
        StatusCode::HTTP_VERSION_NOT_SUPPORTED => "version_unknown",
        _ => "malformed_request",
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use portcullis_policy::decide::StepUp;

    use super::*;

    #[test]
    fn each_refusal_has_its_status_and_code() {
        use Refusal::*;
        let table = [
            (Wire(WireFault::BareLf), 400, "malformed_request"),
            (Wire(WireFault::HeadTimedOut), 408, "head_slow"),
            (Wire(WireFault::HeadTooLarge), 431, "fields_too_large"),
            (Wire(WireFault::VersionNotServed), 505, "version_unknown"),
            (Hygiene(HygieneFault::PathDotSegment), 400, "malformed_request"),
            (Hygiene(HygieneFault::AuthorityNotServed), 421, "misdirected_request"),
            (Hygiene(HygieneFault::MethodNotServed), 501, "method_unknown"),
            (PeerLimited, 429, "rate_limited"),
            (NotFound, 404, "not_found"),
            (MethodNotAllowed("GET".into()), 405, "method_not_allowed"),
            (OriginForeign, 403, "origin_not_allowed"),
            (Credential(CredentialFault::Missing), 401, "credential_missing"),
            (CredentialInQuery, 400, "invalid_request"),
            (CredentialExposed, 400, "credential_exposed"),
            (FailuresExhausted, 429, "too_many_failures"),
            (CallerLimited, 429, "rate_limited"),
            (PermitForeign, 500, "internal_error"),
            (Miswired, 500, "internal_error"),
            (Parameter(QueryFault::ParameterDoubled), 400, "invalid_parameter"),
            (Parameter(QueryFault::ParameterIllTyped), 400, "invalid_parameter"),
            (Body(BodyFault::BodyMalformed), 400, "invalid_body"),
            (Body(BodyFault::BodyMemberDoubled), 400, "invalid_body"),
            (Unread(ReadFault::BodyTypeForeign), 415, "body_type_unsupported"),
            (Unread(ReadFault::BodyEncoded), 415, "body_encoded"),
            (Unread(ReadFault::BodiesCrowded), 503, "unavailable"),
            (OwnerForeign, 404, "not_found"),
            (ObjectMissing, 404, "not_found"),
            (ObjectsExhausted, 429, "rate_limited"),
            (OwnerUnavailable(OwnerFault::Slow), 503, "unavailable"),
            (BodyTooLarge, 413, "body_too_large"),
            (BodySlow, 408, "body_slow"),
            (BodyBroken, 400, "body_broken"),
            (Upstream(UpstreamFault::Unreachable("x".into())), 502, "upstream_unreachable"),
            (Upstream(UpstreamFault::Tls("x".into())), 502, "upstream_unreachable"),
            (Upstream(UpstreamFault::Broken("x".into())), 502, "upstream_broken"),
            (Upstream(UpstreamFault::Busy), 503, "unavailable"),
            (UpstreamSlow, 504, "upstream_slow"),
            (HouseSlow, 503, "unavailable"),
            (UpstreamFramingUnclear, 502, "upstream_broken"),
            (UpstreamSwitches, 502, "upstream_broken"),
            (HttpsOnly, 403, "https_only"),
        ];
        for (refusal, status, code) in table {
            let face = refusal.face();
            assert_eq!((face.status.as_u16(), face.code), (status, code), "{refusal:?}");
            let credential = matches!(status, 401);
            assert_eq!(credential, !matches!(face.challenge, Challenge::None) && status != 400);
            assert!(!refusal.reason().is_empty());
            let words = face.detail;
            assert!(words.is_ascii() && !words.contains(['"', '\\']), "it goes into a challenge");
        }
    }

    #[test]
    fn a_denial_says_403_and_a_closed_line_404() {
        let denial = |reason, scope: Option<&str>, max_age: Option<u64>| {
            Refusal::Denied(Box::new(Denial {
                reason,
                rule: "portcullis.toml:1.1".into(),
                scope_needed: scope.map(str::to_owned),
                step_up: max_age
                    .map(|age| StepUp { acr_values: vec!["aal2".into()], max_age: Some(age) }),
                clauses: Vec::new(),
            }))
        };
        let table = [
            (denial("ScopeMissing", Some("a"), None), 403, "insufficient_scope"),
            (denial("StepUpNeeded", None, Some(300)), 401, "insufficient_user_authentication"),
            // Where a challenge would not suffice there is none.
            (denial("StepUpNeeded", None, None), 403, "forbidden"),
            (denial("ConditionErred", None, None), 403, "forbidden"),
            (denial("EvaluatorsDisagree", None, None), 403, "forbidden"),
            (denial("Forbidden", None, None), 403, "forbidden"),
            (denial("ForbidErred", None, None), 403, "forbidden"),
            (denial("ActorNotNamed", None, None), 403, "forbidden"),
            (denial("TokenUnbound", None, None), 401, "invalid_token"),
            (denial("Closed", None, None), 404, "not_found"),
        ];
        for (refusal, status, code) in table {
            let face = refusal.face();
            assert_eq!((face.status.as_u16(), face.code), (status, code));
        }
    }

    #[test]
    fn anothers_object_and_a_missing_one_are_one_answer() {
        let said = |refusal: Refusal| {
            let face = refusal.face();
            (face.status, face.code, face.detail, matches!(face.challenge, Challenge::None))
        };
        let nothing = said(Refusal::NotFound);
        assert_eq!(said(Refusal::OwnerForeign), nothing);
        assert_eq!(said(Refusal::ObjectMissing), nothing);
        assert_ne!(Refusal::OwnerForeign.reason(), Refusal::ObjectMissing.reason());
    }
}
