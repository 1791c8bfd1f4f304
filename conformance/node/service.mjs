// npm openid-client as services: client credentials with private_key_jwt, bearer by a waiver, and
// bound by DPoP.
import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import * as client from "openid-client";
import { API, checks, invalidClient, issuer, keyOf } from "./stage.mjs";

const check = checks("openid-client, services");
const get = (config, url, token, options) =>
  client.fetchProtectedResource(config, token, new URL(url), "GET", undefined, undefined, options);

await check("private_key_jwt; a scope is no pass for another operation", async () => {
  const pkcs8 = createPrivateKey(readFileSync(process.env.SERVICE_KEY)).export({ type: "pkcs8", format: "der" });
  const key = await crypto.subtle.importKey("pkcs8", pkcs8, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
  const robot = await client.discovery(issuer, "robot", undefined, client.PrivateKeyJwt(key));
  const granted = await client.clientCredentialsGrant(robot, { scope: "files:robot" });
  assert.equal((await get(robot, `${API}/robot.txt`, granted.access_token)).status, 200);
  const other = await fetch(`${API}/hello.txt`, { headers: { authorization: `Bearer ${granted.access_token}` } });
  assert.equal(other.status, 403);
});

const machine = await client.discovery(issuer, "machine", undefined, client.PrivateKeyJwt(await keyOf("machine")));

await check("private_key_jwt and DPoP with the server's nonces", async () => {
  const DPoP = client.getDPoPHandle(machine, await client.randomDPoPKeyPair("ES256"));
  const granted = await client.clientCredentialsGrant(machine, { scope: "files:robot" }, { DPoP });
  assert.equal(granted.token_type, "dpop");
  assert.equal((await get(machine, `${API}/robot.txt`, granted.access_token, { DPoP })).status, 200);
});

await check("without a proof a fapi2 client gets nothing", async () => {
  await assert.rejects(client.clientCredentialsGrant(machine, { scope: "files:robot" }), { error: "invalid_request" });
});

await check("DPoP with Ed25519", async () => {
  const DPoP = client.getDPoPHandle(machine, await client.randomDPoPKeyPair("Ed25519"));
  const granted = await client.clientCredentialsGrant(machine, { scope: "files:robot" }, { DPoP });
  assert.equal((await get(machine, `${API}/robot.txt`, granted.access_token, { DPoP })).status, 200);
});

await check("a wrong key is refused: invalid_client", async () => {
  const { key } = await keyOf("desk");
  const wrong = await client.discovery(issuer, "machine", undefined, client.PrivateKeyJwt(key));
  const DPoP = client.getDPoPHandle(wrong, await client.randomDPoPKeyPair("ES256"));
  await invalidClient(client.clientCredentialsGrant(wrong, { scope: "files:robot" }, { DPoP }));
});
