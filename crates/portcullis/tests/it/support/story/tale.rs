//! What has happened so far in a story: who plays, what was handed out (as `${…}`), browsers with
//! their cookies, and the page that is open.

use std::collections::BTreeMap;

use portcullis_core::bearer::Plain;
use portcullis_core::entropy::ProviderEntropy;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::time::Clock;

use super::super::browser;
use super::super::corpus;
use super::super::judge;
use super::super::seed::{Person, Wall};
use super::super::server::Server;
use super::super::wire::Answer;
use super::tokens;

/// The state of a story.
pub(super) struct Tale {
    people: [usize; super::PEOPLE],
    pub(super) kept: BTreeMap<String, String>,
    browsers: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) browser: String,
    /// The page that is open, and where it was fetched.
    pub(super) page: Answer,
    pub(super) place: String,
    /// The keys of proofs, by client and `own` or `other`.
    proof_keys: BTreeMap<String, SigningKey>,
    /// The client that spoke last.
    pub(super) client: String,
    pub(super) assertion: String,
    pub(super) proof: String,
    pub(super) nonce: Option<String>,
}

/// Marks random words.
enum Random {}

/// A word that nobody used before.
pub(super) fn fresh() -> String {
    Plain::<Random>::mint(&ProviderEntropy::default()).reveal().to_owned()
}

impl Tale {
    pub(super) fn new(people: [usize; super::PEOPLE]) -> Tale {
        let mut tale = Tale {
            people,
            kept: BTreeMap::new(),
            browsers: BTreeMap::new(),
            browser: "first".into(),
            page: Answer::default(),
            place: String::new(),
            proof_keys: BTreeMap::new(),
            client: String::new(),
            assertion: String::new(),
            proof: String::new(),
            nonce: None,
        };
        tale.new_errand();
        tale
    }

    /// A new verifier and its challenge.
    pub(super) fn new_errand(&mut self) {
        let verifier = fresh();
        let challenge = Challenge::of(&verifier).as_str().to_owned();
        self.keep("verifier", &verifier);
        self.keep("challenge", &challenge);
    }

    pub(super) fn keep(&mut self, name: &str, value: &str) {
        self.kept.insert(name.to_owned(), value.to_owned());
    }

    /// What was handed out; empty where nothing was.
    pub(super) fn kept(&self, name: &str) -> String {
        self.kept.get(name).cloned().unwrap_or_default()
    }

    /// Keeps what an answer hands out: the members of its JSON, the parameters of its redirect.
    pub(super) fn learn(&mut self, answer: &Answer) {
        let nonce = answer.field("dpop-nonce");
        if !nonce.is_empty() {
            self.nonce = Some(nonce.to_owned());
        }
        if answer.status >= 400 {
            return;
        }
        for (name, value) in judge::parameters(answer.field("location")) {
            self.keep(&name, &value);
        }
        let document = answer.json();
        let members = document.get(0).unwrap_or(&document).as_object().cloned();
        for (name, value) in members.into_iter().flatten() {
            if let Some(text) = value.as_str() {
                self.keep(&name, text);
            }
        }
    }

    /// The cookies of the browser in use.
    pub(super) fn cookies(&mut self) -> &mut BTreeMap<String, String> {
        self.browsers.entry(self.browser.clone()).or_default()
    }

    /// The session's cookie in the browser in use.
    fn session_cookie(&self) -> String {
        let cookies = self.browsers.get(&self.browser);
        cookies.and_then(|cookies| cookies.get("__Host-pc-session")).cloned().unwrap_or_default()
    }

    pub(super) fn person<'s>(&self, server: &'s Server, name: &str) -> &'s Person {
        let index = usize::from(name != "ann");
        &server.people[self.people[index]]
    }

    /// The key of a client's proofs: its own, or another's.
    pub(super) fn proof_key(&mut self, whose: &str) -> &SigningKey {
        let name = format!("{} {whose}", self.client);
        let made = || SigningKey::generate(Algorithm::EdDsa).expect("a key");
        self.proof_keys.entry(name).or_insert_with(made)
    }

    /// Fills in `${…}`.
    pub(super) fn filled(&self, server: &Server, text: &str) -> String {
        corpus::filled(text, &|name| {
            if let Some(kept) = self.kept.get(name) {
                return Some(kept.clone());
            }
            if let Some(offset) = name.strip_prefix("now") {
                let offset: i64 = if offset.is_empty() { 0 } else { offset.parse().ok()? };
                return Some((Wall.now().unix() + offset).to_string());
            }
            if let Some((name, what)) = name.split_once('-')
                && matches!(name, "ann" | "bob")
                && matches!(what, "id" | "account")
            {
                let person = self.person(server, name);
                return Some(if what == "id" { &person.id } else { &person.account }.clone());
            }
            if let Some(whose) = name.strip_prefix("jkt-") {
                let key = self.proof_keys.get(&format!("{} {whose}", self.client))?;
                return Some(tokens::thumbprint(key));
            }
            if let Some(claim) = name.strip_prefix("claim-") {
                let claims = browser::claims_of(&self.kept("access_token"));
                return claims[claim].as_str().map(str::to_owned);
            }
            Some(match name {
                "page-state" => browser::hidden(&self.page),
                "cookie-session" => self.session_cookie(),
                "ann-upper" => self.person(server, "ann").login.to_uppercase(),
                "ann" | "bob" => self.person(server, name).login.clone(),
                "fresh" => fresh(),
                "api" => server.ports.api.to_string(),
                "issuer" => server.ports.issuer.to_string(),
                "issuer-url" => server.issuer(),
                "mtls-url" => format!("https://mtls.test:{}", server.ports.issuer),
                "audience" => server.audience(),
                "bound" => format!("https://bound.test:{}/b", server.ports.api),
                "foreign" => server.foreign.issuer(""),
                "silent" => server.silent.local_addr().ok()?.to_string(),
                "access-kid" => server.keys.access.kid().to_string(),
                _ => return None,
            })
        })
    }
}
