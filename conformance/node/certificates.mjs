// npm openid-client with client certificates (RFC 8705): of an authority, and self-signed; services,
// and a FAPI 2.0 client that signs people in and has no other key.
import assert from "node:assert/strict";
import * as client from "openid-client";
import { API, VAULT, browser, checks, fetchWith, invalidClient, issuer, keyOf } from "./stage.mjs";

const check = checks("openid-client, certificates");
const refused = { code: "OAUTH_WWW_AUTHENTICATE_CHALLENGE" };
const get = (config, url, token) => client.fetchProtectedResource(config, token, new URL(url), "GET");

// A client whose every request shows a certificate.
async function certified(name, certificate) {
  const metadata = { use_mtls_endpoint_aliases: true };
  return client.discovery(issuer, name, metadata, client.TlsClientAuth(), { [client.customFetch]: fetchWith(certificate) });
}

for (const [name, kind] of [["partner", "tls_client_auth: an authority, a DNS name"], ["pinned", "self_signed_tls_client_auth"]]) {
  await check(`${kind}; the token is bound to the certificate, at the API too`, async () => {
    const config = await certified(name, name);
    const granted = await client.clientCredentialsGrant(config, { scope: "vault:read" });
    assert.equal((await get(config, `${VAULT}/vault.txt`, granted.access_token)).status, 200);
    const thief = await certified(name, "stray");
    await assert.rejects(get(thief, `${VAULT}/vault.txt`, granted.access_token), refused);
    const bare = await fetch(`${VAULT}/vault.txt`, { headers: { authorization: `Bearer ${granted.access_token}` } });
    assert.equal(bare.status, 401);
  });
}

await check("a code flow: pushed, redeemed and refreshed with the certificate; the token bound to it", async () => {
  const config = await certified("broker", "partner");
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const start = await client.buildAuthorizationUrlWithPAR(config, {
    redirect_uri: "https://broker.example/cb",
    scope: "openid files:read offline_access",
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
  });
  const answer = new URL(await browser.signIn(start));
  const tokens = await client.authorizationCodeGrant(config, answer, { pkceCodeVerifier, idTokenExpected: true });
  const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
  assert.equal((await get(config, `${API}/bound.txt`, refreshed.access_token)).status, 200);
  await assert.rejects(get(await certified("broker", "stray"), `${API}/bound.txt`, refreshed.access_token), refused);
  const desk = await client.discovery(issuer, "desk", undefined, client.PrivateKeyJwt(await keyOf("desk")));
  assert.ok((await client.tokenIntrospection(desk, refreshed.access_token)).cnf["x5t#S256"]);
});

await check("a self-signed certificate with the right name is refused: invalid_client", async () => {
  const config = await certified("partner", "stray");
  await invalidClient(client.clientCredentialsGrant(config, { scope: "vault:read" }));
});
