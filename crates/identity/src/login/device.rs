//! The known device: a sealed (device, user, expiry) in a cookie, revocable by its row.
//!
//! It proves nothing about who is there. It only lets an owner past the counters that strangers
//! fill (`5-limits` point 6).

use portcullis_core::id::{self, Id};
use portcullis_core::seal::Purpose;
use portcullis_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::desk::Desk;
use crate::outcome::Presented;
use crate::settings::DEVICE_S;

/// What the cookie says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    device: Id<id::Device>,
    user: Id<id::User>,
    expires: i64,
}

impl Device {
    /// A new device of a user.
    pub(crate) fn mint(desk: &Desk, user: &Id<id::User>) -> Self {
        let device = Id::mint(&*desk.shared.entropy);
        Device { device, user: user.clone(), expires: desk.in_seconds(DEVICE_S).unix() }
    }

    /// The one that the browser sent along, if it is ours and in time.
    pub(crate) fn presented(desk: &Desk, presented: &Presented) -> Option<Self> {
        let sealed = presented.device.as_ref()?;
        let plain = desk.shared.sealer.open(Purpose::Cookie, sealed.expose()).ok()?;
        let device: Device = serde_json::from_slice(plain.expose()).ok()?;
        (desk.now.unix() < device.expires).then_some(device)
    }

    /// The cookie's value.
    pub(crate) fn sealed(&self, desk: &Desk) -> String {
        desk.seal(Purpose::Cookie, &serde_json::to_vec(self).unwrap_or_default())
    }

    /// The device.
    pub(crate) fn id(&self) -> &Id<id::Device> {
        &self.device
    }

    /// Whose it is.
    pub(crate) fn user(&self) -> &Id<id::User> {
        &self.user
    }

    /// Until when.
    pub(crate) fn expires(&self) -> Timestamp {
        Timestamp::from_unix(self.expires)
    }
}
