// Requests at the edge of what the standards allow, sent to two servers alike. Each yields a few
// words about the answer: where it went, its status, its error code.
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { SignJWT, UnsecuredJWT, exportJWK, generateKeyPair } from "jose";
import { API, keyOf } from "./stage.mjs";

const ATTEMPTS = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const redirect = "https://edge.example/cb";
const verifier = randomBytes(32).toString("base64url");
const challenge = createHash("sha256").update(verifier).digest("base64url");
const dpopPair = await generateKeyPair("ES256");

// A server under test: its issuer, endpoints and a person signed in there.
export class Server {
  constructor(issuer, metadata, browser) {
    Object.assign(this, { issuer, metadata, browser });
  }

  // The authorization endpoint, with parameters changed (`undefined` leaves one out), and a tail.
  async authorize(changes = {}, tail = "") {
    const url = `${this.metadata.authorization_endpoint}?${this.request(changes)}${tail}`;
    return this.outcome(await this.browser.walk(url));
  }

  request(changes) {
    const usual = { client_id: "edge", response_type: "code", redirect_uri: redirect, scope: "openid files:read offline_access", state: "s", code_challenge: challenge, code_challenge_method: "S256", prompt: "consent" };
    return new URLSearchParams(Object.entries({ ...usual, ...changes }).filter(([, value]) => value !== undefined));
  }

  outcome(page) {
    if (!page.location) return `page ${page.status}`;
    const at = new URL(page.location);
    const said = new URLSearchParams(at.search || at.hash.slice(1));
    const where = at.hash ? "fragment" : "redirect";
    return `${where}: ${said.get("error") ?? (said.has("code") ? "code" : "nothing")}${said.has("iss") ? "" : " without iss"}`;
  }

  async code(changes = {}) {
    const url = `${this.metadata.authorization_endpoint}?${this.request(changes)}`;
    const { location, status } = await this.browser.walk(url);
    const code = location && new URL(location).searchParams.get("code");
    if (!code) throw new Error(`no code of ${this.issuer}: ${location ?? status}`);
    return code;
  }

  // Any endpoint, with a form.
  async post(endpoint, form, headers = {}) {
    const body = new URLSearchParams(Object.entries(form).filter(([, value]) => value !== undefined));
    return this.send(endpoint, { method: "POST", body: body.toString(), headers: { "content-type": "application/x-www-form-urlencoded", ...headers } });
  }

  async send(endpoint, init) {
    const url = endpoint.startsWith("http") ? endpoint : this.metadata[endpoint];
    const answer = await fetch(url, { redirect: "manual", ...init });
    const text = await answer.text();
    let body = {};
    try { body = JSON.parse(text); } catch { /* not JSON */ }
    const what = body.error ?? (body.access_token ? `${body.token_type} token` : "");
    return { said: `${answer.status} ${what}`.trim(), body, answer };
  }

  redeem(code, changes = {}, headers = {}) {
    const usual = { grant_type: "authorization_code", client_id: "edge", code, redirect_uri: redirect, code_verifier: verifier };
    return this.post("token_endpoint", { ...usual, ...changes }, headers);
  }

  refresh(refresh_token, changes = {}) {
    return this.post("token_endpoint", { grant_type: "refresh_token", client_id: "edge", refresh_token, ...changes });
  }

  async tokens() {
    const { body, said } = await this.redeem(await this.code());
    if (!body.refresh_token) throw new Error(`no refresh token of ${this.issuer}: ${said}`);
    return body;
  }

  async assertion(claims = {}) {
    const { key, kid } = await keyOf("machine");
    const now = Math.floor(Date.now() / 1000);
    const usual = { iss: "machine", sub: "machine", aud: this.issuer, iat: now, exp: now + 60, jti: randomUUID() };
    return new SignJWT({ ...usual, ...claims }).setProtectedHeader({ alg: "ES256", kid }).sign(key);
  }

  async proof(claims = {}, header = {}) {
    this.nonce ??= (await this.service(await this.assertion(), await this.bareProof())).answer.headers.get("dpop-nonce");
    return this.bareProof({ nonce: this.nonce, ...claims }, header);
  }

  async bareProof(claims = {}, header = {}) {
    const jwk = await exportJWK(dpopPair.publicKey);
    const usual = { htm: "POST", htu: this.metadata.token_endpoint, iat: Math.floor(Date.now() / 1000), jti: randomUUID() };
    return new SignJWT({ ...usual, ...claims }).setProtectedHeader({ alg: "ES256", typ: "dpop+jwt", jwk, ...header }).sign(dpopPair.privateKey);
  }

  // Client credentials of the service.
  service(client_assertion, proof, changes = {}) {
    const form = { grant_type: "client_credentials", scope: "files:robot", client_assertion_type: ATTEMPTS, client_assertion, ...changes };
    return this.post("token_endpoint", form, proof === undefined ? {} : { dpop: proof });
  }
}

const said = async (sent) => (await sent).said;
const query = (changes, tail) => (server) => server.authorize(changes, tail);
const proven = (claims, header) => async (server) => said(server.service(await server.assertion(), await server.proof(claims, header)));
const asserted = (claims) => async (server) => said(server.service(await server.assertion(claims), await server.proof()));

export const edges = [
  // The authorization endpoint.
  ["a code, as it should be", query()],
  ["client_id unknown", query({ client_id: "nobody" })],
  ["client_id missing", query({ client_id: undefined })],
  ["redirect_uri unregistered", query({ redirect_uri: "https://evil.example/cb" })],
  ["redirect_uri missing", query({ redirect_uri: undefined })],
  ["redirect_uri with another port", query({ redirect_uri: "https://edge.example:8443/cb" })],
  ["redirect_uri with one more slash", query({ redirect_uri: `${redirect}/` })],
  ["redirect_uri with a query", query({ redirect_uri: `${redirect}?x=1` })],
  ["redirect_uri in upper case", query({ redirect_uri: "https://EDGE.example/cb" })],
  ["redirect_uri twice", query({}, "&redirect_uri=https%3A%2F%2Fevil.example%2Fcb")],
  ["scope twice", query({}, "&scope=openid")],
  ["an unknown parameter twice", query({}, "&colour=red&colour=blue")],
  ["state missing", query({ state: undefined })],
  ["PKCE missing", query({ code_challenge: undefined, code_challenge_method: undefined })],
  ["PKCE plain", query({ code_challenge_method: "plain" })],
  ["PKCE without a method", query({ code_challenge_method: undefined })],
  ["PKCE challenge too short", query({ code_challenge: "short" })],
  ["response_type missing", query({ response_type: undefined })],
  ["response_type token", query({ response_type: "token" })],
  ["response_type code id_token", query({ response_type: "code id_token", nonce: "n" })],
  ["response_mode fragment", query({ response_mode: "fragment" })],
  ["response_mode unknown", query({ response_mode: "pigeon" })],
  ["prompt unknown", query({ prompt: "dance" })],
  ["prompt none and login", query({ prompt: "none login" })],
  ["prompt none", query({ prompt: "none" })],
  ["max_age negative", query({ max_age: "-1" })],
  ["max_age no number", query({ max_age: "soon" })],
  ["scope unknown", query({ scope: "openid everything" })],
  ["scope missing", query({ scope: undefined })],
  ["resource unknown", query({ resource: "https://elsewhere.example/" })],
  ["resource twice, two APIs", query({ resource: API }, `&resource=${encodeURIComponent("https://elsewhere.example/")}`)],
  ["resource twice, the same", query({ resource: API }, `&resource=${encodeURIComponent(API)}`)],
  ["resource with a fragment", query({ resource: `${API}#x` })],
  ["acr_values that nobody reaches", query({ acr_values: "urn:nobody" })],
  ["dpop_jkt that is no thumbprint", query({ dpop_jkt: "short" })],
  ["id_token_hint forged", query({ id_token_hint: "a.b.c" })],
  ["claims", query({ claims: '{"userinfo":{"email":null}}' })],
  ["registration", query({ registration: "{}" })],
  ["request_uri by http", query({ request_uri: "http://127.0.0.1:9/request.jwt" })],
  ["request_uri by https", query({ request_uri: "https://evil.example/request.jwt" })],
  ["request_uri of ours, invented", query({ request_uri: "urn:ietf:params:oauth:request_uri:invented" })],
  ["request unsigned (alg none)", (server) => server.authorize({ request: new UnsecuredJWT({ client_id: "edge" }).encode() })],
  ["method PUT at authorize", async (server) => (await server.send("authorization_endpoint", { method: "PUT" })).said],
  ["method POST at authorize, as a form", async (server) => {
    const { answer } = await server.post("authorization_endpoint", Object.fromEntries(server.request({ prompt: "none" })));
    const to = answer.headers.get("location");
    return to ? server.outcome({ location: to }) : `page ${answer.status}`;
  }],

  // Codes.
  ["code: as it should be", async (server) => said(server.redeem(await server.code()))],
  ["code: invented", (server) => said(server.redeem("invented"))],
  ["code: wrong verifier", async (server) => said(server.redeem(await server.code(), { code_verifier: "x".repeat(43) }))],
  ["code: no verifier", async (server) => said(server.redeem(await server.code(), { code_verifier: undefined }))],
  ["code: right verifier after a wrong one", async (server) => {
    const code = await server.code();
    await server.redeem(code, { code_verifier: "x".repeat(43) });
    return said(server.redeem(code));
  }],
  ["code: another redirect_uri", async (server) => said(server.redeem(await server.code(), { redirect_uri: "https://evil.example/cb" }))],
  ["code: no redirect_uri", async (server) => said(server.redeem(await server.code(), { redirect_uri: undefined }))],
  ["code: bound to a DPoP key, redeemed without a proof", async (server) => said(server.redeem(await server.code({ dpop_jkt: challenge })))],
  ["code: twice", async (server) => {
    const code = await server.code();
    await server.redeem(code);
    return said(server.redeem(code));
  }],
  ["code: the refresh token after the code came twice", async (server) => {
    const code = await server.code();
    const { body } = await server.redeem(code);
    await server.redeem(code);
    return said(server.refresh(body.refresh_token));
  }],
  ["code: with the parameters in the query", async (server) => {
    const form = new URLSearchParams({ grant_type: "authorization_code", client_id: "edge", code: "x" });
    return said(server.post(`${server.metadata.token_endpoint}?${form}`, {}));
  }],
  ["code: resource of another API", async (server) => said(server.redeem(await server.code(), { resource: "https://elsewhere.example/" }))],

  // The token endpoint.
  ["token: by GET", (server) => said(server.send("token_endpoint", { method: "GET" }))],
  ["token: JSON", (server) => said(server.send("token_endpoint", { method: "POST", body: '{"grant_type":"client_credentials"}', headers: { "content-type": "application/json" } }))],
  ["token: grant_type missing", (server) => said(server.post("token_endpoint", { client_id: "edge" }))],
  ["token: grant_type unknown", (server) => said(server.post("token_endpoint", { client_id: "edge", grant_type: "wish" }))],
  ["token: grant_type password", (server) => said(server.post("token_endpoint", { client_id: "edge", grant_type: "password", username: "a", password: "b" }))],
  ["token: grant_type of another client", (server) => said(server.post("token_endpoint", { client_id: "edge", grant_type: "client_credentials" }))],
  ["token: a parameter twice", (server) => said(server.send("token_endpoint", { method: "POST", body: "client_id=edge&grant_type=refresh_token&refresh_token=a&refresh_token=b", headers: { "content-type": "application/x-www-form-urlencoded" } }))],
  ["token: client_id missing", (server) => said(server.post("token_endpoint", { grant_type: "refresh_token", refresh_token: "x" }))],
  ["token: client_id unknown", (server) => said(server.post("token_endpoint", { client_id: "nobody", grant_type: "refresh_token", refresh_token: "x" }))],
  ["token: a public client with a secret", async (server) => said(server.redeem(await server.code(), { client_secret: "s" }))],
  ["token: a public client by Basic", async (server) => said(server.redeem(await server.code(), { client_id: undefined }, { authorization: `Basic ${btoa("edge:s")}` }))],

  // Refresh tokens of a public client.
  ["refresh: as it should be", async (server) => said(server.refresh((await server.tokens()).refresh_token))],
  ["refresh: invented", (server) => said(server.refresh("invented"))],
  ["refresh: wider scope", async (server) => said(server.refresh((await server.tokens()).refresh_token, { scope: "openid files:read files:robot" }))],
  ["refresh: the old one again, at once", async (server) => {
    const { refresh_token } = await server.tokens();
    await server.refresh(refresh_token);
    return said(server.refresh(refresh_token));
  }],
  ["refresh: the old one again, after its successor was used", async (server) => {
    const { refresh_token } = await server.tokens();
    await server.refresh((await server.refresh(refresh_token)).body.refresh_token);
    return said(server.refresh(refresh_token));
  }],

  // Clients that prove themselves.
  ["assertion: as it should be", asserted()],
  ["assertion: aud is the token endpoint", async (server) => asserted({ aud: server.metadata.token_endpoint })(server)],
  ["assertion: aud is a list with the issuer", async (server) => asserted({ aud: [server.issuer] })(server)],
  ["assertion: expired", asserted({ exp: Math.floor(Date.now() / 1000) - 120 })],
  ["assertion: no exp", asserted({ exp: undefined })],
  ["assertion: no jti", asserted({ jti: undefined })],
  ["assertion: good for a day", asserted({ exp: Math.floor(Date.now() / 1000) + 86_400 })],
  ["assertion: used twice", async (server) => {
    const assertion = await server.assertion();
    await server.service(assertion, await server.proof());
    return said(server.service(assertion, await server.proof()));
  }],
  ["assertion: beside a secret", async (server) => said(server.service(await server.assertion(), await server.proof(), { client_secret: "s" }))],
  ["assertion: client_id of another", async (server) => said(server.service(await server.assertion(), await server.proof(), { client_id: "edge" }))],

  // DPoP proofs.
  ["DPoP: none", async (server) => said(server.service(await server.assertion()))],
  ["DPoP: no nonce", async (server) => said(server.service(await server.assertion(), await server.bareProof()))],
  ["DPoP: an invented nonce", proven({ nonce: "invented" })],
  ["DPoP: not a JWT", async (server) => said(server.service(await server.assertion(), "x"))],
  ["DPoP: two proofs", async (server) => said(server.service(await server.assertion(), `${await server.proof()}, ${await server.proof()}`))],
  ["DPoP: another method", proven({ htm: "GET" })],
  ["DPoP: another address", proven({ htu: "https://evil.example/token" })],
  ["DPoP: the address with a query", async (server) => proven({ htu: `${server.metadata.token_endpoint}?x=1` })(server)],
  ["DPoP: an hour old", proven({ iat: Math.floor(Date.now() / 1000) - 3600 })],
  ["DPoP: an hour ahead", proven({ iat: Math.floor(Date.now() / 1000) + 3600 })],
  ["DPoP: another typ", proven({}, { typ: "JWT" })],
  ["DPoP: with the private key in the header", proven({}, { jwk: await exportJWK((await generateKeyPair("ES256", { extractable: true })).privateKey) })],
  ["DPoP: used twice", async (server) => {
    const proof = await server.proof();
    await server.service(await server.assertion(), proof);
    return said(server.service(await server.assertion(), proof));
  }],

  // Pushed requests.
  ["PAR: with a request_uri", (server) => said(server.post("pushed_authorization_request_endpoint", { ...Object.fromEntries(server.request({})), request_uri: "urn:x" }))],
  ["PAR: redirect_uri unregistered", (server) => said(server.post("pushed_authorization_request_endpoint", Object.fromEntries(server.request({ redirect_uri: "https://evil.example/cb" }))))],
  ["PAR: the reference twice", async (server) => {
    const { body } = await server.post("pushed_authorization_request_endpoint", Object.fromEntries(server.request({})));
    const url = `${server.metadata.authorization_endpoint}?${new URLSearchParams({ client_id: "edge", request_uri: body.request_uri })}`;
    await server.browser.walk(url);
    return server.outcome(await server.browser.walk(url));
  }],
  ["PAR: the reference with another client_id", async (server) => {
    const { body } = await server.post("pushed_authorization_request_endpoint", Object.fromEntries(server.request({})));
    const words = new URLSearchParams({ client_id: "machine", request_uri: body.request_uri });
    return server.outcome(await server.browser.walk(`${server.metadata.authorization_endpoint}?${words}`));
  }],

  // The rest.
  ["revoke: a token that nobody knows", (server) => said(server.post("revocation_endpoint", { client_id: "edge", token: "invented" }))],
  ["revoke: no token", (server) => said(server.post("revocation_endpoint", { client_id: "edge" }))],
  ["revoke: the token of another client", async (server) => {
    const { refresh_token } = await server.tokens();
    const form = { client_assertion_type: ATTEMPTS, client_assertion: await server.assertion(), token: refresh_token };
    const first = await said(server.post("revocation_endpoint", form));
    return `${first}, then ${await said(server.refresh(refresh_token))}`;
  }],
  ["introspect: by a public client", async (server) => said(server.post("introspection_endpoint", { client_id: "edge", token: (await server.tokens()).access_token }))],
  ["CORS: a stranger's preflight at the token endpoint", async (server) => {
    const asked = { origin: "https://evil.example", "access-control-request-method": "POST" };
    const { answer } = await server.send("token_endpoint", { method: "OPTIONS", headers: asked });
    return answer.headers.has("access-control-allow-origin") ? "allowed" : "not allowed";
  }],
  ["userinfo: no token", (server) => said(server.send("userinfo_endpoint", {}))],
  ["userinfo: the token in the query", async (server) => said(server.send(`${server.metadata.userinfo_endpoint}?access_token=x`, {}))],
  ["userinfo: a token for an API", async (server) => said(server.send("userinfo_endpoint", { headers: { authorization: `Bearer ${(await server.tokens()).access_token}` } }))],
  ["logout: to an unregistered address", async (server) => server.outcome(await server.browser.walk(`${server.metadata.end_session_endpoint}?client_id=edge&post_logout_redirect_uri=https%3A%2F%2Fevil.example%2F`))],
];
