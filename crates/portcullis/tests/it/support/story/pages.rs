//! How a person goes through our pages: forms with what is hidden in them, cookies, and what a
//! person types.

use super::super::server::Server;
use super::super::wire::Answer;
use super::requests::{self, Outgoing};
use super::tale::Tale;

/// Pages until a login is over: password, second factor, and one that was shown again.
const PAGES_MAX: usize = 4;

/// A page's form: where it goes and what is in it already.
pub(super) struct Form {
    pub(super) action: String,
    pub(super) filled: Vec<(String, String)>,
}

/// `GET` by the browser in use.
pub(super) fn visit(server: &Server, tale: &mut Tale, target: &str) -> Answer {
    let target = target.strip_prefix(&server.issuer()).unwrap_or(target).to_owned();
    tale.place = target.split('?').next().unwrap_or_default().to_owned();
    send(server, tale, (&format!("GET {target}"), Vec::new(), String::new()))
}

/// The form of the open page, with what is typed.
pub(super) fn submit(server: &Server, tale: &mut Tale, typed: &[(String, String)]) -> Answer {
    let form = form_of(&tale.page.text());
    let action = if form.action.is_empty() { tale.place.clone() } else { form.action };
    let mut pairs = form.filled;
    for (name, value) in typed {
        pairs.retain(|(known, _)| known != name);
        pairs.push((name.clone(), value.clone()));
    }
    post(server, tale, &action, &pairs)
}

/// A form, whatever the open page says.
pub(super) fn post(
    server: &Server,
    tale: &mut Tale,
    action: &str,
    pairs: &[(String, String)],
) -> Answer {
    let kind = ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned());
    // A browser says where a form comes from.
    let origin = ("origin".to_owned(), server.issuer());
    let body = requests::encoded(pairs);
    send(server, tale, (&format!("POST {action}"), vec![kind, origin], body))
}

fn send(
    server: &Server,
    tale: &mut Tale,
    (line, mut fields, body): (&str, Vec<(String, String)>, String),
) -> Answer {
    let cookies = tale.cookies();
    let pairs: Vec<String> =
        cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !pairs.is_empty() {
        fields.push(("cookie".into(), pairs.join("; ")));
    }
    let out = Outgoing {
        name: "localhost".into(),
        port: server.ports.issuer,
        line: line.to_owned(),
        fields,
        body,
        ..Outgoing::default()
    };
    let answer = requests::send(server, &out);
    for cookie in answer.all("set-cookie") {
        let pair = cookie.split(';').next().unwrap_or_default();
        if let Some((name, value)) = pair.split_once('=') {
            tale.cookies().insert(name.to_owned(), value.to_owned());
        }
    }
    tale.cookies().retain(|_, value| !value.is_empty());
    tale.page = answer.clone();
    answer
}

/// Whatever of a login is still asked, until consent or the end of it.
pub(super) fn log_in(server: &Server, tale: &mut Tale, name: &str, until: &str) -> Answer {
    for _ in 0..PAGES_MAX {
        let text = tale.page.text();
        let person = tale.person(server, name);
        if text.contains("name=\"password\"") {
            if until == "password" {
                break;
            }
            let login = ("login".to_owned(), person.login.clone());
            submit(server, tale, &[login, ("password".into(), person.password.clone())]);
        } else if text.contains("name=\"code\"") {
            if until == "second-factor" {
                break;
            }
            let code = person.code();
            submit(server, tale, &[("code".into(), code)]);
        } else {
            break;
        }
    }
    tale.page.clone()
}

/// Reads the first form of a page.
pub(super) fn form_of(page: &str) -> Form {
    let form = page.split_once("<form").map_or("", |(_, rest)| rest);
    let form = form.split_once("</form>").map_or(form, |(form, _)| form);
    let (head, rest) = form.split_once('>').unwrap_or((form, ""));
    let mut filled = Vec::new();
    for input in rest.split("<input").skip(1) {
        let input = input.split('>').next().unwrap_or_default();
        if input.contains("value=\"") && !input.contains("type=\"checkbox\"") {
            filled.push((attribute(input, "name"), attribute(input, "value")));
        }
    }
    Form { action: attribute(head, "action"), filled }
}

fn attribute(tag: &str, name: &str) -> String {
    let after = tag.split_once(&format!("{name}=\"")).map_or("", |(_, rest)| rest);
    let value = after.split('"').next().unwrap_or_default();
    value.replace("&amp;", "&").replace("&#38;", "&").replace("&quot;", "\"").replace("&#34;", "\"")
}
