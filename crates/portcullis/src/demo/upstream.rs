//! The sample payments API behind the demo: a plain HTTP server on loopback that knows nothing of
//! tokens. It answers with what it was told about the caller, so that one can see what an upstream
//! receives.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use portcullis_core::jose::base64url;
use serde_json::{Value, json};

/// The document that the demo's config names.
pub(super) const DOCUMENT: &str = include_str!("payments.yaml");

/// Largest body that the sample reads.
const BODY_MAX: usize = 64 * 1024;

/// Who owns which invoice: what the sample answers Portcullis when it looks an owner up.
#[derive(Clone, Default)]
pub(super) struct Owners(Arc<Mutex<BTreeMap<String, String>>>);

impl Owners {
    /// Gives an invoice to a user.
    pub(super) fn give(&self, invoice: &str, user: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(invoice.into(), user.into());
    }

    fn of(&self, invoice: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(invoice).cloned()
    }
}

/// Starts the sample on a free loopback port of the current runtime.
///
/// # Errors
/// When no loopback port can be bound.
pub(super) async fn start(owners: Owners) -> std::io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let owners = owners.clone();
            let service = hyper::service::service_fn(move |request| {
                let owners = owners.clone();
                async move { answer(&owners, request).await }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}

async fn answer(
    owners: &Owners,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let identity = identity(&request);
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.map(|whole| whole.to_bytes());
    let segments: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
    let (status, mut document) = match (&parts.method, segments.as_slice()) {
        (&Method::GET, ["rates"]) => {
            (StatusCode::OK, json!({"EUR/USD": 1.0842, "EUR/GBP": 0.8391}))
        }
        (&Method::GET, ["accounts", account]) => {
            (StatusCode::OK, json!({"account": account, "balance": "1250.00", "currency": "EUR"}))
        }
        (&Method::GET, ["accounts", account, "payments"]) => (
            StatusCode::OK,
            json!({"account": account, "payments": [{"id": "p1", "amount": "12.50", "to": "Bakery"}]}),
        ),
        (&Method::POST, ["accounts", account, "payments"]) => {
            let wanted: Value = body
                .ok()
                .and_then(|body| serde_json::from_slice(&body).ok())
                .unwrap_or(Value::Null);
            (StatusCode::CREATED, json!({"account": account, "accepted": wanted}))
        }
        (&Method::GET, ["invoices", invoice]) if owners.of(invoice).is_some() => {
            (StatusCode::OK, json!({"invoice": invoice, "total": "12.50"}))
        }
        // Asked by Portcullis alone: no line of the config opens it to anyone.
        (&Method::GET, ["internal", "owner", invoice]) => match owners.of(invoice) {
            Some(owner) => (StatusCode::OK, json!({"owner": owner})),
            None => (StatusCode::NOT_FOUND, json!({"error": "no such invoice"})),
        },
        (&Method::POST, ["settlements"]) => (StatusCode::OK, json!({"settled": true})),
        (&Method::GET, ["settlements"]) => (StatusCode::OK, json!({"settlements": []})),
        (&Method::GET, ["admin", "report"]) => (StatusCode::OK, json!({"report": "all accounts"})),
        _ => (StatusCode::NOT_FOUND, json!({"error": "no such thing in the sample"})),
    };
    if let Some(fields) = document.as_object_mut() {
        fields.insert("told_about_the_caller".into(), identity);
    }
    let mut response = Response::new(Full::new(Bytes::from(format!("{document}\n"))));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

/// The claims of `Portcullis-Identity`, shown as they came. A real upstream verifies them against
/// `/.well-known/portcullis-jwks`.
fn identity(request: &Request<Incoming>) -> Value {
    let token = request.headers().get("portcullis-identity").and_then(|value| value.to_str().ok());
    let payload = token.and_then(|token| token.split('.').nth(1));
    payload
        .and_then(|payload| base64url::decode(payload).ok())
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or(Value::Null)
}
