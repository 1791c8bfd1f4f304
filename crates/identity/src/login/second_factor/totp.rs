//! One-time passwords (RFC 6238): checked, each step used once; enrolled by scanning a code.

use portcullis_core::id::{self, Id};
use portcullis_core::jose::base64url;
use portcullis_core::otp::TotpSecret;
use portcullis_core::seal::Purpose;
use portcullis_core::secret::Secret;
use portcullis_store::credentials::TotpRecord;
use portcullis_store::database::{StoreFault, Tx};
use qrcodegen::{QrCode, QrCodeEcc};

use super::Stage;
use crate::desk::Desk;

/// NIST SP 800-63B-4 §3.2.2: after 100 failures in a row the credential is off.
const MAX_FAILURES: u32 = 100;

/// Longest code that is looked at: six digits and the blanks that people type between them.
const MAX_TYPED: usize = 16;

/// What was typed, without blanks; too long a text is no code.
pub(super) fn typed(code: &str) -> String {
    if code.len() > MAX_TYPED {
        return String::new();
    }
    code.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Checks a code of a credential and uses its step, or counts the failure.
///
/// The inner error is the rule broken; it is a value, so that the counted failure is committed.
pub(super) async fn check(
    tx: &Tx,
    desk: &Desk,
    totp: &TotpRecord,
    code: &str,
) -> Result<Result<(), &'static str>, StoreFault> {
    if totp.failures >= MAX_FAILURES {
        return Ok(Err("FactorOff"));
    }
    let Some(secret) = open(desk, &totp.sealed) else {
        tracing::error!(credential = %totp.id, "a TOTP secret at rest does not open");
        return Ok(Err("FactorUnopenable"));
    };
    // RFC 6238 §5.2: within one step of now, and later than the last one used.
    if let Some(step) = secret.verify(code, desk.now, totp.last_used)
        && tx.use_totp_step(&totp.id, step).await?
    {
        return Ok(Ok(()));
    }
    tx.totp_failed(&totp.id).await?;
    Ok(Err("CodeWrong"))
}

/// Makes a secret the user's credential when its code was typed; its step is used by that.
pub(super) async fn enrol(
    tx: &Tx,
    desk: &Desk,
    user: &Id<id::User>,
    secret: &TotpSecret,
    code: &str,
) -> Result<Result<(), &'static str>, StoreFault> {
    let Some(step) = secret.verify(code, desk.now, None) else {
        return Ok(Err("CodeWrong"));
    };
    let record = TotpRecord {
        id: Id::mint(&*desk.shared.entropy),
        sealed: desk.seal(Purpose::Field, secret.expose()),
        last_used: None,
        failures: 0,
        confirmed: false,
    };
    // INVARIANT: reached only when this transaction found no confirmed credential, so nothing that
    // works is ever replaced here.
    tx.keep_totp(user, &record, desk.now).await?;
    let used = tx.use_totp_step(&record.id, step).await?;
    Ok(if used { Ok(()) } else { Err("CodeWrong") })
}

/// The stage of a page that shows a secret.
pub(super) fn enrolling(session: &Id<id::Session>, secret: &TotpSecret) -> Stage {
    Stage::Enrolling { session: session.clone(), secret: base64url::encode(secret.expose()) }
}

/// The secret that a page showed.
pub(super) fn shown(stage: &Stage) -> Option<TotpSecret> {
    match stage {
        Stage::Enrolling { secret, .. } => {
            let bytes = Secret::new(base64url::decode(secret).ok()?);
            TotpSecret::from_bytes(bytes.expose())
        }
        Stage::Asked | Stage::Proven { .. } => None,
    }
}

fn open(desk: &Desk, sealed: &str) -> Option<TotpSecret> {
    let bytes = desk.shared.sealer.open(Purpose::Field, sealed).ok()?;
    TotpSecret::from_bytes(bytes.expose())
}

/// A QR code as an SVG path, one unit per module.
pub(crate) struct Qr {
    pub(crate) path: String,
    pub(crate) side: usize,
}

/// Draws the `otpauth` address of a secret; empty when it is too long for a code, which our names'
/// limits rule out.
pub(crate) fn qr(secret: &TotpSecret, issuer: &str, login: &str) -> Qr {
    let uri = secret.uri(issuer, login);
    let Ok(code) = QrCode::encode_text(uri.expose(), QrCodeEcc::Medium) else {
        return Qr { path: String::new(), side: 0 };
    };
    let mut path = String::new();
    for y in 0..code.size() {
        let mut x = 0;
        while x < code.size() {
            let run = (x..code.size()).take_while(|x| code.get_module(*x, y)).count();
            if run > 0 {
                path.push_str(&format!("M{x} {y}h{run}v1h-{run}z"));
            }
            x = x.saturating_add(i32::try_from(run).unwrap_or(0)).saturating_add(1);
        }
    }
    Qr { path, side: usize::try_from(code.size()).unwrap_or(0) }
}
