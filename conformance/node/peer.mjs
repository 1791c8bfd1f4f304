// npm oidc-provider beside ours, as equal as it can be set: the same clients, keys, scopes and
// resource, PKCE and DPoP nonces required, and a person who always agrees. Started by differences.mjs.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import Provider, { errors } from "oidc-provider";
import { API, STAGE } from "./stage.mjs";

const port = Number(process.env.PEER_PORT);
export const peerIssuer = `http://127.0.0.1:${port}`;
const keys = JSON.parse(readFileSync(join(STAGE, "machine.jwks.json"), "utf8"));
const { privateKey } = await crypto.subtle
  .generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
const signing = { ...(await crypto.subtle.exportKey("jwk", privateKey)), alg: "ES256", use: "sig", key_ops: undefined };

const codes = { grant_types: ["authorization_code", "refresh_token"], response_types: ["code"], id_token_signed_response_alg: "ES256" };
const edge = { client_id: "edge", application_type: "native", token_endpoint_auth_method: "none", redirect_uris: ["https://edge.example/cb"], ...codes };
const machine = {
  client_id: "machine",
  redirect_uris: [],
  response_types: [],
  grant_types: ["client_credentials"],
  token_endpoint_auth_method: "private_key_jwt",
  token_endpoint_auth_signing_alg: "ES256",
  id_token_signed_response_alg: "ES256",
  dpop_bound_access_tokens: true,
  jwks: keys,
};

const provider = new Provider(peerIssuer, {
  clients: [edge, machine],
  jwks: { keys: [signing] },
  cookies: { keys: [randomBytes(16).toString("hex")] },
  scopes: ["openid", "offline_access", "files:read"],
  claims: { openid: ["sub"] },
  clientAuthMethods: ["none", "private_key_jwt"],
  enabledJWA: { clientAuthSigningAlgValues: ["ES256"], dPoPSigningAlgValues: ["ES256"], idTokenSigningAlgValues: ["ES256"], requestObjectSigningAlgValues: ["ES256"] },
  ttl: { Interaction: 600, Session: 600, Grant: 600, AccessToken: 300, RefreshToken: 600, IdToken: 600, ClientCredentials: 300 },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  renderError: (ctx, out) => { ctx.type = "html"; ctx.body = `<p>${out.error}</p>`; },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    introspection: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    requestObjects: { enabled: true },
    revocation: {
      enabled: true,
      allowedPolicy: (_, client, token) => {
        if (token.clientId !== client.clientId) throw new errors.InvalidRequest("the token of another client");
        return true;
      },
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => API,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => {
        if (resource !== API) throw new errors.InvalidTarget();
        return { scope: "files:read files:robot", audience: API, accessTokenFormat: "jwt", jwt: { sign: { alg: "ES256" } } };
      },
    },
  },
});

// Signs in at once, and agrees to everything.
async function agree(request, answer) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, answer);
  if (prompt.name === "login") {
    return provider.interactionFinished(request, answer, { login: { accountId: "ada" } }, { mergeWithLastSubmission: false });
  }
  const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const { missingOIDCScope, missingResourceScopes } = prompt.details;
  if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(" "));
  for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) grant.addResourceScope(resource, scopes.join(" "));
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(request, answer, { consent }, { mergeWithLastSubmission: true });
}

export function startPeer() {
  const own = provider.callback();
  const server = http.createServer((request, answer) => {
    if (!request.url.startsWith("/interaction/")) return own(request, answer);
    return agree(request, answer).catch((error) => answer.writeHead(500).end(String(error)));
  });
  return new Promise((done) => server.listen(port, "127.0.0.1", () => done(server)));
}
