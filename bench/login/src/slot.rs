//! One client at work: its connection, its person's cookie, its refresh token.

use std::rc::Rc;

use portcullis_core::hash::sha256;
use portcullis_core::jose::base64url;
use portcullis_core::web::form_encode as escaped;

use crate::Fault;
use crate::minted::Minted;
use crate::plan::{Kind, Plan};
use crate::wire::{Ask, Dialer, Reply, Wire};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client at work.
pub(crate) struct Slot {
    plan: Rc<Plan>,
    minted: Rc<Minted>,
    wire: Wire,
    number: usize,
    flows: u64,
    refresh: String,
}

/// A code, and what redeems it.
pub(crate) struct Code {
    pub(crate) code: String,
    pub(crate) verifier: String,
}

impl Slot {
    pub(crate) async fn open(
        plan: &Rc<Plan>,
        dialer: &Dialer,
        minted: &Rc<Minted>,
        number: usize,
    ) -> Result<Self, Fault> {
        let (plan, minted, wire) = (plan.clone(), minted.clone(), dialer.dial().await?);
        Ok(Slot { plan, minted, wire, number, flows: 0, refresh: String::new() })
    }

    /// The server's nonce, out of its refusal of a proof without one (RFC 9449 §8).
    pub(crate) async fn first_nonce(&mut self) -> Result<String, Fault> {
        let form = match self.plan.kind {
            Kind::ClientCredentials => self.credentials(),
            Kind::Refresh | Kind::Code => {
                let code = self.code().await?;
                self.redemption(&code)
            }
        };
        let ask = self.token_request(&form);
        let reply = self.wire.ask(ask).await?;
        match &reply.nonce {
            Some(nonce) if reply.status == 400 => Ok(nonce.clone()),
            Some(_) | None => Err(reply.unlike("a proof without a nonce")),
        }
    }

    /// What it must have before it can begin.
    pub(crate) async fn prepare(&mut self) -> Result<(), Fault> {
        if self.plan.kind == Kind::Refresh {
            let code = self.code().await?;
            let form = self.redemption(&code);
            self.refresh = self.token(&form).await?.member("refresh_token", "a code")?;
        }
        Ok(())
    }

    /// One answer.
    pub(crate) async fn once(&mut self) -> Result<(), Fault> {
        match self.plan.kind {
            Kind::ClientCredentials => {
                let form = self.credentials();
                self.token(&form).await?.member("access_token", "client credentials").map(drop)
            }
            Kind::Refresh => {
                let token =
                    form(&[("grant_type", "refresh_token"), ("refresh_token", &self.refresh)]);
                let reply = self.token(&token).await?;
                reply.member("access_token", "a refresh token")?;
                self.refresh = reply.member("refresh_token", "a refresh token")?;
                Ok(())
            }
            Kind::Code => {
                let code = self.code().await?;
                let form = self.redemption(&code);
                self.token(&form).await?.member("access_token", "a code").map(drop)
            }
        }
    }

    pub(crate) fn credentials(&self) -> String {
        let fields = [
            ("grant_type", "client_credentials"),
            ("scope", &self.plan.scope),
            ("resource", &self.plan.resource),
        ];
        form(&fields)
    }

    pub(crate) fn redemption(&self, code: &Code) -> String {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &code.code),
            ("code_verifier", &code.verifier),
            ("redirect_uri", &self.plan.redirect),
        ];
        form(&fields)
    }

    /// From the authorization request to the code, for someone who is signed in.
    pub(crate) async fn code(&mut self) -> Result<Code, Fault> {
        self.flows += 1;
        let verifier = format!("{:043}", self.number as u64 * 1_000_000_000 + self.flows);
        let state = format!("{}-{}", self.number, self.flows);
        let challenge = base64url::encode(&sha256(verifier.as_bytes()));
        let mut asked = form(&[
            ("response_type", "code"),
            ("client_id", &self.plan.client),
            ("redirect_uri", &self.plan.redirect),
            ("scope", &self.plan.scope),
            ("resource", &self.plan.resource),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        if self.plan.pushed {
            asked = self.push(&asked).await?;
        }
        let people = self.plan.cookies.len().max(1);
        let cookie = self.plan.cookies.get(self.number % people).cloned();
        let target = format!("{}?{asked}", self.plan.authorize);
        let reply = self.wire.ask(Ask { target, cookie, ..Ask::default() }).await?;
        let location = reply.location.as_deref().unwrap_or_default();
        let query =
            location.strip_prefix(&*self.plan.redirect).and_then(|rest| rest.strip_prefix('?'));
        let field = |name: &str| {
            let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(found, _)| *found == name).map(|(_, value)| value.to_owned()).next()
        };
        match (reply.status, field("code"), field("state")) {
            (302 | 303, Some(code), Some(back)) if back == state => Ok(Code { code, verifier }),
            _ => Err(reply.unlike("an authorization request")),
        }
    }

    /// RFC 9126 §2: the request by the back channel; what is left of it for the browser.
    async fn push(&mut self, asked: &str) -> Result<String, Fault> {
        let ask = Ask { target: self.plan.par.clone(), proof: None, ..self.authenticated(asked) };
        let reference = self.wire.ask(ask).await?.member("request_uri", "a pushed request")?;
        Ok(form(&[("client_id", &self.plan.client), ("request_uri", &reference)]))
    }

    /// A token request, answered.
    pub(crate) async fn token(&mut self, form: &str) -> Result<Reply, Fault> {
        let ask = self.token_request(form);
        self.send(ask).await
    }

    pub(crate) fn token_request(&self, form: &str) -> Ask {
        Ask { proof: self.minted.proof(), ..self.authenticated(form) }
    }

    pub(crate) async fn send(&mut self, ask: Ask) -> Result<Reply, Fault> {
        self.wire.ask(ask).await
    }

    /// The form with the client's proof of itself, for the token endpoint.
    fn authenticated(&self, fields: &str) -> Ask {
        let (plan, target) = (&self.plan, self.plan.token.clone());
        let mut body = fields.to_owned();
        if let Some(secret) = &plan.secret {
            let authorization = Some(basic(&plan.client, secret));
            return Ask { target, form: Some(body), authorization, ..Ask::default() };
        }
        if !body.contains("client_id=") {
            body = format!("{body}&client_id={}", plan.client);
        }
        // Last, so that whoever forges it finds the signature at the end.
        if let Some(assertion) = self.minted.assertion() {
            let named =
                [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", &assertion)];
            body = format!("{body}&{}", form(&named));
        }
        Ask { target, form: Some(body), ..Ask::default() }
    }
}

/// A form, or a query.
fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// RFC 7617 §2; ids and secrets of the bench are letters, digits and hyphens.
pub(crate) fn basic(client: &str, secret: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let pair = format!("{client}:{secret}");
    let mut text = String::from("Basic ");
    for chunk in pair.as_bytes().chunks(3) {
        let at = |n: usize| chunk.get(n).copied().map_or(0, u32::from);
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) & 63;
            let letter = ALPHABET.get(index as usize).filter(|_| digit <= chunk.len());
            text.push(letter.copied().map_or('=', char::from));
        }
    }
    text
}
