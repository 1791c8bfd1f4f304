"""The peers: HAProxy and Envoy, configured for the same work as `targets.py` asks of Portcullis."""

import json

from targets import AT, ENVOY, HAPROXY, ISSUER, TLS_PORT, UPSTREAM_PORT, Target


class Haproxy(Target):
    """HAProxy, one thread. Verifies each token anew."""

    name = "haproxy"

    def program(self):
        return HAPROXY

    def configure(self, mode):
        lines = []
        if mode != "m0":
            lines += HAPROXY_VERIFY.format(issuer=ISSUER, audience=AT, key=self.bench.jwt_public).splitlines()
        if mode in ("m2", "m3"):
            lines += HAPROXY_LIMIT.splitlines()
        if mode == "m3":
            lines += HAPROXY_RULE.splitlines()
        config = self.bench.work / "haproxy.cfg"
        config.write_text(
            HAPROXY_BASE.format(
                port=TLS_PORT,
                certificate=self.bench.work / "tls-both.pem",
                upstream=UPSTREAM_PORT,
                log="log stdout format raw local0" if mode == "m3" else "",
                frontend="\n".join(f"    {line.strip()}" for line in lines),
            )
        )
        return [HAPROXY, "-db", "-f", config]


HAPROXY_BASE = """global
    nbthread 1
    maxconn 8000
    {log}
    ssl-default-bind-options ssl-min-ver TLSv1.3

defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout http-keep-alive 300s
    timeout server 30s
    http-reuse always

frontend front
    bind 127.0.0.1:{port} ssl crt {certificate} alpn h2,http/1.1
{frontend}
    default_backend back

backend back
    server upstream 127.0.0.1:{upstream}
"""

HAPROXY_VERIFY = """http-request set-var(txn.bearer) http_auth_bearer
http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
http-request set-var(txn.now) date()
http-request deny deny_status 401 unless {{ var(txn.alg) -m str ES256 }}
http-request deny deny_status 401 unless {{ var(txn.iss) -m str {issuer} }}
http-request deny deny_status 401 unless {{ var(txn.aud) -m str {audience} }}
http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int le 0 }}
http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,"{key}") -m int 1 }}
http-request del-header authorization
"""

HAPROXY_LIMIT = """stick-table type string len 64 size 100k expire 60s store http_req_rate(60s)
http-request set-var(txn.sub) var(txn.bearer),jwt_payload_query('$.sub')
http-request track-sc0 var(txn.sub)
http-request deny deny_status 429 if { sc_http_req_rate(0) gt 100000000 }
"""

HAPROXY_RULE = """log global
log-format '{"at":"%tr","ip":"%ci","method":"%HM","path":"%HP","status":%ST,"caller":"%[var(txn.sub)]","took_ms":%Ta}'
http-request set-var(txn.scope) var(txn.bearer),jwt_payload_query('$.scope')
http-request deny deny_status 404 unless { method GET } { path_reg ^/v1/accounts/[^/]+/payments$ }
http-request deny deny_status 403 unless { var(txn.scope) -m sub payments:read }
"""


class Envoy(Target):
    """Envoy with one worker, its cache of verified tokens on."""

    name = "envoy"
    cache = 4000

    def program(self):
        return ENVOY

    def configure(self, mode):
        self.log().unlink(missing_ok=True)
        config = self.bench.work / f"{self.name}.json"
        config.write_text(json.dumps(self.config(mode), indent=1))
        flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return [ENVOY, "-c", config, *flags]

    def config(self, mode):
        manager = {
            "@type": HCM,
            "stat_prefix": "front",
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
                    }
                ]
            },
            "http_filters": [*self.filters(mode), named("router", f"{HTTP}.router.v3.Router", {})],
        }
        if mode == "m3":
            manager["access_log"] = [self.access_log()]
        context = {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": str(self.bench.certificate)},
                    "private_key": {"filename": str(self.bench.key)},
                }
            ],
        }
        chain = {
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
            "transport_socket": named("tls", f"{TLS}.DownstreamTlsContext", {"common_tls_context": context}),
        }
        listener = {"name": "front", "address": address(TLS_PORT), "filter_chains": [chain]}
        endpoint = {"endpoint": {"address": address(UPSTREAM_PORT)}}
        cluster = {
            "name": "upstream",
            "connect_timeout": "5s",
            "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
        return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}

    def filters(self, mode):
        filters = []
        if mode != "m0":
            provider = {
                "issuer": ISSUER,
                "audiences": [AT],
                "local_jwks": {"inline_string": json.dumps(self.bench.jwks())},
                "payload_in_metadata": "jwt",
            }
            if self.cache:
                provider["jwt_cache_config"] = {"jwt_cache_size": self.cache}
            rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}]
            body = {"providers": {"bench": provider}, "rules": rules}
            filters.append(named("jwt_authn", f"{HTTP}.jwt_authn.v3.JwtAuthentication", body))
        if mode in ("m2", "m3"):
            filters.append(named("local_ratelimit", f"{HTTP}.local_ratelimit.v3.LocalRateLimit", ENVOY_LIMIT))
        if mode == "m3":
            filters.append(named("rbac", f"{HTTP}.rbac.v3.RBAC", ENVOY_RULE))
        return filters

    def log(self):
        return self.bench.work / f"{self.name}.access"

    def access_log(self):
        fields = {
            "at": "%START_TIME%",
            "ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
            "request": "%REQ(X-REQUEST-ID)%",
            "method": "%REQ(:METHOD)%",
            "path": "%REQ(:PATH)%",
            "status": "%RESPONSE_CODE%",
            "caller": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:jwt:sub)%",
            "took_ms": "%DURATION%",
        }
        body = {"path": str(self.log()), "log_format": {"json_format": fields}}
        kind = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
        return {"name": "envoy.access_loggers.file", "typed_config": {"@type": GOOGLE + kind, **body}}


class EnvoyUncached(Envoy):
    """The same without its cache: each token verified anew."""

    name = "envoy-uncached"
    cache = 0
    modes = ("m1", "m3")


GOOGLE = "type.googleapis.com/"
HTTP = "envoy.extensions.filters.http"
TLS = "envoy.extensions.transport_sockets.tls.v3"
HCM = f"{GOOGLE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def named(name, kind, body):
    family = "transport_sockets" if name == "tls" else "filters.http"
    return {"name": f"envoy.{family}.{name}", "typed_config": {"@type": GOOGLE + kind, **body}}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


WIDE = {"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"}
ALWAYS = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
CLAIM = [{"key": "jwt"}, {"key": "sub"}]
ENVOY_LIMIT = {
    "stat_prefix": "wide",
    "token_bucket": WIDE,
    "filter_enabled": ALWAYS,
    "filter_enforced": ALWAYS,
    "rate_limits": [
        {
            "actions": [
                {
                    "metadata": {
                        "descriptor_key": "sub",
                        "metadata_key": {"key": "envoy.filters.http.jwt_authn", "path": CLAIM},
                        "source": "DYNAMIC",
                    }
                }
            ]
        }
    ],
    # An entry without a value counts each value by itself.
    "descriptors": [{"entries": [{"key": "sub"}], "token_bucket": WIDE}],
    "max_dynamic_descriptors": 20000,
}
ENVOY_RULE = {
    "rules": {
        "action": "ALLOW",
        "policies": {
            "payments": {
                "permissions": [
                    {
                        "and_rules": {
                            "rules": [
                                {"header": {"name": ":method", "string_match": {"exact": "GET"}}},
                                {"url_path": {"path": {"safe_regex": {"regex": "/v1/accounts/[^/]+/payments"}}}},
                            ]
                        }
                    }
                ],
                "principals": [
                    {
                        "metadata": {
                            "filter": "envoy.filters.http.jwt_authn",
                            "path": [{"key": "jwt"}, {"key": "scope"}],
                            "value": {"string_match": {"contains": "payments:read"}},
                        }
                    }
                ],
            }
        },
    }
}
