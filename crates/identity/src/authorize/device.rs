//! The browser's half of a device login (RFC 8628 §3.3): which device, then the same login and the
//! same consent page as for any client, with the place from where the device asked.

use portcullis_core::web::Parameters;

use crate::desk::Desk;
use crate::outcome::{Outcome, Presented};

/// `GET /device`, `POST /device`.
pub(crate) async fn page(desk: &Desk, form: &Parameters, presented: &Presented) -> Outcome {
    let _ = (desk, form, presented);
    todo!()
}
