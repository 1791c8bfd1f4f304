// What a person with a browser and an authenticator does: cookies, forms, six digits. No library of
// Portcullis: only what the pages say.
import { createHmac } from "node:crypto";

export class Browser {
  cookies = new Map();

  constructor(person) {
    this.person = person;
  }

  async go(url, form) {
    const headers = { cookie: [...this.cookies].map(([k, v]) => `${k}=${v}`).join("; ") };
    if (form) headers["content-type"] = "application/x-www-form-urlencoded";
    const answer = await fetch(url, {
      method: form ? "POST" : "GET",
      headers,
      body: form ? new URLSearchParams(form).toString() : undefined,
      redirect: "manual",
    });
    for (const cookie of answer.headers.getSetCookie()) {
      const [pair] = cookie.split(";");
      const at = pair.indexOf("=");
      const [name, value] = [pair.slice(0, at), pair.slice(at + 1)];
      if (value) this.cookies.set(name, value);
      else this.cookies.delete(name);
    }
    return { status: answer.status, location: answer.headers.get("location"), text: await answer.text() };
  }

  // Walks from a first page to the end, whatever forms come between. The end is a redirect, a form
  // that goes elsewhere (response_mode=form_post), or a page without a form.
  async walk(start, words = {}) {
    const origin = new URL(start).origin;
    let page = await this.go(start);
    for (let step = 0; step < 8; step += 1) {
      if (page.location && new URL(page.location, start).origin === origin) {
        page = await this.go(new URL(page.location, start).href);
        continue;
      }
      const form = /<form method="post" action="([^"]*)"/.exec(page.text);
      if (page.location || !form) return page;
      const to = new URL(plain(form[1]), start);
      const hidden = fields(page.text);
      if (to.origin !== origin) return { ...page, posted: { to: to.href, fields: hidden } };
      page = await this.go(to.href, { ...hidden, ...(await this.answer(page, words)) });
    }
    throw new Error("the login does not end");
  }

  // From an authorization request to the client's redirect.
  async signIn(start) {
    const end = await this.walk(String(start));
    if (!end.location) throw new Error(`no redirect, but a page of status ${end.status}: ${words(end.text)}`);
    return end.location;
  }

  // What the person fills in.
  async answer(page, { userCode, decision }) {
    const secret = /<code>([A-Z2-7 ]{20,})<\/code>/.exec(page.text)?.[1];
    if (secret) this.person.secret = secret.replaceAll(" ", "");
    const asks = (name) => page.text.includes(`name="${name}"`);
    if (asks("password")) return { login: this.person.login, password: this.person.password };
    if (asks("user_code")) return { user_code: userCode };
    if (asks("code")) return { code: await freshCode(this.person) };
    const offered = /name="decision" value="([^"]*)"/.exec(page.text)?.[1];
    return offered ? { decision: decision ?? offered } : {};
  }
}

function fields(text) {
  const found = text.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g);
  return Object.fromEntries([...found].map(([, name, value]) => [name, plain(value)]));
}

// What an attribute says, with its character references resolved.
function plain(text) {
  const named = { amp: "&", lt: "<", gt: ">", quot: '"' };
  return text.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (whole, hex, decimal, name) => {
    if (name) return named[name] ?? whole;
    return String.fromCodePoint(hex ? parseInt(hex, 16) : Number(decimal));
  });
}

// The words of a page, for a message.
export function words(text) {
  return text.replace(/<style.*?<\/style>|<[^>]*>/gs, " ").replace(/\s+/g, " ").trim().slice(0, 300);
}

// RFC 6238; each step counts once, so a second code waits for the next step.
async function freshCode(person) {
  while (Math.floor(Date.now() / 30000) === person.lastStep) {
    await new Promise((done) => setTimeout(done, 500));
  }
  person.lastStep = Math.floor(Date.now() / 30000);
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(person.lastStep));
  const mac = createHmac("sha1", base32(person.secret)).update(counter).digest();
  const at = mac[19] & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

function base32(text) {
  let bits = "";
  for (const letter of text) bits += "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0");
  return Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
}
