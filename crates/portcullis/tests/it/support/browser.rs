//! A browser as far as a login needs one: cookies, forms with their hidden state, redirects looked
//! at and not followed. And the whole login, step by step.

use std::collections::BTreeMap;

use portcullis_core::bearer::Plain;
use portcullis_core::entropy::ProviderEntropy;
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::web::form_encode;
use serde_json::Value;

use super::seed::Person;
use super::server::{Server, request};
use super::wire::Answer;

/// Marks the browser's random values.
enum Random {}

/// The redirect of the tests' native clients.
pub(crate) const REDIRECT: &str = "http://127.0.0.1:9/cb";

/// A browser with its cookies.
pub(crate) struct Browser<'s> {
    server: &'s Server,
    pub(crate) cookies: BTreeMap<String, String>,
}

/// What an application keeps between sending the user off and the user's return.
pub(crate) struct Errand {
    pub(crate) client: String,
    pub(crate) scope: String,
    pub(crate) verifier: String,
}

impl Errand {
    /// The tests' app, which wants to read.
    pub(crate) fn new() -> Errand {
        Errand::of("app", "openid payments:read")
    }

    /// A client that wants something.
    pub(crate) fn of(client: &str, scope: &str) -> Errand {
        let verifier = Plain::<Random>::mint(&ProviderEntropy::default()).reveal().to_owned();
        Errand { client: client.into(), scope: scope.into(), verifier }
    }

    /// The target of the authorization request.
    pub(crate) fn target(&self) -> String {
        format!(
            "/oauth/authorize?response_type=code&client_id={}&redirect_uri={}&scope={}&state=s1\
             &code_challenge={}&code_challenge_method=S256",
            self.client,
            form_encode(REDIRECT),
            form_encode(&self.scope),
            Challenge::of(&self.verifier).as_str(),
        )
    }

    /// The token request for a code.
    pub(crate) fn redemption(&self, code: &str) -> Vec<(String, String)> {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("client_id", &self.client),
            ("redirect_uri", REDIRECT),
            ("code", code),
            ("code_verifier", &self.verifier),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }
}

impl<'s> Browser<'s> {
    /// A new one, without a cookie.
    pub(crate) fn new(server: &'s Server) -> Browser<'s> {
        Browser { server, cookies: BTreeMap::new() }
    }

    /// `GET` at the issuer.
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.send(&format!("GET {target}"), b"")
    }

    /// `POST` of a form at the issuer.
    pub(crate) fn post(&mut self, target: &str, form: &[(&str, &str)]) -> Answer {
        self.send(&format!("POST {target}"), encode(form).as_bytes())
    }

    /// The login page.
    pub(crate) fn begin(&mut self, errand: &Errand) -> Answer {
        self.get(&errand.target())
    }

    /// The password form of a page.
    pub(crate) fn password(&mut self, page: &Answer, login: &str, password: &str) -> Answer {
        let state = hidden(page);
        self.post("/login", &[("state", &state), ("login", login), ("password", password)])
    }

    /// The form of the second factor.
    pub(crate) fn totp(&mut self, page: &Answer, code: &str) -> Answer {
        self.post("/login/totp", &[("state", &hidden(page)), ("code", code)])
    }

    /// The consent form.
    pub(crate) fn consent(&mut self, page: &Answer, decision: &str) -> Answer {
        self.post("/consent", &[("state", &hidden(page)), ("decision", decision)])
    }

    /// The whole way to a code.
    pub(crate) fn code(&mut self, person: &Person, errand: &Errand) -> String {
        let page = self.begin(errand);
        let page = self.password(&page, &person.login, &person.password);
        let page = self.totp(&page, &person.code());
        let back = if page.status == 303 { page } else { self.consent(&page, "allow") };
        code_in(&back).unwrap_or_else(|| panic!("no code: {back:?} {}", back.text()))
    }

    fn send(&mut self, line: &str, body: &[u8]) -> Answer {
        let mut cookies: Vec<String> = Vec::new();
        for (name, value) in &self.cookies {
            cookies.push(format!("{name}={value}"));
        }
        let cookies = cookies.join("; ");
        let mut fields = vec![("content-type", "application/x-www-form-urlencoded")];
        if !cookies.is_empty() {
            fields.push(("cookie", &cookies));
        }
        let port = self.server.ports.issuer;
        let mut wire = self.server.connect(port);
        wire.send(&request(line, port, &fields, body)).expect("sent");
        let answer = wire.answer().unwrap_or_else(|| panic!("no answer to {line}"));
        for cookie in answer.all("set-cookie") {
            let pair = cookie.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        self.cookies.retain(|_, value| !value.is_empty());
        answer
    }
}

impl Server {
    /// A form to the token or the revocation endpoint.
    pub(crate) fn form(&self, target: &str, form: &[(String, String)]) -> Answer {
        let pairs: Vec<(&str, &str)> = form.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Browser::new(self).post(target, &pairs)
    }

    /// A person's token, by the whole login in a fresh browser.
    pub(crate) fn log_in(&self, person: &Person) -> String {
        access_token(&self.log_in_for(person, &Errand::new()))
    }

    /// The token endpoint's answer of a whole login.
    pub(crate) fn log_in_for(&self, person: &Person, errand: &Errand) -> Answer {
        let code = Browser::new(self).code(person, errand);
        self.form("/oauth/token", &errand.redemption(&code))
    }

    /// Has a token revoked; the answer.
    pub(crate) fn revoke(&self, token: &str) -> Answer {
        let form = [("token", token), ("client_id", "app")];
        self.form("/oauth/revoke", &form.map(|(name, value)| (name.into(), value.into())))
    }

    /// A service's token, by `token fetch`.
    pub(crate) fn fetch(&self, service: &str) -> String {
        let key = self.path().join(format!("{service}.pem"));
        let output = std::process::Command::new(super::plan::binary())
            .args(["token", "fetch", "--client", service, "--issuer", &self.issuer()])
            .arg("--key")
            .arg(key)
            .arg("--ca")
            .arg(self.ca_path())
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// The access token of a token answer.
pub(crate) fn access_token(answer: &Answer) -> String {
    let token = answer.json()["access_token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("no token: {} {}", answer.status, answer.text()))
}

/// The code in a redirect.
pub(crate) fn code_in(answer: &Answer) -> Option<String> {
    let location = answer.field("location");
    let (_, query) = location.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == "code").map(|(_, code)| code.to_owned())
}

/// The hidden state of a page's form.
pub(crate) fn hidden(page: &Answer) -> String {
    let text = page.text();
    let after = text.split_once("name=\"state\" value=\"").map(|(_, rest)| rest);
    let value = after.and_then(|rest| rest.split_once('"')).map(|(value, _)| value.to_owned());
    value.unwrap_or_default()
}

/// A form's bytes.
pub(crate) fn encode(form: &[(&str, &str)]) -> String {
    let pairs =
        form.iter().map(|(name, value)| format!("{}={}", form_encode(name), form_encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// A token's claims, unverified.
pub(crate) fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a JWS");
    let payload = portcullis_core::jose::base64url::decode(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("claims")
}
