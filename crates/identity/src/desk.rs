//! The desk: what one request of the login or the token endpoint works with, one moment and one
//! set of settings for the whole of it.

use std::sync::Arc;

use portcullis_core::seal::Purpose;
use portcullis_core::time::Timestamp;

use crate::parts::Shared;
use crate::settings::Settings;

/// Cheap to clone into a transaction.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) now: Timestamp,
}

impl Desk {
    /// Seals bytes for a purpose.
    pub(crate) fn seal(&self, purpose: Purpose, plain: &[u8]) -> String {
        self.shared.sealer.seal(purpose, plain, &*self.shared.entropy)
    }

    /// A moment some seconds from now.
    pub(crate) fn in_seconds(&self, seconds: i64) -> Timestamp {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        self.now.after(std::time::Duration::from_secs(seconds))
    }
}
