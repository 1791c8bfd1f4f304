// What a person with a browser and an authenticator does: cookies, forms, six digits. No library of
// Portcullis: only what the pages say.
import { createHmac } from "node:crypto";

export class Browser {
  cookies = new Map();

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

  // Walks from the authorization request to the client's redirect, whatever pages come between.
  async signIn(start, person) {
    let page = await this.go(start);
    const origin = new URL(start).origin;
    for (let step = 0; step < 8; step += 1) {
      if (page.location) return page.location;
      const state = /name="state" value="([^"]*)"/.exec(page.text)?.[1];
      if (!state) throw new Error(`no form on a page of status ${page.status}: ${page.text}`);
      const secret = /<code>([A-Z2-7 ]{20,})<\/code>/.exec(page.text)?.[1];
      if (secret) person.secret = secret.replaceAll(" ", "");
      if (page.text.includes('name="password"')) {
        page = await this.go(`${origin}/login`, { state, login: person.login, password: person.password });
      } else if (page.text.includes('name="code"')) {
        page = await this.go(`${origin}/login/totp`, { state, code: await freshCode(person) });
      } else {
        page = await this.go(`${origin}/consent`, { state, decision: "allow" });
      }
    }
    throw new Error("the login does not end");
  }
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
