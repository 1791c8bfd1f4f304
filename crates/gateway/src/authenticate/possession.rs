//! That whoever shows a bound token has what it is bound to: the key of a DPoP proof (RFC 9449), or
//! the certificate of the connection (RFC 8705). Asked on every request, also for a token that is
//! remembered: it is the request that is proven, not the token.

use portcullis_core::jose::claims::Confirmation;
use portcullis_core::jose::dpop::{Expected, ProofFault};

use super::credential::{Presented, Scheme, sole_proof};
use super::{CredentialFault, Desk};
use crate::limit;
use crate::tokens::Known;

impl Desk<'_> {
    /// Holds scheme, binding and proof together.
    pub(super) async fn possesses(
        &self,
        known: &Known,
        presented: Presented<'_>,
    ) -> Result<(), CredentialFault> {
        match (&known.confirmation, presented.scheme) {
            (None, Scheme::Bearer) => Ok(()),
            // RFC 9449 §7.1: a token that is not bound to a key is none for the scheme `DPoP`.
            (None | Some(Confirmation::Certificate(_)), Scheme::Dpop) => {
                Err(CredentialFault::TokenNotOfKey)
            }
            // RFC 9449 §7.2: a bound token as a bearer token is refused, or the binding is worth
            // nothing.
            (Some(Confirmation::Key(_)), Scheme::Bearer) => Err(CredentialFault::ProofMissing),
            (Some(Confirmation::Certificate(thumbprint)), Scheme::Bearer) => {
                self.shows_certificate(thumbprint)
            }
            (Some(Confirmation::Key(thumbprint)), Scheme::Dpop) => {
                Box::pin(self.proves_key(thumbprint, presented.text)).await
            }
        }
    }

    /// RFC 8705 §3: the certificate of this connection is the one that the token names.
    fn shows_certificate(&self, thumbprint: &str) -> Result<(), CredentialFault> {
        match &self.cleansed.connection.certificate {
            None => Err(CredentialFault::CertificateMissing),
            Some(shown) if shown.thumbprint() == thumbprint => Ok(()),
            Some(_) => Err(CredentialFault::CertificateOther),
        }
    }

    /// RFC 9449 §4.3: every check of the proof, then that its key is the token's.
    async fn proves_key(&self, thumbprint: &str, token: &str) -> Result<(), CredentialFault> {
        let proof = sole_proof(&self.cleansed.parts.headers)?;
        let (ip, at) = (self.cleansed.ip, self.cleansed.at);
        let gateway = &self.worker.gateway;
        let counters = gateway.counters.as_ref();
        // A proof is a signature too: whoever spent its address's failures waits for it.
        if limit::failures_exhausted(counters, self.snapshot, ip, at).is_some() {
            self.worker.slow_lane.wait().await?;
        }
        // RFC 9449 §4.2: `htu` is the target without query and fragment, as the client sees it: our
        // authority, whatever stands between, and always https.
        let url = format!("https://{}{}", self.cleansed.authority, self.cleansed.path);
        let method = self.cleansed.parts.method.as_str();
        let expected = Expected { method, url: &url, token: Some(token) };
        let proof = gateway.proofs.judge(proof, &expected, at).map_err(CredentialFault::Proof)?;
        // RFC 9449 §4.3, point 12: the key of the proof is the one that the token is bound to.
        match proof.thumbprint() == thumbprint {
            true => Ok(()),
            false => Err(CredentialFault::ProofKeyOther),
        }
    }
}

/// Whether a proof's fault is a forgery, which charges its address (`5-limits`, point 6): not a clock
/// that is off, a nonce that is stale, or a proof that was made for something else.
pub(super) fn is_forged(fault: ProofFault) -> bool {
    match fault {
        ProofFault::Malformed
        | ProofFault::TypeWrong
        | ProofFault::AlgorithmNotAccepted
        | ProofFault::KeyMalformed
        | ProofFault::SignatureWrong
        | ProofFault::ClaimMalformed => true,
        ProofFault::MethodOther
        | ProofFault::AddressOther
        | ProofFault::TimeOff
        | ProofFault::TokenOther
        | ProofFault::NonceWanted
        | ProofFault::Replayed
        | ProofFault::Crowded => false,
    }
}
