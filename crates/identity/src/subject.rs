//! Which `sub` a client sees in ID tokens and userinfo (OpenID Connect Core §8).
//!
//! Only there: an access token names the user to the APIs, and these must agree on who that is.

use portcullis_core::client::{ClientRecord, SubjectType};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::base64url;
use portcullis_core::seal::Purpose;

use crate::desk::Desk;

/// The user as the client knows them.
///
/// # Panics
/// Without a key to seal with; [`crate::parts::Shared::assemble`] refuses to start then.
pub(crate) fn seen_by(desk: &Desk, client: &ClientRecord, user: &Id<id::User>) -> String {
    match &client.subject {
        SubjectType::Public => user.to_string(),
        SubjectType::Pairwise { sector } => {
            // OpenID Connect Core §8.1: from the sector and the local account, with a secret, and
            // never reversible by anyone but us. A host has no NUL in it, so the parts cannot slide.
            let named = [sector.as_bytes(), &[0], user.as_str().as_bytes()].concat();
            // §8.1: the same for as long as the account lives, so never the newest key.
            let mac = desk.shared.sealer.mac_oldest(Purpose::Pairwise, &named);
            base64url::encode(&mac.expect("no server starts with an empty ring"))
        }
    }
}
