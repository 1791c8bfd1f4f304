//! Dynamic client registration (RFC 7591) and its management (RFC 7592): off unless the file says so,
//! and then for holders of the initial access token alone.

pub(crate) mod metadata;

use crate::desk::Desk;
use crate::outcome::{Answered, Presented, RegistrationAnswer};

/// What is asked.
pub struct Call<'c> {
    /// The method.
    pub method: &'c str,
    /// The client, from the path, for RFC 7592.
    pub client: Option<&'c str>,
    /// Each `Authorization` value.
    pub authorization: &'c [&'c [u8]],
    /// The body: client metadata as JSON.
    pub body: &'c [u8],
}

/// Answers it.
pub(crate) async fn answer(
    desk: &Desk,
    call: Call<'_>,
    presented: &Presented,
) -> Answered<RegistrationAnswer> {
    let _ = (desk, call.method, call.client, call.authorization, call.body, presented);
    todo!()
}
