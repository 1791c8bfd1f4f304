// The MCP TypeScript SDK's client with its OAuth part, against an MCP server behind the gateway. It
// knows one address and registered nowhere: 401 → protected resource metadata (RFC 9728) →
// authorization server metadata (RFC 8414) → its metadata document as client_id → code with PKCE
// and resource → token → a tool called.
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { DOCUMENTS, ISSUER, TOOLS, browser, checks } from "./stage.mjs";

const check = checks("MCP TypeScript SDK");
const server = new URL("/mcp", TOOLS);

// What an application keeps for the SDK.
class Kept {
  redirectUrl = "http://127.0.0.1:5996/callback";
  clientMetadataUrl = `${DOCUMENTS}/client.json`;
  clientMetadata = { client_name: "A tool of somebody", redirect_uris: [this.redirectUrl], token_endpoint_auth_method: "none" };
  state = () => "s-1";
  clientInformation = () => this.client;
  saveClientInformation = (client) => (this.client = client);
  tokens = () => this.kept;
  saveTokens = (tokens) => (this.kept = tokens);
  saveCodeVerifier = (verifier) => (this.verifier = verifier);
  codeVerifier = () => this.verifier;
  redirectToAuthorization = (url) => (this.sent = url);
}

const kept = new Kept();
const connect = async () => {
  const transport = new StreamableHTTPClientTransport(server, { authProvider: kept });
  const client = new Client({ name: "conformance", version: "1.0.0" });
  await client.connect(transport);
  return client;
};

await check("finds the login by itself: 401, RFC 9728, RFC 8414, its document as client_id", async () => {
  await assert.rejects(connect(), UnauthorizedError);
  assert.equal(kept.sent.origin, new URL(ISSUER).origin);
  assert.equal(kept.sent.searchParams.get("client_id"), kept.clientMetadataUrl);
  assert.equal(kept.sent.searchParams.get("resource"), TOOLS);
  assert.equal(kept.sent.searchParams.get("code_challenge_method"), "S256");
});

await check("code for tokens", async () => {
  const answer = new URL(await browser.signIn(kept.sent));
  assert.equal(answer.origin + answer.pathname, kept.redirectUrl);
  assert.equal(answer.searchParams.get("state"), "s-1");
  const code = answer.searchParams.get("code");
  assert.ok(code, answer.search);
  await new StreamableHTTPClientTransport(server, { authProvider: kept }).finishAuth(code);
  assert.ok(kept.kept.access_token);
});

await check("calls a tool behind the gateway", async () => {
  const client = await connect();
  const { content } = await client.callTool({ name: "greet" });
  assert.equal(content[0].text, "hello from a tool");
  await client.close();
});

await check("an access token that is no good is renewed with the refresh token", async () => {
  const { refresh_token } = kept.kept;
  assert.ok(refresh_token);
  kept.kept = { ...kept.kept, access_token: "gone" };
  const client = await connect();
  assert.notEqual(kept.kept.access_token, "gone");
  assert.notEqual(kept.kept.refresh_token, refresh_token);
  await client.close();
});
