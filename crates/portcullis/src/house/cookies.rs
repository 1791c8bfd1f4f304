//! Cookies: read strictly, written with every attribute that `__Host-` demands (RFC 6265bis §4.1.3).

use portcullis_core::secret::Secret;
use portcullis_gateway::house::HouseRequest;
use portcullis_identity::outcome::{CookieChange, Presented};

/// What the browser sent along. A name that stands twice counts as absent: two answers to one
/// question are none.
pub(super) fn presented(request: &HouseRequest) -> Presented {
    Presented {
        session: cookie(request, "__Host-pc-session"),
        device: cookie(request, "__Host-pc-device"),
        tx: cookie(request, "__Host-pc-tx"),
        ip: Some(request.ip),
        request_id: request.request_id.to_string(),
        authority: request.authority.to_string(),
        dpop: dpop(request),
        certificate: request.certificate.clone(),
    }
}

/// Each `DPoP` value (RFC 9449 §4.3 point 1: there must be one alone, which identity judges). One
/// that is no text is kept as an empty one, so that it counts.
fn dpop(request: &HouseRequest) -> Vec<Secret<String>> {
    let values = request.headers.get_all("dpop").iter();
    values.map(|value| Secret::new(value.to_str().unwrap_or_default().to_owned())).collect()
}

fn cookie(request: &HouseRequest, name: &str) -> Option<Secret<String>> {
    let mut found = request
        .headers
        .get_all(http::header::COOKIE)
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split("; "))
        .filter_map(|pair| pair.split_once('='))
        .filter(|(given, _)| *given == name);
    let (_, value) = found.next()?;
    found.next().is_none().then(|| Secret::new(value.to_owned()))
}

/// The `Set-Cookie` value of a change. An empty value removes the cookie.
pub(super) fn written(change: &CookieChange) -> String {
    let value = change.value.expose();
    let age = match (value.is_empty(), change.max_age_s) {
        (true, _) => "; Max-Age=0".to_owned(),
        (false, Some(seconds)) => format!("; Max-Age={seconds}"),
        (false, None) => String::new(),
    };
    format!("{}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}", change.name)
}
