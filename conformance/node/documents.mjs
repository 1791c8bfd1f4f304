// What stands elsewhere in the world, at https://tools.example: the metadata document of a client
// that nobody registered, and the place where logout tokens are received.
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import https from "node:https";
import { join } from "node:path";

const { STAGE, DOCUMENTS } = process.env;
const received = join(STAGE, "logout-tokens.txt");
writeFileSync(received, "");
const document = {
  client_id: `${DOCUMENTS}/client.json`,
  client_name: "A tool of somebody",
  client_uri: `${DOCUMENTS}/`,
  redirect_uris: ["http://127.0.0.1/callback"],
  grant_types: ["authorization_code", "refresh_token"],
  response_types: ["code"],
  token_endpoint_auth_method: "none",
};

const file = (name) => readFileSync(join(STAGE, name));
https
  .createServer({ cert: file("documents.pem"), key: file("documents.key") }, (request, answer) => {
    if (request.url === "/client.json") {
      answer.setHeader("content-type", "application/json");
      answer.end(JSON.stringify(document));
      return;
    }
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      const token = new URLSearchParams(body).get("logout_token");
      if (request.url === "/logout" && token) appendFileSync(received, `${token}\n`);
      else answer.statusCode = 404;
      answer.end();
    });
  })
  .listen(Number(new URL(DOCUMENTS).port), "127.0.0.1");
