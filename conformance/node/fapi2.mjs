// npm openid-client as a FAPI 2.0 client, the whole way: pushed request, private_key_jwt, DPoP with
// the server's nonces, code, API, refresh, userinfo, introspection, revocation, logout.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createRemoteJWKSet, jwtVerify } from "jose";
import * as client from "openid-client";
import { API, ISSUER, STAGE, browser, checks, issuer, keyOf } from "./stage.mjs";

const check = checks("openid-client, fapi2");
const redirect_uri = "https://bank.example/cb";
const bank = await client.discovery(issuer, "bank", undefined, client.PrivateKeyJwt(await keyOf("bank")));
const desk = await client.discovery(
  issuer,
  "desk",
  { introspection_signed_response_alg: "ES256" },
  client.PrivateKeyJwt(await keyOf("desk")),
);
const DPoP = client.getDPoPHandle(bank, await client.randomDPoPKeyPair("ES256"));
const file = (name, token, options) =>
  client.fetchProtectedResource(bank, token, new URL(`${API}/${name}`), "GET", undefined, undefined, options);
const wanted = { pkceCodeVerifier: client.randomPKCECodeVerifier(), expectedState: client.randomState(), expectedNonce: client.randomNonce() };
let tokens;
let first;

await check("pushed request, login, code with a DPoP proof, ID token", async () => {
  const start = await client.buildAuthorizationUrlWithPAR(
    bank,
    {
      redirect_uri,
      scope: "openid profile files:read offline_access",
      code_challenge: await client.calculatePKCECodeChallenge(wanted.pkceCodeVerifier),
      code_challenge_method: "S256",
      state: wanted.expectedState,
      nonce: wanted.expectedNonce,
    },
    { DPoP },
  );
  assert.deepEqual([...start.searchParams.keys()].sort(), ["client_id", "request_uri"]);
  const answer = new URL(await browser.signIn(start));
  assert.equal(answer.searchParams.get("iss"), ISSUER);
  tokens = await client.authorizationCodeGrant(bank, answer, { ...wanted, idTokenExpected: true }, undefined, { DPoP });
  first = tokens;
  assert.equal(tokens.token_type, "dpop");
  assert.equal(tokens.claims().acr, "aal2");
});

await check("the API takes the token with a proof, and with the server's nonce", async () => {
  const answer = await file("hello.txt", tokens.access_token, { DPoP });
  assert.equal(answer.status, 200);
  assert.equal((await answer.text()).trim(), "hello from a file server");
  assert.equal((await file("bound.txt", tokens.access_token, { DPoP })).status, 200);
});

await check("the API refuses the token without a proof, and with another key", async () => {
  const bare = await fetch(`${API}/hello.txt`, { headers: { authorization: `Bearer ${tokens.access_token}` } });
  assert.equal(bare.status, 401);
  const stolen = client.getDPoPHandle(bank, await client.randomDPoPKeyPair("ES256"));
  await assert.rejects(file("hello.txt", tokens.access_token, { DPoP: stolen }), { code: "OAUTH_WWW_AUTHENTICATE_CHALLENGE" });
});

await check("a request that is not pushed is refused", async () => {
  const start = client.buildAuthorizationUrl(bank, { redirect_uri, scope: "openid", code_challenge: "x".repeat(43), code_challenge_method: "S256" });
  const answer = new URL(await browser.signIn(start));
  assert.equal(answer.searchParams.get("error"), "invalid_request");
});

await check("refresh: the refresh token stays the same (FAPI 2.0 §5.3.2.1)", async () => {
  const refreshed = await client.refreshTokenGrant(bank, tokens.refresh_token, undefined, { DPoP });
  assert.notEqual(refreshed.access_token, tokens.access_token);
  assert.ok([undefined, tokens.refresh_token].includes(refreshed.refresh_token));
  assert.equal((await file("hello.txt", refreshed.access_token, { DPoP })).status, 200);
  tokens = { ...tokens, access_token: refreshed.access_token };
});

// RFC 9449 §5: a confidential client's refresh tokens are bound to the client, not to the DPoP key.
await check("refresh with another key: the new token is bound to that one", async () => {
  const next = client.getDPoPHandle(bank, await client.randomDPoPKeyPair("ES256"));
  const refreshed = await client.refreshTokenGrant(bank, tokens.refresh_token, undefined, { DPoP: next });
  assert.equal((await file("bound.txt", refreshed.access_token, { DPoP: next })).status, 200);
  await assert.rejects(file("bound.txt", refreshed.access_token, { DPoP }), { code: "OAUTH_WWW_AUTHENTICATE_CHALLENGE" });
});

await check("the refresh token of one client is no good for another", async () => {
  const signer = await client.discovery(issuer, "signer", undefined, client.PrivateKeyJwt(await keyOf("signer")));
  const mine = { DPoP: client.getDPoPHandle(signer, await client.randomDPoPKeyPair("ES256")) };
  await assert.rejects(client.refreshTokenGrant(signer, tokens.refresh_token, undefined, mine), { error: "invalid_grant" });
});

await check("userinfo", async () => {
  const about = await client.fetchUserInfo(bank, tokens.access_token, first.claims().sub, { DPoP });
  assert.equal(about.sub, first.claims().sub);
});

await check("introspection, plain (RFC 7662)", async () => {
  const plain = await client.discovery(issuer, "desk", undefined, client.PrivateKeyJwt(await keyOf("desk")));
  const seen = await client.tokenIntrospection(plain, tokens.access_token);
  assert.equal(seen.active, true);
  assert.equal(seen.client_id, "bank");
  assert.ok(seen.cnf.jkt);
});

await check("introspection, signed (RFC 9701)", async () => {
  client.enableNonRepudiationChecks(desk);
  const seen = await client.tokenIntrospection(desk, tokens.access_token);
  assert.equal(seen.active, true);
  assert.equal(seen.aud, API);
});

await check("revocation of the access token is in force on the next request", async () => {
  await client.tokenRevocation(bank, tokens.access_token);
  await assert.rejects(file("hello.txt", tokens.access_token, { DPoP }), { code: "OAUTH_WWW_AUTHENTICATE_CHALLENGE" });
  assert.equal((await client.tokenIntrospection(desk, tokens.access_token)).active, false);
});

await check("revocation of the refresh token ends the grant (RFC 7009 §2.1)", async () => {
  const refreshed = await client.refreshTokenGrant(bank, tokens.refresh_token, undefined, { DPoP });
  await client.tokenRevocation(bank, tokens.refresh_token);
  await assert.rejects(client.refreshTokenGrant(bank, tokens.refresh_token, undefined, { DPoP }), { error: "invalid_grant" });
  await assert.rejects(file("hello.txt", refreshed.access_token, { DPoP }), { code: "OAUTH_WWW_AUTHENTICATE_CHALLENGE" });
});

await check("RP-initiated logout: back at the client, and signed out", async () => {
  const end = client.buildEndSessionUrl(bank, {
    id_token_hint: first.id_token,
    post_logout_redirect_uri: "https://bank.example/bye",
    state: "s-1",
  });
  const done = await browser.walk(end.href);
  assert.equal(done.location, "https://bank.example/bye?state=s-1");
  const start = await client.buildAuthorizationUrlWithPAR(bank, {
    redirect_uri,
    scope: "openid",
    prompt: "none",
    code_challenge: await client.calculatePKCECodeChallenge(wanted.pkceCodeVerifier),
    code_challenge_method: "S256",
  }, { DPoP });
  assert.equal(new URL(await browser.signIn(start)).searchParams.get("error"), "login_required");
});

// Not of openid-client, which has no such part: received by documents.mjs, verified by npm jose.
await check("back-channel logout: the client is told, with a signed logout token", async () => {
  const keys = createRemoteJWKSet(new URL(bank.serverMetadata().jwks_uri));
  for (let tries = 0; tries < 50; tries += 1) {
    const [token] = readFileSync(join(STAGE, "logout-tokens.txt"), "utf8").split("\n");
    if (token) {
      const { payload } = await jwtVerify(token, keys, { issuer: ISSUER, audience: "bank", typ: "logout+jwt" });
      assert.equal(payload.sid, first.claims().sid);
      assert.ok(payload.events["http://schemas.openid.net/event/backchannel-logout"]);
      assert.equal(payload.nonce, undefined);
      return;
    }
    await new Promise((done) => setTimeout(done, 100));
  }
  assert.fail("no logout token came");
});
