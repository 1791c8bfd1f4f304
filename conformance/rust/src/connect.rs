//! The crate `openidconnect` as a public client: discovery, code with PKCE and nonce, ID token,
//! userinfo, refresh, revocation.

use openidconnect::core::{CoreClient, CoreProviderMetadata, CoreResponseType, CoreUserInfoClaims};
use openidconnect::{
    AccessTokenHash, AuthenticationFlow, AuthorizationCode, ClientId, CsrfToken, IssuerUrl, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, RedirectUrl, RevocationUrl, Scope, TokenResponse,
};

use crate::http::send;
use crate::stage::{Checks, at, call, must, person};

/// Runs its checks; whether all passed.
pub fn judge() -> bool {
    let mut checks = Checks::of("crate openidconnect");
    let metadata = checks.check("discovery", || {
        Ok(CoreProviderMetadata::discover(&IssuerUrl::new(at("ISSUER", "")?)?, &send)?)
    });
    let revocation = at("ISSUER", "/oauth/revoke").and_then(|url| Ok(RevocationUrl::new(url)?));
    let (Some(metadata), Ok(revocation)) = (metadata, revocation) else { return checks.sum() };
    let Ok(redirect) = RedirectUrl::new("http://127.0.0.1:5997/cb".to_owned()) else {
        return checks.sum();
    };
    let client =
        CoreClient::from_provider_metadata(metadata, ClientId::new("app".to_owned()), None)
            .set_redirect_uri(redirect)
            .set_revocation_url(revocation);

    let tokens = checks.check("code flow with PKCE, state and nonce; ID token verified", || {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let (url, state, nonce) = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(
                ["files:read", "profile", "offline_access"].map(|one| Scope::new(one.into())),
            )
            .set_pkce_challenge(challenge)
            .url();
        let answer = person(&[url.as_str()])?;
        must(answer.get("state") == Some(state.secret()), &format!("another state: {answer:?}"))?;
        let code = answer.get("code").ok_or_else(|| format!("no code: {answer:?}"))?;
        let tokens = client
            .exchange_code(AuthorizationCode::new(code.clone()))?
            .set_pkce_verifier(verifier)
            .request(&send)?;
        let id_token = tokens.id_token().ok_or("no ID token")?;
        let verifier = client.id_token_verifier();
        let claims = id_token.claims(&verifier, &nonce)?;
        let hash = claims.access_token_hash().ok_or("no at_hash")?;
        let expected = AccessTokenHash::from_token(
            tokens.access_token(),
            id_token.signing_alg()?,
            id_token.signing_key(&verifier)?,
        )?;
        must(*hash == expected, "at_hash is of another token")?;
        let subject = claims.subject().clone();
        Ok((tokens, subject))
    });
    let Some((tokens, subject)) = tokens else { return checks.sum() };

    checks.check("the API takes the token", || {
        must(call("/hello.txt", tokens.access_token().secret())?.status() == 200, "refused")
    });
    checks.check("userinfo", || {
        let token = tokens.access_token().clone();
        let about: CoreUserInfoClaims = client.user_info(token, Some(subject))?.request(&send)?;
        must(about.preferred_username().is_some(), "userinfo has no name")
    });
    checks.check("refresh, with rotation", || {
        let old = tokens.refresh_token().ok_or("no refresh token")?;
        let next = client.exchange_refresh_token(old)?.request(&send)?;
        let new = next.refresh_token().ok_or("no next refresh token")?;
        must(new.secret() != old.secret(), "the refresh token did not rotate")?;
        must(call("/hello.txt", next.access_token().secret())?.status() == 200, "refused")
    });
    checks.check("revocation is in force on the next request", || {
        client.revoke_token(tokens.access_token().clone().into())?.request(&send)?;
        must(call("/hello.txt", tokens.access_token().secret())?.status() == 401, "still good")
    });
    checks.sum()
}
