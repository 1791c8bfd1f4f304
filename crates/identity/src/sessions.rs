//! Sessions and consents as operators and, later, people's own pages see them: listed and ended.
//!
//! Functions over the store alone, so that they work with and without a running server. Whatever
//! ends here is dead at the gateway before the call returns, and its clients are told.

use portcullis_core::id::{self, Id};
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_store::database::{Store, StoreFault, Tx};
use portcullis_store::users::{UserRecord, canonical_login};

use crate::login::session::assurance;

/// Sessions read at once.
const PAGE: usize = 500;
/// Most sessions in one listing.
pub const MAX_LISTED: usize = 10_000;

/// A session, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSession {
    /// Its id (`sid`).
    pub id: Id<id::Session>,
    /// Whose.
    pub login: String,
    /// Assurance reached.
    pub acr: &'static str,
    /// Methods used.
    pub amr: Vec<String>,
    /// When it began.
    pub made: Timestamp,
    /// Last use.
    pub seen: Timestamp,
    /// Ends at the latest.
    pub expires: Timestamp,
}

/// An app that a user let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedApp {
    /// The client.
    pub client: Id<id::Client>,
    /// What it may ask for without asking again.
    pub consented: Scopes,
    /// When that was given or widened last; `None` where only grants are left (first-party apps).
    pub given: Option<Timestamp>,
    /// Grants that are alive.
    pub grants: usize,
}

/// Why sessions cannot be listed or ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionFault {
    /// Nobody has that login name.
    #[error("there is no user `{0}`; `portcullis user list` shows all")]
    UserUnknown(String),
    /// There is none of that id, or it is over.
    #[error("there is no live session `{0}`; `portcullis session list` shows all")]
    SessionUnknown(String),
    /// That app has neither a consent nor a grant of that user.
    #[error("the user `{login}` let no app `{client}` in")]
    AppUnknown {
        /// The app.
        client: String,
        /// The user.
        login: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// The live sessions of one user, or of all, each user's together and the newest first.
///
/// # Errors
/// [`SessionFault::UserUnknown`], or the store's.
pub async fn list(
    store: &Store,
    login: Option<&str>,
    now: Timestamp,
) -> Result<Vec<ListedSession>, SessionFault> {
    let of = match login {
        Some(login) => Some(user_of(store, login).await?.id),
        None => None,
    };
    let (mut listed, mut after) = (Vec::new(), String::new());
    // Page by page: no reader holds the database for long.
    while listed.len() < MAX_LISTED {
        let (from, of) = (after.clone(), of.clone());
        let page = store.read(async move |tx: &Tx| page(tx, of.as_ref(), &from, now).await).await?;
        let Some(last) = page.last() else { break };
        after = last.id.to_string();
        listed.extend(page);
    }
    listed.truncate(MAX_LISTED);
    listed.sort_by(|one, other| {
        one.login
            .cmp(&other.login)
            .then(other.made.cmp(&one.made))
            .then(one.id.as_str().cmp(other.id.as_str()))
    });
    Ok(listed)
}

/// Ends one session, with the grants that live no longer than it.
///
/// # Errors
/// [`SessionFault::SessionUnknown`], or the store's.
pub async fn end(store: &Store, id: &str, now: Timestamp) -> Result<(), SessionFault> {
    let unknown = || SessionFault::SessionUnknown(id.to_owned());
    let session = Id::<id::Session>::parse(id).map_err(|_| unknown())?;
    let work = async move |tx: &Tx| {
        let alive = tx.active_session(&session, now).await?.is_some();
        if alive {
            tx.end_session(&session, now).await?;
        }
        Ok::<_, StoreFault>(alive)
    };
    if store.transact(work).await? { Ok(()) } else { Err(unknown()) }
}

/// Ends all sessions of a user, and every grant, those that outlive their session too. Says how
/// many sessions were alive (of at most 1000).
///
/// # Errors
/// [`SessionFault::UserUnknown`], or the store's.
pub async fn end_all(store: &Store, login: &str, now: Timestamp) -> Result<usize, SessionFault> {
    let login = login.to_owned();
    let work = async move |tx: &Tx| {
        let user = find(tx, &login).await?;
        let alive = tx.sessions(Some(&user.id), "", usize::MAX, now).await?.len();
        tx.end_sessions_of(&user.id, now).await?;
        Ok::<_, SessionFault>(alive)
    };
    store.transact(work).await
}

/// The apps that a user let in: those with a consent that is remembered, and those with a grant
/// that is alive.
///
/// # Errors
/// [`SessionFault::UserUnknown`], or the store's.
pub async fn apps(store: &Store, login: &str) -> Result<Vec<ListedApp>, SessionFault> {
    let login = login.to_owned();
    let work = async move |tx: &Tx| {
        let user = find(tx, &login).await?;
        let consents = tx.consents_of(&user.id).await?;
        let mut apps: Vec<ListedApp> = consents
            .into_iter()
            .map(|consent| ListedApp {
                client: consent.client,
                consented: consent.scopes,
                given: Some(consent.given),
                grants: 0,
            })
            .collect();
        for grant in tx.grants_of(&user.id).await? {
            match apps.iter_mut().find(|app| app.client == grant.client) {
                Some(app) => app.grants += 1,
                None => apps.push(ListedApp {
                    client: grant.client,
                    consented: Scopes::default(),
                    given: None,
                    grants: 1,
                }),
            }
        }
        Ok::<_, SessionFault>(apps)
    };
    store.read(work).await
}

/// Takes a consent back and ends every grant between the two: the app must ask again.
///
/// # Errors
/// [`SessionFault::UserUnknown`], [`SessionFault::AppUnknown`], or the store's.
pub async fn withdraw(
    store: &Store,
    login: &str,
    client: &str,
    now: Timestamp,
) -> Result<(), SessionFault> {
    let unknown =
        || SessionFault::AppUnknown { client: client.to_owned(), login: login.to_owned() };
    let id = Id::<id::Client>::parse(client).map_err(|_| unknown())?;
    let name = login.to_owned();
    let work = async move |tx: &Tx| {
        let user = find(tx, &name).await?;
        let consented = tx.consented(&user.id, &id).await?.iter().next().is_some();
        let granted = tx.grants_of(&user.id).await?.iter().any(|grant| grant.client == id);
        tx.withdraw_consent(&user.id, &id).await?;
        tx.end_grants_between(&user.id, &id, now).await?;
        Ok::<_, SessionFault>(consented || granted)
    };
    if store.transact(work).await? { Ok(()) } else { Err(unknown()) }
}

async fn page(
    tx: &Tx,
    of: Option<&Id<id::User>>,
    after: &str,
    now: Timestamp,
) -> Result<Vec<ListedSession>, SessionFault> {
    let mut page = Vec::new();
    for session in tx.sessions(of, after, PAGE, now).await? {
        let login = tx.user(&session.user).await?.map(|user| user.login).unwrap_or_default();
        let (acr, amr) = assurance(&session.factors);
        let (made, seen, expires) = (session.made, session.seen, session.expires);
        page.push(ListedSession { id: session.id, login, acr, amr, made, seen, expires });
    }
    Ok(page)
}

async fn user_of(store: &Store, login: &str) -> Result<UserRecord, SessionFault> {
    let login = login.to_owned();
    store.read(async move |tx: &Tx| find(tx, &login).await).await
}

async fn find(tx: &Tx, login: &str) -> Result<UserRecord, SessionFault> {
    let found = tx.user_by_login(&canonical_login(login)).await?;
    found.ok_or_else(|| SessionFault::UserUnknown(login.to_owned()))
}

#[cfg(test)]
mod tests;
