//! The crate `oauth2`, which knows shared secrets and no keys: client credentials and introspection
//! with `client_secret_basic` (dated waivers in the stage's config), a web client, and a device.

use std::thread;
use std::time::Duration;

use oauth2::basic::{BasicClient, BasicErrorResponseType};
use oauth2::{
    AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, DeviceAuthorizationUrl,
    IntrospectionUrl, PkceCodeChallenge, RedirectUrl, RequestTokenError, RevocationUrl, Scope,
    StandardDeviceAuthorizationResponse, TokenIntrospectionResponse, TokenResponse, TokenUrl,
};

use crate::http::send;
use crate::stage::{Checks, Outcome, at, call, must, person};

/// Runs its checks; whether all passed.
pub fn judge() -> bool {
    let mut checks = Checks::of("crate oauth2");
    checks.check("client credentials and introspection with a secret", service);
    checks.check("a wrong secret is refused: invalid_client", wrong_secret);
    checks.check("code flow, refresh and revocation with a secret", web);
    checks.check("device flow (RFC 8628)", device);
    checks.sum()
}

fn secret() -> Outcome<ClientSecret> {
    Ok(ClientSecret::new(std::fs::read_to_string(at("STAGE", "/legacy.secret")?)?))
}

fn service() -> Outcome {
    let client = BasicClient::new(ClientId::new("cron".to_owned()))
        .set_client_secret(secret()?)
        .set_token_uri(TokenUrl::new(at("ISSUER", "/oauth/token")?)?)
        .set_introspection_url(IntrospectionUrl::new(at("ISSUER", "/oauth/introspect")?)?);
    let scope = Scope::new("files:robot".to_owned());
    let tokens = client.exchange_client_credentials().add_scope(scope).request(&send)?;
    must(call("/robot.txt", tokens.access_token().secret())?.status() == 200, "refused")?;
    let seen = client.introspect(tokens.access_token()).request(&send)?;
    must(seen.active(), "not active")?;
    must(seen.client_id().map(|id| id.as_str()) == Some("cron"), "of another client")
}

fn wrong_secret() -> Outcome {
    let client = BasicClient::new(ClientId::new("cron".to_owned()))
        .set_client_secret(ClientSecret::new("not the secret of this client".to_owned()))
        .set_token_uri(TokenUrl::new(at("ISSUER", "/oauth/token")?)?);
    match client.exchange_client_credentials().request(&send) {
        Err(RequestTokenError::ServerResponse(said)) => {
            must(*said.error() == BasicErrorResponseType::InvalidClient, "another error")
        }
        Err(other) => Err(other.into()),
        Ok(_) => Err("a token for a wrong secret".into()),
    }
}

fn web() -> Outcome {
    let client = BasicClient::new(ClientId::new("legacy".to_owned()))
        .set_client_secret(secret()?)
        .set_auth_uri(AuthUrl::new(at("ISSUER", "/oauth/authorize")?)?)
        .set_token_uri(TokenUrl::new(at("ISSUER", "/oauth/token")?)?)
        .set_revocation_url(RevocationUrl::new(at("ISSUER", "/oauth/revoke")?)?)
        .set_redirect_uri(RedirectUrl::new("https://legacy.example/cb".to_owned())?);
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, state) = client
        .authorize_url(CsrfToken::new_random)
        .add_scope(Scope::new("files:read".to_owned()))
        .add_scope(Scope::new("offline_access".to_owned()))
        .set_pkce_challenge(challenge)
        .url();
    let answer = person(&[url.as_str()])?;
    must(answer.get("state") == Some(state.secret()), &format!("another state: {answer:?}"))?;
    let code = answer.get("code").ok_or_else(|| format!("no code: {answer:?}"))?;
    let code = AuthorizationCode::new(code.clone());
    let tokens = client.exchange_code(code).set_pkce_verifier(verifier).request(&send)?;
    must(call("/hello.txt", tokens.access_token().secret())?.status() == 200, "refused")?;
    let refresh = tokens.refresh_token().ok_or("no refresh token")?;
    let next = client.exchange_refresh_token(refresh).request(&send)?;
    must(call("/hello.txt", next.access_token().secret())?.status() == 200, "refused")?;
    client.revoke_token(refresh.into())?.request(&send)?;
    must(call("/hello.txt", next.access_token().secret())?.status() == 401, "still good")?;
    must(client.exchange_refresh_token(refresh).request(&send).is_err(), "still refreshes")
}

fn device() -> Outcome {
    let client = BasicClient::new(ClientId::new("tv".to_owned()))
        .set_token_uri(TokenUrl::new(at("ISSUER", "/oauth/token")?)?)
        .set_device_authorization_url(DeviceAuthorizationUrl::new(at("ISSUER", "/oauth/device")?)?);
    let scope = Scope::new("files:read".to_owned());
    let begun: StandardDeviceAuthorizationResponse =
        client.exchange_device_code().add_scope(scope).request(&send)?;
    let end = person(&[begun.verification_uri().as_str(), begun.user_code().secret()])?;
    let said = end.get("page").ok_or("the device page redirects")?;
    must(said.contains("Device connected"), said)?;
    let longest = Some(Duration::from_secs(30));
    let tokens =
        client.exchange_device_access_token(&begun).request(&send, thread::sleep, longest)?;
    must(call("/hello.txt", tokens.access_token().secret())?.status() == 200, "refused")
}
