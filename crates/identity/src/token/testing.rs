//! What the tests of the token endpoint share: grants put straight into the store, keys that make
//! DPoP proofs, certificates, another issuer.

use std::sync::Arc;

use portcullis_core::bearer::Plain;
use portcullis_core::certificate::{Chain, ClientCertificate};
use portcullis_core::client::ClientRecord;
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::foreign::{
    ClaimMap, FindingKeys, ForeignIssuer, ForeignKeys, KeySource, SecondFactor,
};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::jose::dpop::{Expected, prove};
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::oauth::refresh;
use portcullis_core::oauth::token::TokenAnswer;
use portcullis_core::scope::Scopes;
use portcullis_core::secret::Secret;
use portcullis_core::time::{Clock, Timestamp};
use portcullis_core::web::Address;
use portcullis_store::database::Tx;
use portcullis_store::grants::{Family, GrantLife, GrantRecord};
use portcullis_store::sessions::SessionRecord;
use portcullis_store::users::UserRecord;

use crate::outcome::{Answered, Presented};
use crate::settings::{Require, Settings};
use crate::testing::*;

/// The origin where certificates are asked for.
pub(crate) const MTLS: &str = "https://mtls.example";
/// `https://login.example` as a `Host` field.
pub(crate) const AUTHORITY: &str = "login.example";

/// The rule of a refusal.
pub(crate) fn broke<T>(answered: &Answered<T>) -> &'static str {
    answered.result.as_ref().err().map_or("granted", |error| error.rule)
}

/// The code and the rule of a refusal.
pub(crate) fn refused<T>(answered: &Answered<T>) -> (&'static str, &'static str) {
    let error = answered.result.as_ref().err();
    error.map_or(("granted", "granted"), |error| (error.code.as_str(), error.rule))
}

pub(crate) fn ok(answered: Answered<TokenAnswer>) -> TokenAnswer {
    answered.result.unwrap_or_else(|error| panic!("{}: {}", error.code, error.rule))
}

pub(crate) fn seconds(count: u64) -> std::time::Duration {
    std::time::Duration::from_secs(count)
}

/// Changes one client of the settings.
pub(crate) fn amend(settings: &mut Settings, client: &str, change: impl FnOnce(&mut ClientRecord)) {
    let id = Id::parse(client).expect("id");
    let record = settings.clients.remove(&id).and_then(Arc::into_inner);
    let mut record = record.expect("alone");
    change(&mut record);
    settings.clients.insert(record.id.clone(), Arc::new(record));
}

/// Nobody owes a second factor, and certificates are asked for at [`MTLS`].
pub(crate) fn plain(settings: &mut Settings) {
    settings.require = Require::Offer;
    settings.mtls = Some(Address::parse(MTLS).expect("address"));
}

/// A grant of ada's to `app` with its first refresh token out, in the session `s_one`.
pub(crate) fn grant(name: &str) -> GrantRecord {
    GrantRecord {
        id: Id::parse(&format!("g_{name}")).expect("id"),
        user: Id::parse("u_ada").expect("id"),
        client: Id::parse("app").expect("id"),
        session: Id::parse("s_one").expect("id"),
        life: GrantLife::Session,
        factors: FactorTimes { pwd: Some(NOW.unix()), ..FactorTimes::default() },
        binding: None,
        details: String::new(),
        family: Family {
            counter: 1,
            moved: None,
            graces: 0,
            seen: NOW,
            expires: NOW.after(seconds(12 * 3_600)),
        },
        scopes: Scopes::parse("openid payments:read payments:write").expect("scopes"),
        audience: Some(PAYMENTS.to_owned()),
        made: NOW,
        ended: None,
    }
}

/// ada, and her session `s_one`.
pub(crate) async fn with_ada(world: &World) {
    let user = UserRecord {
        id: Id::parse("u_ada").expect("id"),
        login: "ada".into(),
        name: "ada".into(),
        mail: None,
        roles: vec!["admin".into()],
        groups: Vec::new(),
        tenant: None,
        attributes: std::collections::BTreeMap::new(),
        disabled: None,
        made: NOW,
    };
    let session = SessionRecord {
        id: Id::parse("s_one").expect("id"),
        cookie: Plain::mint(&SeededEntropy::new(5)).digest(),
        user: user.id.clone(),
        factors: FactorTimes { pwd: Some(NOW.unix()), ..FactorTimes::default() },
        made: NOW,
        seen: NOW,
        expires: NOW.after(seconds(12 * 3_600)),
        ended: None,
    };
    let grant = grant("consented");
    world
        .change(async move |tx: &Tx| {
            tx.add_user(&user).await?;
            tx.keep_consent(&user.id, &grant.client, &grant.scopes, NOW).await?;
            tx.add_session(&session).await
        })
        .await;
}

pub(crate) async fn keep(world: &World, grant: GrantRecord) {
    world.change(async move |tx: &Tx| tx.add_grant(&grant).await).await;
}

/// A world with ada and one grant.
pub(crate) async fn with_grant(change: impl FnOnce(&mut GrantRecord)) -> World {
    let world = World::with(plain).await;
    with_ada(&world).await;
    let mut one = grant("one");
    change(&mut one);
    keep(&world, one).await;
    world
}

/// The n-th refresh token of a grant.
pub(crate) fn nth(name: &str, n: u64) -> String {
    let gid: Id<id::Grant> = Id::parse(&format!("g_{name}")).expect("id");
    refresh::mint(&sealer(), &gid, n).expect("a key").expose().clone()
}

/// Uses a refresh token as `app`, without binding.
pub(crate) async fn refreshed(world: &World, token: &str) -> Answered<TokenAnswer> {
    world.token(&refreshing(token)).await
}

/// The form of that.
pub(crate) fn refreshing(token: &str) -> [(&'static str, &str); 3] {
    [("grant_type", "refresh_token"), ("client_id", "app"), ("refresh_token", token)]
}

/// What stands in the store of a grant.
pub(crate) async fn stored(world: &World, name: &str) -> GrantRecord {
    let gid: Id<id::Grant> = Id::parse(&format!("g_{name}")).expect("id");
    let reading = async move |tx: &Tx| tx.grant(&gid).await;
    world.store.read(reading).await.expect("read").expect("there")
}

/// A key that makes DPoP proofs.
pub(crate) struct Holder {
    pub(crate) key: SigningKey,
    drawn: std::sync::atomic::AtomicU64,
}

impl Holder {
    pub(crate) fn new() -> Holder {
        let key = SigningKey::generate(Algorithm::Es256).expect("key");
        Holder { key, drawn: 1.into() }
    }

    pub(crate) fn thumbprint(&self) -> String {
        self.key.public().thumbprint()
    }

    /// A proof for the token endpoint with the nonce in force.
    pub(crate) fn proof(&self, world: &World) -> String {
        let nonce = world.identity.desk().shared.proofs.nonce(world.clock.now());
        self.made(&format!("{ISSUER}/oauth/token"), Some(&nonce), world.clock.now())
    }

    pub(crate) fn made(&self, url: &str, nonce: Option<&str>, now: Timestamp) -> String {
        let seed = self.drawn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let expected = Expected { method: "POST", url, token: None };
        prove(&self.key, &expected, nonce, (&SeededEntropy::new(seed), now))
    }

    /// What comes with a good proof.
    pub(crate) fn shows(&self, world: &World) -> Presented {
        shows(&[&self.proof(world)])
    }
}

/// What comes with these `DPoP` fields.
pub(crate) fn shows(proofs: &[&str]) -> Presented {
    Presented {
        authority: AUTHORITY.into(),
        dpop: proofs.iter().map(|proof| Secret::new((*proof).to_owned())).collect(),
        ..Presented::default()
    }
}

/// One of two self-signed certificates: `CN=one`, `DNS:one.example`, `URI:spiffe://pay.example/one`.
pub(crate) fn certificate(name: &str, chain: Chain) -> Arc<ClientCertificate> {
    let text = match name {
        "one" => ONE,
        _ => TWO,
    };
    let der = portcullis_core::jose::base64url::decode(text).expect("base64url");
    Arc::new(ClientCertificate::read(&der, chain).expect("a certificate"))
}

/// What comes with a certificate to an origin.
pub(crate) fn certified(name: &str, chain: Chain, authority: &str) -> Presented {
    Presented {
        authority: authority.into(),
        certificate: Some(certificate(name, chain)),
        ..Presented::default()
    }
}

/// Another issuer, `cluster`, and its key.
pub(crate) struct Cluster {
    pub(crate) key: SigningKey,
    keys: Arc<JwkSet>,
}

impl Cluster {
    pub(crate) const ISSUER: &str = "https://kubernetes.example";

    pub(crate) fn new() -> Arc<Cluster> {
        let key = SigningKey::generate(Algorithm::Es256).expect("key");
        let keys = Arc::new(JwkSet::new(vec![key.public()]));
        Arc::new(Cluster { key, keys })
    }

    pub(crate) fn issuer() -> ForeignIssuer {
        ForeignIssuer {
            name: "cluster".into(),
            issuer: Cluster::ISSUER.into(),
            source: KeySource::Discovery,
            audience: vec![ISSUER.into()],
            algorithms: Vec::new(),
            map: ClaimMap { second_factor: SecondFactor::Theirs, ..ClaimMap::default() },
            until: None,
        }
    }
}

impl ForeignKeys for Cluster {
    fn keys<'k>(&'k self, _: &'k ForeignIssuer, _: Option<&'k str>) -> FindingKeys<'k> {
        let keys = self.keys.clone();
        Box::pin(async move { Ok(keys) })
    }
}

const ONE: &str = "\
    MIIBpDCCAUqgAwIBAgIUBErFKyEdn15Wa0DkG9VplSCIme4wCgYIKoZIzj0EAwIwDjEMMAoGA1UEAwwDb25lMCAX\
    DTI2MTEyNTAyMDcwMVoYDzIxMjYxMTAxMDIwNzAxWjAOMQwwCgYDVQQDDANvbmUwWTATBgcqhkjOPQIBBggqhkjO\
    PQMBBwNCAASSg-zANsi0qIPX_ejU0jctALbEHox9gbxgRbMYVRCThwgeAWHZxPhv5SP0x5kBDCunCmjG-dMTG4_l\
    DKmfZiWoo4GDMIGAMB0GA1UdDgQWBBQaMqSFiRGc-FymdhEncJfBWpnT7TAfBgNVHSMEGDAWgBQaMqSFiRGc-Fym\
    dhEncJfBWpnT7TAwBgNVHREEKTAnggtvbmUuZXhhbXBsZYYYc3BpZmZlOi8vcGF5LmV4YW1wbGUvb25lMAwGA1Ud\
    EwEB_wQCMAAwCgYIKoZIzj0EAwIDSAAwRQIhAMXtTWBJ9OQBjsCAerflWBwE8IEYSfrAkHVI4xfbdaurAiBNL5jp\
    slTRdj7-4zFxVomkWtrFCujTa1FVc-vS7TW_0g";
const TWO: &str = "\
    MIIBozCCAUqgAwIBAgIUM8WzIIe7yYTaNtGrq9FeM0M0bb4wCgYIKoZIzj0EAwIwDjEMMAoGA1UEAwwDdHdvMCAX\
    DTI2MTEyNTAyMDcwMVoYDzIxMjYxMTAxMDIwNzAxWjAOMQwwCgYDVQQDDAN0d28wWTATBgcqhkjOPQIBBggqhkjO\
    PQMBBwNCAASJa4niWkWRUEpQwWoDCp_K3nv5FCmiKPAvTxieHmcYZ5hSVQcqzxCwpQI3Yyslut1Syu0yTv4JGORE\
    N3igTQEho4GDMIGAMB0GA1UdDgQWBBQ_yjs5Wpc8MrzkBKkYf3cmrlJKizAfBgNVHSMEGDAWgBQ_yjs5Wpc8Mrzk\
    BKkYf3cmrlJKizAwBgNVHREEKTAnggt0d28uZXhhbXBsZYYYc3BpZmZlOi8vcGF5LmV4YW1wbGUvdHdvMAwGA1Ud\
    EwEB_wQCMAAwCgYIKoZIzj0EAwIDRwAwRAIgYogkgZ3ds3D84vOgvd0wcIKntKYr3hUMhhoFMFZEONYCIEF4eG9U\
    Kpl-6RKXeCpcTIEgPyFKt24OpO1x8cV7AVRE";
