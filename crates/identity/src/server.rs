//! The entry points of the authorization server: one method a page or an endpoint, each on one desk.
//!
//! What they do is their own modules'; nothing here decides. The binary turns HTTP into these calls.

use std::sync::{Arc, PoisonError, RwLock};

use portcullis_core::jose::claims::AccessClaims;
use portcullis_core::jose::verify::Verified;
use portcullis_core::oauth::token::TokenAnswer;
use portcullis_core::seal::Sealer;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Parameters;
use portcullis_store::keys::KeyUse;
use serde_json::Value;

use crate::desk::Desk;
use crate::keyring::Keyring;
use crate::keys::{Haste, KeyFault, Killed, ListedKey, Rotated};
use crate::login::{begin, password, second_factor, show};
use crate::maintenance::{self, Ticked};
use crate::outcome::{
    Answered, DeviceStart, Document, Outcome, Presented, Pushed, RegistrationAnswer, Show,
};
use crate::parts::{Parts, Shared, StartFault};
use crate::settings::Settings;
use crate::{
    authorize, consent, discovery, introspect, keys, logout, registration, revoke, token, userinfo,
};

/// The authorization server.
pub struct Identity {
    /// Swapped on reload.
    pub settings: Arc<RwLock<Arc<Settings>>>,
    shared: Arc<Shared>,
}

impl Identity {
    /// Puts the server together: opens the signing keys, or makes them.
    ///
    /// # Errors
    /// [`StartFault`].
    pub async fn start(parts: Parts) -> Result<Identity, StartFault> {
        let shared = Shared::assemble(parts).await?;
        Ok(Identity { settings: shared.settings.clone(), shared: Arc::new(shared) })
    }

    /// Takes new settings; a request under way ends with those that it began with.
    pub fn reload(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Keeps clients from registering and unregistering themselves until the guard is dropped: held by
    /// a reload from before it reads the store's clients until it has swapped the settings, so that
    /// neither forgets what the other did.
    pub async fn hold_registrations(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.registering.lock().await
    }

    /// The keys, for the gateway's snapshot.
    pub fn keyring(&self) -> &Keyring {
        &self.shared.keyring
    }

    /// The time, by the clock of this server.
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// The sealer, for [`crate::account`] and for the gateway's opaque tokens and API keys.
    pub fn sealer(&self) -> &Arc<Sealer> {
        &self.shared.sealer
    }

    /// `GET /oauth/authorize`.
    pub async fn authorize(&self, query: &Parameters, presented: Presented) -> Outcome {
        let desk = self.desk();
        let step = begin::step(&desk, query, &presented).await;
        named(show::outcome(&desk, "login.authorize", step, &presented), query)
    }

    /// `POST /login`: `state`, `login`, `password`.
    pub async fn password(&self, form: &Parameters, presented: Presented) -> Outcome {
        let desk = self.desk();
        let step = password::step(&desk, form, &presented).await;
        show::outcome(&desk, "login.password", step, &presented)
    }

    /// `POST /login/totp`: `state`, `code` (enrolment or second factor).
    pub async fn totp(&self, form: &Parameters, presented: Presented) -> Outcome {
        let desk = self.desk();
        let step = second_factor::step(&desk, form, &presented).await;
        show::outcome(&desk, "login.totp", step, &presented)
    }

    /// `POST /consent`: `state`, `decision` (`allow` or `deny`).
    pub async fn consent(&self, form: &Parameters, presented: Presented) -> Outcome {
        let desk = self.desk();
        let step = consent::step(&desk, form, &presented).await;
        show::outcome(&desk, "login.consent", step, &presented)
    }

    /// `POST /oauth/token`. `authorization`: each value of the field.
    pub async fn token(
        &self,
        authorization: &[&[u8]],
        form: &Parameters,
        presented: Presented,
    ) -> Answered<TokenAnswer> {
        token::answer(&self.desk(), authorization, form, &presented).await
    }

    /// `POST /oauth/revoke` (RFC 7009). In force at the gateway before it returns.
    pub async fn revoke(
        &self,
        authorization: &[&[u8]],
        form: &Parameters,
        presented: Presented,
    ) -> Answered<()> {
        revoke::answer(&self.desk(), authorization, form, &presented).await
    }

    /// `POST /oauth/par` (RFC 9126).
    pub async fn push(
        &self,
        authorization: &[&[u8]],
        form: &Parameters,
        presented: Presented,
    ) -> Answered<Pushed> {
        authorize::par::answer(&self.desk(), authorization, form, &presented).await
    }

    /// `POST /oauth/device` (RFC 8628 §3.1).
    pub async fn device(
        &self,
        authorization: &[&[u8]],
        form: &Parameters,
        presented: Presented,
    ) -> Answered<DeviceStart> {
        token::device::begin(&self.desk(), authorization, form, &presented).await
    }

    /// `GET /device`, `POST /device`: `user_code` (RFC 8628 §3.3).
    pub async fn device_page(&self, form: &Parameters, presented: Presented) -> Outcome {
        let desk = self.desk();
        authorize::device::page(&desk, form, &presented).await
    }

    /// `POST /oauth/introspect` (RFC 7662). `accept`: the value of the field.
    pub async fn introspect(
        &self,
        authorization: &[&[u8]],
        form: &Parameters,
        presented: Presented,
        accept: Option<&str>,
    ) -> Answered<Document> {
        introspect::answer(&self.desk(), authorization, form, &presented, accept).await
    }

    /// `GET /oauth/userinfo` (OpenID Connect Core §5.3); the gateway verified the token.
    pub async fn userinfo(&self, token: &Verified<AccessClaims>) -> Answered<Document> {
        userinfo::answer(&self.desk(), token).await
    }

    /// `POST /oauth/register`, and `GET`, `PUT`, `DELETE /oauth/register/ID` (RFC 7591, 7592). Off
    /// unless the file switches it on.
    pub async fn register(
        &self,
        call: registration::Call<'_>,
        presented: Presented,
    ) -> Answered<RegistrationAnswer> {
        registration::answer(&self.desk(), call, &presented).await
    }

    /// `GET /logout`, `POST /logout` (OpenID Connect RP-Initiated Logout).
    pub async fn log_out(&self, parameters: &Parameters, presented: Presented) -> Outcome {
        logout::step(&self.desk(), parameters, &presented).await
    }

    /// Housekeeping, called every few seconds by the binary: rotates signing keys that are due, sends
    /// logout tokens that wait. Says when the keys changed, so that the gateway takes the new ones.
    pub async fn tick(&self) -> Ticked {
        maintenance::tick(&self.desk()).await
    }

    /// RFC 8414 / OpenID discovery, JSON.
    pub fn metadata(&self) -> Value {
        let desk = self.desk();
        discovery::server(&desk.settings, desk.now)
    }

    /// `/oauth/jwks`, JSON.
    pub fn jwks(&self) -> Value {
        self.shared.keyring.published().to_json()
    }

    /// The keys of `Portcullis-Identity`, JSON.
    pub fn passport_jwks(&self) -> Value {
        self.shared.keyring.passports().to_json()
    }

    /// RFC 9728 metadata of the API at this audience.
    pub fn resource_metadata(&self, audience: &str) -> Option<Value> {
        discovery::resource(&self.desk().settings, audience)
    }

    /// All keys that are not gone, by use and age.
    ///
    /// # Errors
    /// As [`keys::list`].
    pub async fn signing_keys(&self) -> Result<Vec<ListedKey>, KeyFault> {
        let desk = self.desk();
        keys::list(&keys::keeping(&desk)).await
    }

    /// Promotes the next key of one use, or of all, and swaps it in. The gateway needs a new
    /// snapshot afterwards.
    ///
    /// # Errors
    /// As [`keys::rotate`].
    pub async fn rotate_signing_keys(
        &self,
        usage: Option<KeyUse>,
        haste: Haste,
    ) -> Result<Vec<Rotated>, KeyFault> {
        let desk = self.desk();
        let rotated = keys::rotate(&keys::keeping(&desk), usage, haste).await?;
        desk.shared.keyring.refresh(&desk.shared.store, &desk.shared.sealer).await?;
        Ok(rotated)
    }

    /// Kills a key; its successor signs at once, published for a day or not. Its revocation is in
    /// force at the gateway, and it has left this keyring, before this returns. The gateway's
    /// snapshot must be made anew before the operator is told: a thief of the key writes any `rev`
    /// into a token, and only a set without the key refuses that.
    ///
    /// # Errors
    /// As [`keys::kill`].
    pub async fn kill_signing_key(&self, kid: &str) -> Result<Killed, KeyFault> {
        let desk = self.desk();
        let killed = keys::kill(&keys::keeping(&desk), kid).await?;
        desk.shared.keyring.refresh(&desk.shared.store, &desk.shared.sealer).await?;
        Ok(killed)
    }

    /// One moment and one set of settings for the whole of a request.
    pub(crate) fn desk(&self) -> Desk {
        Desk {
            shared: self.shared.clone(),
            settings: self.shared.in_force(),
            now: self.shared.now(),
        }
    }
}

/// A refused request names its client too: `?name` when it was merely named.
fn named(outcome: Outcome, query: &Parameters) -> Outcome {
    let mark = if matches!(outcome.show, Show::Refused(_)) { "?" } else { "" };
    let client = || query.value("client_id").map(|id| format!("{mark}{id}"));
    let client = outcome.client.or_else(client);
    Outcome { client, ..outcome }
}
