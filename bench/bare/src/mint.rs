//! Tokens for the peers: ES256 JWTs of exactly 640 bytes, as an authorization server of their own
//! would sign them. Only for the bench: Portcullis' tokens come from its own token endpoint.

use std::error::Error;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// Length of a token.
const TOKEN_BYTES: usize = 640;
/// `{"alg":"ES256","kid":"bench","typ":"at+jwt"}`, and 64 bytes of signature, encoded, with dots.
const AROUND_PAYLOAD: usize = 60 + 86 + 2;
const HEADER: &str = r#"{"alg":"ES256","kid":"bench","typ":"at+jwt"}"#;

/// What the tokens say.
pub(crate) struct Order {
    /// PEM, PKCS #8, P-256.
    pub(crate) key: String,
    /// `iss`.
    pub(crate) issuer: String,
    /// `aud`.
    pub(crate) audience: String,
    /// Seconds until `exp`; negative: expired.
    pub(crate) lifetime: i64,
    /// How many, each with a `sub` and a `jti` of its own.
    pub(crate) count: u32,
}

/// Prints the tokens, one a line.
///
/// # Errors
/// When the key cannot be used, or the issuer and audience leave no room.
pub(crate) fn print(order: &Order) -> Result<(), Box<dyn Error>> {
    let key = any_ecdsa_type(&PrivateKeyDer::from_pem_slice(order.key.as_bytes())?)?;
    let signer =
        key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).ok_or("not a P-256 key")?;
    // The bench is a program for people at a terminal: nothing here is tested on a frozen clock.
    #[allow(clippy::disallowed_methods)]
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let mut out = std::io::stdout().lock();
    for number in 0..order.count {
        let message = format!("{}.{}", base64url(HEADER.as_bytes()), payload(order, number, now)?);
        let signature = raw(&signer.sign(message.as_bytes())?).ok_or("not an ECDSA signature")?;
        writeln!(out, "{message}.{}", base64url(&signature))?;
    }
    Ok(())
}

fn payload(order: &Order, number: u32, now: i64) -> Result<String, Box<dyn Error>> {
    let claims = format!(
        r#"{{"iss":"{}","sub":"caller-{number}","aud":"{}","exp":{},"iat":{now},"jti":"{number}","client_id":"bench","scope":"payments:read payments:write","pad":""#,
        order.issuer,
        order.audience,
        now + order.lifetime,
    );
    let length = (TOKEN_BYTES - AROUND_PAYLOAD) * 3 / 4;
    let room = length.checked_sub(claims.len() + 2).ok_or("issuer and audience are too long")?;
    let encoded = base64url(format!("{claims}{}\"}}", "p".repeat(room)).as_bytes());
    Ok(encoded)
}

/// RFC 7518 §3.4: r and s, 32 bytes each, out of the SEQUENCE of two INTEGERs that TLS uses.
fn raw(der: &[u8]) -> Option<[u8; 64]> {
    let mut raw = [0; 64];
    let mut rest = der.get(2..)?;
    for place in [0..32, 32..64] {
        let length = usize::from(*rest.get(1)?);
        let integer = rest.get(2..2 + length)?;
        let digits = integer.get(integer.len().saturating_sub(32)..)?;
        let target = raw.get_mut(place)?;
        let start = target.len() - digits.len();
        target.get_mut(start..)?.copy_from_slice(digits);
        rest = rest.get(2 + length..)?;
    }
    Some(raw)
}

/// RFC 4648 §5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 2);
    for chunk in bytes.chunks(3) {
        let at = |n: usize| chunk.get(n).copied().map_or(0, u32::from);
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..=chunk.len() {
            let index = (word >> (18 - 6 * digit)) & 63;
            text.extend(ALPHABET.get(index as usize).map(|b| char::from(*b)));
        }
    }
    text
}
