//! The demo's own application and authenticator: a native client on loopback. It shows the users'
//! passwords and current codes, sends the browser to the login, redeems the code as any client
//! would, and shows what the token may do.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use askama::Template;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use portcullis_core::bearer::Plain;
use portcullis_core::entropy::Entropy;
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::otp::step_at;
use portcullis_core::time::Clock;
use portcullis_core::web::{Parameters, form_encode};

use super::{Person, Place};
use crate::https_client::Client;

/// Most logins that are under way at once; the oldest is forgotten.
const PENDING_MAX: usize = 32;

/// The login's style sheet, and a little more for tables and listings.
const STYLE: &str =
    concat!(include_str!("../../static/portcullis.css"), include_str!("../../static/demo.css"));

/// Marks the random values of the demo's client.
enum AppValue {}

/// The application.
pub(super) struct App {
    /// Where everything is.
    pub(super) place: Place,
    /// The demo's users.
    pub(super) people: Vec<Person>,
    /// The client that trusts the demo's CA.
    pub(super) client: Client,
    /// Randomness for state and verifier.
    pub(super) entropy: Arc<dyn Entropy>,
    /// For the codes shown.
    pub(super) clock: Arc<dyn Clock>,
    /// Logins under way: state and verifier.
    pub(super) pending: Mutex<Vec<(String, String)>>,
}

#[derive(Template)]
#[template(path = "demo_app.html")]
struct HomePage<'p> {
    people: Vec<PersonView<'p>>,
    at: &'p str,
    style: &'static str,
}

struct PersonView<'p> {
    login: &'p str,
    password: &'p str,
    code: String,
    account: &'p str,
}

#[derive(Template)]
#[template(path = "demo_token.html")]
struct TokenPage<'p> {
    claims: String,
    curls: Vec<String>,
    failure: &'p str,
    style: &'static str,
}

/// Serves the application on a bound listener until the runtime ends.
pub(super) fn serve(app: Arc<App>, listener: tokio::net::TcpListener) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let app = app.clone();
            let service = hyper::service::service_fn(move |request| {
                let app = app.clone();
                async move { Ok::<_, Infallible>(app.answer(&request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
}

impl App {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/" => page(StatusCode::OK, self.home()),
            "/login" => self.begin(),
            "/cb" => self.finish(request.uri().query().unwrap_or_default()).await,
            _ => page(StatusCode::NOT_FOUND, String::from("not found")),
        }
    }

    fn home(&self) -> String {
        let step = step_at(self.clock.now());
        let people = self.people.iter().map(|person| PersonView {
            login: &person.login,
            password: &person.password,
            code: person.totp.code(step),
            account: &person.account,
        });
        HomePage { people: people.collect(), at: &self.place.api, style: STYLE }
            .render()
            .unwrap_or_default()
    }

    /// RFC 7636 §4.1–4.3: a fresh verifier per login; `state` binds the answer to this browser.
    fn begin(&self) -> Response<Full<Bytes>> {
        let state = Plain::<AppValue>::mint(&*self.entropy).reveal().to_owned();
        let verifier = Plain::<AppValue>::mint(&*self.entropy).reveal().to_owned();
        let location = self.place.authorize_url(&state, &Challenge::of(&verifier));
        let mut pending = self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pending.len() >= PENDING_MAX {
            pending.remove(0);
        }
        pending.push((state, verifier));
        let mut response = page(StatusCode::SEE_OTHER, String::new());
        if let Ok(location) = http::HeaderValue::from_str(&location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }

    async fn finish(&self, query: &str) -> Response<Full<Bytes>> {
        let parameters = Parameters::parse(query.as_bytes()).unwrap_or_default();
        let state = parameters.value("state").unwrap_or_default();
        let verifier = {
            let mut pending =
                self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let at = pending.iter().position(|(known, _)| known == state);
            at.map(|at| pending.remove(at).1)
        };
        let (Some(verifier), Some(code)) = (verifier, parameters.value("code")) else {
            let failure =
                parameters.value("error").unwrap_or("this answer belongs to no login of mine");
            let shown =
                TokenPage { claims: String::new(), curls: Vec::new(), failure, style: STYLE };
            return page(StatusCode::BAD_REQUEST, shown.render().unwrap_or_default());
        };
        match self.redeem(code, &verifier).await {
            Ok(shown) => page(StatusCode::OK, shown),
            Err(fault) => page(StatusCode::BAD_GATEWAY, form_encode(&fault.to_string())),
        }
    }

    async fn redeem(&self, code: &str, verifier: &str) -> anyhow::Result<String> {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("redirect_uri", self.place.redirect.as_str()),
            ("code", code),
            ("code_verifier", verifier),
        ];
        let answer = self.client.post(&self.place.token_url(), &[], &form).await?;
        let document = answer.json();
        let token = document.get("access_token").and_then(|token| token.as_str());
        let claims = token.map(super::claims_of).unwrap_or_else(|| document.clone());
        let account = claims.pointer("/attributes/account").and_then(|value| value.as_str());
        let curls = self.place.curls_for(token.unwrap_or_default(), account.unwrap_or("acc-alice"));
        let claims = serde_json::to_string_pretty(&claims)?;
        Ok(TokenPage { claims, curls, failure: "", style: STYLE }.render()?)
    }
}

fn page(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let html = http::HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}
