//! The certificate that a client showed on its connection, judged by the CA in force.
//!
//! Judged again after a reload and once a minute, since a connection may outlive a certificate, or the
//! CA that it was trusted by; a resumed session brings the chain of its first handshake along, and is
//! judged like a new one. Where none was shown this costs nothing.

use std::cell::Cell;
use std::sync::Arc;

use portcullis_core::certificate::ClientCertificate;
use portcullis_core::time::Timestamp;
use rustls::pki_types::CertificateDer;

use crate::journey::Gateway;
use crate::tls::clients;

/// How long a judgement stands, in seconds.
const STANDS_S: i64 = 60;

/// The chain shown; empty for nothing.
pub(crate) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    /// By which generation and when it was judged last.
    judged: Cell<Option<(u64, i64)>>,
}

impl Shown {
    /// No certificate.
    pub(crate) fn nothing() -> Self {
        Shown::at_the_handshake(None)
    }

    /// What the handshake, or the session that it resumed, has.
    pub(crate) fn at_the_handshake(chain: Option<&[CertificateDer<'_>]>) -> Self {
        let chain = chain.unwrap_or_default().iter().map(|one| one.clone().into_owned());
        Shown { chain: chain.collect(), judged: Cell::new(None) }
    }

    /// The certificate, when it is time to judge it: `None` while the last judgement stands.
    pub(crate) fn judged_anew(
        &self,
        gateway: &Gateway,
        now: Timestamp,
    ) -> Option<Option<Arc<ClientCertificate>>> {
        if self.chain.is_empty() {
            return None;
        }
        let snapshot = gateway.snapshot.load();
        let stands = |(generation, at): (u64, i64)| {
            // A clock set back judges anew.
            generation == snapshot.generation
                && (0..STANDS_S).contains(&now.unix().saturating_sub(at))
        };
        if self.judged.get().is_some_and(stands) {
            return None;
        }
        self.judged.set(Some((snapshot.generation, now.unix())));
        Some(clients::read(&self.chain, snapshot.client_ca.as_deref(), now))
    }
}
