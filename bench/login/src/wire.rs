//! One kept-alive HTTP/1.1 connection over TLS.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, COOKIE, HOST, HeaderName, LOCATION};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use crate::Fault;
use crate::plan::Plan;

/// Opens connections to the one server.
pub(crate) struct Dialer {
    tls: TlsConnector,
    address: String,
    host: HeaderValue,
    name: ServerName<'static>,
}

/// A connection.
pub(crate) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

/// A request, but for what every one has.
#[derive(Default)]
pub(crate) struct Ask {
    pub(crate) target: String,
    /// A form: then it is a POST.
    pub(crate) form: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) cookie: Option<String>,
    pub(crate) proof: Option<String>,
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) body: Bytes,
}

impl Dialer {
    pub(crate) fn new(plan: &Plan) -> Result<Self, Fault> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&plan.certificate)? {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = plan.host.split(':').next().unwrap_or_default().to_owned();
        Ok(Dialer {
            tls: TlsConnector::from(Arc::new(config)),
            address: plan.address.clone(),
            host: HeaderValue::from_str(&plan.host)?,
            name: ServerName::try_from(name)?,
        })
    }

    pub(crate) async fn dial(&self) -> Result<Wire, Fault> {
        let plain = TcpStream::connect(&self.address).await?;
        plain.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), plain).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its end is seen by whoever asks next.
        spawn_local(async move { connection.await.ok() });
        Ok(Wire { sender, host: self.host.clone() })
    }
}

impl Wire {
    pub(crate) async fn ask(&mut self, ask: Ask) -> Result<Reply, Fault> {
        let method = if ask.form.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::new(Full::new(Bytes::from(ask.form.unwrap_or_default())));
        *request.uri_mut() = ask.target.parse()?;
        let fields = request.headers_mut();
        fields.insert(HOST, self.host.clone());
        if method == Method::POST {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            fields.insert(CONTENT_TYPE, form);
        }
        let proof = HeaderName::from_static("dpop");
        let optional = [
            (http::header::AUTHORIZATION, ask.authorization),
            (COOKIE, ask.cookie),
            (proof, ask.proof),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                fields.insert(name, HeaderValue::try_from(value)?);
            }
        }
        *request.method_mut() = method;
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let text = |name: HeaderName| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
        Ok(Reply {
            status: head.status.as_u16(),
            location: text(LOCATION),
            nonce: text(HeaderName::from_static("dpop-nonce")),
            body: body.collect().await?.to_bytes(),
        })
    }
}

impl Reply {
    /// A fault that shows the answer.
    pub(crate) fn unlike(&self, what: &str) -> Fault {
        let body = String::from_utf8_lossy(&self.body).chars().take(400).collect::<String>();
        let location = self.location.as_deref().unwrap_or("");
        format!("{what} was answered {} {location} {body}", self.status).into()
    }

    /// A member of a JSON answer of 2xx.
    pub(crate) fn member(&self, name: &str, what: &str) -> Result<String, Fault> {
        if !(200..300).contains(&self.status) {
            return Err(self.unlike(what));
        }
        let value: serde_json::Value = serde_json::from_slice(&self.body)?;
        let member = value.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        member.ok_or_else(|| self.unlike(what))
    }
}
