//! What a login is for, as it is sealed into its pages and into pushed requests: the request as it
//! came and how it came, so that all of it can be checked again at each step.

use portcullis_core::bearer::Digest;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::base64url;
use portcullis_core::oauth::authorize::AuthorizationRequest;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_store::device_logins::{DeviceCode, DeviceLogin};
use portcullis_store::used::UsedKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a login is for.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A client asks for a code.
    Code(Box<CodeAsk>),
    /// A device waits for its user.
    Device(Box<DeviceAsk>),
}

/// An authorization request.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CodeAsk {
    /// As it came, or as it stood in the signed object; nothing from both.
    pub(crate) request: AuthorizationRequest,
    #[serde(default)]
    pub(crate) arrival: Arrival,
    /// What is used up when the login comes to its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) spends: Vec<Spend>,
    /// The client's document as it was when the request arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) document: Option<String>,
}

/// How a request arrived.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Arrival {
    /// Pushed by its client beforehand (RFC 9126).
    pub(crate) pushed: bool,
    /// In an object that its client signed (RFC 9101).
    pub(crate) signed: bool,
}

/// Something that is used once, with the login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spend {
    pub(crate) what: Spent,
    pub(crate) mark: String,
    /// Until when the use must be remembered, Unix time.
    pub(crate) until: i64,
}

/// What is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Spent {
    /// A `request_uri` of ours.
    Reference,
    /// The `jti` of a request object.
    Object,
}

/// A device's request, as its row has it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DeviceAsk {
    /// SHA-256 of the device code, base64url: the one row that is decided, whatever stands under the
    /// user code by then.
    code: String,
    pub(crate) client: Id<id::Client>,
    pub(crate) scopes: Scopes,
    pub(crate) audience: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) details: Vec<Value>,
    /// From where the device asked.
    pub(crate) place: String,
    pub(crate) expires: i64,
}

impl CodeAsk {
    /// One that came in the open.
    pub(crate) fn plain(request: AuthorizationRequest) -> Self {
        CodeAsk { request, arrival: Arrival::default(), spends: Vec::new(), document: None }
    }
}

impl Spend {
    /// Where its use is remembered.
    pub(crate) fn kind(&self) -> UsedKind {
        match self.what {
            Spent::Reference => UsedKind::Pushed,
            Spent::Object => UsedKind::RequestObject,
        }
    }

    /// The rule that a second use breaks.
    pub(crate) fn rule(&self) -> &'static str {
        match self.what {
            Spent::Reference => "RequestUriUsed",
            Spent::Object => "RequestObjectUsed",
        }
    }

    /// Until when its use is remembered.
    pub(crate) fn until(&self) -> Timestamp {
        Timestamp::from_unix(self.until)
    }
}

impl DeviceAsk {
    /// Of a row.
    pub(super) fn of(login: DeviceLogin) -> Self {
        DeviceAsk {
            code: base64url::encode(login.code.as_bytes()),
            client: login.client,
            scopes: login.scopes,
            audience: login.audience,
            details: crate::token::details::from_stored(&login.details),
            place: login.ip,
            expires: login.expires.unix(),
        }
    }

    /// The row; `None` never, since our own words are sealed.
    pub(crate) fn code(&self) -> Option<Digest<DeviceCode>> {
        let bytes = base64url::decode(&self.code).ok()?;
        bytes.try_into().ok().map(Digest::from_stored)
    }
}
