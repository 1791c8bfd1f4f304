// npm oidc-provider as a server beside Portcullis: the same clients, API, algorithms and checks. One
// process, everything in memory.   node server.mjs SETTINGS
// SETTINGS is a JSON file that bench/login.py writes.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import https from "node:https";
import { Provider } from "oidc-provider";

const settings = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { port, issuer, api, scope, redirect, secret, jwks, certificate, key, format } = settings;

// What their example adapter does, without its bound of 1,000 entries (the sessions and grants of a
// run would be dropped), and without expiry (a run is over before anything expires).
class Memory {
  static kept = new Map();
  static grants = new Map();
  static uids = new Map();

  constructor(model) {
    this.model = model;
  }
  name(id) {
    return `${this.model}:${id}`;
  }
  async upsert(id, payload) {
    Memory.kept.set(this.name(id), payload);
    if (payload.grantId && this.model !== "Grant") {
      const of = Memory.grants.get(payload.grantId);
      if (of) of.add(this.name(id));
      else Memory.grants.set(payload.grantId, new Set([this.name(id)]));
    }
    if (this.model === "Session") Memory.uids.set(payload.uid, id);
  }
  async find(id) {
    return Memory.kept.get(this.name(id));
  }
  async findByUid(uid) {
    return this.find(Memory.uids.get(uid));
  }
  async findByUserCode() {}
  async consume(id) {
    Memory.kept.get(this.name(id)).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    Memory.kept.delete(this.name(id));
  }
  async revokeByGrantId(grantId) {
    for (const name of Memory.grants.get(grantId) ?? []) Memory.kept.delete(name);
    Memory.grants.delete(grantId);
  }
}

function signer(kind, options, alg) {
  const jwk = generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" });
  return { ...jwk, alg, use: "sig", kid: alg };
}

const common = { scope, redirect_uris: [], response_types: [], id_token_signed_response_alg: "ES256" };
const proven = { token_endpoint_auth_method: "private_key_jwt", token_endpoint_auth_signing_alg: "ES256", dpop_bound_access_tokens: true };
const keys = JSON.parse(readFileSync(jwks, "utf8"));
const people = { redirect_uris: [redirect], response_types: ["code"], grant_types: ["authorization_code", "refresh_token"] };
const clients = [
  { ...common, client_id: "cron", grant_types: ["client_credentials"], client_secret: secret, token_endpoint_auth_method: "client_secret_basic" },
  { ...common, ...proven, client_id: "machine", grant_types: ["client_credentials"], jwks: keys },
  { ...common, ...people, client_id: "app", token_endpoint_auth_method: "none", scope: `openid ${scope}` },
  { ...common, ...people, ...proven, client_id: "bank", jwks: keys, require_pushed_authorization_requests: true, scope: `openid ${scope}` },
];

const provider = new Provider(issuer, {
  adapter: Memory,
  clients,
  jwks: { keys: [signer("ed25519", {}, "EdDSA"), signer("ec", { namedCurve: "P-256" }, "ES256")] },
  cookies: { keys: [randomBytes(32).toString("hex")] },
  scopes: ["openid", scope],
  routes: { authorization: "/oauth/authorize", token: "/oauth/token", pushed_authorization_request: "/oauth/par" },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope,
        audience: api,
        accessTokenTTL: 300,
        accessTokenFormat: format,
        jwt: { sign: { alg: "EdDSA" } },
      }),
    },
  },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  issueRefreshToken: () => true,
  // As ours: public clients' rotate, bound confidential ones' do not.
  rotateRefreshToken: (ctx) => ctx.oidc.client.clientAuthMethod === "none",
  // Consent is remembered: the grant of this session and client, made at the first request.
  async loadExistingGrant({ oidc }) {
    const { clientId } = oidc.client;
    const kept = oidc.session.grantIdFor(clientId);
    const found = kept && (await oidc.provider.Grant.find(kept));
    if (found) return found;
    const grant = new oidc.provider.Grant({ clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope(`openid ${scope}`);
    grant.addResourceScope(api, scope);
    await grant.save();
    return grant;
  },
});

// Whoever comes is signed in: only sessions that stand are measured.
let signedIn = 0;
const answer = provider.callback();
const tls = { cert: readFileSync(certificate), key: readFileSync(key) };
https
  .createServer(tls, (request, response) => {
    if (!request.url.startsWith("/interaction/")) return answer(request, response);
    signedIn += 1;
    const login = { accountId: `person-${signedIn}` };
    return provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: false });
  })
  .listen(port, "127.0.0.1");
