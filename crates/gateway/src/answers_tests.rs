//! Tests of the answers' filter: what goes out, what does not, and what cannot be filtered.

use std::cell::Cell;
use std::convert::Infallible;

use http_body::Frame;
use http_body_util::Full;
use portcullis_policy::compile::FieldGroup;

use super::*;

fn rule(groups: &[(Option<&str>, &[&str])]) -> ResponseRule {
    let group = |(to, members): &(Option<&str>, &[&str])| FieldGroup {
        to: to.map(Into::into),
        members: members.iter().map(|member| (*member).into()).collect(),
    };
    ResponseRule { groups: groups.iter().map(group).collect() }
}

const SECOND: Duration = Duration::from_secs(1);

fn filter(members: &[&str]) -> Filter {
    Filter::of(&rule(&[(None, members)]), &[0], (&Method::GET, SECOND))
}

fn kept(members: &[&str], json: &str) -> Option<String> {
    keep(&filter(members).members, json.as_bytes()).map(|out| String::from_utf8(out).unwrap())
}

/// Runs the filter: status and body, and whether the upstream's was read to its end.
fn run(filter: &Filter, response: Response<Full<Bytes>>) -> (Result<(u16, String), String>, bool) {
    let (answer, read) = filtered(filter, response);
    let words = |answer: Response<Bytes>| {
        let text = String::from_utf8(answer.body().to_vec()).unwrap();
        (answer.status().as_u16(), text)
    };
    (answer.map(words).map_err(|refusal| refusal.reason()), read)
}

fn filtered<B>(filter: &Filter, response: Response<B>) -> (Result<Response<Bytes>, Refusal>, bool)
where
    B: Body<Data = Bytes> + Unpin,
{
    let (room, read) = (Room::default(), Cell::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let answer = runtime.block_on(filter.filtered(&room, response, || read.set(true)));
    assert_eq!(room.left().get(), crate::body::MAX_BUFFERED, "room is given back");
    (answer, read.get())
}

fn response(status: u16, kind: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", kind);
    response.body(Full::new(body.into())).unwrap()
}

#[test]
fn only_named_members_go_out_byte_for_byte() {
    let table: &[(&[&str], &str, &str)] = &[
        (&["id"], r#"{"id":1,"secret":2}"#, r#"{"id":1}"#),
        (&["id"], r#"{"secret":{"id":1}}"#, "{}"),
        (
            &["id", "n"],
            r#"{"secret":[1,{}],"n":1.50e+2,"id":"\u0061\/"}"#,
            r#"{"n":1.50e+2,"id":"\u0061\/"}"#,
        ),
        (
            &["big"],
            r#"{"big":123456789012345678901234567890.000}"#,
            r#"{"big":123456789012345678901234567890.000}"#,
        ),
        (&["id"], r#" [ {"id":1,"x":2} , {"x":2} , {"id":3} ] "#, r#"[{"id":1},{},{"id":3}]"#),
        (&["a.b"], r#"{"a":{"b":{"deep":[1]},"c":1},"b":1}"#, r#"{"a":{"b":{"deep":[1]}}}"#),
        (&["a.b"], r#"{"a":[[{"b":1,"c":2}],{"c":1}]}"#, r#"{"a":[[{"b":1}],{}]}"#),
        (&["a", "a.b"], r#"{"a":{"c":1}}"#, r#"{"a":{"c":1}}"#),
        (&["a.b", "a"], r#"{"a":{"c":1}}"#, r#"{"a":{"c":1}}"#),
        // A value where members were named is none of them.
        (&["a.b", "z"], r#"{"a":"secret","z":1}"#, r#"{"z":1}"#),
        (&["a.b", "z"], r#"{"z":1,"a":17}"#, r#"{"z":1}"#),
        (&["a.b"], r#"{"a":["secret",true,1.5,null,{"b":1}]}"#, r#"{"a":[null,{"b":1}]}"#),
        (&["a.b"], r#"{"a":null}"#, r#"{"a":null}"#),
        // A name is compared as it reads, not as it is spelled; case and width are not folded.
        (&["id"], r#"{"\u0069d":1}"#, r#"{"id":1}"#),
        (&["id"], r#"{"ID":1,"Id":1,"id ":1,"id\u0000":1,"ｉd":1,"":1}"#, "{}"),
        (&[], r#"{"id":1}"#, "{}"),
        (&["id"], "null", "null"),
        (&["id"], "[]", "[]"),
    ];
    for (members, json, expected) in table {
        assert_eq!(kept(members, json).as_deref(), Some(*expected), "{members:?} {json}");
    }
}

#[test]
fn what_cannot_be_read_in_one_way_does_not_go_out() {
    for json in [
        "",
        "{",
        r#"{"id":1}x"#,
        r#"{"id":1}{"id":2}"#,
        r#"{"id":1,}"#,
        r#"{'id':1}"#,
        "\u{feff}{}",
        r#"{"id":1,"id":2}"#,
        r#"{"id":1,"\u0069d":2}"#,
        r#"[{"id":{}},{"id":1,"x":2,"id":1}]"#,
        r#"{"id":NaN}"#,
        r#"{"id":01}"#,
        r#""secret""#,
        "17",
        "true",
    ] {
        assert_eq!(kept(&["id"], json), None, "{json}");
    }
    assert_eq!(keep(&filter(&["id"]).members, b"{\"id\":\"\xff\"}"), None);
    assert_eq!(keep(&filter(&["id"]).members, b"{\"id\xff\":1}"), None);
}

#[test]
fn deep_answers_are_walked_within_bounds() {
    // What is left out, or goes out whole, may nest as it likes; what is walked may not.
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let whole = format!(r#"{{"x":{deep},"id":{deep}}}"#);
    assert_eq!(kept(&["id"], &whole).map(|out| out.len()), Some(deep.len() + 7));
    assert_eq!(kept(&["id"], &deep), None);
}

#[test]
fn groups_add_members_for_those_who_see_them() {
    let rule =
        rule(&[(None, &["id"]), (Some("role:admin"), &["email"]), (Some("group:x"), &["iban"])]);
    for (shown, expected) in [
        (&[0_usize][..], r#"{"id":1}"#),
        (&[0, 1], r#"{"id":1,"email":2}"#),
        (&[0, 1, 2], r#"{"id":1,"email":2,"iban":3}"#),
        (&[2], r#"{"iban":3}"#),
        (&[], "{}"),
        (&[9], "{}"),
    ] {
        let filter = Filter::of(&rule, shown, (&Method::GET, SECOND));
        let out = keep(&filter.members, br#"{"id":1,"email":2,"iban":3,"hash":4}"#).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{shown:?}");
    }
}

#[test]
fn response_unfiltered() {
    let json = r#"{"id":1,"secret":2}"#;
    let unfiltered =
        |response| (run(&filter(&["id"]), response).0, "ResponseUnfiltered".to_owned());
    for (kind, body) in [
        ("text/html", "<p>secret"),
        ("application/jsonx", json),
        ("application/json; charset=utf-16", json),
        ("application/json, text/html", json),
        ("application/json", "not json"),
        ("application/x-ndjson", json),
    ] {
        let (came, reason) = unfiltered(response(200, kind, body));
        assert_eq!(came, Err(reason), "{kind}");
    }
    let mut coded = response(200, "application/json", json);
    coded.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
    let mut untyped = response(200, "application/json", json);
    untyped.headers_mut().remove("content-type");
    let mut twice = response(200, "application/json", json);
    twice.headers_mut().append("content-type", HeaderValue::from_static("application/json"));
    let part = response(206, "application/json", json);
    for odd in [coded, untyped, twice, part] {
        let (came, reason) = unfiltered(odd);
        assert_eq!(came, Err(reason));
    }
    let largest = format!(r#"{{"id":"{}"}}"#, "a".repeat(MAX_ANSWER as usize - 9));
    let (came, read) = run(&filter(&["id"]), response(200, "application/json", largest.clone()));
    assert_eq!((came, read), (Ok((200, largest.clone())), true));
    let (came, reason) = unfiltered(response(200, "application/json", format!("{largest} ")));
    assert_eq!(came, Err(reason));
}

#[test]
fn what_breaks_off_or_grows_without_a_length_is_not_filtered() {
    let frames = |frames: Vec<Result<Frame<Bytes>, std::io::Error>>| {
        let body = Frames(frames.into_iter());
        let response = Response::builder().header("content-type", "application/json");
        let (answer, read) = filtered(&filter(&["id"]), response.body(body).unwrap());
        (answer.map(|answer| answer.body().clone()).map_err(|refusal| refusal.reason()), read)
    };
    let data = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
    let whole = frames(vec![data("{\"id\""), data(":1}"), Ok(Frame::trailers(HeaderMap::new()))]);
    assert_eq!(whole, (Ok(Bytes::from_static(b"{\"id\":1}")), true));
    let unfiltered = (Err("ResponseUnfiltered".to_owned()), false);
    assert_eq!(frames(vec![data("{\"id\":1}"), Err(std::io::Error::other("gone"))]), unfiltered);
    let block = || Ok(Frame::data(Bytes::from(vec![b' '; 300_000])));
    assert_eq!(frames(vec![block(), block(), block(), block()]), unfiltered);
}

/// Frames that are all here, of an unknown length.
struct Frames(std::vec::IntoIter<Result<Frame<Bytes>, std::io::Error>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(self.0.next())
    }
}

#[test]
fn upstream_slow() {
    struct Never;
    impl Body for Never {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::Poll::Pending
        }
    }
    let patience = Duration::from_millis(5);
    let filter = Filter::of(&rule(&[(None, &["id"])]), &[0], (&Method::GET, patience));
    let response = Response::builder().header("content-type", "application/json").body(Never);
    let (answer, read) = filtered(&filter, response.unwrap());
    assert!(matches!(answer, Err(Refusal::UpstreamSlow)) && !read);
}

#[test]
fn errors_keep_their_status_and_say_what_problem_details_say() {
    let problem = r#"{"type":"about:blank","title":"t","status":404,"detail":"d","instance":"i","trace":"secret","id":1}"#;
    let out =
        r#"{"type":"about:blank","title":"t","status":404,"detail":"d","instance":"i","id":1}"#;
    let came = run(&filter(&["id"]), response(404, "application/problem+json", problem)).0;
    assert_eq!(came, Ok((404, out.to_owned())));
    // Of a success they are members like others.
    let came = run(&filter(&["id"]), response(200, "application/json", problem)).0;
    assert_eq!(came, Ok((200, r#"{"id":1}"#.to_owned())));
    for (status, kind, body) in [
        (500, "text/html", "<pre>secret at line 7"),
        (500, "application/json", "{\"trace\":"),
        (500, "application/json", "\"secret\""),
        (302, "text/html", "<a href=secret>"),
    ] {
        let (answer, _) = filtered(&filter(&["id"]), response(status, kind, body));
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().len()), (status, 0), "{body}");
        assert!(!answer.headers().contains_key("content-type"));
    }
}

#[test]
fn answers_without_content_pass() {
    for (method, status, body) in [
        (Method::HEAD, 200, ""),
        (Method::GET, 204, ""),
        (Method::GET, 304, ""),
        (Method::GET, 200, ""),
    ] {
        let filter = Filter::of(&rule(&[(None, &["id"])]), &[0], (&method, SECOND));
        let (came, read) = run(&filter, response(status, "text/html", body));
        assert_eq!((came, read), (Ok((status, String::new())), true), "{method} {status}");
    }
    // Bytes where there can be none are not given on.
    let filter = Filter::of(&rule(&[(None, &["id"])]), &[0], (&Method::HEAD, SECOND));
    let (came, read) = run(&filter, response(200, "application/json", "{\"secret\":1}"));
    assert_eq!((came, read), (Ok((200, String::new())), false));
}

#[test]
fn fields_that_speak_of_other_bytes_are_removed() {
    let mut response = response(200, "application/json", r#"{"id":1,"secret":2}"#);
    for name in OF_OTHER_BYTES.into_iter().chain(["cache-control", "x-kept"]) {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static("public"));
    }
    let alike = filtered(&filter(&["id"]), response.clone()).0.unwrap();
    let mut names: Vec<&str> = alike.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-type", "x-kept"]);
    assert_eq!(alike.headers()["cache-control"], "public");
    // What one caller may see, no cache may show to another.
    let rule = rule(&[(None, &["id"]), (Some("role:admin"), &["secret"])]);
    let apart = Filter::of(&rule, &[0, 1], (&Method::GET, SECOND));
    let apart = filtered(&apart, response).0.unwrap();
    assert_eq!(apart.headers()["cache-control"], "private, no-store");
}

#[test]
fn the_upstream_is_asked_for_what_can_be_read() {
    let mut fields = HeaderMap::new();
    for name in ["accept-encoding", "range", "if-range"] {
        fields.append(HeaderName::from_static(name), HeaderValue::from_static("gzip"));
    }
    fields.append(header::ACCEPT_ENCODING, HeaderValue::from_static("br"));
    Filter::prepare(&mut fields);
    assert_eq!((fields.len(), fields["accept-encoding"].as_bytes()), (1, b"identity".as_slice()));
}
