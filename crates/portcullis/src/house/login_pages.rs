//! From an outcome of the login to a page: no rule is decided here.

use askama::Template;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use portcullis_gateway::house::HouseAnswer;
use portcullis_identity::outcome::{
    ConsentPage, DeviceAnswer, DeviceCodePage, EnrolPage, FormPostPage, LogoutPage, Notice,
    Outcome, PasswordPage, SecondFactorPage, Show,
};

use super::{cookies, page};

#[derive(Template)]
#[template(path = "password.html")]
struct PasswordView<'p> {
    page: &'p PasswordPage,
    notice: Option<String>,
}

#[derive(Template)]
#[template(path = "enrol.html")]
struct EnrolView<'p> {
    page: &'p EnrolPage,
    secret: String,
    notice: Option<String>,
}

#[derive(Template)]
#[template(path = "totp.html")]
struct TotpView<'p> {
    page: &'p SecondFactorPage,
    notice: Option<String>,
}

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentView<'p> {
    page: &'p ConsentPage,
}

#[derive(Template)]
#[template(path = "form_post.html")]
struct FormPostView<'p> {
    page: &'p FormPostPage,
    script: &'static str,
}

#[derive(Template)]
#[template(path = "device.html")]
struct DeviceCodeView<'p> {
    page: &'p DeviceCodePage,
    notice: Option<String>,
}

#[derive(Template)]
#[template(path = "said.html")]
struct SaidView {
    title: &'static str,
    words: &'static str,
}

#[derive(Template)]
#[template(path = "logout.html")]
struct LogoutView<'p> {
    page: &'p LogoutPage,
}

/// Shows what a step came to, and sets its cookies.
pub(super) fn show(outcome: Outcome) -> HouseAnswer {
    let mut response = render(&outcome);
    for change in &outcome.cookies {
        if let Ok(value) = HeaderValue::from_str(&cookies::written(change)) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
    if let Some(seconds) = outcome.retry_after {
        page::set(&mut response, header::RETRY_AFTER, &seconds.to_string());
    }
    HouseAnswer {
        response,
        event: outcome.event,
        outcome: outcome.outcome,
        caller: outcome.caller,
        client: outcome.client,
    }
}

fn render(outcome: &Outcome) -> http::Response<Bytes> {
    match &outcome.show {
        Show::Password(shown) => {
            let view = PasswordView { page: shown, notice: shown.notice.map(words) };
            page::html(status(shown.notice), text(&view), Some(&shown.form_target))
        }
        Show::Enrol(shown) => {
            let secret = grouped(shown.secret.expose());
            let view = EnrolView { page: shown, secret, notice: shown.notice.map(words) };
            page::html(status(shown.notice), text(&view), Some(&shown.form_target))
        }
        Show::SecondFactor(shown) => {
            let view = TotpView { page: shown, notice: shown.notice.map(words) };
            page::html(status(shown.notice), text(&view), Some(&shown.form_target))
        }
        Show::Consent(shown) => {
            page::html(200, text(&ConsentView { page: shown }), Some(&shown.form_target))
        }
        Show::Redirect(location) => page::redirect(location),
        Show::Refused(refusal) => {
            page::refused(refusal.status, refusal.rule, refusal.words).response
        }
        Show::FormPost(shown) => {
            // OAuth 2.0 Form Post Response Mode §2: an HTML form that is submitted by itself; without
            // scripts the button does it.
            let view = FormPostView { page: shown, script: page::SUBMIT };
            page::html_that_submits(text(&view), &shown.form_target)
        }
        Show::DeviceCode(shown) => {
            let view = DeviceCodeView { page: shown, notice: shown.notice.map(words) };
            page::html(status(shown.notice), text(&view), None)
        }
        Show::DeviceAnswered(answer) => {
            let (title, words) = match answer {
                DeviceAnswer::Approved => {
                    ("Device connected", "You can close this page and go on at your device.")
                }
                DeviceAnswer::Denied => {
                    ("Device refused", "It gets nothing. You can close this page.")
                }
            };
            page::html(200, text(&SaidView { title, words }), None)
        }
        Show::Logout(shown) => {
            page::html(200, text(&LogoutView { page: shown }), shown.form_target.as_deref())
        }
        Show::LoggedOut => {
            let words = "You can close this page.";
            page::html(200, text(&SaidView { title: "Signed out", words }), None)
        }
        Show::Nothing => page::refused(200, "SignedIn", "You are signed in.").response,
    }
}

fn text(view: &impl Template) -> String {
    view.render().unwrap_or_default()
}

/// The status of a page that is shown again: 400, since a 401 would need a challenge that a form
/// cannot give (RFC 9110 §15.5.2); 429 when throttled (RFC 6585 §4).
fn status(notice: Option<Notice>) -> u16 {
    match notice {
        None => 200,
        Some(Notice::Throttled(_)) => 429,
        Some(Notice::WrongPassword | Notice::WrongCode | Notice::Stale | Notice::WrongUserCode) => {
            400
        }
    }
}

fn words(notice: Notice) -> String {
    match notice {
        Notice::WrongPassword => "That name and password do not match.".into(),
        Notice::WrongCode => {
            "That code is not right, or was used already. Wait for the next one.".into()
        }
        Notice::WrongUserCode => {
            "No device waits with that code. Look at it again: codes last ten minutes.".into()
        }
        Notice::Stale => "This page was open for too long. Please start again.".into(),
        Notice::Throttled(seconds) if seconds < 90 => {
            format!("Too many attempts. Try again in {seconds} seconds.")
        }
        Notice::Throttled(seconds) => {
            format!("Too many attempts. Try again in {} minutes.", seconds.div_ceil(60))
        }
    }
}

/// Groups of four, for typing.
fn grouped(secret: &str) -> String {
    let letters: Vec<char> = secret.chars().collect();
    letters.chunks(4).map(|chunk| chunk.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}
