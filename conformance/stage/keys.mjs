// Keys of the clients that prove themselves with one: NAME.jwk (private) for the client, and
// NAME.jwks.json (public) for the server's file.   node keys.mjs FOLDER NAME…
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const [folder, ...names] = process.argv.slice(2);
for (const name of names) {
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const about = { alg: "ES256", use: "sig", kid: name };
  const write = (file, value) => writeFileSync(join(folder, file), JSON.stringify(value), { mode: 0o600 });
  write(`${name}.jwk`, { ...pair.privateKey.export({ format: "jwk" }), ...about });
  write(`${name}.jwks.json`, { keys: [{ ...pair.publicKey.export({ format: "jwk" }), ...about }] });
}
