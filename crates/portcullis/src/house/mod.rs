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
use portcullis_identity::server::Identity;
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

/// Every page of the issuer's origin: method, path, name, what it reads, who else calls it.
const ISSUER_PAGES: &[(&str, &str, &str, Reads, Callers)] = &[
    ("GET", "/oauth/authorize", "authorize", Reads::Session, Callers::People),
    ("POST", "/oauth/authorize", "authorize", Reads::Session, Callers::People),
    ("POST", "/login", "login", Reads::Session, Callers::People),
    ("POST", "/login/totp", "totp", Reads::Session, Callers::People),
    ("POST", "/consent", "consent", Reads::Session, Callers::People),
    ("GET", "/device", "device_page", Reads::Session, Callers::People),
    ("POST", "/device", "device_page", Reads::Session, Callers::People),
    ("GET", "/logout", "logout", Reads::Session, Callers::People),
    ("POST", "/logout", "logout", Reads::Session, Callers::People),
    ("POST", "/oauth/par", "par", Reads::Client, Callers::Clients),
    ("POST", "/oauth/token", "token", Reads::Client, Callers::Clients),
    ("POST", "/oauth/device", "device", Reads::Client, Callers::Clients),
    ("POST", "/oauth/revoke", "revoke", Reads::Client, Callers::Clients),
    ("POST", "/oauth/introspect", "introspect", Reads::Client, Callers::Clients),
    ("GET", "/oauth/userinfo", "userinfo", Reads::Token, Callers::Clients),
    ("POST", "/oauth/userinfo", "userinfo", Reads::Token, Callers::Clients),
    ("GET", "/oauth/jwks", "jwks", Reads::Nothing, Callers::Anyone),
    ("GET", "/.well-known/openid-configuration", "metadata", Reads::Nothing, Callers::Anyone),
    ("GET", "/.well-known/oauth-authorization-server", "metadata", Reads::Nothing, Callers::Anyone),
    ("GET", "/.well-known/portcullis-jwks", "passport_keys", Reads::Nothing, Callers::People),
    ("GET", "/static/portcullis.css", "style", Reads::Nothing, Callers::People),
];

/// The pages of dynamic registration: there only when the file switches it on.
const REGISTRATION_PAGES: &[(&str, &str, &str, Reads, Callers)] = &[
    ("POST", "/oauth/register", "register", Reads::Client, Callers::People),
    ("GET", "/oauth/register/client", "registered", Reads::Client, Callers::People),
    ("PUT", "/oauth/register/client", "registered", Reads::Client, Callers::People),
    ("DELETE", "/oauth/register/client", "registered", Reads::Client, Callers::People),
];

/// Whose programs call a page besides the issuer's own origin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Callers {
    /// No page of another origin.
    People,
    /// Single-page applications (CORS for the origins of their redirects); and the origin of
    /// `[identity] mtls` has it too.
    Clients,
    /// Single-page applications.
    Anyone,
}

/// What the table of pages depends on.
pub(crate) struct Site<'s> {
    /// The issuer.
    pub issuer: &'s Address,
    /// Where client certificates are asked for.
    pub mtls: Option<&'s Address>,
    /// Whether clients may register themselves.
    pub registration: bool,
    /// Each API's address.
    pub apis: &'s [Arc<Address>],
    /// The origins of single-page applications.
    pub spa_origins: &'s [Origin],
}

/// The house's routes: the issuer's pages, and on each API's host its RFC 9728 metadata and the
/// keys of `Portcullis-Identity`. `spa_origins` get CORS where a single-page application calls.
pub(crate) fn table(site: &Site<'_>) -> HouseTable {
    let mut table = HouseTable::new();
    let issuer: Box<str> = site.issuer.authority().into();
    let more = if site.registration { REGISTRATION_PAGES } else { &[] };
    for (method, path, page, reads, callers) in ISSUER_PAGES.iter().chain(more) {
        let cors = match callers {
            Callers::People => Vec::new(),
            Callers::Clients | Callers::Anyone => site.spa_origins.to_vec(),
        };
        let line = HouseLine {
            method,
            page,
            reads: *reads,
            limit: "house".into(),
            cors,
            body_max: FORM_MAX,
        };
        // RFC 8705 §5: the same endpoints where certificates are asked for.
        if let (Callers::Clients, Some(mtls)) = (callers, site.mtls) {
            let at = (mtls.authority().into(), (*path).into());
            table.entry(at).or_default().push(line.clone());
        }
        // RFC 8414 §3: the well-known path is inserted before the issuer's own path. Our issuer has
        // none (checked when the file is read), so the path stands as it is.
        table.entry((issuer.clone(), (*path).into())).or_default().push(line);
    }
    let (apis, spa_origins) = (site.apis, site.spa_origins);
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
        "authorize" => match parameters(&request) {
            Some(asked) => {
                let outcome = identity.authorize(&asked, cookies::presented(&request)).await;
                login_pages::show(outcome)
            }
            None => page::refused(400, "ParametersMalformed", "The request could not be read."),
        },
        "login" | "totp" | "consent" => login_step(identity, &request).await,
        "device_page" => match parameters(&request) {
            Some(asked) if request.method != "POST" || page::from_same_origin(&request) => {
                login_pages::show(identity.device_page(&asked, cookies::presented(&request)).await)
            }
            Some(_) => page::refused(403, "OriginForeign", "This form was sent from another site."),
            None => page::refused(400, "ParametersMalformed", "The request could not be read."),
        },
        // A client's own page may send its user here with a form (RP-Initiated Logout §2); what
        // confirms is the hint, or our own page's sealed state. A foreign form that says nothing
        // brings no cookie either: asked again as a page of our own, it does.
        "logout" if is_bare_foreign_post(&request) => page::moved("/logout", "LogoutAskedAgain"),
        "logout" => match parameters(&request) {
            Some(asked) => {
                login_pages::show(identity.log_out(&asked, cookies::presented(&request)).await)
            }
            None => page::refused(400, "ParametersMalformed", "The request could not be read."),
        },
        "par" => oauth::push(identity, &request).await,
        "device" => oauth::device(identity, &request).await,
        "introspect" => oauth::introspect(identity, &request).await,
        "userinfo" => oauth::userinfo(identity, &request).await,
        "register" | "registered" => oauth::register(identity, &request).await,
        "token" => oauth::token(identity, &request).await,
        "revoke" => oauth::revoke(identity, &request).await,
        "jwks" => page::json(&identity.jwks(), "public, max-age=300"),
        "metadata" => page::json(&identity.metadata(), "public, max-age=300"),
        "passport_keys" => page::json(&identity.passport_jwks(), "public, max-age=300"),
        "resource_metadata" => oauth::resource_metadata(identity, &request),
        "style" => page::style(),
        "plain_token" => revoke_exposed(store, &request, identity.now()).await,
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

fn is_bare_foreign_post(request: &HouseRequest) -> bool {
    request.method == "POST" && request.body.is_empty() && !page::from_same_origin(request)
}

/// The parameters of a page that takes them in the query or in a form (OpenID Connect Core §3.1.2.1).
fn parameters(request: &HouseRequest) -> Option<Parameters> {
    // RFC 6749 §3.1: request parameters MUST NOT be included more than once. A page, never a
    // redirect: with a doubled `redirect_uri` there is no telling whose it is.
    if request.method == "POST" {
        return page::is_form(request).then(|| Parameters::parse(&request.body).ok()).flatten();
    }
    Parameters::parse(request.query.as_deref().unwrap_or_default().as_bytes()).ok()
}

/// A live token or API key that arrived in clear or in a query is dead from now on (`1-product`).
async fn revoke_exposed(store: &Store, request: &HouseRequest, now: Timestamp) -> HouseAnswer {
    if let Some(key) = request.key.as_ref() {
        let id = key.id.clone();
        let done: Result<bool, StoreFault> =
            store.transact(async move |tx| tx.revoke_api_key(&id, now).await).await;
        let mut answer = page::json(&serde_json::json!({}), "no-store");
        answer.event = "revoke";
        answer.outcome = match done {
            Ok(_) => Ok("KeyExposedRevoked".into()),
            Err(_) => Err("HouseFailed".into()),
        };
        answer.caller = Some(format!("service:{}", key.client));
        answer.client = Some(key.client.to_string());
        return answer;
    }
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
