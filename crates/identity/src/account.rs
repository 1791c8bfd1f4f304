//! Accounts, as the command line and the demo make them: a person, a one-off password shown once,
//! perhaps a second factor.
//!
//! People's own pages (changing a password, removing a factor, invitations) are not here yet; until
//! they are, a one-off password stays the account's password.

use std::collections::BTreeMap;

use portcullis_core::audit::neutralise;
use portcullis_core::entropy::Entropy;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::Attribute;
use portcullis_core::otp::TotpSecret;
use portcullis_core::seal::{Purpose, Sealer};
use portcullis_core::secret::Secret;
use portcullis_core::time::Timestamp;
use portcullis_store::credentials::{PasswordRecord, TotpRecord};
use portcullis_store::database::{Store, StoreFault};
use portcullis_store::users::{UserRecord, canonical_login};

use crate::login::argon;

/// Longest login name, in bytes; longer ones are nobody's.
pub const MAX_LOGIN: usize = 256;

/// A user to add.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    /// As typed; made canonical here.
    pub login: String,
    /// Shown name; the login when empty.
    pub name: String,
    /// Mail address.
    pub mail: Option<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Tenant.
    pub tenant: Option<String>,
    /// Declared attributes.
    pub attributes: BTreeMap<String, Attribute>,
    /// Whether a second factor is handed out with the password.
    pub second_factor: SecondFactorWish,
}

/// Whether `user add` enrols TOTP itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondFactorWish {
    /// The user enrols at the first login, if the settings ask for it.
    #[default]
    AtFirstLogin,
    /// A secret is made and shown once, already confirmed (the demo's users).
    HandedOut,
}

/// What was added; the secrets are shown once.
pub struct AddedUser {
    /// The user.
    pub user: UserRecord,
    /// The one-off password.
    pub password: Secret<String>,
    /// The second factor's secret, when it was handed out.
    pub totp: Option<TotpSecret>,
}

/// Why a user cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AccountFault {
    /// Empty, too long, or with white space, control or invisible characters inside.
    #[error("`{0}` is no login name; write 1 to 256 bytes without white space, as in `ada`")]
    LoginMalformed(String),
    /// Too long, or with control characters, invisible or bidirectional marks.
    #[error("the shown name is over 256 bytes or holds invisible characters; write it plainly")]
    NameMalformed,
    /// Somebody has it.
    #[error("the login name `{0}` is taken; choose another")]
    LoginTaken(String),
    /// Hashing failed: no memory.
    #[error("the password could not be hashed; is there memory left")]
    Unhashable,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// What making an account needs from outside.
pub struct Making<'a> {
    /// Where to.
    pub store: &'a Store,
    /// Seals the second factor's secret.
    pub sealer: &'a Sealer,
    /// Randomness.
    pub entropy: &'a dyn Entropy,
    /// The time.
    pub now: Timestamp,
}

/// Adds a user with a one-off password of 100 bits.
///
/// # Errors
/// [`AccountFault`], one variant per rule.
pub async fn add_user(making: &Making<'_>, new: NewUser) -> Result<AddedUser, AccountFault> {
    let login = canonical_login(&new.login);
    // `6-attacks`: no mark that reads otherwise than it stands, on a page, in a log or a terminal.
    let harmless = |text: &str| neutralise(text) == text;
    let blank = login.chars().any(char::is_whitespace);
    if login.is_empty() || login.len() > MAX_LOGIN || blank || !harmless(&login) {
        return Err(AccountFault::LoginMalformed(new.login));
    }
    if !harmless(&new.name) {
        return Err(AccountFault::NameMalformed);
    }
    let password = one_off(making.entropy);
    let hash = argon::hash(&password, making.entropy).ok_or(AccountFault::Unhashable)?;
    let totp = match new.second_factor {
        SecondFactorWish::AtFirstLogin => None,
        SecondFactorWish::HandedOut => Some(TotpSecret::mint(making.entropy)),
    };
    let user = UserRecord {
        id: Id::<id::User>::mint(making.entropy),
        name: if new.name.is_empty() { login.clone() } else { new.name },
        login,
        mail: new.mail,
        roles: new.roles,
        groups: new.groups,
        tenant: new.tenant,
        attributes: new.attributes,
        disabled: None,
        made: making.now,
    };
    let factor = totp.as_ref().map(|secret| TotpRecord {
        id: Id::mint(making.entropy),
        sealed: making.sealer.seal(Purpose::Field, secret.expose(), making.entropy),
        last_used: None,
        failures: 0,
        confirmed: true,
    });
    keep(making, user.clone(), PasswordRecord { hash, one_off: true }, factor).await?;
    Ok(AddedUser { user, password, totp })
}

/// User, password and factor in one transaction: no account is ever half there.
async fn keep(
    making: &Making<'_>,
    user: UserRecord,
    password: PasswordRecord,
    factor: Option<TotpRecord>,
) -> Result<(), AccountFault> {
    let (now, login) = (making.now, user.login.clone());
    let kept = making.store.transact(async move |tx| -> Result<(), StoreFault> {
        tx.add_user(&user).await?;
        tx.keep_password(&user.id, &password).await?;
        if let Some(factor) = factor {
            tx.keep_totp(&user.id, &factor, now).await?;
        }
        Ok(())
    });
    match kept.await {
        Ok(()) => Ok(()),
        Err(StoreFault::Taken(_)) => Err(AccountFault::LoginTaken(login)),
        Err(fault) => Err(fault.into()),
    }
}

/// Twenty letters and digits that are not mistaken for one another, in groups of five: 32 kinds
/// each, so 100 bits.
fn one_off(entropy: &dyn Entropy) -> Secret<String> {
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    let mut bytes = [0u8; 20];
    entropy.fill(&mut bytes);
    let mut text = String::with_capacity(23);
    for (position, byte) in bytes.iter().enumerate() {
        if position > 0 && position % 5 == 0 {
            text.push('-');
        }
        let letter = LETTERS.get(usize::from(byte % 32)).copied().unwrap_or(b'a');
        text.push(char::from(letter));
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, sealer, store};
    use portcullis_core::entropy::SeededEntropy;

    async fn add(store: &Store, new: NewUser) -> Result<AddedUser, AccountFault> {
        let (sealer, entropy) = (sealer(), SeededEntropy::new(9));
        let making = Making { store, sealer: &sealer, entropy: &entropy, now: NOW };
        add_user(&making, new).await
    }

    #[tokio::test]
    async fn a_user_has_a_one_off_password_and_a_handed_out_factor() {
        let store = store();
        let second_factor = SecondFactorWish::HandedOut;
        let new = NewUser { login: " Ada ".into(), second_factor, ..NewUser::default() };
        let added = add(&store, new).await.expect("added");
        assert_eq!((added.user.login.as_str(), added.user.name.as_str()), ("ada", "ada"));
        assert_eq!(added.password.expose().len(), 23);
        assert!(added.totp.is_some());
        let id = added.user.id.clone();
        let (password, totp) = store
            .read(async move |tx| -> Result<_, StoreFault> {
                Ok((tx.password(&id).await?, tx.totp(&id).await?))
            })
            .await
            .expect("read");
        assert!(password.expect("kept").one_off);
        let totp = totp.expect("kept");
        assert!(totp.confirmed);
        let bytes = sealer().open(Purpose::Field, &totp.sealed).expect("sealed at rest");
        assert_eq!(Some(bytes.expose().as_slice()), added.totp.as_ref().map(|t| &t.expose()[..]));
    }

    #[tokio::test]
    async fn login_malformed() {
        let store = store();
        let long = "a".repeat(MAX_LOGIN + 1);
        for login in ["", "  ", "a b", "a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{1b}[2Jb", &long] {
            let refused = add(&store, NewUser { login: login.into(), ..NewUser::default() }).await;
            assert!(matches!(refused, Err(AccountFault::LoginMalformed(_))), "{login:?}");
        }
    }

    #[tokio::test]
    async fn name_malformed() {
        let store = store();
        for name in ["Ada\nLovelace", "\u{1b}[2J", "ada\u{202e}nimda", &"a".repeat(257)] {
            let new = NewUser { login: "ada".into(), name: name.into(), ..NewUser::default() };
            assert!(matches!(add(&store, new).await, Err(AccountFault::NameMalformed)), "{name:?}");
        }
        let name = "Ada \"<b>Lovelace</b>\" 'ж'".to_owned();
        let new = NewUser { login: "ada".into(), name: name.clone(), ..NewUser::default() };
        assert_eq!(add(&store, new).await.expect("markup is text").user.name, name);
    }

    #[tokio::test]
    async fn login_taken() {
        let store = store();
        let new = |login: &str| NewUser { login: login.into(), ..NewUser::default() };
        add(&store, new("ada")).await.expect("added");
        let again = add(&store, new("ADA")).await;
        assert!(matches!(again, Err(AccountFault::LoginTaken(_))));
    }
}
