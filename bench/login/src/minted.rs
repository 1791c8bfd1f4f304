//! Assertions (RFC 7523) and DPoP proofs (RFC 9449), signed ahead.

use std::cell::{Cell, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_core::entropy::{Entropy, ProviderEntropy};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::base64url;
use portcullis_core::jose::dpop::{self, Expected};
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::time::Timestamp;
use serde::Serialize;

use crate::Fault;
use crate::plan::Plan;

/// Seconds that an assertion is good for.
const ASSERTION_LIFE_S: i64 = 120;

/// The stock, and what makes more of it.
pub(crate) struct Minted {
    client: String,
    issuer: String,
    token_url: String,
    key: Option<SigningKey>,
    proof_key: Option<SigningKey>,
    entropy: ProviderEntropy,
    nonce: RefCell<Option<String>>,
    assertions: RefCell<Vec<String>>,
    proofs: RefCell<Vec<String>>,
    late: Cell<u64>,
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: i64,
    exp: i64,
}

impl Minted {
    pub(crate) fn new(plan: &Plan) -> Result<Self, Fault> {
        let pem = plan.key.as_ref().map(std::fs::read_to_string).transpose()?;
        let proof_key = plan.dpop.then(|| SigningKey::generate(Algorithm::Es256)).transpose()?;
        Ok(Minted {
            client: plan.client.clone(),
            issuer: plan.issuer.clone(),
            token_url: format!("https://{}{}", plan.host, plan.token),
            key: pem.as_deref().map(SigningKey::from_pem).transpose()?,
            proof_key,
            entropy: ProviderEntropy::default(),
            nonce: RefCell::default(),
            assertions: RefCell::default(),
            proofs: RefCell::default(),
            late: Cell::new(0),
        })
    }

    /// The server's nonce from now on.
    pub(crate) fn renew(&self, nonce: String) {
        self.nonce.replace(Some(nonce));
    }

    /// Fills the stock.
    pub(crate) fn stock(&self, count: usize) {
        self.assertions.borrow_mut().extend((0..count).map_while(|_| self.assertion_now()));
        self.proofs.borrow_mut().extend((0..count).map_while(|_| self.proof_now()));
        self.late.set(0);
    }

    /// An assertion that nobody has seen; `None` for a client without a key.
    pub(crate) fn assertion(&self) -> Option<String> {
        let ready = self.assertions.borrow_mut().pop();
        ready.or_else(|| self.assertion_now().inspect(|_| self.late.set(self.late.get() + 1)))
    }

    /// A proof that nobody has seen; `None` without DPoP.
    pub(crate) fn proof(&self) -> Option<String> {
        let ready = self.proofs.borrow_mut().pop();
        ready.or_else(|| self.proof_now().inspect(|_| self.late.set(self.late.get() + 1)))
    }

    /// How many had to be signed while the load ran.
    pub(crate) fn late(&self) -> u64 {
        self.late.get()
    }

    fn assertion_now(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        let mut jti = [0; 16];
        self.entropy.fill(&mut jti);
        let iat = now().unix();
        let (iss, aud) = (&*self.client, &*self.issuer);
        let (jti, exp) = (base64url::encode(&jti), iat + ASSERTION_LIFE_S);
        Some(
            key.sign("client-authentication+jwt", &Assertion { iss, sub: iss, aud, jti, iat, exp }),
        )
    }

    fn proof_now(&self) -> Option<String> {
        let key = self.proof_key.as_ref()?;
        let expected = Expected { method: "POST", url: &self.token_url, token: None };
        Some(dpop::prove(key, &expected, self.nonce.borrow().as_deref(), (&self.entropy, now())))
    }
}

// The bench is a program for people at a terminal: nothing here is tested on a frozen clock.
#[allow(clippy::disallowed_methods)]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
