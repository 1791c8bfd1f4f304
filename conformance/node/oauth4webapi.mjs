// npm oauth4webapi, one message at a time: every answer of the FAPI 2.0 journey validated by hand
// of the library, the server's nonces asked for; then what openid-client has no part for: our
// metadata (RFC 9728), our access tokens as an API reads them (RFC 9068), registration (RFC 7591).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as oauth from "oauth4webapi";
import { API, ISSUER, STAGE, browser, checks, issuer, keyOf } from "./stage.mjs";

const check = checks("oauth4webapi");
const redirect = "https://bank.example/cb";
const bank = { client_id: "bank" };
const auth = oauth.PrivateKeyJwt(await keyOf("bank"));
const pair = await oauth.generateKeyPair("ES256", { extractable: true });
const DPoP = oauth.DPoP(bank, pair);
const verifier = oauth.generateRandomCodeVerifier();
const state = oauth.generateRandomState();
const nonce = oauth.generateRandomNonce();
let as;

// Sends a request; the server may ask for its nonce once (RFC 9449 §8).
async function withNonce(send, read) {
  try {
    return await read(await send());
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error;
    return read(await send());
  }
}

await check("discovery, both documents", async () => {
  as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer));
  const other = await oauth.discoveryRequest(issuer, { algorithm: "oauth2" });
  assert.deepEqual(await oauth.processDiscoveryResponse(issuer, other), as);
  assert.equal(as.authorization_response_iss_parameter_supported, true);
});

await check("protected resource metadata (RFC 9728), named by the 401", async () => {
  const challenge = (await fetch(`${API}/hello.txt`)).headers.get("www-authenticate");
  const named = /resource_metadata="([^"]*)"/.exec(challenge)?.[1];
  const answer = await oauth.resourceDiscoveryRequest(new URL(API));
  assert.equal(answer.url, named);
  const resource = await oauth.processResourceDiscoveryResponse(new URL(API), answer);
  assert.deepEqual(resource.authorization_servers, [ISSUER]);
});

let code;
await check("PAR with a proof; the answer names issuer and state", async () => {
  const request = {
    response_type: "code",
    redirect_uri: redirect,
    scope: "openid files:read offline_access",
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
    nonce,
  };
  const pushed = await withNonce(
    () => oauth.pushedAuthorizationRequest(as, bank, auth, request, { DPoP }),
    (answer) => oauth.processPushedAuthorizationResponse(as, bank, answer),
  );
  const start = new URL(as.authorization_endpoint);
  start.search = new URLSearchParams({ client_id: "bank", request_uri: pushed.request_uri });
  code = oauth.validateAuthResponse(as, bank, new URL(await browser.signIn(start)), state);
});

let tokens;
await check("code for tokens; the ID token's signature is verified too", async () => {
  let signed;
  tokens = await withNonce(
    () => oauth.authorizationCodeGrantRequest(as, bank, auth, code, redirect, verifier, { DPoP }),
    (answer) => oauth.processAuthorizationCodeResponse(as, bank, (signed = answer), { expectedNonce: nonce, requireIdToken: true }),
  );
  await oauth.validateApplicationLevelSignature(as, signed);
  assert.equal(tokens.token_type, "dpop");
});

await check("the access token is one of RFC 9068 for this API, and bound (RFC 9449)", async () => {
  const request = new Request(`${API}/hello.txt`, { headers: { authorization: `DPoP ${tokens.access_token}` } });
  await DPoP.addProof(new URL(request.url), request.headers, "GET", tokens.access_token);
  const claims = await oauth.validateJwtAccessToken(as, request, API);
  assert.equal(claims.client_id, "bank");
  assert.ok(claims.cnf.jkt);
});

await check("a code is good once, and using it again ends what came of it (RFC 9700 §4.5)", async () => {
  const again = withNonce(
    () => oauth.authorizationCodeGrantRequest(as, bank, auth, code, redirect, verifier, { DPoP }),
    (answer) => oauth.processAuthorizationCodeResponse(as, bank, answer),
  );
  await assert.rejects(again, { error: "invalid_grant" });
  const call = withNonce(
    () => oauth.protectedResourceRequest(tokens.access_token, "GET", new URL(`${API}/hello.txt`), undefined, undefined, { DPoP }),
    (answer) => answer,
  );
  await assert.rejects(call, { code: oauth.WWW_AUTHENTICATE_CHALLENGE });
});

await check("registration (RFC 7591) with the operator's token, and not without", async () => {
  const metadata = {
    client_name: "Registered",
    redirect_uris: ["http://127.0.0.1/cb"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  };
  const initialAccessToken = readFileSync(join(STAGE, "registration.token"), "utf8");
  const answer = await oauth.dynamicClientRegistrationRequest(as, metadata, { initialAccessToken });
  const registered = await oauth.processDynamicClientRegistrationResponse(answer);
  assert.ok(registered.client_id);
  const stranger = await oauth.dynamicClientRegistrationRequest(as, metadata);
  assert.equal(stranger.status, 401);

  const start = new URL(as.authorization_endpoint);
  start.search = new URLSearchParams({
    client_id: registered.client_id,
    response_type: "code",
    redirect_uri: "http://127.0.0.1:4711/cb",
    scope: "files:read",
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
  });
  const client = { client_id: registered.client_id };
  const good = oauth.validateAuthResponse(as, client, new URL(await browser.signIn(start)), state);
  const none = oauth.None();
  const exchanged = await oauth.authorizationCodeGrantRequest(as, client, none, good, "http://127.0.0.1:4711/cb", verifier);
  assert.ok((await oauth.processAuthorizationCodeResponse(as, client, exchanged)).access_token);
});
