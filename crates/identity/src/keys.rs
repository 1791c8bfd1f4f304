//! Signing keys as operators see them: `portcullis signing-key list | rotate | kill`.
//!
//! On a running server each change is swapped in before its call returns; the functions without a
//! server change the store alone, and the next start takes it from there.

use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::time::Timestamp;
use portcullis_store::database::StoreFault;
use portcullis_store::keys::{KeyRecord, KeyState, KeyUse};

use crate::desk::Desk;
pub use crate::keyring::change::Keeping;
use crate::keyring::{change, schedule};
use crate::parts::StartFault;

/// A signing key, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// `kid`.
    pub kid: String,
    /// What it signs.
    pub usage: KeyUse,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Its state.
    pub state: KeyState,
    /// When it was made, and published.
    pub made: Timestamp,
    /// When it moves on by itself: a next key begins to sign, an active one stops, a verify-only
    /// one goes.
    pub until: Option<Timestamp>,
}

/// How a key comes to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Only one that was published a day ago: nobody's verification fails.
    Planned,
    /// At once. Verifiers that hold an older set refuse what it signs until they fetch anew: for up
    /// to as long as they keep it. The gateway itself always knows it.
    Now,
}

/// What a rotation came to for one use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// What the key signs.
    pub usage: KeyUse,
    /// The key that was next.
    pub kid: String,
    /// Whether it signs now.
    pub promotion: Promotion,
}

/// Whether a key was promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// It signs.
    Promoted {
        /// Whether it was published for a day before.
        known_to_all: bool,
    },
    /// It is published, and can be promoted from then on.
    Waits {
        /// From when.
        ready: Timestamp,
    },
}

/// A key that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Killed {
    /// Its `kid`.
    pub kid: String,
    /// What it signed.
    pub usage: KeyUse,
    /// The state that it was in.
    pub was: KeyState,
    /// The `kid` that signs now.
    pub successor: String,
}

/// Why the keys cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// There is none of that `kid`.
    #[error("there is no signing key `{0}`; `portcullis signing-key list` shows all")]
    KidUnknown(String),
    /// The store is full of keys that still verify.
    #[error("too many keys still verify; wait a day until the oldest go, or kill one")]
    KeysTooMany,
    /// The store failed, or a key does not open.
    #[error(transparent)]
    Ring(#[from] StartFault),
}

impl From<StoreFault> for KeyFault {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::TooMuch("signing keys") => KeyFault::KeysTooMany,
            other => KeyFault::Ring(StartFault::Store(other)),
        }
    }
}

impl KeyFault {
    /// The same at a start.
    pub(crate) fn at_start(self) -> StartFault {
        match self {
            KeyFault::Ring(fault) => fault,
            KeyFault::KidUnknown(_) | KeyFault::KeysTooMany => {
                StartFault::Store(StoreFault::TooMuch("signing keys"))
            }
        }
    }
}

/// The words of `signing-key list`.
pub fn usage_word(usage: KeyUse) -> &'static str {
    match usage {
        KeyUse::Access => "access",
        KeyUse::Identity => "identity",
        KeyUse::Passport => "passport",
    }
}

/// The words of `signing-key list`.
pub fn state_word(state: KeyState) -> &'static str {
    match state {
        KeyState::Next => "next",
        KeyState::Active => "active",
        KeyState::VerifyOnly => "verify-only",
    }
}

/// The use of a word.
pub fn usage_of(word: &str) -> Option<KeyUse> {
    change::USES.into_iter().map(|(usage, _)| usage).find(|usage| usage_word(*usage) == word)
}

/// All keys that are not gone, by use and age.
///
/// # Errors
/// [`KeyFault::Ring`] when the store fails.
pub async fn list(keeping: &Keeping<'_>) -> Result<Vec<ListedKey>, KeyFault> {
    let keys = change::read(keeping.store).await?;
    let until = |key: &KeyRecord| match key.state {
        KeyState::Next | KeyState::Active => schedule::due_at(&keys, key.usage, keeping.life),
        KeyState::VerifyOnly => schedule::gone_at(&keys, key),
    };
    let of = |usage: KeyUse| keys.iter().filter(move |key| key.usage == usage);
    let listed = change::USES.into_iter().flat_map(|(usage, _)| of(usage)).map(|key| ListedKey {
        kid: key.kid.clone(),
        usage: key.usage,
        algorithm: key.algorithm,
        state: key.state,
        made: key.made,
        until: until(key),
    });
    Ok(listed.collect())
}

/// Promotes the next key of one use, or of all.
///
/// # Errors
/// [`KeyFault::KeysTooMany`], or [`KeyFault::Ring`] when the store fails.
pub async fn rotate(
    keeping: &Keeping<'_>,
    usage: Option<KeyUse>,
    haste: Haste,
) -> Result<Vec<Rotated>, KeyFault> {
    let all = || change::USES.into_iter().map(|(usage, _)| usage).collect();
    change::rotate(keeping, usage.map_or_else(all, |usage| vec![usage]), haste).await
}

/// Kills a key: whatever it signed is dead, its successor signs.
///
/// # Errors
/// [`KeyFault::KidUnknown`], or [`KeyFault::Ring`] when the store fails.
pub async fn kill(keeping: &Keeping<'_>, kid: &str) -> Result<Killed, KeyFault> {
    change::kill(keeping, kid).await
}

/// Does what is due, and takes what another node did.
pub(crate) async fn tend(desk: &Desk) -> Result<(), KeyFault> {
    change::tend(&keeping(desk)).await?;
    desk.shared.keyring.refresh(&desk.shared.store, &desk.shared.sealer).await
}

/// What changing the keys of a running server needs.
pub(crate) fn keeping(desk: &Desk) -> Keeping<'_> {
    let shared = &*desk.shared;
    let (store, sealer, entropy) = (&shared.store, &*shared.sealer, &*shared.entropy);
    Keeping { store, sealer, entropy, now: desk.now, life: desk.settings.key_life }
}

#[cfg(test)]
mod tests;
