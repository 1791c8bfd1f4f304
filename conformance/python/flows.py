"""PyPI Authlib, the whole way: discovery, code flow with PKCE and ID token, refresh, revocation, client
credentials with private_key_jwt; and the API behind the gateway with both tokens."""

import base64
import hashlib
import hmac
import html
import os
import re
import struct
import sys
import time
import traceback
from urllib.parse import urlsplit

import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

ISSUER, API, CA = os.environ["ISSUER"], os.environ["API"], os.environ["CA"]
REDIRECT = "http://127.0.0.1:5998/cb"
person = {"login": os.environ["LOGIN"], "password": os.environ["PASSWORD"], "step": -1}
counts = {"passed": 0, "failed": 0}


def check(name, work):
    """One that fails does not hide the others."""
    try:
        work()
    except Exception:
        counts["failed"] += 1
        print(f"not ok - Authlib: {name}")
        traceback.print_exc(limit=-3, file=sys.stdout)
    else:
        counts["passed"] += 1
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
    app = OAuth2Session("app", scope="openid files:read offline_access", redirect_uri=REDIRECT,
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


def id_token():
    keys = KeySet.import_key_set(requests.get(metadata["jwks_uri"], verify=CA).json())
    claims = jwt.decode(tokens["user"]["id_token"], keys, algorithms=["ES256"]).claims
    assert (claims["iss"], claims["aud"], claims["acr"]) == (ISSUER, "app", "aal2"), claims
    about = {"Authorization": f"Bearer {tokens['user']['access_token']}"}
    answer = requests.get(metadata["userinfo_endpoint"], headers=about, verify=CA).json()
    assert answer["sub"] == claims["sub"]


def api_with_token():
    answer = call("hello.txt", tokens["user"])
    assert answer.status_code == 200 and answer.text.strip() == "hello from a file server", answer.text
    assert requests.get(f"{API}/hello.txt", verify=CA).status_code == 401


def refresh():
    app = OAuth2Session("app", token=tokens["user"], token_endpoint_auth_method="none")
    app.verify = CA
    old = tokens["user"]["refresh_token"]
    tokens["next"] = app.refresh_token(metadata["token_endpoint"], refresh_token=old)
    assert tokens["next"]["refresh_token"] != old
    assert call("hello.txt", tokens["next"]).status_code == 200


def call(name, token):
    bearer = {"Authorization": f"Bearer {token['access_token']}"}
    return requests.get(f"{API}/{name}", headers=bearer, verify=CA)


def revocation():
    app = OAuth2Session("app", token_endpoint_auth_method="none")
    app.verify = CA
    answer = app.revoke_token(metadata["revocation_endpoint"], token=tokens["user"]["access_token"])
    assert answer.status_code == 200, answer.text
    assert call("hello.txt", tokens["user"]).status_code == 401


def revocation_of_the_grant():
    """RFC 7009 §2.1: with the refresh token goes every access token of the same grant."""
    app = OAuth2Session("app", token_endpoint_auth_method="none")
    app.verify = CA
    assert call("hello.txt", tokens["next"]).status_code == 200
    token = tokens["next"]["refresh_token"]
    answer = app.revoke_token(metadata["revocation_endpoint"], token=token, token_type_hint="refresh_token")
    assert answer.status_code == 200, answer.text
    assert call("hello.txt", tokens["next"]).status_code == 401
    try:
        app.refresh_token(metadata["token_endpoint"], refresh_token=token)
    except OAuthError as error:
        assert error.error == "invalid_grant", error
    else:
        raise AssertionError("a revoked refresh token still refreshes")


def service():
    with open(os.environ["SERVICE_KEY"]) as file:
        key = ECKey.import_key(file.read())
    robot = OAuth2Session("robot", key, token_endpoint_auth_method="private_key_jwt")
    robot.verify = CA
    # Authlib's own default audience is the token endpoint; ours is the issuer (FAPI 2.0 §5.3.2.1).
    robot.register_client_auth_method(PrivateKeyJWT(ISSUER, alg="ES256"))
    token = robot.fetch_token(metadata["token_endpoint"], grant_type="client_credentials",
                              scope="files:robot")
    assert call("robot.txt", token).status_code == 200


assert urlsplit(ISSUER).scheme == "https"
check("code flow with PKCE, state and nonce", code_flow)
check("the ID token verifies; userinfo is of the same user", id_token)
check("the API takes the token, and 401s without it", api_with_token)
check("refresh, with rotation", refresh)
check("revocation is in force on the next request", revocation)
check("revocation of the refresh token ends its grant", revocation_of_the_grant)
check("client credentials with private_key_jwt", service)
print(f"Authlib: {counts['passed']} passed, {counts['failed']} failed")
sys.exit(counts["failed"] > 0)
