// npm openid-client as clients that keep no secret: a bearer one whose refresh tokens rotate, and
// one whose tokens are bound to its key by DPoP.
import assert from "node:assert/strict";
import * as client from "openid-client";
import { API, ISSUER, browser, checks, issuer } from "./stage.mjs";

const check = checks("openid-client, public");
const redirect_uri = "http://127.0.0.1:5999/cb";
const app = await client.discovery(issuer, "app", undefined, client.None());
const pocket = await client.discovery(issuer, "pocket", undefined, client.None());
const refused = { code: "OAUTH_WWW_AUTHENTICATE_CHALLENGE" };
const file = (config, name, token, options) =>
  client.fetchProtectedResource(config, token, new URL(`${API}/${name}`), "GET", undefined, undefined, options);

// The code flow, from the request to the tokens.
async function signIn(config, scope, more, options) {
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const expectedState = client.randomState();
  const expectedNonce = client.randomNonce();
  const start = client.buildAuthorizationUrl(config, {
    redirect_uri,
    scope,
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
    state: expectedState,
    nonce: expectedNonce,
    ...more,
  });
  const answer = new URL(await browser.signIn(start));
  assert.equal(answer.searchParams.get("iss"), ISSUER);
  const wanted = { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: scope.includes("openid") };
  if (!scope.includes("openid")) delete wanted.expectedNonce;
  return client.authorizationCodeGrant(config, answer, wanted, undefined, options);
}

let tokens;
await check("code flow with PKCE, state, nonce and iss; ID token verified", async () => {
  tokens = await signIn(app, "openid files:read offline_access");
  const claims = tokens.claims();
  assert.deepEqual(new Set(claims.amr), new Set(["pwd", "otp", "mfa"]));
  assert.equal(claims.acr, "aal2");
});

await check("the API takes the token, and 401s without it", async () => {
  const answer = await file(app, "hello.txt", tokens.access_token);
  assert.equal(answer.status, 200);
  assert.equal((await answer.text()).trim(), "hello from a file server");
  assert.equal((await fetch(`${API}/hello.txt`)).status, 401);
});

await check("an operation that wants bound tokens refuses a bearer one", async () => {
  await assert.rejects(file(app, "bound.txt", tokens.access_token), refused);
});

await check("userinfo", async () => {
  const { sub } = tokens.claims();
  assert.equal((await client.fetchUserInfo(app, tokens.access_token, sub)).sub, sub);
});

let rotated;
await check("refresh: the refresh token is another one each time", async () => {
  rotated = await client.refreshTokenGrant(app, tokens.refresh_token);
  assert.ok(rotated.refresh_token);
  assert.notEqual(rotated.refresh_token, tokens.refresh_token);
  assert.equal((await file(app, "hello.txt", rotated.access_token)).status, 200);
});

await check("a lost answer: the old refresh token yields the identical successor", async () => {
  const again = await client.refreshTokenGrant(app, tokens.refresh_token);
  assert.equal(again.refresh_token, rotated.refresh_token);
});

await check("a stolen refresh token ends the grant, for the thief and for the client", async () => {
  const next = await client.refreshTokenGrant(app, rotated.refresh_token);
  await assert.rejects(client.refreshTokenGrant(app, tokens.refresh_token), { error: "invalid_grant" });
  await assert.rejects(client.refreshTokenGrant(app, next.refresh_token), { error: "invalid_grant" });
  await assert.rejects(file(app, "hello.txt", next.access_token), refused);
});

await check("revocation (RFC 7009) is in force on the next request", async () => {
  const other = await signIn(app, "openid files:read");
  await client.tokenRevocation(app, other.access_token);
  await assert.rejects(file(app, "hello.txt", other.access_token), refused);
});

const DPoP = client.getDPoPHandle(pocket, await client.randomDPoPKeyPair("ES256"));
let bound;
await check("DPoP: code bound to the key by dpop_jkt, token bound, API with a proof", async () => {
  const dpop_jkt = await DPoP.calculateThumbprint();
  bound = await signIn(pocket, "files:read offline_access", { dpop_jkt }, { DPoP });
  assert.equal(bound.token_type, "dpop");
  assert.equal((await file(pocket, "bound.txt", bound.access_token, { DPoP })).status, 200);
});

await check("DPoP: a code of another key is refused", async () => {
  const dpop_jkt = await DPoP.calculateThumbprint();
  const stolen = client.getDPoPHandle(pocket, await client.randomDPoPKeyPair("ES256"));
  await assert.rejects(signIn(pocket, "files:read", { dpop_jkt }, { DPoP: stolen }), { name: "ResponseBodyError" });
});

await check("DPoP: refresh rotates and keeps the key; another key is refused", async () => {
  const next = await client.refreshTokenGrant(pocket, bound.refresh_token, undefined, { DPoP });
  assert.notEqual(next.refresh_token, bound.refresh_token);
  const stolen = client.getDPoPHandle(pocket, await client.randomDPoPKeyPair("ES256"));
  const theft = client.refreshTokenGrant(pocket, next.refresh_token, undefined, { DPoP: stolen });
  await assert.rejects(theft, { name: "ResponseBodyError" });
  await client.refreshTokenGrant(pocket, next.refresh_token, undefined, { DPoP });
});
