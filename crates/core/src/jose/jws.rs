//! A compact JWS taken apart strictly (RFC 7515 §3.1, §4, §5.2), before anything in it is believed.

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::{base64url, strict};

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;
/// Longest `kid`, in bytes; a thumbprint has 43.
pub const MAX_KID: usize = 128;

/// A JWS, parsed and not yet verified.
pub struct Unverified<'a> {
    /// From the header; must equal the key's.
    pub algorithm: Algorithm,
    /// The header's `kid`: ≤ 128 characters of printable ASCII.
    pub kid: Option<String>,
    /// The header's `typ`, lower-cased, without `application/` (RFC 7515 §4.1.9).
    pub typ: Option<String>,
    /// `header.payload`, the bytes signed.
    pub signed: &'a [u8],
    /// The decoded payload.
    pub payload: Vec<u8>,
    /// The decoded signature.
    pub signature: Vec<u8>,
}

/// The rule that a token breaks; its `code()` is also the audit reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Over [`MAX_TOKEN`].
    #[error("token too long")]
    TooLong,
    /// Not three canonical base64url parts with JSON objects inside; also five parts (JWE).
    #[error("token not a compact JWS")]
    NotCompact,
    /// A member stands twice (RFC 7515 §4: names MUST be unique).
    #[error("doubled member")]
    MemberDoubled,
    /// `alg` missing, `none`, or not one of ours.
    #[error("algorithm not accepted")]
    AlgorithmNotAccepted,
    /// `crit` present: we understand no extension (RFC 7515 §4.1.11). `b64` likewise (RFC 7797).
    #[error("critical extension not understood")]
    CriticalUnknown,
    /// `typ` is not what this place wants (RFC 8725 §3.11).
    #[error("token of another type")]
    TypeWrong,
    /// No key of that `kid`, or its algorithm differs.
    #[error("key unknown")]
    KeyUnknown,
    /// The signature does not verify.
    #[error("signature wrong")]
    SignatureWrong,
    /// A claim is missing or of the wrong type.
    #[error("claim missing or malformed")]
    ClaimMalformed,
    /// `iss` is not, byte for byte, the expected one.
    #[error("issuer wrong")]
    IssuerWrong,
    /// `aud` is not exactly the expected one.
    #[error("audience wrong")]
    AudienceWrong,
    /// Past `exp`.
    #[error("token expired")]
    Expired,
    /// `nbf` or `iat` lies ahead by more than the leeway, or `exp` is absurd.
    #[error("token not yet valid")]
    NotYetValid,
    /// Killed by a revocation.
    #[error("token revoked")]
    Revoked,
}

impl TokenFault {
    /// The rule's name in the audit log.
    pub fn code(self) -> &'static str {
        match self {
            TokenFault::TooLong => "token_too_long",
            TokenFault::NotCompact => "token_not_compact",
            TokenFault::MemberDoubled => "member_doubled",
            TokenFault::AlgorithmNotAccepted => "algorithm_not_accepted",
            TokenFault::CriticalUnknown => "critical_unknown",
            TokenFault::TypeWrong => "type_wrong",
            TokenFault::KeyUnknown => "key_unknown",
            TokenFault::SignatureWrong => "signature_wrong",
            TokenFault::ClaimMalformed => "claim_malformed",
            TokenFault::IssuerWrong => "issuer_wrong",
            TokenFault::AudienceWrong => "audience_wrong",
            TokenFault::Expired => "token_expired",
            TokenFault::NotYetValid => "token_not_yet_valid",
            TokenFault::Revoked => "token_revoked",
        }
    }
}

/// Takes a token apart. `jku`, `x5u`, `jwk`, `x5c` in the header are ignored, never followed.
///
/// # Errors
/// The first rule broken, in the order length, shape, `crit`, `alg`, `kid`, payload. Nothing that
/// passes is believed yet: only [`super::verify`] makes claims of it.
pub fn parse(token: &str) -> Result<Unverified<'_>, TokenFault> {
    take_apart(token).map(|(unverified, _)| unverified)
}

/// The same, with the rest of the header: a DPoP proof carries its key there (RFC 9449 §4.2).
pub(super) fn take_apart(token: &str) -> Result<(Unverified<'_>, Map<String, Value>), TokenFault> {
    if token.len() > MAX_TOKEN {
        return Err(TokenFault::TooLong);
    }
    // RFC 7515 §3.1: three parts. A fourth dot (RFC 7516 §3.1: a JWE has four) would stand in the
    // payload, where base64url refuses it.
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenFault::NotCompact)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenFault::NotCompact)?;
    let mut header = strict_object(&part(header)?)?;
    // RFC 7515 §4.1.11: an extension that is not understood refuses the token; we understand none.
    // RFC 7797 §6: `b64` must be listed in `crit`, so its mere presence is refused with it.
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(TokenFault::CriticalUnknown);
    }
    let algorithm = algorithm_of(&header)?;
    let kid = kid_of(header.remove("kid"))?;
    let typ = typ_of(header.remove("typ"))?;
    let payload = part(payload)?;
    strict::check_object(&payload)?;
    let signature = part(signature)?;
    let signed = signed.as_bytes();
    Ok((Unverified { algorithm, kid, typ, signed, payload, signature }, header))
}

/// Parses a JSON object strictly: doubled members anywhere are [`TokenFault::MemberDoubled`],
/// depth is bounded at 16.
pub fn strict_object(bytes: &[u8]) -> Result<Map<String, Value>, TokenFault> {
    strict::check_object(bytes)?;
    serde_json::from_slice(bytes).map_err(|_| TokenFault::NotCompact)
}

/// The same of a JSON list.
pub fn strict_list(bytes: &[u8]) -> Result<Vec<Value>, TokenFault> {
    strict::check_list(bytes)?;
    serde_json::from_slice(bytes).map_err(|_| TokenFault::NotCompact)
}

fn part(text: &str) -> Result<Vec<u8>, TokenFault> {
    base64url::decode(text).map_err(|_| TokenFault::NotCompact)
}

/// RFC 8725 §3.2: only algorithms that are listed here; `none` (RFC 7518 §3.6) and HMAC are not.
fn algorithm_of(header: &Map<String, Value>) -> Result<Algorithm, TokenFault> {
    let named = header.get("alg").and_then(Value::as_str);
    named.and_then(Algorithm::from_name).ok_or(TokenFault::AlgorithmNotAccepted)
}

/// RFC 7515 §4.1.4: a string, and here a short one, since it is looked up and written to logs
/// (RFC 8725 §3.10: it is never a path, a query or an address).
fn kid_of(kid: Option<Value>) -> Result<Option<String>, TokenFault> {
    match kid {
        None => Ok(None),
        Some(Value::String(kid)) if kid_shaped(&kid) => Ok(Some(kid)),
        Some(_) => Err(TokenFault::KeyUnknown),
    }
}

/// Whether a text may name a key: 1 to [`MAX_KID`] characters of printable ASCII.
pub(super) fn kid_shaped(kid: &str) -> bool {
    (1..=MAX_KID).contains(&kid.len()) && kid.bytes().all(|b| matches!(b, 0x20..=0x7e))
}

/// RFC 7515 §4.1.9: compared without case, and `application/` may be left out.
fn typ_of(typ: Option<Value>) -> Result<Option<String>, TokenFault> {
    match typ {
        None => Ok(None),
        Some(Value::String(mut typ)) => {
            typ.make_ascii_lowercase();
            let short = typ.strip_prefix("application/").filter(|rest| !rest.contains('/'));
            let short = short.map(str::to_owned);
            Ok(Some(short.unwrap_or(typ)))
        }
        Some(_) => Err(TokenFault::TypeWrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TokenFault::*;

    fn token(header: &str, payload: &str) -> String {
        format!(
            "{}.{}.c2ln",
            base64url::encode(header.as_bytes()),
            base64url::encode(payload.as_bytes())
        )
    }
    fn fault(token: &str) -> TokenFault {
        parse(token).err().expect("refused")
    }

    #[test]
    fn a_compact_jws_is_taken_apart() {
        let token =
            token(r#"{"alg":"ES256","kid":"k 1","typ":"Application/AT+JWT"}"#, r#"{"sub":"a"}"#);
        let parsed = parse(&token).expect("parsed");
        assert_eq!(parsed.algorithm, Algorithm::Es256);
        assert_eq!(parsed.kid.as_deref(), Some("k 1"));
        assert_eq!(parsed.typ.as_deref(), Some("at+jwt"));
        assert_eq!(parsed.payload, br#"{"sub":"a"}"#);
        assert_eq!(parsed.signature, b"sig");
        assert_eq!([parsed.signed, b".c2ln"].concat(), token.as_bytes());
    }

    #[test]
    fn keys_and_addresses_in_the_header_change_nothing() {
        let header = r#"{"alg":"ES256","jku":"http://169.254.169.254/","x5u":"file:///etc/passwd",
            "jwk":{"kty":"oct","k":"AA"},"x5c":["MII"],"x5t":"a"}"#;
        let token = token(header, "{}");
        let parsed = parse(&token).expect("parsed");
        assert_eq!((parsed.algorithm, parsed.kid, parsed.typ), (Algorithm::Es256, None, None));
    }

    #[test]
    fn too_long() {
        let filler = "a".repeat(MAX_TOKEN + 1);
        assert_eq!(fault(&filler), TooLong);
        assert_eq!(
            fault(&token(r#"{"alg":"ES256"}"#, &format!("{{\"a\":\"{filler}\"}}"))),
            TooLong
        );
        let longest = MAX_TOKEN - token(r#"{"alg":"ES256"}"#, "").len();
        let payload = "eyJh".repeat(longest / 4);
        let header = base64url::encode(br#"{"alg":"ES256"}"#);
        assert_eq!(
            fault(&format!("{header}.{payload}.c2ln")),
            NotCompact,
            "at the limit it is read"
        );
    }

    #[test]
    fn not_compact() {
        let good = token(r#"{"alg":"ES256"}"#, "{}");
        let (signed, _) = good.rsplit_once('.').expect("a dot");
        let mut bad = vec![
            String::new(),
            ".".into(),
            "..".into(),
            "...".into(),
            "a.b".into(),
            signed.to_owned(),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}.e30.e30"),
            good.replace('.', ".."),
            format!(" {good}"),
            format!("{good} "),
            format!("{good}\n"),
            format!("{good}="),
            format!("{signed}.c2l="),
            format!("{signed}.c2\tln"),
            format!("{signed}.c2l+"),
            // `YQ` is canonical for `a`; `YR` carries stray bits (RFC 4648 §3.5).
            format!("{signed}.YR"),
            format!("{signed}.Y"),
            format!("{signed}.é"),
            // RFC 7516 appendix A.1's shape: five parts.
            "eyJhbGciOiJFUzI1NiJ9.a.b.c.d".into(),
            // RFC 7515 §7.2: the JSON serialization is another format.
            r#"{"payload":"e30","signatures":[]}"#.into(),
        ];
        for (header, payload) in [
            ("", "{}"),
            ("null", "{}"),
            ("[]", "{}"),
            (r#""alg""#, "{}"),
            (r#"{"alg":"ES256"} x"#, "{}"),
            (r#"{"alg":"ES256"}"#, ""),
            (r#"{"alg":"ES256"}"#, "[]"),
            (r#"{"alg":"ES256"}"#, "null"),
            (r#"{"alg":"ES256"}"#, "{}{}"),
            (r#"{"alg":"ES256"}"#, r#"{"a":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}"#),
        ] {
            bad.push(token(header, payload));
        }
        for bad in bad {
            assert_eq!(fault(&bad), NotCompact, "{bad}");
        }
    }

    #[test]
    fn each_header_rule_refuses_by_itself() {
        let long_kid = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(MAX_KID + 1));
        let table: &[(&str, TokenFault)] = &[
            (r#"{}"#, AlgorithmNotAccepted),
            (r#"{"alg":"none"}"#, AlgorithmNotAccepted),
            (r#"{"alg":"None"}"#, AlgorithmNotAccepted),
            (r#"{"alg":"NONE"}"#, AlgorithmNotAccepted),
            (r#"{"alg":"nOnE"}"#, AlgorithmNotAccepted),
            (r#"{"alg":""}"#, AlgorithmNotAccepted),
            (r#"{"alg":null}"#, AlgorithmNotAccepted),
            (r#"{"alg":["ES256"]}"#, AlgorithmNotAccepted),
            (r#"{"alg":"es256"}"#, AlgorithmNotAccepted),
            (r#"{"alg":"ES256 "}"#, AlgorithmNotAccepted),
            (r#"{"alg":"HS256"}"#, AlgorithmNotAccepted),
            (r#"{"alg":"ES384"}"#, AlgorithmNotAccepted),
            (r#"{"alg":"ES256K"}"#, AlgorithmNotAccepted),
            (r#"{"alg":"RS1"}"#, AlgorithmNotAccepted),
            (r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#, AlgorithmNotAccepted),
            (r#"{"ALG":"ES256"}"#, AlgorithmNotAccepted),
            (r#"{"alg":"ES256","alg":"ES256"}"#, MemberDoubled),
            (r#"{"alg":"ES256","\u0061lg":"none"}"#, MemberDoubled),
            (r#"{"alg":"ES256","jwk":{"kty":"OKP","kty":"EC"}}"#, MemberDoubled),
            (r#"{"alg":"ES256","crit":["exp"]}"#, CriticalUnknown),
            (r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, CriticalUnknown),
            (r#"{"alg":"ES256","crit":[]}"#, CriticalUnknown),
            (r#"{"alg":"ES256","crit":null}"#, CriticalUnknown),
            (r#"{"alg":"ES256","b64":false}"#, CriticalUnknown),
            (r#"{"alg":"ES256","b64":true}"#, CriticalUnknown),
            (r#"{"alg":"ES256","kid":["a"]}"#, KeyUnknown),
            (r#"{"alg":"ES256","kid":{"a":1}}"#, KeyUnknown),
            (r#"{"alg":"ES256","kid":7}"#, KeyUnknown),
            (r#"{"alg":"ES256","kid":null}"#, KeyUnknown),
            (r#"{"alg":"ES256","kid":""}"#, KeyUnknown),
            (r#"{"alg":"ES256","kid":"a\u0000b"}"#, KeyUnknown),
            (r#"{"alg":"ES256","kid":"a\nb"}"#, KeyUnknown),
            (r#"{"alg":"ES256","kid":"schlüssel"}"#, KeyUnknown),
            (&long_kid, KeyUnknown),
            (r#"{"alg":"ES256","typ":["at+jwt"]}"#, TypeWrong),
            (r#"{"alg":"ES256","typ":null}"#, TypeWrong),
        ];
        for (header, expected) in table {
            assert_eq!(fault(&token(header, "{}")), *expected, "{header}");
        }
    }

    #[test]
    fn a_doubled_member_of_the_payload_is_refused() {
        for payload in [r#"{"sub":"a","sub":"b"}"#, r#"{"act":{"sub":"a","sub":"a"}}"#] {
            assert_eq!(fault(&token(r#"{"alg":"ES256"}"#, payload)), MemberDoubled, "{payload}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,300}") {
            let _ = parse(&text);
        }
        #[test]
        fn no_header_or_payload_panics(header: Vec<u8>, payload: Vec<u8>) {
            let _ = parse(&format!("{}.{}.", base64url::encode(&header), base64url::encode(&payload)));
        }
        #[test]
        fn no_json_panics(bytes: Vec<u8>) {
            let _ = strict_object(&bytes);
        }
        /// What is accepted is canonical: its three parts encode back to the same text.
        #[test]
        fn accepted_is_canonical(sub in "[a-z]{0,9}", signature: Vec<u8>, flip in 0usize..200, to in "[A-Za-z0-9_.=-]") {
            let mut text = token(r#"{"alg":"ES256"}"#, &format!(r#"{{"sub":"{sub}"}}"#));
            text.truncate(text.len() - 4);
            text.push_str(&base64url::encode(&signature));
            let at = flip % text.len();
            text.replace_range(at..at + 1, &to);
            if let Ok(parsed) = parse(&text) {
                let head = std::str::from_utf8(parsed.signed).expect("text");
                let (_, payload) = head.split_once('.').expect("two parts");
                proptest::prop_assert_eq!(payload, base64url::encode(&parsed.payload));
                proptest::prop_assert_eq!(&text, &format!("{head}.{}", base64url::encode(&parsed.signature)));
            }
        }
    }
}
