//! The few words of the web that rules speak of: https addresses, origins, redirects, forms.
//!
//! No general URL parser: what these types cannot say, Portcullis does not accept. That makes each
//! of them a page long, and leaves no room for two parsers that disagree.

mod address;
mod form;
mod redirect;

pub use address::{Address, AddressMalformed, MAX_ADDRESS_BYTES, Origin, Scheme};
pub use form::{MAX_FORM_BYTES, MAX_PARAMETERS, Parameters, ParametersMalformed, form_encode};
pub use redirect::{Native, Redirect};

pub(crate) use form::form_decode;
