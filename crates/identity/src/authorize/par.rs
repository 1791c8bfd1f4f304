//! Pushed authorization requests (RFC 9126): the request as the client sent it, sealed into its
//! reference; no row until it is used.

use portcullis_core::web::Parameters;

use crate::desk::Desk;
use crate::outcome::{Answered, Presented, Pushed};

/// `POST /oauth/par`.
pub(crate) async fn answer(
    desk: &Desk,
    authorization: &[&[u8]],
    form: &Parameters,
    presented: &Presented,
) -> Answered<Pushed> {
    let _ = (desk, authorization, form, presented);
    todo!()
}
