//! The canonical request: the only type that can be matched, recorded or forwarded.
//!
//! Takes what arrived, refuses what is not canonical (`3-gateway`, stage 3; the reject list of
//! `6-attacks`), removes every reserved and hop-by-hop field. HTTP/2 comes here without having passed
//! the wire guard, so whatever both versions share is judged here, again. Decides nothing about
//! rights.

pub(crate) mod fault;
pub(crate) mod body;
pub(crate) mod path;
pub(crate) mod override_scan;
pub(crate) mod authority;
pub(crate) mod fields;
pub(crate) mod reserved;
pub(crate) mod peer;

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::uri::Scheme;
use hyper::body::Incoming;
use ipnet::IpNet;
use portcullis_core::certificate::ClientCertificate;
use portcullis_core::time::Timestamp;

pub use fault::HygieneFault;

use body::HeldBody;

use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// Facts of the connection that a request arrived on.
#[derive(Debug)]
pub struct Connection {
    /// The peer's socket address.
    pub peer: std::net::SocketAddr,
    /// The name asked in TLS, lower case; `None` on the plain listener.
    pub sni: Option<Box<str>>,
    /// The port of the listener (for authorities such as `localhost:8443`).
    pub port: u16,
    /// A number unique in this process.
    pub serial: u64,
    /// The client's certificate, where the host asks for one and the client showed one. Never what a
    /// field says: such fields are removed (`reserved`), also those of RFC 9440, also from proxies.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// A request as hyper delivered it, with what the wire guard found.
pub struct Arrived {
    /// Head and body.
    pub request: http::Request<Incoming>,
    /// Its connection.
    pub connection: Arc<Connection>,
    /// When its head was complete.
    pub at: Timestamp,
    /// Its serial: what a permit is minted for. Unique in this process.
    pub serial: u64,
    /// The fault that the wire guard found in its head, if any: the request is then a stand-in.
    pub wire_fault: Option<crate::guard::WireFault>,
}

/// A request that passed hygiene.
pub struct Cleansed {
    pub(crate) parts: Parts,
    pub(crate) body: HeldBody,
    /// Authority in lower case, without the default port.
    pub(crate) authority: Box<str>,
    /// The canonical path, as sent (escapes kept, validated).
    pub(crate) path: Box<str>,
    /// The raw query without `?`.
    pub(crate) query: Option<Box<str>>,
    /// The client's address: the socket's, or what trusted proxies say.
    pub(crate) ip: IpAddr,
    pub(crate) connection: Arc<Connection>,
    pub(crate) at: Timestamp,
    pub(crate) serial: u64,
}

/// Cleanses.
///
/// # Errors
/// [`Refusal::Wire`] for a stand-in, [`Refusal::Hygiene`] naming the rule broken.
pub(crate) fn cleanse(snapshot: &Snapshot, arrived: Arrived) -> Result<Cleansed, Refusal> {
    // INVARIANT: a stand-in is never judged as a request: it is not what the client sent.
    if let Some(fault) = arrived.wire_fault {
        return Err(Refusal::Wire(fault));
    }
    let (mut parts, body) = arrived.request.into_parts();
    let body = HeldBody::new(body, parts.version);
    let here = Here {
        authorities: &snapshot.authorities,
        trust_proxies: &snapshot.trust_proxies,
        connection: &arrived.connection,
    };
    let (authority, ip) = canonical(&mut parts, &here).map_err(Refusal::Hygiene)?;
    let path = parts.uri.path().into();
    let query = parts.uri.query().map(Box::from);
    let Arrived { connection, at, serial, .. } = arrived;
    Ok(Cleansed { parts, body, authority, path, query, ip, connection, at, serial })
}

/// What of this place and connection a request is judged by.
struct Here<'a> {
    authorities: &'a [Box<str>],
    trust_proxies: &'a [IpNet],
    connection: &'a Connection,
}

/// Judges a head and removes what does not get through; the authority and the client's address.
fn canonical(parts: &mut Parts, here: &Here<'_>) -> Result<(Box<str>, IpAddr), HygieneFault> {
    method(&parts.method)?;
    let query = parts.uri.query();
    if parts.uri.path().len() + query.map_or(0, str::len) > path::MAX_TARGET_BYTES {
        return Err(HygieneFault::TargetTooLong);
    }
    path::judge(parts.uri.path())?;
    query.map_or(Ok(()), path::judge_query)?;
    let sni = here.connection.sni.as_deref();
    // RFC 9110 §7.4: a request over TLS for an `http` target is not for this origin
    if sni.is_some() && parts.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTPS) {
        return Err(HygieneFault::SchemeDiffers);
    }
    let authority = authority::settle(&parts.uri, &parts.headers, here.authorities, sni)?;
    let ip = peer::client(here.connection.peer, here.trust_proxies, &parts.headers);
    fields::cleanse(&mut parts.headers, parts.version)?;
    Ok((authority, ip))
}

/// RFC 9110 §9.1: methods are case-sensitive. The known ones, as in the guard.
fn method(method: &http::Method) -> Result<(), HygieneFault> {
    match method.as_str() {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => Ok(()),
        other if other.bytes().any(|b| b.is_ascii_lowercase()) => {
            Err(HygieneFault::MethodLowerCase)
        }
        _ => Err(HygieneFault::MethodNotServed),
    }
}

#[cfg(test)]
mod tests;
