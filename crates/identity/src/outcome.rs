//! What a step of the login came to: what to show, which cookies to set, what to record. The words
//! between identity and the pages.

use portcullis_core::certificate::ClientCertificate;
use portcullis_core::oauth::error::OauthError;
use portcullis_core::secret::Secret;

/// What a browser sent along.
#[derive(Default)]
pub struct Presented {
    /// Value of `__Host-pc-session`.
    pub session: Option<Secret<String>>,
    /// Value of `__Host-pc-device`.
    pub device: Option<Secret<String>>,
    /// Value of `__Host-pc-tx`: binds a login's sealed state to this browser.
    pub tx: Option<Secret<String>>,
    /// The client's address.
    pub ip: Option<std::net::IpAddr>,
    /// The `Request-Id`.
    pub request_id: String,
    /// The authority asked: the issuer's, or that of `[identity] mtls`.
    pub authority: String,
    /// Each value of the `DPoP` field.
    pub dpop: Vec<Secret<String>>,
    /// The client certificate of the connection.
    pub certificate: Option<std::sync::Arc<ClientCertificate>>,
}

/// A cookie to set (all are `__Host-`, Secure, HttpOnly, SameSite=Lax, Path=/).
pub struct CookieChange {
    /// Its name.
    pub name: &'static str,
    /// Its value; empty removes it.
    pub value: Secret<String>,
    /// Max-Age in seconds; `None`: until the browser closes.
    pub max_age_s: Option<i64>,
}

/// What to show next.
pub enum Show {
    /// The password page.
    Password(PasswordPage),
    /// Enrol TOTP: QR code and secret.
    Enrol(EnrolPage),
    /// Ask for a one-time password.
    SecondFactor(SecondFactorPage),
    /// Ask for consent.
    Consent(ConsentPage),
    /// 303 to this address: the client's redirect with `code`/`error`, `state`, `iss`.
    Redirect(String),
    /// A page that says what is wrong; never a redirect (unknown client, unregistered redirect).
    Refused(PageRefusal),
    /// Signed in without a client's request (the account page comes later).
    Nothing,
    /// A form that the browser posts to the client by itself (`response_mode=form_post`).
    FormPost(FormPostPage),
    /// Ask which device (RFC 8628 §3.3).
    DeviceCode(DeviceCodePage),
    /// The device was answered.
    DeviceAnswered(DeviceAnswer),
    /// Ask whether to sign out (RP-Initiated Logout §2).
    Logout(LogoutPage),
    /// Signed out.
    LoggedOut,
}

/// A form that posts itself (OAuth 2.0 Form Post Response Mode §2).
pub struct FormPostPage {
    /// Where to: the client's redirect.
    pub action: String,
    /// Names and values.
    pub fields: Vec<(&'static str, String)>,
    /// Its CSP source.
    pub form_target: String,
}

/// The page that asks for a user code.
pub struct DeviceCodePage {
    /// The state: a hidden field named `state`. A code without it is only filled in.
    pub sealed: String,
    /// Prefilled from `verification_uri_complete`; never submitted by itself.
    pub user_code: String,
    /// What went wrong before.
    pub notice: Option<Notice>,
}

/// What a device was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceAnswer {
    /// It may go on.
    Approved,
    /// It was refused.
    Denied,
}

/// The page that asks before it signs out.
pub struct LogoutPage {
    /// The state: a hidden field.
    pub sealed: String,
    /// Who is signed in.
    pub login: String,
    /// The app that asks, if one did.
    pub client: Option<String>,
    /// The CSP source of where it ends.
    pub form_target: Option<String>,
}

/// The password page.
pub struct PasswordPage {
    /// The redirect's CSP source (`https://app.example`, `com.app:`): browsers apply `form-action` to
    /// the redirect that follows the form too, so each page must allow it beside `'self'`.
    pub form_target: String,
    /// The login's state, sealed; a hidden field. It is bound to the `__Host-pc-tx` cookie, so it is
    /// also what makes the form safe from CSRF.
    pub sealed: String,
    /// The client's name for people.
    pub client: String,
    /// Prefilled.
    pub login: String,
    /// What went wrong before, in public words (the same whether the account exists or not).
    pub notice: Option<Notice>,
}

/// The enrolment page.
pub struct EnrolPage {
    /// The redirect's CSP source (`https://app.example`, `com.app:`): browsers apply `form-action` to
    /// the redirect that follows the form too, so each page must allow it beside `'self'`.
    pub form_target: String,
    /// The state: a hidden field.
    pub sealed: String,
    /// The QR code as an inline-able SVG path (modules), with its side in modules.
    pub qr_svg_path: String,
    /// Side of the QR code in modules.
    pub qr_side: usize,
    /// The secret in base32, for typing.
    pub secret: Secret<String>,
    /// What went wrong before.
    pub notice: Option<Notice>,
}

/// The one-time password page.
pub struct SecondFactorPage {
    /// The redirect's CSP source (`https://app.example`, `com.app:`): browsers apply `form-action` to
    /// the redirect that follows the form too, so each page must allow it beside `'self'`.
    pub form_target: String,
    /// The state: a hidden field.
    pub sealed: String,
    /// What went wrong before.
    pub notice: Option<Notice>,
}

/// The consent page.
pub struct ConsentPage {
    /// The redirect's CSP source (`https://app.example`, `com.app:`): browsers apply `form-action` to
    /// the redirect that follows the form too, so each page must allow it beside `'self'`.
    pub form_target: String,
    /// The state: a hidden field.
    pub sealed: String,
    /// The client's name.
    pub client: String,
    /// Where the user is sent afterwards.
    pub redirect_host: String,
    /// Scope and its words.
    pub scopes: Vec<(String, String)>,
    /// `authorization_details`: the type's words, and each member with its value, for people.
    pub details: Vec<(String, Vec<(String, String)>)>,
    /// The client's verified host, when its id is the address of its document.
    pub client_host: Option<String>,
    /// From where a device asked, when it is one.
    pub device_place: Option<String>,
    /// The user's login.
    pub login: String,
}

/// A notice on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The name or the password is wrong.
    WrongPassword,
    /// The code is wrong.
    WrongCode,
    /// Too many attempts: wait this many seconds.
    Throttled(u64),
    /// The page was open for too long.
    Stale,
    /// No device waits with that code.
    WrongUserCode,
}

/// A refusal that is shown as a page.
#[derive(Clone, Debug)]
pub struct PageRefusal {
    /// The status.
    pub status: u16,
    /// The rule broken: `RedirectUnregistered` …
    pub rule: &'static str,
    /// Public words.
    pub words: &'static str,
}

/// What a step came to.
pub struct Outcome {
    /// What to show.
    pub show: Show,
    /// Cookies.
    pub cookies: Vec<CookieChange>,
    /// For the record: `login.authorize`, `login.password`, `login.totp`, `login.consent`.
    pub event: &'static str,
    /// For the record: allowed (what happened), or the rule broken.
    pub outcome: Result<String, String>,
    /// Who, as far as proven.
    pub caller: Option<String>,
    /// The client.
    pub client: Option<String>,
    /// `Retry-After` in seconds, with status 429.
    pub retry_after: Option<u64>,
}

/// What a machine's request came to (token, revoke).
pub struct Answered<T> {
    /// The answer or the error.
    pub result: Result<T, OauthError>,
    /// For the record.
    pub caller: Option<String>,
    /// The client, once authenticated or merely named (`?name`).
    pub client: Option<String>,
    /// `DPoP-Nonce` to hand out.
    pub nonce: Option<String>,
}

/// What a pushed request was answered (RFC 9126 §2.2).
#[derive(serde::Serialize)]
pub struct Pushed {
    /// The reference.
    pub request_uri: String,
    /// Seconds.
    pub expires_in: i64,
}

/// What a device was told (RFC 8628 §3.2).
#[derive(serde::Serialize)]
pub struct DeviceStart {
    /// For the device alone.
    pub device_code: String,
    /// For its user.
    pub user_code: String,
    /// Where to type it.
    pub verification_uri: String,
    /// The same with the code filled in.
    pub verification_uri_complete: String,
    /// Seconds.
    pub expires_in: i64,
    /// Seconds between polls.
    pub interval: i64,
}

/// A document that is JSON, or signed as a JWT because the client asked for that.
pub enum Document {
    /// `application/json`.
    Json(serde_json::Value),
    /// A JWT of this media type (`application/token-introspection+jwt`, `application/jwt`).
    Signed {
        /// The media type.
        media_type: &'static str,
        /// The JWT.
        text: String,
    },
}

/// What a registration was answered (RFC 7591 §3.2).
pub struct RegistrationAnswer {
    /// 200, 201 or 204.
    pub status: u16,
    /// The client's metadata; nothing for 204.
    pub body: Option<serde_json::Value>,
}
