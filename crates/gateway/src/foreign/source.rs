//! Where an issuer's keys are, and what of them can be used: discovery, then the key set, each read
//! within bounds. Asks once; when to ask is [`super::keys`]' question.

use std::time::Duration;

use portcullis_core::fetch::{Fetch, FetchFault, FetchRequest, Fetched, NamedBy};
use portcullis_core::foreign::{ForeignIssuer, KeySource};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::jwk::{Jwk, JwkSet};
use portcullis_core::jose::jws;
use serde_json::{Map, Value};

use crate::fetch::Target;

/// Longest key set, in bytes; some issuers put certificate chains into it.
const MAX_SET_BYTES: usize = 256 * 1024;
/// Keys of a set that are used; the rest is left out.
const MAX_KEYS: usize = 64;
/// Longest metadata, in bytes.
const MAX_METADATA_BYTES: usize = 64 * 1024;
/// One request of a fetch.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The address of a key set, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    url: String,
    named_by: NamedBy,
}

/// A key set that was read.
pub(super) struct Found {
    pub(super) keys: JwkSet,
    pub(super) max_age: Option<Duration>,
    pub(super) location: Location,
}

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SourceFault {
    /// No answer.
    #[error(transparent)]
    Fetch(#[from] FetchFault),
    /// Another status than 200; a redirect, too.
    #[error("`{host}` answered {status}")]
    StatusWrong { host: String, status: u16 },
    /// The metadata is not a JSON object.
    #[error("the metadata is not a JSON object")]
    MetadataMalformed,
    /// The metadata is another issuer's.
    #[error("the metadata names the issuer `{0}`; it must be, byte for byte, the configured one")]
    IssuerWrong(String),
    /// The metadata has no `jwks_uri`, or one that is not https.
    #[error("the metadata has no `jwks_uri` with https")]
    KeysUnnamed,
    /// The key set is not one.
    #[error("the key set is not a JSON object with a list named `keys`")]
    SetMalformed,
    /// None of its keys can be used.
    #[error("no key of the set verifies a signature with an accepted algorithm")]
    NoKeyUsable,
    /// The issuer is asked about each token; it has no keys here.
    #[error("the issuer is asked by introspection and has no key set")]
    Keyless,
}

/// Finds an issuer's keys; at a location that is known already, with one request.
pub(super) async fn find(
    fetch: &dyn Fetch,
    issuer: &ForeignIssuer,
    known: Option<Location>,
) -> Result<Found, SourceFault> {
    let location = match (known, &issuer.source) {
        (Some(location), _) => location,
        (None, KeySource::Discovery) => discover(fetch, &issuer.issuer).await?,
        (None, KeySource::Address(url)) => Location { url: url.clone(), named_by: NamedBy::Config },
        (None, KeySource::Introspection { .. }) => return Err(SourceFault::Keyless),
    };
    let fetched = ask(fetch, &location, MAX_SET_BYTES).await?;
    let keys = usable(&fetched.body, issuer)?;
    Ok(Found { keys, max_age: fetched.max_age, location })
}

/// Asks for the metadata in both places where it may be, and takes the first that is right.
async fn discover(fetch: &dyn Fetch, issuer: &str) -> Result<Location, SourceFault> {
    let mut last = SourceFault::MetadataMalformed;
    for url in metadata_urls(issuer) {
        let location = Location { url, named_by: NamedBy::Config };
        last = match ask(fetch, &location, MAX_METADATA_BYTES).await {
            Ok(fetched) => match located(&fetched.body, issuer) {
                Ok(location) => return Ok(location),
                Err(fault) => fault,
            },
            // A host that does not answer here does not answer there.
            Err(fault @ SourceFault::Fetch(_)) => return Err(fault),
            Err(fault) => fault,
        };
    }
    Err(last)
}

/// The two places.
fn metadata_urls(issuer: &str) -> [String; 2] {
    // OpenID Connect Discovery §4, RFC 8414 §3.1: a terminating slash is removed.
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let host_at = base.find("://").map_or(0, |at| at.saturating_add(3));
    let path_at = base.get(host_at..).and_then(|tail| tail.find('/'));
    let split = path_at.map_or(base.len(), |at| at.saturating_add(host_at));
    let (origin, path) = base.split_at_checked(split).unwrap_or((base, ""));
    [
        // OpenID Connect Discovery §4.1: behind the issuer's path.
        format!("{base}/.well-known/openid-configuration"),
        // RFC 8414 §3.1: between the host and the path.
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
    ]
}

/// Where the metadata says that the keys are.
fn located(body: &[u8], issuer: &str) -> Result<Location, SourceFault> {
    let metadata = jws::strict_object(body).map_err(|_| SourceFault::MetadataMalformed)?;
    // RFC 8414 §3.3, OpenID Connect Discovery §4.3: identical, or somebody else's keys would speak
    // for this issuer.
    let named = metadata.get("issuer").and_then(Value::as_str).unwrap_or_default();
    if named != issuer {
        return Err(SourceFault::IssuerWrong(named.chars().take(128).collect()));
    }
    let url = metadata.get("jwks_uri").and_then(Value::as_str).ok_or(SourceFault::KeysUnnamed)?;
    let named_by = namer(url, issuer).ok_or(SourceFault::KeysUnnamed)?;
    Ok(Location { url: url.to_owned(), named_by })
}

/// Who named the address of a key set: on the issuer's own origin the operator did, with the issuer,
/// so it may be private, and in the clear where the issuer itself is (loopback); anywhere else the
/// document did, which is a stranger's word.
fn namer(url: &str, issuer: &str) -> Option<NamedBy> {
    let home = Target::read(issuer, NamedBy::Config).ok()?.address.origin();
    match Target::read(url, NamedBy::Config) {
        Ok(keys) if keys.address.origin() == home => Some(NamedBy::Config),
        // RFC 8414 §2: `jwks_uri` MUST use https.
        Ok(_) | Err(_) => Target::read(url, NamedBy::Stranger).is_ok().then_some(NamedBy::Stranger),
    }
}

async fn ask(
    fetch: &dyn Fetch,
    location: &Location,
    max_bytes: usize,
) -> Result<Fetched, SourceFault> {
    let fetched = fetch.fetch(FetchRequest {
        url: location.url.clone(),
        named_by: location.named_by,
        post: None,
        authorization: None,
        accept: "application/json, application/jwk-set+json",
        max_bytes,
        timeout: REQUEST_TIMEOUT,
    });
    let fetched = fetched.await?;
    match fetched.status {
        200 => Ok(fetched),
        status => {
            let target = Target::read(&location.url, location.named_by)?;
            Err(SourceFault::StatusWrong { host: target.address.authority(), status })
        }
    }
}

/// The keys of a set that can be used: for signatures, of a kind that we verify, for an algorithm that
/// the operator accepts of this issuer. Others are left out (RFC 7517 §5), private ones too: whoever
/// publishes a private key has given it to everybody.
fn usable(body: &[u8], issuer: &ForeignIssuer) -> Result<JwkSet, SourceFault> {
    let set = jws::strict_object(body).map_err(|_| SourceFault::SetMalformed)?;
    let listed = set.get("keys").and_then(Value::as_array).ok_or(SourceFault::SetMalformed)?;
    let accepted =
        |key: &Jwk| issuer.algorithms.is_empty() || issuer.algorithms.contains(&key.algorithm());
    let mut keys: Vec<Jwk> = listed
        .iter()
        .filter_map(Value::as_object)
        .filter_map(|members| Jwk::from_json(&pinned(members, issuer)).ok())
        .filter(accepted)
        .take(MAX_KEYS)
        .collect();
    drop_twins(&mut keys);
    if keys.is_empty() { Err(SourceFault::NoKeyUsable) } else { Ok(JwkSet::new(keys)) }
}

/// RFC 8725 §3.1: a key has one algorithm, and no token chooses it. An RSA key that names none (many
/// public issuers' do not) is for `RS256`, as their issuers sign (RFC 7518 §3.1, OpenID Connect Core
/// §15.1), unless the operator wrote `PS256` alone.
fn pinned(members: &Map<String, Value>, issuer: &ForeignIssuer) -> Value {
    let mut members = members.clone();
    let accepts = |algorithm| issuer.algorithms.contains(&algorithm);
    let nameless =
        members.get("kty").and_then(Value::as_str) == Some("RSA") && !members.contains_key("alg");
    if nameless && (accepts(Algorithm::Rs256) || !accepts(Algorithm::Ps256)) {
        members.insert("alg".into(), Algorithm::Rs256.name().into());
    }
    Value::Object(members)
}

/// Two keys that no token could tell apart: the same one twice counts once, two different ones not at
/// all (never a guess).
fn drop_twins(keys: &mut Vec<Jwk>) {
    let marks: Vec<_> = keys
        .iter()
        .map(|key| (key.kid().map(str::to_owned), key.algorithm(), key.thumbprint()))
        .collect();
    let mut at = 0;
    keys.retain(|key| {
        let earlier = marks.iter().take(at);
        at = at.saturating_add(1);
        let thumbprint = key.thumbprint();
        let again = earlier.filter(|(kid, algorithm, print)| {
            kid.as_deref() == key.kid() && *algorithm == key.algorithm() && *print == thumbprint
        });
        let twin = marks.iter().any(|(kid, algorithm, print)| {
            kid.is_some()
                && kid.as_deref() == key.kid()
                && *algorithm == key.algorithm()
                && *print != thumbprint
        });
        again.count() == 0 && !twin
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::testing::{issuer, key};
    use serde_json::json;

    fn rsa() -> Value {
        // An odd number of 2048 bits: enough to be read, and nothing here is signed with it.
        let n = portcullis_core::jose::base64url::encode(&[0xff; 256]);
        json!({ "kty": "RSA", "n": n, "e": "AQAB", "kid": "rsa", "use": "sig" })
    }

    fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
        jwk[name] = value.into();
        jwk
    }

    fn read(keys: Value, algorithms: &[Algorithm]) -> Result<Vec<String>, SourceFault> {
        let issuer =
            ForeignIssuer { algorithms: algorithms.to_vec(), ..issuer(KeySource::Discovery) };
        let set = usable(json!({ "keys": keys }).to_string().as_bytes(), &issuer)?;
        let name = |key: &Jwk| format!("{} {}", key.kid().unwrap_or("-"), key.algorithm().name());
        Ok(set.iter().map(name).collect())
    }

    #[test]
    fn metadata_is_asked_for_in_both_places() {
        for (issuer, oidc, oauth) in [
            (
                "https://as.example",
                "https://as.example/.well-known/openid-configuration",
                "https://as.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://as.example/",
                "https://as.example/.well-known/openid-configuration",
                "https://as.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://as.example:8443/realms/a",
                "https://as.example:8443/realms/a/.well-known/openid-configuration",
                "https://as.example:8443/.well-known/oauth-authorization-server/realms/a",
            ),
        ] {
            assert_eq!(metadata_urls(issuer), [oidc, oauth]);
        }
    }

    #[test]
    fn metadata_must_be_the_issuers_own() {
        let says = |issuer: &str, keys: &str| {
            let body = json!({ "issuer": issuer, "jwks_uri": keys }).to_string();
            located(body.as_bytes(), "https://as.example/a")
        };
        let keys = "https://as.example/keys";
        for other in [
            "",
            "https://as.example/a/",
            "https://as.example",
            "https://AS.example/a",
            "https://as.example/b",
            "http://as.example/a",
        ] {
            assert_eq!(says(other, keys), Err(SourceFault::IssuerWrong(other.into())));
        }
        let of = |named_by| Ok(Location { url: keys.into(), named_by });
        assert_eq!(says("https://as.example/a", keys), of(NamedBy::Config));
        for other in ["https://keys.example/k", "https://as.example:444/k", "https://10.0.0.1/k"] {
            let location = says("https://as.example/a", other).unwrap();
            assert_eq!(location.named_by, NamedBy::Stranger, "{other}");
        }
        for bad in [
            "",
            "/keys",
            "http://as.example/keys",
            "http://127.0.0.1/keys",
            "file:///etc/passwd",
            "https://as.example@evil.example/",
            "https://0x7f.1/",
        ] {
            assert_eq!(says("https://as.example/a", bad), Err(SourceFault::KeysUnnamed), "{bad}");
        }
        for body in ["", "[]", "null", r#"{"issuer":"https://as.example/a","issuer":"x"}"#] {
            let fault = located(body.as_bytes(), "https://as.example/a").unwrap_err();
            assert_eq!(fault, SourceFault::MetadataMalformed, "{body}");
        }
        let keyless = located(br#"{"issuer":"https://as.example/a"}"#, "https://as.example/a");
        assert_eq!(keyless, Err(SourceFault::KeysUnnamed));
    }

    #[test]
    fn an_issuer_on_loopback_keeps_its_keys_there() {
        let home = "http://127.0.0.1:3000";
        assert_eq!(namer("http://127.0.0.1:3000/keys", home), Some(NamedBy::Config));
        assert_eq!(namer("http://127.0.0.1:3001/keys", home), None);
        assert_eq!(namer("http://localhost:3000/keys", home), None);
        assert_eq!(namer("http://169.254.169.254/keys", home), None);
    }

    #[test]
    fn keys_that_cannot_be_used_are_left_out() {
        let ed = || with(key("ed").public().to_json(), "kid", "ed");
        let listed = json!([
            ed(), with(ed(), "use", "enc"), { "kty": "oct", "k": "AAAA", "kid": "hs" },
            { "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" }, with(ed(), "d", "AAAA"), 7, null,
            with(rsa(), "kid", "b"), with(rsa(), "alg", "RSA-OAEP"), with(rsa(), "n", "AQAB"),
        ]);
        assert_eq!(read(listed, &[]).unwrap(), ["ed EdDSA", "b RS256"]);
        for none in [json!([]), json!([{}]), json!([with(ed(), "use", "enc")])] {
            assert_eq!(read(none, &[]), Err(SourceFault::NoKeyUsable));
        }
        for malformed in [json!({}), json!("x"), Value::Null] {
            assert_eq!(read(malformed, &[]), Err(SourceFault::SetMalformed));
        }
    }

    #[test]
    fn an_algorithm_is_pinned_by_the_key_and_by_the_operator() {
        use Algorithm::*;
        let table: [(Value, &[Algorithm], &[&str]); 7] = [
            // RFC 7518 §3.1: who names none signs RS256.
            (rsa(), &[], &["rsa RS256"]),
            (rsa(), &[Rs256], &["rsa RS256"]),
            (rsa(), &[Ps256], &["rsa PS256"]),
            (rsa(), &[Rs256, Ps256], &["rsa RS256"]),
            (with(rsa(), "alg", "RS256"), &[], &["rsa RS256"]),
            (with(rsa(), "alg", "RS256"), &[Ps256], &[]),
            (with(rsa(), "alg", "PS256"), &[Rs256, EdDsa], &[]),
        ];
        for (jwk, algorithms, expected) in table {
            let names = read(json!([jwk]), algorithms).unwrap_or_default();
            assert_eq!(names, expected, "{jwk} {algorithms:?}");
        }
    }

    #[test]
    fn a_key_twice_counts_once_and_two_under_one_name_not_at_all() {
        let named = |seed: &str, kid: &str| with(key(seed).public().to_json(), "kid", kid);
        let twice = json!([named("a", "k"), named("a", "k"), named("b", "l")]);
        assert_eq!(read(twice, &[]).unwrap(), ["k EdDSA", "l EdDSA"]);
        let two = json!([named("a", "k"), named("b", "k"), named("c", "l")]);
        assert_eq!(read(two, &[]).unwrap(), ["l EdDSA"]);
    }

    #[test]
    fn at_most_64_keys_are_used() {
        let many: Vec<Value> = (0..80).map(|at| with(rsa(), "kid", format!("k{at}"))).collect();
        assert_eq!(read(many.into(), &[]).unwrap().len(), MAX_KEYS);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "\\PC{0,60}") {
            let _ = usable(&bytes, &issuer(KeySource::Discovery));
            let _ = located(&bytes, "https://as.example");
            let _ = metadata_urls(&text);
            let _ = namer(&text, &text);
        }
    }
}
