//! What each verb does: the table from words to deeds.

use std::time::Duration;

use super::super::corpus::story::{How, Part, Step};
use super::super::foreign::Mood;
use super::super::server::Server;
use super::super::wire::Answer;
use super::cast::{self, Request};
use super::requests::{self, Outgoing};
use super::tale::Tale;
use super::{pages, tokens};

/// How long requests are under way before the server is killed.
const AMID: Duration = Duration::from_millis(15);

/// Does what a step says; the answers to it.
pub(super) fn act(server: &mut Server, tale: &mut Tale, step: &Step) -> Vec<Answer> {
    let answers = match step.verb.as_str() {
        "restart" => {
            server.kill();
            server.run();
            tale.nonce = None;
            Vec::new()
        }
        "edit" => vec![edit(server, step)],
        _ => act_on(server, tale, step),
    };
    if step.switch("restart").is_some() {
        // It was killed while they were under way.
        server.kill();
        server.run();
        tale.nonce = None;
    }
    for answer in answers.iter().rev() {
        tale.learn(answer);
    }
    answers
}

fn act_on(server: &Server, tale: &mut Tale, step: &Step) -> Vec<Answer> {
    let word = |at: usize| step.words.get(at).map_or("", String::as_str);
    match step.verb.as_str() {
        "code" => vec![code(server, tale, step)],
        "push" => {
            tale.new_errand();
            to_endpoint(server, tale, step)
        }
        "authorize" => vec![authorize(server, tale, step)],
        "login" => {
            let until = step.switch("until").unwrap_or("consent");
            vec![pages::log_in(server, tale, word(0), until)]
        }
        "consent" => vec![pages::submit(server, tale, &[("decision".into(), word(0).into())])],
        "visit" => vec![pages::visit(server, tale, word(0))],
        "submit" => vec![pages::submit(server, tale, &typed(step))],
        "post" => vec![pages::post(server, tale, word(0), &typed(step))],
        "browser" => {
            tale.browser = word(0).to_owned();
            Vec::new()
        }
        "forge" => {
            let forged = tokens::forged(server, tale, step);
            tale.keep("forged", &forged);
            Vec::new()
        }
        "issuer" => {
            server.foreign.turn(Mood::parse(word(0)).expect("a mood of the other issuer"));
            Vec::new()
        }
        "wait" => {
            let ms = word(0).parse().expect("checked by the reader");
            std::thread::sleep(Duration::from_millis(ms));
            Vec::new()
        }
        "keep" => {
            tale.keep(word(0), word(1));
            Vec::new()
        }
        "admin" => vec![admin(server, step)],
        _ => to_endpoint(server, tale, step),
    }
}

/// An application's way to a code: its request, the login, the consent.
fn code(server: &Server, tale: &mut Tale, step: &Step) -> Answer {
    tale.new_errand();
    let direct = cast::client(&step.words[0]).request == Request::Query;
    if !direct {
        let pushed = once(server, tale, step);
        tale.learn(&pushed);
        if pushed.status != 201 {
            return pushed;
        }
    }
    let plain = Step { verb: step.verb.clone(), words: step.words.clone(), ..Step::default() };
    let target = requests::authorize(tale, if direct { step } else { &plain });
    pages::visit(server, tale, &target);
    let page = pages::log_in(server, tale, &step.words[1], "consent");
    if page.status == 303 {
        page
    } else {
        pages::submit(server, tale, &[("decision".into(), "allow".into())])
    }
}

fn authorize(server: &Server, tale: &mut Tale, step: &Step) -> Answer {
    if cast::client(&step.words[0]).request == Request::Query {
        tale.new_errand();
    }
    let target = requests::authorize(tale, step);
    pages::visit(server, tale, &target)
}

/// What a step types into a form.
fn typed(step: &Step) -> Vec<(String, String)> {
    step.changes(Part::Parameter)
        .filter_map(|change| match &change.how {
            How::Says(text) | How::Again(text) => Some((change.name.clone(), text.clone())),
            How::Missing => None,
        })
        .collect()
}

/// The request of a step as it is now.
fn made(server: &Server, tale: &mut Tale, step: &Step) -> Outgoing {
    match step.verb.as_str() {
        "call" | "userinfo" => requests::call(server, tale, step),
        _ => requests::of_client(server, tale, step),
    }
}

/// A request of a client, or with a token; as often at once as the step says.
fn to_endpoint(server: &Server, tale: &mut Tale, step: &Step) -> Vec<Answer> {
    if step.at_once == 1 {
        return vec![once(server, tale, step)];
    }
    let first = made(server, tale, step);
    if tale.nonce.is_none() && first.fields.iter().any(|(name, _)| name == "dpop") {
        // Whoever asks at once has the server's nonce already.
        let answer = requests::send(server, &first);
        tale.learn(&answer);
    }
    let alike = step.switch("copies") == Some("alike");
    let first = made(server, tale, step);
    let outs: Vec<Outgoing> = (0..step.at_once)
        .map(|_| if alike { first.clone() } else { made(server, tale, step) })
        .collect();
    let amid = || {
        if step.switch("restart").is_some() {
            std::thread::sleep(AMID);
            server.signal("KILL");
        }
    };
    requests::send_at_once(server, &outs, &amid)
}

fn once(server: &Server, tale: &mut Tale, step: &Step) -> Answer {
    let out = made(server, tale, step);
    let answer = requests::send(server, &out);
    let named = step.changes(Part::Proof).any(|change| change.name == "nonce");
    if !wants_nonce(&answer) || named || step.switch("proof") == Some("again") {
        return answer;
    }
    // RFC 9449 §8: the same request with the nonce that was just handed out.
    tale.learn(&answer);
    requests::send(server, &made(server, tale, step))
}

/// RFC 9449 §8 and §9: in the error at our own endpoints, in the challenge at an API.
fn wants_nonce(answer: &Answer) -> bool {
    let challenged = answer.all("www-authenticate").iter().any(|c| c.contains("use_dpop_nonce"));
    answer.json()["error"] == "use_dpop_nonce" || challenged
}

fn admin(server: &Server, step: &Step) -> Answer {
    let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
    spoken(&server.cli(&words))
}

/// One text of the config replaced by another, and in force before the step is over.
fn edit(server: &Server, step: &Step) -> Answer {
    let config = std::fs::read_to_string(server.config_path()).expect("a config");
    let (old, new) = (step.words[0].as_str(), step.words[1].as_str());
    assert!(config.contains(old), "the config does not say `{old}`");
    std::fs::write(server.config_path(), config.replace(old, new)).expect("written");
    spoken(&server.cli(&["reload", "--wait"]))
}

/// A command's end as an answer: its exit code, what it printed.
fn spoken(output: &std::process::Output) -> Answer {
    let code = output.status.code().and_then(|code| u16::try_from(code).ok());
    let said = if output.status.success() { &output.stdout } else { &output.stderr };
    Answer { status: code.unwrap_or(u16::MAX), fields: Vec::new(), body: said.clone() }
}
