// Where npm oidc-provider answers the same request otherwise: every difference must stand in
// differences.md with its reason, and what stands there must be one. `node differences.mjs --all`
// prints what both said to everything.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Browser } from "./browser.mjs";
import { Server, edges } from "./edges.mjs";
import { peerIssuer, startPeer } from "./peer.mjs";
import { ISSUER, browser, checks } from "./stage.mjs";

const check = checks("beside oidc-provider");
const peer = await startPeer();
const of = async (issuer, browser) => {
  const metadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  return new Server(issuer, metadata, browser);
};
const [ours, theirs] = [await of(ISSUER, browser), await of(peerIssuer, new Browser({}))];

// The rows of the table: request, ours, theirs, reason.
const file = join(import.meta.dirname, "../differences.md");
const rows = readFileSync(file, "utf8").split("\n").filter((line) => line.startsWith("| "));
const listed = new Map(rows.slice(1).map((row) => row.slice(2, -2).split(" | ")).map(([name, ...rest]) => [name, rest]));

const answer = (server, edge) => edge(server).catch((error) => `failed: ${error.message}`);
const found = new Map();
for (const [name, edge] of edges) {
  const [mine, other] = [await answer(ours, edge), await answer(theirs, edge)];
  if (process.argv.includes("--all")) console.log(`   ${name}: ${mine}${mine === other ? "" : ` | ${other}`}`);
  if (mine !== other) found.set(name, [mine, other]);
}
peer.close();
peer.closeAllConnections();

for (const [name, [mine, other]] of found) {
  await check(`${name}: ${mine}, there ${other}`, () => {
    const [said, heard, reason] = listed.get(name) ?? assert.fail("this difference is not in differences.md");
    assert.deepEqual([mine, other], [said, heard]);
    assert.ok(reason, "without a reason");
  });
}
await check(`${edges.length - found.size} other requests are answered alike`, () => {
  assert.deepEqual([...listed.keys()].filter((name) => !found.has(name)), [], "listed, but alike");
});
