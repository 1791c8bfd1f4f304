// npm openid-client, the whole way: discovery, code flow with PKCE, ID token; client credentials
// with private_key_jwt; and the API behind the gateway with both tokens.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createPrivateKey } from "node:crypto";
import * as client from "openid-client";
import { Browser } from "./browser.mjs";

const { ISSUER, API, LOGIN, PASSWORD, SERVICE_KEY } = process.env;
const redirect = "http://127.0.0.1:5999/cb";
let passed = 0;

async function check(name, work) {
  await work();
  passed += 1;
  console.log(`ok - openid-client: ${name}`);
}

const app = await client.discovery(new URL(ISSUER), "app", undefined, client.None());
const person = { login: LOGIN, password: PASSWORD };
const browser = new Browser();
let tokens;

await check("code flow with PKCE, state, nonce and iss; ID token verified", async () => {
  const verifier = client.randomPKCECodeVerifier();
  const state = client.randomState();
  const nonce = client.randomNonce();
  const start = client.buildAuthorizationUrl(app, {
    redirect_uri: redirect,
    scope: "openid files:read",
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
    nonce,
  });
  const answer = new URL(await browser.signIn(start.href, person));
  assert.equal(answer.searchParams.get("iss"), ISSUER);
  tokens = await client.authorizationCodeGrant(app, answer, {
    pkceCodeVerifier: verifier,
    expectedState: state,
    expectedNonce: nonce,
    idTokenExpected: true,
  });
  const claims = tokens.claims();
  assert.deepEqual(new Set(claims.amr), new Set(["pwd", "otp", "mfa"]));
  assert.equal(claims.acr, "aal2");
});

await check("the API takes the token, and 401s without it", async () => {
  const answer = await client.fetchProtectedResource(app, tokens.access_token, new URL(`${API}/hello.txt`), "GET");
  assert.equal(answer.status, 200);
  assert.equal((await answer.text()).trim(), "hello from a file server");
  assert.equal((await fetch(`${API}/hello.txt`)).status, 401);
});

await check("revocation (RFC 7009) is in force on the next request", async () => {
  await client.tokenRevocation(app, tokens.access_token);
  const answer = await fetch(`${API}/hello.txt`, { headers: { authorization: `Bearer ${tokens.access_token}` } });
  assert.equal(answer.status, 401);
});

await check("client credentials with private_key_jwt", async () => {
  const pkcs8 = createPrivateKey(readFileSync(SERVICE_KEY)).export({ type: "pkcs8", format: "der" });
  const key = await crypto.subtle.importKey("pkcs8", pkcs8, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
  const service = await client.discovery(new URL(ISSUER), "robot", undefined, client.PrivateKeyJwt(key));
  const granted = await client.clientCredentialsGrant(service, { scope: "files:robot" });
  const answer = await client.fetchProtectedResource(service, granted.access_token, new URL(`${API}/robot.txt`), "GET");
  assert.equal(answer.status, 200);
  const other = await fetch(`${API}/hello.txt`, { headers: { authorization: `Bearer ${granted.access_token}` } });
  assert.equal(other.status, 403);
});

console.log(`openid-client: ${passed} passed, 0 failed`);
