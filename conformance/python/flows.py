"""PyPI Authlib, the whole way: discovery, code flow with PKCE and ID token, client credentials with
private_key_jwt, revocation; and the API behind the gateway with both tokens."""

import base64
import hashlib
import hmac
import html
import os
import re
import struct
import time
from urllib.parse import urlsplit

import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey

ISSUER, API, CA = os.environ["ISSUER"], os.environ["API"], os.environ["CA"]
REDIRECT = "http://127.0.0.1:5998/cb"
person = {"login": os.environ["LOGIN"], "password": os.environ["PASSWORD"], "step": -1}
passed = 0


def check(name, work):
    global passed
    work()
    passed += 1
    print(f"ok - Authlib: {name}")


def code_of(secret):
    """RFC 6238; each step counts once, so a second code waits for the next one."""
    while int(time.time()) // 30 == person["step"]:
        time.sleep(0.5)
    person["step"] = int(time.time()) // 30
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    mac = hmac.new(key, struct.pack(">Q", person["step"]), hashlib.sha1).digest()
    at = mac[19] & 15
    return f"{(struct.unpack('>I', mac[at:at + 4])[0] & 0x7FFFFFFF) % 1_000_000:06d}"


def sign_in(start):
    """What a browser does: forms, cookies, redirects not followed."""
    browser = requests.Session()
    browser.verify = CA
    page = browser.get(start, allow_redirects=False)
    for _ in range(8):
        if "location" in page.headers:
            return page.headers["location"]
        state = html.unescape(re.search(r'name="state" value="([^"]*)"', page.text).group(1))
        secret = re.search(r"<code>([A-Z2-7 ]{20,})</code>", page.text)
        if secret:
            person["secret"] = secret.group(1).replace(" ", "")
        if 'name="password"' in page.text:
            form = {"state": state, "login": person["login"], "password": person["password"]}
            path = "/login"
        elif 'name="code"' in page.text:
            form = {"state": state, "code": code_of(person["secret"])}
            path = "/login/totp"
        else:
            form = {"state": state, "decision": "allow"}
            path = "/consent"
        page = browser.post(ISSUER + path, data=form, allow_redirects=False)
    raise AssertionError(f"the login does not end: {page.status_code} {page.text}")


metadata = requests.get(f"{ISSUER}/.well-known/oauth-authorization-server", verify=CA).json()
tokens = {}


def code_flow():
    app = OAuth2Session("app", scope="openid files:read", redirect_uri=REDIRECT,
                        code_challenge_method="S256", token_endpoint_auth_method="none")
    app.verify = CA
    verifier = generate_token(64)
    start, state = app.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=verifier, nonce=generate_token())
    answer = sign_in(start)
    assert f"state={state}" in answer, answer
    tokens["user"] = app.fetch_token(metadata["token_endpoint"], authorization_response=answer,
                                     code_verifier=verifier, state=state)
    assert "id_token" in tokens["user"]


def api_with_token():
    token = tokens["user"]["access_token"]
    answer = requests.get(f"{API}/hello.txt", headers={"Authorization": f"Bearer {token}"}, verify=CA)
    assert answer.status_code == 200 and answer.text.strip() == "hello from a file server", answer.text
    assert requests.get(f"{API}/hello.txt", verify=CA).status_code == 401


def revocation():
    app = OAuth2Session("app", token_endpoint_auth_method="none")
    app.verify = CA
    token = tokens["user"]["access_token"]
    answer = app.revoke_token(metadata["revocation_endpoint"], token=token)
    assert answer.status_code == 200, answer.text
    answer = requests.get(f"{API}/hello.txt", headers={"Authorization": f"Bearer {token}"}, verify=CA)
    assert answer.status_code == 401


def service():
    with open(os.environ["SERVICE_KEY"]) as file:
        key = ECKey.import_key(file.read())
    robot = OAuth2Session("robot", key, token_endpoint_auth_method="private_key_jwt")
    robot.verify = CA
    # Authlib's own default audience is the token endpoint; ours is the issuer (FAPI 2.0 §5.3.2.1).
    robot.register_client_auth_method(PrivateKeyJWT(ISSUER, alg="ES256"))
    token = robot.fetch_token(metadata["token_endpoint"], grant_type="client_credentials",
                              scope="files:robot")["access_token"]
    answer = requests.get(f"{API}/robot.txt", headers={"Authorization": f"Bearer {token}"}, verify=CA)
    assert answer.status_code == 200, answer.text


assert urlsplit(ISSUER).scheme == "https"
check("code flow with PKCE, state and nonce", code_flow)
check("the API takes the token, and 401s without it", api_with_token)
check("revocation is in force on the next request", revocation)
check("client credentials with private_key_jwt", service)
print(f"Authlib: {passed} passed, 0 failed")
