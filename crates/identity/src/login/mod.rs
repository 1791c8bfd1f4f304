//! The journey of a login, from the request to the code.
//!
//! `enum Login { Password, SecondFactor, Enrol, Consent, Done }`: one struct per state, each
//! transition consumes it ([`state`]). A login spans several requests of a browser, so there are
//! two doors through which it comes back: before the first factor a sealed state bound to the
//! browser ([`sealed`]), from then on the session's row, re-read at every step. Neither says "this
//! factor passed" by itself: what comes next follows from the row's ledger.
//!
//! Each `POST` commits at most once. Nothing durable is written before the first factor passed.

pub mod argon;
pub(crate) mod begin;
pub(crate) mod device;
pub mod password;
pub(crate) mod sealed;
pub mod second_factor;
pub(crate) mod session;
pub mod show;
pub mod state;
pub(crate) mod throttle;

use portcullis_core::bearer::Digest;
use portcullis_core::id::{self, Id};
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::sessions::SessionCookie;

use crate::desk::Desk;
use crate::outcome::Presented;
use sealed::Stage;
use state::Standing;

/// A browser that came back after its first factor: the session that its state was sealed over,
/// and the cookie to find it by.
pub(crate) struct CameBack {
    session: Id<id::Session>,
    cookie: Digest<SessionCookie>,
}

impl CameBack {
    /// `None` before the first factor, or without a cookie: then no transaction is begun.
    pub(crate) fn of(stage: &Stage, presented: &Presented) -> Option<Self> {
        let session = match stage {
            Stage::Asked => return None,
            Stage::Proven { session } | Stage::Enrolling { session, .. } => session.clone(),
        };
        Some(CameBack { session, cookie: session::cookie(presented)? })
    }

    /// Who is there, when the browser's session is the very one of the state.
    pub(crate) async fn standing(
        &self,
        tx: &Tx,
        desk: &Desk,
        client: &Id<id::Client>,
    ) -> Result<Option<Standing>, StoreFault> {
        let standing = state::standing(tx, desk, &self.cookie, client).await?;
        Ok(standing.filter(|standing| standing.session.id == self.session))
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
