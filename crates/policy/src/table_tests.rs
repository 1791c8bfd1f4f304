//! The table against a naive matcher, and the lists of `6-attacks` that concern paths.

use proptest::prelude::*;

use super::*;
use crate::testing::{HOST, api_at, rules, vocabulary};

fn found(rules: &crate::compile::Rules, method: &str, path: &str) -> String {
    match rules.find(HOST, method, path) {
        Found::Operation(id, values) => {
            let key = rules.operation(id).unwrap().key.to_string();
            let values: Vec<String> = values.iter().map(|(k, v)| format!(" {k}={v}")).collect();
            format!("{key}{}", values.concat())
        }
        Found::NotFound => "404".into(),
        Found::MethodNotAllowed(methods) => format!("405 {}", methods.join(",")),
    }
}

#[test]
fn the_more_literal_line_wins_and_the_method_comes_last() {
    let rules = rules(
        r#"
        "GET /rates" = { allow = "anyone" }
        "GET /a/{x}" = { allow = "user" }
        "GET /a/b" = { allow = "user" }
        "ANY /a/**" = { allow = "user" }
        "POST /a/b" = { allow = "user" }
        "GET /{y}/b/d" = { allow = "user" }
        "GET /a/{x}/c" = { allow = "user" }
        "PUT /m" = { allow = "user" }
        "ANY /m" = { allow = "nobody" }
        "DELETE /gone" = { allow = "nobody" }
        "GET /files/" = { allow = "user" }
        "#,
    );
    for (method, path, what) in [
        ("GET", "/v1/rates", "GET /rates"),
        ("HEAD", "/v1/rates", "GET /rates"),
        ("POST", "/v1/rates", "405 GET"),
        ("GET", "/v1/rates/", "404"),
        ("GET", "/v1/Rates", "404"),
        ("GET", "/v1", "404"),
        ("GET", "/v1/", "404"),
        ("GET", "/v10/rates", "404"),
        ("GET", "/rates", "404"),
        ("GET", "/v1/a/b", "GET /a/b"),
        ("GET", "/v1/a/q", "GET /a/{x} x=q"),
        ("POST", "/v1/a/q", "405 GET"),
        ("DELETE", "/v1/a/b", "405 GET,POST"),
        ("HEAD", "/v1/a/b", "GET /a/b"),
        ("GET", "/v1/a", "ANY /a/**"),
        ("GET", "/v1/a/", "ANY /a/**"),
        ("BREW", "/v1/a/q/r", "ANY /a/**"),
        ("ANY", "/v1/a/q/r", "ANY /a/**"),
        ("ANY", "/v1/rates", "405 GET"),
        ("GET", "/v1/a/b/d", "ANY /a/**"),
        ("GET", "/v1/q/b/d", "GET /{y}/b/d y=q"),
        ("GET", "/v1/a/q/c", "GET /a/{x}/c x=q"),
        ("PUT", "/v1/m", "PUT /m"),
        ("GET", "/v1/m", "404"),
        ("DELETE", "/v1/gone", "404"),
        ("GET", "/v1/gone", "404"),
        ("GET", "/v1/files/", "GET /files/"),
        ("GET", "/v1/files", "404"),
        ("GET", "/v1/files/;x", "404"),
    ] {
        assert_eq!(found(&rules, method, path), what, "{method} {path}");
    }
    assert_eq!(rules.find("other.example", "GET", "/v1/rates"), Found::NotFound);
}

#[test]
fn look_alikes_of_a_closed_literal_are_not_found() {
    let rules = rules(
        r#"
        "GET /{page}" = { allow = "anyone" }
        "GET /admin" = { allow = "nobody" }
        "GET /open/**" = { allow = "anyone" }
        "GET /open/admin/keys" = { allow = "role:admin" }
        "#,
    );
    for path in [
        "/Admin",
        "/admin.",
        "/admin;x",
        "/admin%20",
        "/%61dmin",
        "/%2561dmin",
        "/ADMIN",
        "/adm%C4%B1n%EF%BC%8E",
        "/%EF%BD%81dmin",
        "/open/Admin/keys",
        "/open/admin/Keys",
        "/open/admin;/x",
        "/open/admin/keys.",
        "/open/..",
        "/open/x/%2e%2E/y",
        "/open/a%2fb",
    ] {
        assert_eq!(found(&rules, "GET", &format!("/v1{path}")), "404", "{path}");
    }
    assert_eq!(found(&rules, "GET", "/v1/about"), "GET /{page} page=about");
    assert_eq!(found(&rules, "GET", "/v1/open/logo.png"), "GET /open/**");
    assert_eq!(found(&rules, "GET", "/v1/open/admin/other"), "GET /open/**");
}

#[test]
fn the_longest_address_owns_a_path() {
    let open = r#""GET /**" = { allow = "anyone" }"#;
    let closed = r#""GET /listed" = { allow = "user" }"#;
    let mut inner = api_at("https://api.pay.example/api", closed);
    inner.name.value = "inner".into();
    let apis = [api_at("https://api.pay.example", open), inner];
    let rules = crate::compile::compile(&apis, &[], &vocabulary()).unwrap_or_else(|_| panic!());
    for (path, what) in [
        ("/api/listed", "GET /listed"),
        ("/api/unlisted", "404"),
        ("/api", "404"),
        ("/api/", "404"),
        ("/API/unlisted", "404"),
        ("/api;x/unlisted", "404"),
        ("/api%2f", "404"),
        ("/%61pi/listed", "404"),
        ("/apix", "GET /**"),
        ("/", "GET /**"),
    ] {
        assert_eq!(found(&rules, "GET", path), what, "{path}");
    }
}

#[test]
fn a_long_path_is_quickly_not_found() {
    let rules = rules(r#""GET /{a}/**" = { allow = "anyone" }"#);
    assert_eq!(found(&rules, "GET", &format!("/v1{}", "/a".repeat(300))), "404");
    assert_eq!(found(&rules, "GET", &format!("/v1/{}", "a".repeat(1_000_000))), "404");
}

// The naive matcher: all shapes that match, the best by comparing left to right.

fn matches(shape: &Shape, path: &[&str]) -> Option<Vec<u8>> {
    let mut ranks = Vec::new();
    let mut rest = path.iter();
    for segment in &shape.segments {
        match segment {
            Segment::Rest => {
                ranks.push(2);
                return Some(ranks);
            }
            Segment::Literal(literal) => {
                ranks.push(0);
                if *rest.next()? != &**literal {
                    return None;
                }
            }
            Segment::Parameter(_) => {
                ranks.push(1);
                if rest.next()?.is_empty() {
                    return None;
                }
            }
        }
    }
    rest.next().is_none().then_some(ranks)
}

/// The ranks of every prefix of a shape that the path follows up to a literal that it resembles
/// without being it, or any other literal in the same spot.
fn look_alikes(shapes: &[Shape], path: &[&str]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for shape in shapes {
        for (position, segment) in shape.segments.iter().enumerate() {
            let (Segment::Literal(literal), Some(sent)) = (segment, path.get(position)) else {
                continue;
            };
            let prefix = Shape { segments: shape.segments[..position].to_vec() };
            let Some(ranks) = matches(&prefix, &path[..position]) else { continue };
            let same_spot = |other: &&Shape| {
                other.segments.len() > position && {
                    let prefix = Shape { segments: other.segments[..position].to_vec() };
                    prefix.segments.iter().zip(&shape.segments).all(|pair| match pair {
                        (Segment::Literal(a), Segment::Literal(b)) => a == b,
                        (Segment::Parameter(_), Segment::Parameter(_)) => true,
                        _ => false,
                    })
                }
            };
            let is_there = shapes.iter().filter(same_spot).any(
                |other| matches!(&other.segments[position], Segment::Literal(l) if &**l == *sent),
            );
            if !is_there && sent.eq_ignore_ascii_case(literal) {
                found.push(ranks);
            }
        }
    }
    found
}

fn naive(shapes: &[Shape], path: &[&str]) -> Option<usize> {
    let winner = shapes
        .iter()
        .enumerate()
        .filter_map(|(position, shape)| Some((matches(shape, path)?, position)))
        .min()?;
    // A look-alike counts if its spot is looked at before the winner is reached.
    let seen = look_alikes(shapes, path)
        .into_iter()
        .any(|ranks| ranks < winner.0 || winner.0.starts_with(&ranks));
    (!seen).then_some(winner.1)
}

fn shape() -> impl Strategy<Value = Shape> {
    let segment = prop_oneof![
        3 => prop::sample::select(vec!["a", "b", "A", "B"]).prop_map(|l| Segment::Literal(l.into())),
        2 => Just(Segment::Parameter("p".into())),
    ];
    (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut segments, rest)| {
        if rest {
            segments.push(Segment::Rest);
        }
        Shape { segments }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_trie_agrees_with_a_naive_matcher(
        mut shapes in prop::collection::vec(shape(), 1..10),
        path in prop::collection::vec(prop::sample::select(vec!["a", "b", "A", "B", "c", ""]), 0..5),
    ) {
        let mut distinct: Vec<Shape> = Vec::new();
        shapes.drain(..).for_each(|shape| if !distinct.contains(&shape) { distinct.push(shape) });
        let mut trie = Trie::new();
        for (position, shape) in distinct.iter().enumerate() {
            prop_assert_eq!(trie.insert(shape, "GET", OperationId(position as u32)), None);
        }
        let (walk, taken) = trie.walk(&path);
        let id = match walk {
            Walk::Leaf(leaf) => leaf.operation("GET").map(|id| id.0 as usize),
            Walk::LookAlike | Walk::Nothing => None,
        };
        prop_assert_eq!(id, naive(&distinct, &path), "{:?}", distinct);
        if let Some(id) = id {
            prop_assert_eq!(taken.len(), distinct[id].parameters().count());
        }
    }
}
