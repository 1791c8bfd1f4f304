// Someone at a browser, for programs in other languages: walks from an address to where the login
// ends, and prints the redirect, or else what the last page says. Cookies and authenticator are
// kept between calls.   node person.mjs ADDRESS [USER-CODE]
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Browser, words } from "./browser.mjs";

const { STAGE, LOGIN, PASSWORD } = process.env;
const [address, userCode] = process.argv.slice(2);
const kept = join(STAGE, `person-${LOGIN}.json`);
const browser = new Browser({ login: LOGIN, password: PASSWORD });
if (existsSync(kept)) {
  const { person, cookies } = JSON.parse(readFileSync(kept, "utf8"));
  browser.person = person;
  browser.cookies = new Map(cookies);
}
const end = await browser.walk(address, { userCode });
writeFileSync(kept, JSON.stringify({ person: browser.person, cookies: [...browser.cookies] }), { mode: 0o600 });
console.log(end.location ?? words(end.text));
