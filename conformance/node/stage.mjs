// What every program here shares: where things stand, the clients' keys, and checks that are counted.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import https from "node:https";
import { join } from "node:path";
import { Browser } from "./browser.mjs";

export const { ISSUER, API, VAULT, TOOLS, DOCUMENTS, STAGE } = process.env;
export const issuer = new URL(ISSUER);

// The person that this program signs in; nobody else uses the account.
export const browser = new Browser({ login: process.env.LOGIN, password: process.env.PASSWORD });

// Checks of one program: a line each, a sum at the end. One that fails does not hide the others.
export function checks(program) {
  let passed = 0;
  let failed = 0;
  process.on("exit", () => {
    console.log(`${program}: ${passed} passed, ${failed} failed`);
    if (failed > 0 || passed === 0) process.exitCode = 1;
  });
  return async (name, work) => {
    try {
      await work();
      passed += 1;
      console.log(`ok - ${program}: ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`not ok - ${program}: ${name}`);
      console.log(reason(error).replace(/^/gm, "    "));
    }
  };
}

// An error with what stands behind it.
function reason(error) {
  const more = error.cause?.body ?? error.cause ?? error.error_description ?? "";
  const told = more instanceof Response ? `${more.status} ${more.headers.get("www-authenticate") ?? ""}` : more;
  const lines = error.code === "ERR_ASSERTION" ? error.message : (error.stack ?? `${error}`);
  const said = lines.split("\n").slice(0, 12).join("\n");
  return told ? `${said}\n${JSON.stringify(told, null, 1) ?? told}` : said;
}

// A client that is not let in: its 401 carries a challenge (RFC 9110 §15.5.2), which openid-client
// looks at before the body.
export async function invalidClient(work) {
  const error = await work.then(() => assert.fail("granted"), (error) => error);
  assert.equal(error.response?.status, 401, error);
  assert.equal((await error.response.json()).error, "invalid_client");
}

// The private key of a client, made by stage/keys.mjs.
export async function keyOf(client) {
  const jwk = JSON.parse(readFileSync(join(STAGE, `${client}.jwk`), "utf8"));
  const { kid, use, alg, ...rest } = jwk;
  const key = await crypto.subtle.importKey("jwk", rest, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
  return { key, kid };
}

// `fetch` over a connection that shows a client certificate, which Node's own cannot.
export function fetchWith(certificate) {
  const file = (name) => readFileSync(join(STAGE, name));
  const agent = new https.Agent({
    cert: file(`${certificate}.pem`),
    key: file(`${certificate}.key`),
    ca: readFileSync(process.env.CA),
  });
  return (url, { method, headers, body }) =>
    new Promise((resolve, reject) => {
      const fields = Object.fromEntries(new Headers(headers));
      const request = https.request(url, { agent, method, headers: fields }, (answer) => {
        const chunks = [];
        answer.on("data", (chunk) => chunks.push(chunk));
        answer.on("error", reject);
        answer.on("end", () => {
          const empty = [204, 304].includes(answer.statusCode);
          const init = { status: answer.statusCode, headers: pairs(answer.rawHeaders) };
          resolve(new Response(empty ? null : Buffer.concat(chunks), init));
        });
      });
      request.on("error", reject);
      request.end(body === undefined ? undefined : String(body));
    });
}

function pairs(raw) {
  return raw.flatMap((name, at) => (at % 2 === 0 ? [[name, raw[at + 1]]] : []));
}
