// npm openid-client where more is signed or said: JAR, JARM, form_post, RAR, signed userinfo.
import assert from "node:assert/strict";
import * as client from "openid-client";
import { API, browser, checks, issuer, keyOf } from "./stage.mjs";

const check = checks("openid-client, signed");
const config = (name, metadata) => keyOf(name).then((key) => client.discovery(issuer, name, metadata, client.PrivateKeyJwt(key)));
const pkceCodeVerifier = client.randomPKCECodeVerifier();
const request = async (name, more) => ({
  redirect_uri: `https://${name}.example/cb`,
  scope: "openid files:read",
  code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
  code_challenge_method: "S256",
  ...more,
});
const handle = async (of) => ({ DPoP: client.getDPoPHandle(of, await client.randomDPoPKeyPair("ES256")) });

const signer = await config("signer", { userinfo_signed_response_alg: "ES256" });
client.enableNonRepudiationChecks(signer);
// Pushes a request that its client signed (RFC 9126 §3).
async function pushSigned(key, more, options) {
  const { searchParams } = await client.buildAuthorizationUrlWithJAR(signer, await request("signer", more), key);
  return client.buildAuthorizationUrlWithPAR(signer, searchParams, options);
}

await check("JAR in PAR (RFC 9101), and userinfo as a signed JWT", async () => {
  const options = await handle(signer);
  const expectedState = client.randomState();
  const start = await pushSigned(await keyOf("signer"), { state: expectedState }, options);
  const answer = new URL(await browser.signIn(start));
  const tokens = await client.authorizationCodeGrant(signer, answer, { pkceCodeVerifier, expectedState, idTokenExpected: true }, undefined, options);
  const { sub } = tokens.claims();
  const about = await client.fetchUserInfo(signer, tokens.access_token, sub, options);
  assert.equal(about.sub, sub);
  assert.equal(about.aud, "signer");
});

await check("JAR: an unsigned request, and one of another key, are refused", async () => {
  const options = await handle(signer);
  await assert.rejects(client.buildAuthorizationUrlWithPAR(signer, await request("signer"), options), { error: "invalid_request" });
  const { key } = await keyOf("desk");
  const { kid } = await keyOf("signer");
  await assert.rejects(pushSigned({ key, kid }, {}, options), { error: "invalid_request_object" });
});

await check("JARM: the answer is a JWT, verified against the server's keys", async () => {
  const bank = await config("bank", {});
  client.useJwtResponseMode(bank);
  const options = await handle(bank);
  const expectedState = client.randomState();
  const start = await client.buildAuthorizationUrlWithPAR(bank, await request("bank", { state: expectedState }), options);
  const answer = new URL(await browser.signIn(start));
  assert.deepEqual([...answer.searchParams.keys()], ["response"]);
  const tokens = await client.authorizationCodeGrant(bank, answer, { pkceCodeVerifier, expectedState, idTokenExpected: true }, undefined, options);
  assert.equal(tokens.token_type, "dpop");
});

await check("form_post: the answer is a form to the client", async () => {
  const bank = await config("bank", {});
  const options = await handle(bank);
  const more = { response_mode: "form_post", state: client.randomState() };
  const start = await client.buildAuthorizationUrlWithPAR(bank, await request("bank", more), options);
  const { posted } = await browser.walk(start.href);
  assert.equal(posted.to, "https://bank.example/cb");
  const answer = new Request(posted.to, { method: "POST", body: new URLSearchParams(posted.fields) });
  await client.authorizationCodeGrant(bank, answer, { pkceCodeVerifier, expectedState: more.state, idTokenExpected: true }, undefined, options);
});

await check("RAR (RFC 9396): what was granted comes with the token and at introspection", async () => {
  const bank = await config("bank", {});
  const desk = await config("desk", {});
  const options = await handle(bank);
  const details = [{ type: "payment", amount: "12.50", currency: "EUR" }];
  const more = { authorization_details: JSON.stringify(details) };
  const start = await client.buildAuthorizationUrlWithPAR(bank, await request("bank", more), options);
  const answer = new URL(await browser.signIn(start));
  const tokens = await client.authorizationCodeGrant(bank, answer, { pkceCodeVerifier, idTokenExpected: true }, undefined, options);
  assert.deepEqual(tokens.authorization_details, details);
  const seen = await client.tokenIntrospection(desk, tokens.access_token);
  assert.deepEqual(seen.authorization_details, details);
  const url = new URL(`${API}/bound.txt`);
  assert.equal((await client.fetchProtectedResource(bank, tokens.access_token, url, "GET", undefined, undefined, options)).status, 200);
});

await check("RAR: a type that nobody knows is refused", async () => {
  const bank = await config("bank", {});
  const more = { authorization_details: JSON.stringify([{ type: "mortgage" }]) };
  const pushed = client.buildAuthorizationUrlWithPAR(bank, await request("bank", more), await handle(bank));
  await assert.rejects(pushed, { error: "invalid_authorization_details" });
});
