// The MCP project's conformance suite, its part for authorization servers: what it can be pointed at
// is its metadata and a whole code grant; here with a client that is registered and with one that is
// a document. The suite says where to go, waits at its callback, and judges; the person walks.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { DOCUMENTS, ISSUER, STAGE, TOOLS, browser, checks } from "./stage.mjs";

const folder = join(import.meta.dirname, "../mcp/node_modules");
// Its own Node, of the architecture that npm found.
const node = join(folder, readdirSync(folder).find((name) => name.startsWith("node-linux-")), "bin/node");
const suite = join(folder, "@modelcontextprotocol/conformance/dist/index.js");
const check = checks("MCP conformance");

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => server.on("listening", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

// Runs the suite for one client: what it judged, a status by check.
async function run(client) {
  const port = await freePort();
  const results = mkdtempSync(join(STAGE, "suite-"));
  const words = ["authorization", "--url", ISSUER, "--client-id", client, "--resource", TOOLS, "--port", port, "-o", results];
  const child = spawn(node, [suite, ...words], { stdio: ["ignore", "pipe", "inherit"], signal: AbortSignal.timeout(20_000) });
  let said = "";
  let walked;
  child.stdout.on("data", (chunk) => {
    said += chunk;
    const start = /^(https:\S+)\s/m.exec(said)?.[1];
    // Its callback is fetched as a browser would, and it ends by itself.
    if (start) walked ??= browser.signIn(start).then(fetch).catch((error) => { child.kill(); return error; });
  });
  const status = await new Promise((done) => child.on("close", done).on("error", done));
  const failure = await walked;
  if (failure instanceof Error) throw failure;
  assert.equal(status, 0, said);
  const files = readdirSync(results).map((folder) => join(results, folder, "checks.json"));
  return files.flatMap((file) => JSON.parse(readFileSync(file, "utf8")));
}

for (const [kind, client] of [["registered", "suite"], ["a metadata document", `${DOCUMENTS}/client.json`]]) {
  let judged = [];
  await check(`runs to its end, the client is ${kind}`, async () => {
    judged = await run(client);
    const ids = judged.map((one) => one.id).sort();
    assert.deepEqual(ids, ["authorization-code-grant", "authorization-server-metadata", "authorization-server-metadata-cimd"]);
  });
  for (const { id, status, errorMessage } of judged) {
    await check(`${id}, the client is ${kind}`, () => assert.equal(status, "SUCCESS", errorMessage));
  }
}
