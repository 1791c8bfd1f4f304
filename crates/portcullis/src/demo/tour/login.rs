//! The tour's logins: the real pages, driven over HTTPS as a browser drives them.

use std::time::Duration;

use anyhow::Context;
use portcullis_core::bearer::Plain;
use portcullis_core::entropy::ProviderEntropy;
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::otp::{STEP_SECONDS, step_at};
use portcullis_core::time::Clock;
use portcullis_core::web::Parameters;

use super::show::{Expect, Show};
use crate::cli::token::assertion;
use crate::https_client::Answer;

/// Marks the tour's random values.
enum TourValue {}

/// A password is one factor; the code comes after the second.
pub(super) async fn password_alone_gets_nothing(show: &mut Show<'_>) -> anyhow::Result<()> {
    let (_, challenge) = verifier();
    let page = begin(show, &challenge).await?;
    show.step(
        "the login page",
        "GET /oauth/authorize?…",
        &page,
        Expect::status(200).body("Password"),
    )
    .await;
    let answer = password(show, &page, "alice", &alice_password(show)).await?;
    let asks = Expect::status(200).body("Six-digit code");
    show.step("the password alone: asked for more", "POST /login", &answer, asks).await;
    let again = begin(show, &challenge).await?;
    let no_code = !again.field("location").contains("code=");
    let detail = "GET /oauth/authorize with the half-made session shows a page, not a code";
    show.fact("the password alone gets no token", detail, again.status.as_u16(), no_code);
    show.client.forget_cookies();
    Ok(())
}

/// What a login came to.
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: String,
}

/// A whole login of Alice; her tokens.
pub(super) async fn whole(show: &mut Show<'_>) -> anyhow::Result<Tokens> {
    show.client.forget_cookie("__Host-pc-session");
    // Each one-time password counts once: be in a step that no earlier login used.
    show.stage.clock.advance(Duration::from_secs(STEP_SECONDS * 2));
    let (verifier, challenge) = verifier();
    let page = begin(show, &challenge).await?;
    let page = password(show, &page, "alice", &alice_password(show)).await?;
    let page = totp(show, &page).await?;
    let location = if page.field("location").is_empty() {
        show.step(
            "her one-time password; asked for consent",
            "POST /login/totp",
            &page,
            Expect::status(200),
        )
        .await;
        let answer = consent(show, &page).await?;
        show.step(
            "she allows the app",
            "POST /consent",
            &answer,
            Expect::status(303).field("location", "code="),
        )
        .await;
        answer.field("location").to_owned()
    } else {
        show.step(
            "her one-time password",
            "POST /login/totp",
            &page,
            Expect::status(303).field("location", "code="),
        )
        .await;
        page.field("location").to_owned()
    };
    redeem(show, &location, &verifier).await
}

async fn redeem(show: &mut Show<'_>, location: &str, verifier: &str) -> anyhow::Result<Tokens> {
    let query = location.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let parameters = Parameters::parse(query.as_bytes())?;
    let code = parameters.value("code").context("no code came back")?;
    let redirect = show.stage.place.redirect.clone();
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("redirect_uri", redirect.as_str()),
        ("code", code),
        ("code_verifier", verifier),
    ];
    let url = show.stage.place.token_url();
    let answer = show.client.post(&url, &[], &form).await?;
    show.step("the code for a token", "POST /oauth/token", &answer, Expect::status(200)).await;
    let access = text_of(&answer, "access_token")?;
    Ok(Tokens { access, refresh: text_of(&answer, "refresh_token")? })
}

/// A service's token by `private_key_jwt` (RFC 7523 §2.2).
pub(super) async fn service_token(show: &mut Show<'_>, service: &str) -> anyhow::Result<String> {
    let pem = std::fs::read_to_string(show.stage.place.home.join(format!("{service}.pem")))?;
    let now = show.stage.clock.now();
    let assertion = assertion(&pem, service, &show.stage.place.issuer, now)?;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion.expose().as_str()),
    ];
    let answer = show.client.post(&show.stage.place.token_url(), &[], &form).await?;
    show.step("a token for the auditor", "POST /oauth/token", &answer, Expect::status(200)).await;
    text_of(&answer, "access_token")
}

/// Opens the login page.
pub(super) async fn begin(show: &Show<'_>, challenge: &Challenge) -> anyhow::Result<Answer> {
    show.client.get(&show.stage.place.authorize_url("tour", challenge), &[]).await
}

/// Posts the password form.
pub(super) async fn password(
    show: &Show<'_>,
    page: &Answer,
    login: &str,
    password: &str,
) -> anyhow::Result<Answer> {
    let state = hidden_state(page);
    let form = [("state", state.as_str()), ("login", login), ("password", password)];
    show.client.post(&format!("{}/login", show.stage.place.issuer), &[], &form).await
}

/// Posts Alice's code.
pub(super) async fn totp(show: &Show<'_>, page: &Answer) -> anyhow::Result<Answer> {
    let alice = show.stage.people.first().context("Alice")?;
    let code = alice.totp.code(step_at(show.stage.clock.now()));
    let state = hidden_state(page);
    let form = [("state", state.as_str()), ("code", code.as_str())];
    show.client.post(&format!("{}/login/totp", show.stage.place.issuer), &[], &form).await
}

async fn consent(show: &Show<'_>, page: &Answer) -> anyhow::Result<Answer> {
    let state = hidden_state(page);
    let form = [("state", state.as_str()), ("decision", "allow")];
    show.client.post(&format!("{}/consent", show.stage.place.issuer), &[], &form).await
}

/// A verifier and its challenge (RFC 7636 §4.1, §4.2).
pub(super) fn verifier() -> (String, Challenge) {
    let verifier = Plain::<TourValue>::mint(&ProviderEntropy::default()).reveal().to_owned();
    let challenge = Challenge::of(&verifier);
    (verifier, challenge)
}

/// Alice's password.
pub(super) fn alice_password(show: &Show<'_>) -> String {
    show.stage.people.first().map(|alice| alice.password.clone()).unwrap_or_default()
}

/// A text of an answer's document.
pub(super) fn text_of(answer: &Answer, name: &str) -> anyhow::Result<String> {
    let document = answer.json();
    let text = document.get(name).and_then(|text| text.as_str());
    text.map(str::to_owned).with_context(|| format!("no {name} came: {}", answer.text()))
}

/// The form's hidden field, as a browser would send it back.
fn hidden_state(page: &Answer) -> String {
    let text = page.text();
    let after = text.split_once("name=\"state\" value=\"").map(|(_, rest)| rest);
    after
        .and_then(|rest| rest.split_once('"'))
        .map(|(value, _)| value.to_owned())
        .unwrap_or_default()
}
