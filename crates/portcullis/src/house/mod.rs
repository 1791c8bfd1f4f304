//! Our own pages: the HTTP side of the login's journey. One table says which pages exist; one
//! function dispatches. What a page decides is identity's; what it looks like is `templates/`.

mod cookies;
mod login_pages;
mod oauth;
mod page;

use std::sync::Arc;

use portcullis_core::oauth::metadata::resource_metadata_path;
use portcullis_core::revocation::RevocationKind;
use portcullis_core::time::Timestamp;
use portcullis_core::web::{Address, Origin, Parameters};
use portcullis_gateway::house::{Answering, House, HouseAnswer, HouseLine, HouseRequest, Reads};
use portcullis_gateway::snapshot::HouseTable;
use portcullis_identity::login::Identity;
use portcullis_store::database::{Store, StoreFault};

/// The house as the gateway sees it. Work runs on the control runtime, never on the gateway's
/// threads, so that a login storm cannot starve the data path.
pub(crate) struct Portal {
    /// The authorization server.
    pub identity: Arc<Identity>,
    /// For tokens that showed themselves in clear.
    pub store: Store,
    /// The control runtime.
    pub control: tokio::runtime::Handle,
}

/// Largest form that a page of ours reads, in bytes.
const FORM_MAX: usize = portcullis_core::web::MAX_FORM_BYTES;

/// Every page of the issuer's origin: method, path, name, what it reads.
const ISSUER_PAGES: &[(&str, &str, &str, Reads)] = &[
    ("GET", "/oauth/authorize", "authorize", Reads::Session),
    ("POST", "/login", "login", Reads::Session),
    ("POST", "/login/totp", "totp", Reads::Session),
    ("POST", "/consent", "consent", Reads::Session),
    ("POST", "/oauth/token", "token", Reads::Client),
    ("POST", "/oauth/revoke", "revoke", Reads::Client),
    ("GET", "/oauth/jwks", "jwks", Reads::Nothing),
    ("GET", "/.well-known/openid-configuration", "metadata", Reads::Nothing),
    ("GET", "/.well-known/oauth-authorization-server", "metadata", Reads::Nothing),
    ("GET", "/.well-known/portcullis-jwks", "passport_keys", Reads::Nothing),
    ("GET", "/static/portcullis.css", "style", Reads::Nothing),
];

/// The house's routes: the issuer's pages, and on each API's host its RFC 9728 metadata and the
/// keys of `Portcullis-Identity`. `spa_origins` get CORS where a single-page application calls.
pub(crate) fn table(issuer: &Address, apis: &[Arc<Address>], spa_origins: &[Origin]) -> HouseTable {
    let mut table = HouseTable::new();
    let issuer_host: Box<str> = issuer.authority().into();
    for (method, path, page, reads) in ISSUER_PAGES {
        let called_by_apps = matches!(*page, "token" | "revoke" | "jwks" | "metadata");
        let cors = if called_by_apps { spa_origins.to_vec() } else { Vec::new() };
        let line = HouseLine {
            method,
            page,
            reads: *reads,
            limit: "house".into(),
            cors,
            body_max: FORM_MAX,
        };
        // RFC 8414 §3: the well-known path is inserted before the issuer's own path. Our issuer has
        // none (checked when the file is read), so the path stands as it is.
        table.entry((issuer_host.clone(), (*path).into())).or_default().push(line);
    }
    for at in apis {
        let public = |page: &'static str| HouseLine {
            method: "GET",
            page,
            reads: Reads::Nothing,
            limit: "house".into(),
            cors: spa_origins.to_vec(),
            body_max: 0,
        };
        let host: Box<str> = at.authority().into();
        let metadata: Box<str> = resource_metadata_path(at.path()).into();
        table.entry((host.clone(), metadata)).or_default().push(public("resource_metadata"));
        let keys = table.entry((host, "/.well-known/portcullis-jwks".into())).or_default();
        if keys.is_empty() {
            keys.push(public("passport_keys"));
        }
    }
    table
}

impl House for Portal {
    fn answer(&self, request: HouseRequest) -> Answering<'_> {
        let (identity, store) = (self.identity.clone(), self.store.clone());
        let work = self.control.spawn(async move { dispatch(&identity, &store, request).await });
        Box::pin(async move { work.await.unwrap_or_else(|_| page::broken()) })
    }
}

/// One arm per page of the table above.
async fn dispatch(identity: &Identity, store: &Store, request: HouseRequest) -> HouseAnswer {
    match request.page {
        "authorize" => match query(&request) {
            Some(query) => {
                let outcome = identity.authorize(&query, cookies::presented(&request)).await;
                login_pages::show(outcome)
            }
            None => page::refused(400, "ParametersMalformed", "The request could not be read."),
        },
        "login" | "totp" | "consent" => login_step(identity, &request).await,
        "token" => oauth::token(identity, &request).await,
        "revoke" => oauth::revoke(identity, &request).await,
        "jwks" => page::json(&identity.jwks(), "public, max-age=300"),
        "metadata" => page::json(&identity.metadata(), "public, max-age=300"),
        "passport_keys" => page::json(&identity.passport_jwks(), "public, max-age=300"),
        "resource_metadata" => oauth::resource_metadata(identity, &request),
        "style" => page::style(),
        "plain_token" => revoke_exposed(store, &request).await,
        _ => page::broken(),
    }
}

/// A form of the login: same origin only, then identity's step.
async fn login_step(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    // A form posted from a foreign page is refused before anything is read; the sealed state bound
    // to the `__Host-pc-tx` cookie refuses it a second time.
    if !page::from_same_origin(request) {
        return page::refused(403, "OriginForeign", "This form was sent from another site.");
    }
    let form = match Parameters::parse(&request.body) {
        Ok(form) if page::is_form(request) => form,
        _ => return page::refused(400, "FormMalformed", "The form could not be read."),
    };
    let presented = cookies::presented(request);
    let outcome = match request.page {
        "login" => identity.password(&form, presented).await,
        "totp" => identity.totp(&form, presented).await,
        _ => identity.consent(&form, presented).await,
    };
    login_pages::show(outcome)
}

fn query(request: &HouseRequest) -> Option<Parameters> {
    let raw = request.query.as_deref().unwrap_or_default();
    // RFC 6749 §3.1: request parameters MUST NOT be included more than once. A page, never a
    // redirect: with a doubled `redirect_uri` there is no telling whose it is.
    Parameters::parse(raw.as_bytes()).ok()
}

/// A live token that arrived in clear or in a query is dead from now on (`1-product`).
async fn revoke_exposed(store: &Store, request: &HouseRequest) -> HouseAnswer {
    let Some(token) = request.token.as_ref() else { return page::broken() };
    let claims = token.claims();
    let (jti, expires) = (claims.jti.clone(), Timestamp::from_unix(claims.exp));
    let (caller, client) = (claims.caller(), claims.client_id.to_string());
    let done: Result<u64, StoreFault> = store
        .transact(async move |tx| tx.revoke(RevocationKind::Token, jti.as_str(), expires).await)
        .await;
    let mut answer = page::broken();
    if done.is_ok() {
        answer = page::json(&serde_json::json!({}), "no-store");
        answer.outcome = Ok("TokenExposedRevoked".into());
    }
    answer.event = "revoke";
    answer.caller = Some(caller);
    answer.client = Some(client);
    answer
}

#[cfg(test)]
mod tests;
