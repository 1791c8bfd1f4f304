//! People.

use std::collections::BTreeMap;

use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::Attribute;
use portcullis_core::revocation::RevocationKind;
use portcullis_core::time::Timestamp;

use crate::active::Active;
use crate::database::{StoreFault, Tx};
use crate::revocations::LONGEST_TOKEN;
use crate::row::{MAX_LABEL, MAX_LABELS, MAX_NAME, MAX_SEALED, Row, bind, bounded, json};

/// A person.
#[derive(Clone, Debug)]
pub struct UserRecord {
    /// Id.
    pub id: Id<id::User>,
    /// Login name, canonical: trimmed, lower case; unique.
    pub login: String,
    /// Shown name.
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
    /// Since when disabled.
    pub disabled: Option<Timestamp>,
    /// When made.
    pub made: Timestamp,
}

/// Longest canonical login name, in bytes: a mail address fits (RFC 5321 §4.5.3.1.3).
pub const MAX_LOGIN: usize = 256;

/// Most users on one page of [`Tx::users`].
pub const MAX_PAGE: usize = 1000;

/// The canonical form of a login name: what is looked up and what is counted. Whatever is longer
/// than any login may be is cut behind that length, so it matches nobody and costs little.
pub fn canonical_login(typed: &str) -> String {
    let mut login = String::new();
    for letter in typed.trim().chars().flat_map(char::to_lowercase) {
        if login.len() > MAX_LOGIN {
            break;
        }
        login.push(letter);
    }
    login
}

impl Tx {
    /// Adds a user; `Taken` when the login (or the id) is.
    ///
    /// # Errors
    /// [`StoreFault::TooMuch`] for a text or list over its limit; [`StoreFault::LoginMalformed`].
    pub async fn add_user(&self, user: &UserRecord) -> Result<(), StoreFault> {
        fits(user)?;
        let sql = "INSERT INTO users
                   (id, login, name, mail, roles, groups, tenant, attributes, disabled, made)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
        let values = bind![
            &user.id,
            &*user.login,
            &*user.name,
            user.mail.as_deref(),
            json(&user.roles)?,
            json(&user.groups)?,
            user.tenant.as_deref(),
            json(&user.attributes)?,
            user.disabled,
            user.made,
        ];
        if self.execute(sql, values).await? == 0 {
            return Err(StoreFault::Taken("the login name"));
        }
        Ok(())
    }

    /// A user by canonical login, disabled or not.
    pub async fn user_by_login(&self, login: &str) -> Result<Option<UserRecord>, StoreFault> {
        let sql = "SELECT id, login, name, mail, roles, groups, tenant, attributes, disabled, made
                   FROM users WHERE login = $1";
        self.fetch_one(sql, bind![login]).await?.as_ref().map(user).transpose()
    }

    /// A user by id, disabled or not.
    pub async fn user(&self, id: &Id<id::User>) -> Result<Option<UserRecord>, StoreFault> {
        let sql = "SELECT id, login, name, mail, roles, groups, tenant, attributes, disabled, made
                   FROM users WHERE id = $1";
        self.fetch_one(sql, bind![id]).await?.as_ref().map(user).transpose()
    }

    /// All users by login, at most `limit` (and 1000) after `after`.
    pub async fn users(&self, after: &str, limit: usize) -> Result<Vec<UserRecord>, StoreFault> {
        let sql = "SELECT id, login, name, mail, roles, groups, tenant, attributes, disabled, made
                   FROM users WHERE login > $1 ORDER BY login LIMIT $2";
        let limit = limit.min(MAX_PAGE) as i64;
        self.fetch(sql, bind![after, limit]).await?.iter().map(user).collect()
    }

    /// A user who is there and not disabled.
    pub async fn active_user(
        &self,
        id: &Id<id::User>,
    ) -> Result<Option<Active<'_, UserRecord>>, StoreFault> {
        let user = self.user(id).await?;
        Ok(user.filter(|user| user.disabled.is_none()).map(Active::found))
    }

    /// Sets a user's roles and groups. Where one is taken away the access tokens that carry it die (a
    /// `Subject` revocation); sessions and grants live on, so that the next refresh is smaller and
    /// nobody is logged out (`4-identity`, "Revocation").
    ///
    /// # Errors
    /// [`StoreFault::Missing`] when there is no such user, [`StoreFault::TooMuch`] over a limit.
    pub async fn set_labels(
        &self,
        id: &Id<id::User>,
        (roles, groups): (&[String], &[String]),
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let Some(before) = self.user(id).await? else {
            return Err(StoreFault::Missing("the user"));
        };
        let after = UserRecord { roles: roles.to_vec(), groups: groups.to_vec(), ..before.clone() };
        fits(&after)?;
        let sql = "UPDATE users SET roles = $2, groups = $3 WHERE id = $1";
        self.execute(sql, bind![id, json(&after.roles)?, json(&after.groups)?]).await?;
        let lost = |before: &[String], after: &[String]| before.iter().any(|l| !after.contains(l));
        if lost(&before.roles, roles) || lost(&before.groups, groups) {
            self.revoke(RevocationKind::Subject, id.as_str(), now.after(LONGEST_TOKEN)).await?;
        }
        Ok(())
    }

    /// Disables a user, ends all that is theirs ([`Tx::end_sessions_of`]), and writes `Subject`,
    /// `Session` and `Grant` revocations. Again changes nothing, but ends whatever is new.
    ///
    /// # Errors
    /// [`StoreFault::Missing`] when there is no such user.
    pub async fn disable_user(&self, id: &Id<id::User>, now: Timestamp) -> Result<(), StoreFault> {
        let sql = "UPDATE users SET disabled = COALESCE(disabled, $2) WHERE id = $1";
        if self.execute(sql, bind![id, now]).await? == 0 {
            return Err(StoreFault::Missing("the user"));
        }
        self.revoke(RevocationKind::Subject, id.as_str(), now.after(LONGEST_TOKEN)).await?;
        self.end_sessions_of(id, now).await
    }

    /// Takes a disabling back. Sessions, grants and tokens of before stay dead.
    ///
    /// # Errors
    /// [`StoreFault::Missing`] when there is no such user.
    pub async fn enable_user(&self, id: &Id<id::User>) -> Result<(), StoreFault> {
        match self.execute("UPDATE users SET disabled = NULL WHERE id = $1", bind![id]).await? {
            0 => Err(StoreFault::Missing("the user")),
            _ => Ok(()),
        }
    }
}

/// Every text and list of a user has a limit: all of it may travel in tokens.
fn fits(user: &UserRecord) -> Result<(), StoreFault> {
    bounded("a login name", &user.login, MAX_LOGIN)?;
    let odd = user.login.chars().any(|letter| letter.is_control() || letter.is_whitespace());
    if odd || user.login.is_empty() || user.login != canonical_login(&user.login) {
        return Err(StoreFault::LoginMalformed);
    }
    bounded("a user's name", &user.name, MAX_NAME)?;
    bounded("a mail address", user.mail.as_deref().unwrap_or_default(), MAX_NAME)?;
    bounded("a tenant", user.tenant.as_deref().unwrap_or_default(), MAX_LABEL)?;
    let lists = [user.roles.len(), user.groups.len(), user.attributes.len()];
    if lists.into_iter().any(|length| length > MAX_LABELS) {
        return Err(StoreFault::TooMuch("a user's roles, groups or attributes"));
    }
    for label in user.roles.iter().chain(&user.groups).chain(user.attributes.keys()) {
        bounded("a role, group or attribute's name", label, MAX_LABEL)?;
    }
    for attribute in user.attributes.values() {
        match attribute {
            Attribute::Bool(_) | Attribute::Integer(_) => {}
            Attribute::String(text) => bounded("an attribute", text, MAX_SEALED)?,
        }
    }
    Ok(())
}

fn user(row: &Row) -> Result<UserRecord, StoreFault> {
    Ok(UserRecord {
        id: row.id("id")?,
        login: row.text("login")?.to_owned(),
        name: row.text("name")?.to_owned(),
        mail: row.text_if_any("mail")?.map(str::to_owned),
        roles: row.json("roles")?,
        groups: row.json("groups")?,
        tenant: row.text_if_any("tenant")?.map(str::to_owned),
        attributes: row.json("attributes")?,
        disabled: row.moment_if_any("disabled")?,
        made: row.moment("made")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{grant, id, later, memory, session, user};

    #[test]
    fn a_login_name_has_one_canonical_form() {
        for (typed, login) in [
            ("ada", "ada"),
            ("  Ada\t", "ada"),
            ("ÄDA@Example.COM", "äda@example.com"),
            ("", ""),
            (" \u{a0} ", ""),
            ("İ", "i\u{307}"),
        ] {
            assert_eq!(canonical_login(typed), login);
            assert_eq!(canonical_login(login), login, "once more changes nothing");
        }
        let cut = canonical_login(&"Ä".repeat(1_000_000));
        assert!(cut.len() > MAX_LOGIN && cut.len() <= MAX_LOGIN + 4, "{}", cut.len());
    }

    #[tokio::test]
    async fn a_user_comes_back_as_added() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                let mut ada = user("ada");
                ada.tenant = Some("acme".into());
                ada.groups = vec!["b".into(), "a".into()];
                ada.attributes.insert("level".into(), Attribute::Integer(3));
                ada.attributes.insert("staff".into(), Attribute::Bool(true));
                ada.attributes.insert("site".into(), Attribute::String("Zürich".into()));
                tx.add_user(&ada).await?;
                for found in [tx.user(&ada.id).await?, tx.user_by_login("ada").await?] {
                    assert_eq!(format!("{:?}", found.expect("ada")), format!("{ada:?}"));
                }
                assert!(tx.user(&id("eve")).await?.is_none());
                assert!(tx.user_by_login("Ada").await?.is_none(), "only the canonical form");
                assert!(tx.user_by_login("").await?.is_none());
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn taken() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                let mut other = user("ada");
                other.id = id("other");
                assert!(matches!(tx.add_user(&other).await, Err(StoreFault::Taken(_))));
                other.login = "other".into();
                other.id = id("ada");
                assert!(matches!(tx.add_user(&other).await, Err(StoreFault::Taken(_))));
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn login_malformed() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for login in ["", "Ada", " ada", "a da", "a\u{0}", "a\u{a0}b", "ada\n"] {
                    let mut ada = user("ada");
                    ada.login = login.into();
                    let added = tx.add_user(&ada).await;
                    assert!(matches!(added, Err(StoreFault::LoginMalformed)), "{login:?}");
                }
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn too_much() {
        let long = |length: usize| "x".repeat(length + 1);
        let labels = || (0..=MAX_LABELS).map(|n| n.to_string());
        let spoilers: [&(dyn Fn(&mut UserRecord) + Sync); 9] = [
            &|user| user.login = long(MAX_LOGIN),
            &|user| user.name = long(MAX_NAME),
            &|user| user.mail = Some(long(MAX_NAME)),
            &|user| user.tenant = Some(long(MAX_LABEL)),
            &|user| user.roles = labels().collect(),
            &|user| user.groups = vec![long(MAX_LABEL)],
            &|user| user.attributes = labels().map(|n| (n, Attribute::Bool(true))).collect(),
            &|user| user.attributes = [(long(MAX_LABEL), Attribute::Integer(1))].into(),
            &|user| user.attributes = [("a".into(), Attribute::String(long(MAX_SEALED)))].into(),
        ];
        let world = memory();
        for (position, spoil) in spoilers.into_iter().enumerate() {
            let mut ada = user("ada");
            spoil(&mut ada);
            let added = world.store.transact(async move |tx: &Tx| tx.add_user(&ada).await).await;
            assert!(matches!(added, Err(StoreFault::TooMuch(_))), "number {position}");
        }
    }

    #[tokio::test]
    async fn users_come_in_pages_by_login() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for name in ["cleo", "ada", "bob"] {
                    tx.add_user(&user(name)).await?;
                }
                let logins = async |after: &'static str, limit| {
                    let page = tx.users(after, limit).await?;
                    Ok::<_, StoreFault>(page.into_iter().map(|user| user.login).collect::<Vec<_>>())
                };
                assert_eq!(logins("", 2).await?, ["ada", "bob"]);
                assert_eq!(logins("bob", 2).await?, ["cleo"]);
                assert!(logins("cleo", usize::MAX).await?.is_empty());
                assert!(logins("", 0).await?.is_empty());
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_disabled_user_is_active_nowhere() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for (seed, name) in [(1, "ada"), (2, "bob")] {
                    tx.add_user(&user(name)).await?;
                    tx.add_session(&session(name, name, seed)).await?;
                    tx.add_grant(&grant(name, name, name)).await?;
                }
                assert_eq!(tx.active_user(&id("ada")).await?.expect("active").login, "ada");
                tx.disable_user(&id("ada"), later(1)).await?;
                tx.disable_user(&id("ada"), later(2)).await?;
                assert!(tx.active_user(&id("ada")).await?.is_none());
                assert!(tx.active_session(&id("ada"), later(2)).await?.is_none());
                assert!(tx.active_grant(&id("ada")).await?.is_none());
                let ada = tx.user(&id("ada")).await?.expect("still there");
                assert_eq!(ada.disabled, Some(later(1)), "the first time counts");
                assert!(tx.active_user(&id("bob")).await?.is_some());
                assert!(tx.active_session(&id("bob"), later(2)).await?.is_some());
                assert!(tx.active_grant(&id("bob")).await?.is_some());
                Ok(())
            })
            .await;
        for (kind, prefix) in [
            (RevocationKind::Subject, "u_"),
            (RevocationKind::Session, "s_"),
            (RevocationKind::Grant, "g_"),
        ] {
            assert!(world.kills(kind, &format!("{prefix}ada")), "{kind:?}");
            assert!(!world.kills(kind, &format!("{prefix}bob")), "{kind:?}");
        }
        world
            .transact(async |tx: &Tx| {
                tx.enable_user(&id("ada")).await?;
                assert!(tx.active_user(&id("ada")).await?.is_some());
                assert!(tx.active_session(&id("ada"), later(3)).await?.is_none(), "stays dead");
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn missing() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                let disabled = tx.disable_user(&id("eve"), later(1)).await;
                assert!(matches!(disabled, Err(StoreFault::Missing("the user"))));
                let enabled = tx.enable_user(&id("eve")).await;
                assert!(matches!(enabled, Err(StoreFault::Missing("the user"))));
                assert_eq!(tx.revision().await?, 0, "nothing was revoked");
                Ok(())
            })
            .await;
    }
}
