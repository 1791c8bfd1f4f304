//! The fetcher over real sockets: what it sends, what it takes, and where it does not go.

use portcullis_core::fetch::Body;
use portcullis_core::secret::Secret;

use super::testing::{CHAIN, Reply, Server, chunked, get};
use super::*;
use NamedBy::{Config, Stranger};

fn fetcher(egress: &[&str]) -> Fetcher {
    let egress = egress.iter().map(|net| net.parse().unwrap()).collect();
    Fetcher::new(FetcherSettings { egress, extra_roots: Some(CHAIN.to_vec()) }).unwrap()
}

/// A fetcher whose names are the test's.
fn with_names(names: fn(&str, u16) -> Vec<SocketAddr>, egress: &[&str]) -> Fetcher {
    Fetcher { names: Names::Table(names), ..fetcher(egress) }
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

#[tokio::test]
async fn an_answer_comes_back_whole() {
    let fields = "Content-Type: Application/JSON; charset=utf-8\r\nCache-Control: max-age=600\r\n";
    for server in [
        Server::https(move |_| Reply::answer(200, fields, "{\"a\":1}")).await,
        Server::http(move |_| Reply::answer(200, fields, "{\"a\":1}")).await,
    ] {
        let fetched = fetcher(&[]).fetch(get(&server.url("/x?y=1"), Config)).await.unwrap();
        assert_eq!((fetched.status, &fetched.body[..]), (200, &b"{\"a\":1}"[..]));
        assert_eq!(fetched.content_type.as_deref(), Some("application/json"));
        assert_eq!(fetched.max_age, Some(Duration::from_secs(600)));
        let seen = &server.seen()[0];
        assert_eq!(seen.line, "GET /x?y=1 HTTP/1.1");
        assert_eq!(seen.field("host"), Some(&*format!("localhost:{}", server.address.port())));
        assert_eq!(seen.field("accept"), Some("application/json"));
        assert_eq!(seen.field("accept-encoding"), Some("identity"));
        for absent in ["cookie", "authorization", "referer", "content-type", "forwarded"] {
            assert_eq!(seen.field(absent), None, "{absent}");
        }
    }
}

#[tokio::test]
async fn a_form_is_posted_with_its_credentials() {
    let server = Server::https(|_| Reply::ok("{}")).await;
    let asked = FetchRequest {
        post: Some(Body {
            content_type: "application/x-www-form-urlencoded",
            bytes: Secret::new(b"token=abc".to_vec()),
        }),
        authorization: Some(Secret::new("Basic abc".into())),
        ..get(&server.url("/introspect"), Config)
    };
    assert_eq!(fetcher(&[]).fetch(asked).await.unwrap().status, 200);
    let seen = &server.seen()[0];
    assert_eq!(
        (seen.line.as_str(), seen.body.as_str()),
        ("POST /introspect HTTP/1.1", "token=abc")
    );
    assert_eq!(seen.field("authorization"), Some("Basic abc"));
    assert_eq!(seen.field("content-type"), Some("application/x-www-form-urlencoded"));
}

#[tokio::test]
async fn every_fetch_has_a_connection_of_its_own_and_no_cookie_comes_back() {
    let server = Server::https(|_| Reply::answer(200, "set-cookie: a=b; Path=/\r\n", "{}")).await;
    let fetcher = fetcher(&[]);
    for expected in 1..=3 {
        fetcher.fetch(get(&server.url("/"), Config)).await.unwrap();
        assert_eq!(server.connections(), expected);
    }
    assert!(server.seen().iter().all(|seen| seen.field("cookie").is_none()));
}

#[tokio::test]
async fn a_redirect_is_returned_and_never_followed() {
    let canary = Server::https(|_| Reply::ok("{}")).await;
    for status in [301, 302, 303, 307, 308] {
        for to in [canary.url("/"), "http://169.254.169.254/latest/meta-data/".into(), "/".into()] {
            let fields = format!("location: {to}\r\n");
            let server = Server::https(move |_| Reply::answer(status, &fields, "")).await;
            let fetched = fetcher(&[]).fetch(get(&server.url("/x"), Config)).await.unwrap();
            assert_eq!(fetched.status, status);
            assert_eq!(server.connections(), 1);
        }
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn a_body_may_have_exactly_what_was_asked_for() {
    let cut = |max_bytes, url: &str| FetchRequest { max_bytes, ..get(url, Config) };
    for reply in [Reply::ok("0123456789"), chunked(&["0123", "456789"])] {
        let server = Server::https(move |_| reply.clone()).await;
        let fetcher = fetcher(&[]);
        let whole = fetcher.fetch(cut(10, &server.url("/"))).await.unwrap();
        assert_eq!(whole.body, b"0123456789");
        let longer = fetcher.fetch(cut(9, &server.url("/"))).await;
        let host = format!("localhost:{}", server.address.port());
        assert_eq!(longer.unwrap_err(), FetchFault::TooLarge(host));
    }
}

#[tokio::test]
async fn too_large_by_its_own_word_is_not_read() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
    // Not one byte of it comes: whoever waited for the first would call it slow.
    let server = Server::http(move |_| Reply::Stuck(head.to_vec())).await;
    let fault = fetcher(&[]).fetch(get(&server.url("/"), Config)).await.unwrap_err();
    assert!(matches!(fault, FetchFault::TooLarge(_)), "{fault:?}");
}

#[tokio::test]
async fn a_gigabyte_without_a_length_is_cut_off() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"] {
        let server = Server::http(move |_| Reply::Endless(head.into())).await;
        let fault = fetcher(&[]).fetch(get(&server.url("/"), Config)).await.unwrap_err();
        assert!(matches!(fault, FetchFault::TooLarge(_)), "{fault:?}");
        // What the kernel's buffers took, and no more: the connection was dropped at once.
        let taken = server.written();
        assert!(taken < 16 << 20, "{taken}");
    }
}

#[tokio::test]
async fn a_head_is_bounded() {
    let many = "x-field: 1\r\n".repeat(65);
    let long = format!("x-field: {}\r\n", "a".repeat(20_000));
    for fields in [many, long] {
        let server = Server::https(move |_| Reply::answer(200, &fields, "{}")).await;
        let fault = fetcher(&[]).fetch(get(&server.url("/"), Config)).await.unwrap_err();
        assert!(matches!(fault, FetchFault::TooLarge(_)), "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_unreachable() {
    for bytes in ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"] {
        let server = Server::https(move |_| Reply::Raw(bytes.into())).await;
        let fault = fetcher(&[]).fetch(get(&server.url("/"), Config)).await.unwrap_err();
        assert!(matches!(fault, FetchFault::Unreachable(_)), "{bytes}: {fault:?}");
    }
}

#[tokio::test]
async fn slow_at_any_point_is_slow() {
    let head = || b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1".to_vec();
    let hang = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Server::https(|_| Reply::Silence).await;
    let stuck = Server::http(move |_| Reply::Stuck(head())).await;
    let no_handshake = format!("https://localhost:{}/", hang.local_addr().unwrap().port());
    for url in [silent.url("/"), stuck.url("/"), no_handshake] {
        let asked = FetchRequest { timeout: Duration::from_millis(200), ..get(&url, Config) };
        let fault = fetcher(&[]).fetch(asked).await.unwrap_err();
        assert!(matches!(fault, FetchFault::Slow(_)), "{url}: {fault:?}");
    }
}

#[tokio::test]
async fn an_untrusted_or_misnamed_certificate_is_refused() {
    let server = Server::https(|_| Reply::ok("{}")).await;
    let strict = Fetcher::new(FetcherSettings::default()).unwrap();
    let by_ip = format!("https://127.0.0.1:{}/", server.address.port());
    for (fetcher, url) in [(strict, server.url("/")), (fetcher(&[]), by_ip)] {
        let fault = fetcher.fetch(get(&url, Config)).await.unwrap_err();
        assert!(matches!(fault, FetchFault::Unreachable(_)), "{fault:?}");
    }
    assert!(server.seen().is_empty(), "nothing was said to it");
}

#[tokio::test]
async fn a_stranger_never_reaches_a_private_address() {
    let canary = Server::https(|_| Reply::ok("{}")).await;
    let port = canary.address.port();
    for host in [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "[::]",
    ] {
        let url = format!("https://{host}:{port}/");
        let fault = fetcher(&[]).fetch(get(&url, Stranger)).await.unwrap_err();
        assert!(matches!(fault, FetchFault::AddressForbidden(_)), "{url}: {fault:?}");
    }
    for host in ["0x7f.1", "0177.0.0.1", "2130706433", "127.1", "[0:0:0:0:0:0:0:1]"] {
        let url = format!("https://{host}:{port}/");
        let fault = fetcher(&[]).fetch(get(&url, Stranger)).await.unwrap_err();
        assert!(matches!(fault, FetchFault::AddressUnfit(_)), "{url}: {fault:?}");
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused_on_the_socket() {
    let canary = Server::https(|_| Reply::ok("{}")).await;
    // The name is fit, the port is 443 in the check's eyes only when the socket says so.
    let table: [fn(&str, u16) -> Vec<SocketAddr>; 4] = [
        |_, _| vec![at("127.0.0.1", 443)],
        |_, _| vec![at("169.254.169.254", 443), at("10.0.0.1", 443)],
        |_, _| vec![at("::ffff:127.0.0.1", 443), at("fe80::1", 443)],
        |_, _| vec![at("64:ff9b::a9fe:a9fe", 443)],
    ];
    for names in table {
        let fetcher = with_names(names, &[]);
        let fault = fetcher.fetch(get("https://api.example/", Stranger)).await.unwrap_err();
        assert_eq!(fault, FetchFault::AddressForbidden("api.example".into()));
    }
    let nowhere = with_names(|_, _| Vec::new(), &[]);
    let fault = nowhere.fetch(get("https://api.example/", Stranger)).await.unwrap_err();
    assert_eq!(fault, FetchFault::Unreachable("api.example".into()));
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn a_private_address_beside_a_permitted_one_is_passed_over() {
    let server = Server::https(|_| Reply::ok("{}")).await;
    let fetcher =
        with_names(|_, port| vec![at("10.0.0.1", port), at("127.0.0.1", port)], &["127.0.0.0/8"]);
    let url = format!("https://api.example:{}/", server.address.port());
    assert_eq!(fetcher.fetch(get(&url, Stranger)).await.unwrap().status, 200);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn egress_lets_a_stranger_send_us_to_loopback() {
    let server = Server::https(|_| Reply::ok("{}")).await;
    let opened = fetcher(&["127.0.0.0/8", "::1/128"]);
    assert_eq!(opened.fetch(get(&server.url("/"), Stranger)).await.unwrap().status, 200);
    let in_clear = Server::http(|_| Reply::ok("{}")).await;
    let fault = opened.fetch(get(&in_clear.url("/"), Stranger)).await.unwrap_err();
    assert!(matches!(fault, FetchFault::AddressUnfit(_)), "never in the clear: {fault:?}");
    assert_eq!(in_clear.connections(), 0);
}

#[tokio::test]
async fn in_the_clear_never_leaves_the_machine() {
    let fetcher = with_names(|_, _| vec![at("10.0.0.1", 80), at("8.8.8.8", 80)], &[]);
    let fault = fetcher.fetch(get("http://localhost/", Config)).await.unwrap_err();
    assert_eq!(fault, FetchFault::AddressForbidden("localhost".into()));
}

#[tokio::test]
async fn crowded_when_a_host_is_asked_by_too_many() {
    let server = Server::https(|_| Reply::Silence).await;
    let fetcher = Arc::new(fetcher(&[]));
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..seats::MAX_PER_HOST {
        let (fetcher, url) = (fetcher.clone(), server.url("/"));
        held.spawn(async move { fetcher.fetch(get(&url, Config)).await });
    }
    while server.seen().len() < seats::MAX_PER_HOST {
        tokio::task::yield_now().await;
    }
    let url = server.url("/");
    assert_eq!(fetcher.fetch(get(&url, Config)).await.unwrap_err(), FetchFault::Crowded);
    assert_eq!(server.connections(), seats::MAX_PER_HOST);
    held.shutdown().await;
    server.becomes(|_| Reply::ok("{}"));
    assert_eq!(fetcher.fetch(get(&url, Config)).await.unwrap().status, 200);
}

#[test]
fn extra_roots_must_be_certificates() {
    for bad in
        [&b""[..], b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        let settings = FetcherSettings { extra_roots: Some(bad.to_vec()), ..Default::default() };
        assert!(Fetcher::new(settings).is_err());
    }
}
