// npm openid-client as a device without a keyboard (RFC 8628).
import assert from "node:assert/strict";
import * as client from "openid-client";
import { API, browser, checks, issuer } from "./stage.mjs";
import { words } from "./browser.mjs";

const check = checks("openid-client, device");
const tv = await client.discovery(issuer, "tv", undefined, client.None());
const page = new URL("/device", issuer);

await check("waits while nobody decides, and gets its tokens afterwards", async () => {
  const begun = await client.initiateDeviceAuthorization(tv, { scope: "files:read" });
  assert.equal(new URL(begun.verification_uri).href, page.href);
  const waiting = client.pollDeviceAuthorizationGrant(tv, begun, undefined, { signal: AbortSignal.timeout(20_000) });
  const end = await browser.walk(begun.verification_uri, { userCode: begun.user_code });
  assert.match(words(end.text), /Device connected/);
  const tokens = await waiting;
  const answer = await client.fetchProtectedResource(tv, tokens.access_token, new URL(`${API}/hello.txt`), "GET");
  assert.equal(answer.status, 200);
});

await check("a device code is good once", async () => {
  const begun = await client.initiateDeviceAuthorization(tv, { scope: "files:read" });
  await browser.walk(begun.verification_uri_complete ?? begun.verification_uri, { userCode: begun.user_code });
  const grant = "urn:ietf:params:oauth:grant-type:device_code";
  await client.genericGrantRequest(tv, grant, { device_code: begun.device_code });
  await assert.rejects(client.genericGrantRequest(tv, grant, { device_code: begun.device_code }), { error: "invalid_grant" });
});

await check("refused by its user: access_denied", async () => {
  const begun = await client.initiateDeviceAuthorization(tv, { scope: "files:read" });
  await browser.walk(begun.verification_uri, { userCode: begun.user_code, decision: "deny" });
  await assert.rejects(client.pollDeviceAuthorizationGrant(tv, begun, undefined, { signal: AbortSignal.timeout(20_000) }), { error: "access_denied" });
});
