//! Bound tokens at the edge: DPoP (RFC 9449) and certificates (RFC 8705).

use http::{Request, StatusCode};
use http_body_util::Full;
use portcullis_core::certificate::Chain;
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::jose::base64url;
use portcullis_core::jose::claims::{Actor, Confirmation};
use portcullis_core::jose::dpop::{Expected, NONCE_STEP_S, prove};
use portcullis_core::seal::Purpose;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::time::Duration;

use super::*;

const URL: &str = "https://api.example/v1/bound";
const LEDGER: &[u8] = include_bytes!("../tls/client-ledger.pem");
const BRIEF: &[u8] = include_bytes!("../tls/client-brief.pem");

/// A client with a key of its own, and a token bound to it.
struct Holder {
    key: SigningKey,
    token: String,
    entropy: SeededEntropy,
}

impl Holder {
    fn new(trial: &Trial) -> Self {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let cnf = Some(Confirmation::Key(key.public().thumbprint()));
        let token = trial.token(&AccessClaims { cnf, ..trial.user() });
        Holder { key, token, entropy: SeededEntropy::new(11) }
    }

    /// A proof for `GET /v1/bound` with the nonce of now.
    fn proof(&self, trial: &Trial) -> String {
        let nonce = trial.gateway.proofs.nonce(trial.now());
        self.proof_of(("GET", URL), Some(&self.token), Some(&nonce), trial.now())
    }

    fn proof_of(
        &self,
        (method, url): (&str, &str),
        token: Option<&str>,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> String {
        prove(&self.key, &Expected { method, url, token }, nonce, (&self.entropy, now))
    }
}

fn shown(scheme: &str, token: &str, proofs: &[&str]) -> Request<Full<Bytes>> {
    let mut request = Request::get("/v1/bound")
        .header("host", "api.example")
        .header("authorization", format!("{scheme} {token}"));
    for proof in proofs {
        request = request.header("dpop", *proof);
    }
    request.body(Full::default()).unwrap()
}

fn unlimited(setup: Setup) -> Setup {
    setup.limit("failed_authentication", "1000/min per ip, burst 1000")
}

#[test]
fn a_proof_lets_its_token_in_and_stays_here() {
    run(async |setup| {
        let trial = setup.start().await;
        let holder = Holder::new(&trial);
        let seen = trial.ask(shown("DPoP", &holder.token, &[&holder.proof(&trial)])).await;
        assert_eq!(seen.status, StatusCode::OK, "{:?}", trial.records.last());
        assert_eq!(seen.field("dpop-nonce"), trial.gateway.proofs.nonce(trial.now()));
        for stays in ["authorization", "dpop"] {
            assert_eq!(seen.upstream_saw(stays), None, "{stays}");
        }
        let passport = seen.upstream_saw("portcullis-identity").unwrap();
        let payload = base64url::decode(passport.split('.').nth(1).unwrap()).unwrap();
        let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert!(payload.get("cnf").is_none(), "{payload}");
        assert_eq!(payload["sub"], "u_alice");
    });
}

#[test]
fn a_bound_token_as_bearer_is_refused() {
    run(async |setup| {
        let trial = unlimited(setup).start().await;
        let holder = Holder::new(&trial);
        let proof = holder.proof(&trial);
        for proofs in [&[][..], &[proof.as_str()]] {
            let seen = trial.ask(shown("Bearer", &holder.token, proofs)).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
            assert_eq!(trial.records.last().reason, "ProofMissing");
        }
        // Also where nothing asks for a bound one, and also once it is remembered.
        let seen = trial.get("/v1/things/1", Some(&holder.token)).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.ask(shown("DPoP", &holder.token, &[&proof])).await.status, StatusCode::OK);
        let seen = trial.get("/v1/things/1", Some(&holder.token)).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "ProofMissing");
    });
}

#[test]
fn a_bearer_token_under_the_dpop_scheme_is_refused() {
    run(async |setup| {
        let trial = setup.start().await;
        let holder = Holder::new(&trial);
        let plain = trial.token(&trial.user());
        let nonce = trial.gateway.proofs.nonce(trial.now());
        let proof = holder.proof_of(("GET", URL), Some(&plain), Some(&nonce), trial.now());
        let seen = trial.ask(shown("DPoP", &plain, &[&proof])).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "TokenNotOfKey");
        assert!(seen.field("www-authenticate").starts_with("DPoP "));
    });
}

#[test]
fn an_unbound_token_on_a_bound_line_is_challenged_for_a_bound_one() {
    run(async |setup| {
        let trial = setup.start().await;
        let seen = trial.get("/v1/bound", Some(&trial.token(&trial.user()))).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "TokenUnbound");
        let challenge = seen.field("www-authenticate").to_owned();
        assert!(challenge.starts_with("DPoP realm=\"payments\", error=\"invalid_token\""));
        assert!(challenge.contains("algs=\"ES256 EdDSA Ed25519 PS256\""), "{challenge}");
        assert!(challenge.contains("resource_metadata=\"https://api.example/"), "{challenge}");
        let missing = trial.get("/v1/bound", None).await;
        assert!(missing.field("www-authenticate").starts_with("DPoP realm=\"payments\", algs="));
        assert_ne!(missing.field("dpop-nonce"), "", "the first proof can have it");
    });
}

#[test]
fn a_proof_without_the_servers_nonce_gets_one_and_charges_nothing() {
    run(async |setup| {
        let trial = setup.start().await;
        let holder = Holder::new(&trial);
        let now = trial.now();
        let unknown = base64url::encode(&[9; 16]);
        for nonce in [None, Some(unknown.as_str())] {
            for _ in 0..20 {
                let proof = holder.proof_of(("GET", URL), Some(&holder.token), nonce, now);
                let seen = trial.ask(shown("DPoP", &holder.token, &[&proof])).await;
                assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
                assert!(seen.field("www-authenticate").contains("error=\"use_dpop_nonce\""));
                assert_eq!(seen.field("dpop-nonce"), trial.gateway.proofs.nonce(now));
                assert_eq!(seen.json()["code"], "use_dpop_nonce");
            }
        }
        let stale = holder.proof(&trial);
        trial.clock.advance(Duration::from_secs(2 * NONCE_STEP_S as u64));
        let seen = trial.ask(shown("DPoP", &holder.token, &[&stale])).await;
        assert_eq!(seen.json()["code"], "use_dpop_nonce", "a nonce ends");
    });
}

/// `3-gateway`, stage 4: an exhausted budget never refuses a valid token, so neither may it withhold the
/// nonce without which none is valid.
#[test]
fn an_exhausted_address_still_gets_its_nonce() {
    run(async |setup| {
        let trial = setup.start().await;
        let (holder, now) = (Holder::new(&trial), trial.now());
        for _ in 0..10 {
            trial.get("/v1/bound", Some("garbage")).await;
        }
        assert_eq!(trial.records.last().status, 429);
        let proof = holder.proof_of(("GET", URL), Some(&holder.token), None, now);
        let seen = trial.ask(shown("DPoP", &holder.token, &[&proof])).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert!(seen.field("www-authenticate").contains("error=\"use_dpop_nonce\""));
        let nonce = seen.field("dpop-nonce").to_owned();
        let proof = holder.proof_of(("GET", URL), Some(&holder.token), Some(&nonce), now);
        let seen = trial.ask(shown("DPoP", &holder.token, &[&proof])).await;
        assert_eq!(seen.status, StatusCode::OK, "{:?}", trial.records.last());
    });
}

#[test]
fn a_replayed_proof_is_refused() {
    run(async |setup| {
        let trial = setup.start().await;
        let holder = Holder::new(&trial);
        let proof = holder.proof(&trial);
        let one = trial.ask(shown("DPoP", &holder.token, &[&proof])).await;
        assert_eq!(one.status, StatusCode::OK);
        let again = trial.ask(shown("DPoP", &holder.token, &[&proof])).await;
        assert_eq!(again.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "ProofReplayed");
        assert!(again.field("www-authenticate").contains("error=\"invalid_dpop_proof\""));
    });
}

/// The desk is the process's, not the worker's: of fifty uses on two workers at once, one wins.
#[test]
fn a_proof_is_spent_once_across_threads() {
    run(async |setup| {
        let trial = setup.start().await;
        let holder = Holder::new(&trial);
        let proof = holder.proof(&trial);
        let other = Rc::new(Worker::new(trial.gateway.clone()));
        let workers = [trial.worker.clone(), other];
        let mut asking = Vec::new();
        for turn in 0..50 {
            let service = trial.service_of(workers[turn % 2].clone(), "192.0.2.7", Wire::Tls);
            let mut client = super::speak(service).await;
            let request = shown("DPoP", &holder.token, &[&proof]);
            asking.push(tokio::task::spawn_local(async move { ask(&mut client, request).await }));
        }
        let mut statuses = Vec::new();
        for one in asking {
            statuses.push(one.await.unwrap().status.as_u16());
        }
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 49);
        // Really at once: threads of their own, each with a proof that all of them show.
        let (gateway, now) = (trial.gateway.clone(), trial.now());
        let proof = holder.proof(&trial);
        let expected = || Expected { method: "GET", url: URL, token: Some(&holder.token) };
        let taken = std::thread::scope(|scope| {
            let judge = || gateway.proofs.judge(&proof, &expected(), now).is_ok();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(judge)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|ok| *ok).count()
        });
        assert_eq!(taken, 1);
    });
}

#[test]
fn a_proof_fits_its_request_and_its_token_alone() {
    run(async |setup| {
        let trial = unlimited(setup).start().await;
        let (holder, now) = (Holder::new(&trial), trial.now());
        let nonce = trial.gateway.proofs.nonce(now);
        let (nonce, token) = (Some(nonce.as_str()), Some(holder.token.as_str()));
        let proof = |method, url, token, now| holder.proof_of((method, url), token, nonce, now);
        let old = now.before(Duration::from_secs(3600));
        let ahead = now.after(Duration::from_secs(3600));
        let table = [
            ("ProofMethodOther", proof("POST", URL, token, now)),
            ("ProofAddressOther", proof("GET", "https://api.example/v1/other", token, now)),
            ("ProofAddressOther", proof("GET", "https://login.example/v1/bound", token, now)),
            ("ProofAddressOther", proof("GET", "http://api.example/v1/bound", token, now)),
            ("ProofTokenOther", proof("GET", URL, Some("another"), now)),
            ("ProofTokenOther", proof("GET", URL, None, now)),
            ("ProofTimeOff", proof("GET", URL, token, old)),
            ("ProofTimeOff", proof("GET", URL, token, ahead)),
            ("ProofMalformed", "garbage".into()),
            ("ProofTypeWrong", trial.token(&trial.user())),
        ];
        for (reason, proof) in table {
            let seen = trial.ask(shown("DPoP", &holder.token, &[&proof])).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED, "{reason}");
            assert_eq!(trial.records.last().reason, reason);
            assert_eq!(seen.json()["code"], "invalid_dpop_proof", "{reason}");
        }
        // The query is no part of the address (RFC 9449 §4.2).
        let mut request = shown("DPoP", &holder.token, &[&holder.proof(&trial)]);
        *request.uri_mut() = "/v1/bound?page=2".parse().unwrap();
        assert_eq!(trial.ask(request).await.status, StatusCode::OK);
    });
}

#[test]
fn a_proof_of_another_key_is_refused_and_charged() {
    run(async |setup| {
        let trial = setup.start().await;
        let (holder, thief) = (Holder::new(&trial), Holder::new(&trial));
        let nonce = trial.gateway.proofs.nonce(trial.now());
        let mut statuses = Vec::new();
        for _ in 0..7 {
            let proof =
                thief.proof_of(("GET", URL), Some(&holder.token), Some(&nonce), trial.now());
            statuses.push(trial.ask(shown("DPoP", &holder.token, &[&proof])).await.status.as_u16());
        }
        assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
        // The holder, behind the same address, is not refused for it.
        let seen = trial.ask(shown("DPoP", &holder.token, &[&holder.proof(&trial)])).await;
        assert_eq!(seen.status, StatusCode::OK);
    });
}

#[test]
fn two_proofs_or_none_are_refused() {
    run(async |setup| {
        let trial = setup.start().await;
        let holder = Holder::new(&trial);
        let (one, two) = (holder.proof(&trial), holder.proof(&trial));
        for (proofs, reason) in
            [(&[][..], "ProofMissing"), (&[one.as_str(), two.as_str()][..], "ProofDoubled")]
        {
            let seen = trial.ask(shown("DPoP", &holder.token, proofs)).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
            assert_eq!(trial.records.last().reason, reason);
        }
        // Neither was spent by being refused.
        for proof in [&one, &two] {
            let seen = trial.ask(shown("DPoP", &holder.token, &[proof])).await;
            assert_eq!(seen.status, StatusCode::OK);
        }
    });
}

#[test]
fn a_dead_token_spends_no_proof() {
    run(async |setup| {
        let trial = setup.start().await;
        let holder = Holder::new(&trial);
        trial.clock.advance(Duration::from_secs(301));
        let proof = holder.proof(&trial);
        let seen = trial.ask(shown("DPoP", &holder.token, &[&proof])).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "TokenExpired");
        let expected = Expected { method: "GET", url: URL, token: Some(&holder.token) };
        assert!(trial.gateway.proofs.judge(&proof, &expected, trial.now()).is_ok());
    });
}

#[test]
fn userinfo_takes_bound_tokens_of_any_audience_and_only_ours() {
    run(async |setup| {
        let trial = unlimited(setup).start().await;
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let cnf = Some(Confirmation::Key(key.public().thumbprint()));
        let claims = AccessClaims { cnf, aud: "https://other.example".into(), ..trial.user() };
        let holder = Holder { token: trial.token(&claims), key, entropy: SeededEntropy::new(12) };
        let ask = |scheme: &str, proof: Option<&str>| {
            let mut request = Request::get("/oauth/userinfo")
                .header("host", "login.example")
                .header("authorization", format!("{scheme} {}", holder.token));
            if let Some(proof) = proof {
                request = request.header("dpop", proof);
            }
            trial.ask(request.body(Full::default()).unwrap())
        };
        let refused = ask("Bearer", None).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        let nonce = trial.gateway.proofs.nonce(trial.now());
        let url = "https://login.example/oauth/userinfo";
        let proof = holder.proof_of(("GET", url), Some(&holder.token), Some(&nonce), trial.now());
        let seen = ask("DPoP", Some(&proof)).await;
        assert_eq!(seen.status, StatusCode::OK, "{:?}", trial.records.last());
        let told = trial.house.seen.lock().unwrap().pop().unwrap();
        assert_eq!(told.token.unwrap().claims().sub, "u_alice");
    });
}

#[test]
fn an_opaque_token_is_as_good_as_its_claims() {
    run(async |setup| {
        let trial = unlimited(setup).start().await;
        let seal = |claims: &AccessClaims, purpose| {
            let json = serde_json::to_vec(claims).unwrap();
            format!("at_{}", trial.gateway.sealer.seal(purpose, &json, &SeededEntropy::new(4)))
        };
        let (good, now) = (trial.user(), trial.now().unix());
        let token = seal(&good, Purpose::Opaque);
        for _ in 0..2 {
            let seen = trial.get("/v1/things/1", Some(&token)).await;
            assert_eq!(seen.status, StatusCode::OK);
        }
        assert_eq!(trial.gateway.figures.tokens_verified_total.load(Ordering::Relaxed), 1);
        let table = [
            ("TokenSignatureWrong", seal(&good, Purpose::Code)),
            ("TokenSignatureWrong", "at_garbage".into()),
            ("TokenExpired", seal(&AccessClaims { exp: now, ..good.clone() }, Purpose::Opaque)),
            (
                "TokenIssuerWrong",
                seal(&AccessClaims { iss: "https://x".into(), ..good.clone() }, Purpose::Opaque),
            ),
            (
                "TokenAudienceWrong",
                seal(&AccessClaims { aud: ISSUER.into(), ..good.clone() }, Purpose::Opaque),
            ),
        ];
        for (reason, token) in table {
            let seen = trial.get("/v1/things/1", Some(&token)).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED, "{reason}");
            assert_eq!(trial.records.last().reason, reason);
        }
        // Bound and revoked like any other.
        let cnf = Some(Confirmation::Key("x".into()));
        let bound = seal(&AccessClaims { cnf, ..trial.user() }, Purpose::Opaque);
        let seen = trial.get("/v1/things/1", Some(&bound)).await;
        assert_eq!(
            (seen.status.as_u16(), trial.records.last().reason),
            (401, "ProofMissing".into())
        );
    });
}

fn certificate(pem: &[u8]) -> Arc<ClientCertificate> {
    let der = CertificateDer::from_pem_slice(pem).unwrap();
    Arc::new(ClientCertificate::read(&der, Chain::Unproven).unwrap())
}

#[test]
fn a_token_bound_to_a_certificate_needs_that_certificate() {
    run(async |setup| {
        let trial = unlimited(setup).start().await;
        let own = certificate(LEDGER);
        let cnf = Some(Confirmation::Certificate(own.thumbprint().into()));
        let token = trial.token(&AccessClaims { cnf, ..trial.user() });
        let table = [
            (None, "Bearer", 401, "CertificateMissing"),
            (Some(certificate(BRIEF)), "Bearer", 401, "CertificateOther"),
            (Some(own.clone()), "Bearer", 200, "portcullis.toml:11.1"),
            (Some(own), "DPoP", 401, "TokenNotOfKey"),
            // Remembered or not: it is the connection that is asked.
            (None, "Bearer", 401, "CertificateMissing"),
        ];
        for (shown_certificate, scheme, status, reason) in table {
            *trial.certificate.borrow_mut() = shown_certificate;
            let seen = trial.ask(shown(scheme, &token, &[])).await;
            assert_eq!(seen.status.as_u16(), status, "{reason}");
            assert_eq!(trial.records.last().reason, reason);
        }
    });
}

#[test]
fn a_certificate_in_a_field_is_never_believed() {
    run(async |setup| {
        let trial = unlimited(setup).start().await;
        trial.reload(|next| next.trust_proxies = vec!["192.0.2.0/24".parse().unwrap()]);
        let own = certificate(LEDGER);
        let cnf = Some(Confirmation::Certificate(own.thumbprint().into()));
        let token = trial.token(&AccessClaims { cnf, ..trial.user() });
        let pem = String::from_utf8_lossy(LEDGER);
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        for (name, value) in [
            ("client-cert", format!(":{der}:")),
            ("x-ssl-client-cert", der.clone()),
            ("x-client-cert", der.clone()),
            ("x-forwarded-client-cert", format!("Cert=\"{der}\"")),
            ("ssl-client-cert", der.clone()),
        ] {
            let mut request = shown("Bearer", &token, &[]);
            request.headers_mut().insert(name, value.parse().unwrap());
            let seen = trial.ask(request).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED, "{name}");
            assert_eq!(trial.records.last().reason, "CertificateMissing");
            let mut open = get("/v1/rates", None);
            open.headers_mut().insert(name, value.parse().unwrap());
            assert_eq!(trial.ask(open).await.upstream_saw(name), None, "{name}");
        }
    });
}

#[test]
fn a_delegated_token_needs_a_line_that_names_each_actor() {
    run(async |setup| {
        let trial = setup.start().await;
        let actor = |sub: &str, act| Actor { sub: sub.into(), act };
        let agent = actor("agent", None);
        let chained = actor("agent", Some(Box::new(actor("ledger", None))));
        let unnamed = actor("ledger", None);
        for (act, path, status) in [
            (agent.clone(), "/v1/relayed", 200),
            (agent.clone(), "/v1/things/1", 403),
            (unnamed, "/v1/relayed", 403),
            (chained, "/v1/relayed", 403),
        ] {
            let token = trial.token(&AccessClaims { act: Some(act), ..trial.user() });
            let seen = trial.get(path, Some(&token)).await;
            assert_eq!(seen.status.as_u16(), status, "{path} {:?}", trial.records.last());
            if status == 403 {
                assert_eq!(trial.records.last().reason, "ActorNotNamed");
            } else {
                let passport = seen.upstream_saw("portcullis-identity").unwrap();
                let payload = base64url::decode(passport.split('.').nth(1).unwrap()).unwrap();
                let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
                assert_eq!(payload["act"]["sub"], "agent");
            }
        }
    });
}

#[test]
fn a_bound_token_in_clear_or_in_a_query_is_only_refused() {
    run(async |setup| {
        let trial = setup.start().await;
        let holder = Holder::new(&trial);
        let seen = trial.get(&format!("/v1/rates?access_token={}", holder.token), None).await;
        assert_eq!(seen.json()["code"], "invalid_request");
        for scheme in ["Bearer", "DPoP"] {
            let mut plain = trial.connect("192.0.2.7", Wire::Plain).await;
            let seen = ask(&mut plain, shown(scheme, &holder.token, &[])).await;
            assert_eq!(seen.status, StatusCode::FORBIDDEN);
        }
        assert!(trial.house.seen.lock().unwrap().is_empty(), "nobody could use what they read");
    });
}
