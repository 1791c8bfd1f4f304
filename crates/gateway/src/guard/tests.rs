//! The framing list of `6-attacks`, byte by byte, and that no cut of the stream changes a verdict.

use super::*;
use WireFault::*;

/// A well-formed head with one more line.
fn with(line: &str) -> Vec<u8> {
    format!("GET /a HTTP/1.1\r\nHost: api.example\r\n{line}\r\n\r\n").into_bytes()
}

fn line(request_line: &str) -> Vec<u8> {
    format!("{request_line}\r\nHost: api.example\r\n\r\n").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
        .into_bytes()
}

/// What a whole stream comes to: how much passed, how many heads, and the fault.
#[derive(Debug, PartialEq, Clone, Copy)]
struct Outcome {
    passed: usize,
    heads: u64,
    verdict: Verdict,
}

fn whole(stream: &[u8]) -> Outcome {
    let mut guard = Guard::default();
    let judged = guard.judge(stream);
    Outcome { passed: judged.passed, heads: guard.heads(), verdict: judged.verdict }
}

/// The same, fed in pieces; what did not pass stands in front of the next piece.
fn cut(stream: &[u8], mut pieces: impl FnMut() -> usize) -> Outcome {
    let mut guard = Guard::default();
    let (mut passed, mut shown) = (0, 0);
    let mut verdict = Verdict::Passed;
    while shown < stream.len() {
        shown = (shown + pieces().max(1)).min(stream.len());
        let judged = guard.judge(&stream[passed..shown]);
        passed += judged.passed;
        verdict = judged.verdict;
        if matches!(verdict, Verdict::HeadRefused(_) | Verdict::BodyRefused(_)) {
            break;
        }
    }
    Outcome { passed, heads: guard.heads(), verdict }
}

fn head_fault(stream: &[u8]) -> Option<WireFault> {
    match whole(stream).verdict {
        Verdict::HeadRefused(fault) => Some(fault),
        Verdict::Passed | Verdict::Held | Verdict::BodyRefused(_) => None,
    }
}

fn body_fault(stream: &[u8]) -> Option<WireFault> {
    match whole(stream).verdict {
        Verdict::BodyRefused(fault) => Some(fault),
        Verdict::Passed | Verdict::Held | Verdict::HeadRefused(_) => None,
    }
}

#[test]
fn well_formed_streams_pass() {
    let streams: Vec<(Vec<u8>, u64)> = vec![
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 1),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 1),
        (b"GET / HTTP/1.0\r\nHost:a\r\n\r\n".to_vec(), 1),
        (b"GET / HTTP/1.1\r\nhost: \t a:8443 \t\r\n\r\n".to_vec(), 1),
        (b"GET /?a=[1]{}|^\\ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 1),
        (b"GET https://a/b HTTP/1.1\r\nHost: A\r\n\r\n".to_vec(), 1),
        (b"GET HTTP://a:80/b?c HTTP/1.1\r\nHost: a:80\r\n\r\n".to_vec(), 1),
        (with("X-Empty:"), 1),
        (with("X-Tab: a\tb"), 1),
        (with("X-High: \u{e9}"), 1),
        (with("Expect: 100-Continue\r\nContent-Length: 0"), 1),
        (with("Content-Length: 5").into_iter().chain(*b"hello").collect(), 1),
        (with("Content-Length: 5").into_iter().chain(*b"hello").chain(with("A: b")).collect(), 2),
        (chunked("0\r\n\r\n"), 1),
        (chunked("5\r\nhello\r\n0\r\n\r\n").into_iter().chain(with("A: b")).collect(), 2),
        (chunked("5;a=\"b;c\"\r\nhello\r\n00\r\nX-Sum: 1\r\n\r\n"), 1),
        (chunked("00A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), 1),
        (with("transfer-encoding:  Chunked\t").into_iter().chain(*b"0\r\n\r\n").collect(), 1),
        (with("A: b").repeat(50), 50),
    ];
    for (stream, heads) in streams {
        let expected = Outcome { passed: stream.len(), heads, verdict: Verdict::Passed };
        assert_eq!(whole(&stream), expected, "{}", stream.escape_ascii());
    }
}

#[test]
fn unfinished_streams_are_held() {
    for (stream, passed) in [
        (&b"\r"[..], 0),
        (b"GE", 0),
        (b"GET / HTTP/1.1", 0),
        (b"GET / HTTP/1.1\r", 0),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r", 0),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", 27),
    ] {
        let outcome = whole(stream);
        assert_eq!(
            (outcome.passed, outcome.verdict),
            (passed, Verdict::Held),
            "{}",
            stream.escape_ascii()
        );
    }
    let start = chunked("").len();
    for (body, passed) in
        [("5", 0), ("5\r", 0), ("5;ext", 0), ("5\r\nhello\r", 8), ("0\r\nA: b\r\n", 3)]
    {
        let outcome = whole(&chunked(body));
        assert_eq!((outcome.passed, outcome.verdict), (start + passed, Verdict::Held), "{body:?}");
    }
}

#[test]
fn request_lines_refused() {
    let cases: &[(&str, WireFault)] = &[
        ("get / HTTP/1.1", MethodLowerCase),
        ("Get / HTTP/1.1", MethodLowerCase),
        ("CONNECT api.example:443 HTTP/1.1", MethodNotServed),
        ("TRACE / HTTP/1.1", MethodNotServed),
        ("PROPFIND / HTTP/1.1", MethodNotServed),
        ("AAAAAAAAAAAAAAAAAAAA / HTTP/1.1", MethodNotServed),
        ("PRI * HTTP/2.0", MethodNotServed),
        (" GET / HTTP/1.1", RequestLineMalformed),
        ("\tGET / HTTP/1.1", RequestLineMalformed),
        ("GET\t/ HTTP/1.1", RequestLineMalformed),
        ("GE-T / HTTP/1.1", RequestLineMalformed),
        ("GET  / HTTP/1.1", RequestLineMalformed),
        ("GET /  HTTP/1.1", RequestLineMalformed),
        ("GET / HTTP/1.1 ", RequestLineMalformed),
        ("GET / HTTP/1.1x", RequestLineMalformed),
        ("GET / http/1.1", RequestLineMalformed),
        ("GET / HTTP/11", RequestLineMalformed),
        ("GET / HTTP/1,1", RequestLineMalformed),
        ("GET / HTTPS/1.1", RequestLineMalformed),
        ("GET / HTTP/a.b", RequestLineMalformed),
        ("GET /a b HTTP/1.1", RequestLineMalformed),
        ("GET /", TargetByte),
        ("GET /\t HTTP/1.1", TargetByte),
        ("GET / HTTP/2.0", VersionNotServed),
        ("GET / HTTP/0.9", VersionNotServed),
        ("GET / HTTP/1.2", VersionNotServed),
        ("GET / HTTP/3.1", VersionNotServed),
    ];
    for (text, fault) in cases {
        assert_eq!(head_fault(&line(text)), Some(*fault), "{text:?}");
    }
}

#[test]
fn targets_and_stray_bytes_refused() {
    let long = format!("GET /{} HTTP/1.1", "a".repeat(8192));
    let cases: &[(&str, WireFault)] = &[
        ("GET * HTTP/1.1", TargetForm),
        ("OPTIONS * HTTP/1.1", TargetForm),
        ("GET api.example/a HTTP/1.1", TargetForm),
        ("GET api.example:443 HTTP/1.1", TargetForm),
        ("GET ?a HTTP/1.1", TargetForm),
        ("GET ../a HTTP/1.1", TargetForm),
        ("GET ftp://api.example/ HTTP/1.1", TargetForm),
        ("GET http:/api.example/ HTTP/1.1", TargetForm),
        ("GET https:api.example HTTP/1.1", TargetForm),
        ("GET \\admin HTTP/1.1", TargetForm),
        ("GET https://api.example HTTP/1.1", TargetPathEmpty),
        ("GET https://api.example?a HTTP/1.1", TargetPathEmpty),
        ("GET https:// HTTP/1.1", HostMalformed),
        ("GET https:///a HTTP/1.1", HostMalformed),
        ("GET https://u@api.example/ HTTP/1.1", HostMalformed),
        ("GET https://api.example:/ HTTP/1.1", HostMalformed),
        ("GET https://api.example:0443/ HTTP/1.1", HostMalformed),
        ("GET https://other.example/ HTTP/1.1", HostDiffers),
        ("GET https://api.example:443/ HTTP/1.1", HostDiffers),
        ("GET /a#b HTTP/1.1", TargetFragment),
        ("GET /#", TargetFragment),
        ("GET https://api.example/#a HTTP/1.1", TargetFragment),
        ("GET /a?b#c HTTP/1.1", TargetFragment),
        ("GET /<a> HTTP/1.1", TargetByte),
        ("GET /\"a\" HTTP/1.1", TargetByte),
        ("GET /?`a HTTP/1.1", TargetByte),
        ("GET /é HTTP/1.1", TargetByte),
        ("GET /\u{7f} HTTP/1.1", TargetByte),
        ("GET /\0 HTTP/1.1", NulByte),
        ("\0GET / HTTP/1.1", NulByte),
        ("GET / HTTP/1.1\0", NulByte),
        ("\u{16}\u{3}\u{1}\u{2}", RequestLineMalformed),
        ("GET / HTTP/1.1\n", BareLf),
        ("GET /\n", BareLf),
        ("GET\n", BareLf),
        ("GET / HTTP\n", BareLf),
        ("GET / HTTP/1.1\rX", BareCr),
        ("\r\n\r\nGET / HTTP/1.1", RequestLineMalformed),
        ("\nGET / HTTP/1.1", BareLf),
        (&long, TargetTooLong),
    ];
    for (text, fault) in cases {
        assert_eq!(head_fault(&line(text)), Some(*fault), "{text:?}");
    }
}

#[test]
fn fields_refused() {
    let many = vec!["A: b"; 100].join("\r\n");
    let big = format!("A: {}", "a".repeat(MAX_HEAD_BYTES));
    let lines = vec![format!("A: {}", "a".repeat(1000)); 40].join("\r\n");
    let cases: &[(&str, WireFault)] = &[
        ("A: b\nC: d", BareLf),
        ("A: b\n", BareLf),
        ("A\n: b", BareLf),
        ("\nA: b", BareLf),
        ("A: b\rC: d", BareCr),
        ("A: b\r\rC: d", BareCr),
        ("\rA: b", BareCr),
        ("A: b\0c", NulByte),
        ("A\0: b", NulByte),
        ("A: b\u{1}", ControlByte),
        ("A: b\u{b}", ControlByte),
        ("A: b\u{7f}", ControlByte),
        ("A: b\u{1b}[2J", ControlByte),
        ("A: b\r\n c", FoldedLine),
        ("A: b\r\n\tc", FoldedLine),
        (" A: b", FoldedLine),
        ("Transfer-Encoding:\r\n chunked", CodingNotServed),
        ("A : b", FieldNameSpace),
        ("Content-Length : 5", FieldNameSpace),
        ("A\t: b", FieldNameSpace),
        (": b", FieldNameMalformed),
        ("A", FieldNameMalformed),
        ("A(b): c", FieldNameMalformed),
        ("A\"b: c", FieldNameMalformed),
        ("é: c", FieldNameMalformed),
        ("A@b: c", FieldNameMalformed),
        ("Content-Length\u{b}: 5", FieldNameMalformed),
        (&many, FieldsTooMany),
        (&big, HeadTooLarge),
        (&lines, HeadTooLarge),
        ("Host: api.example", HostTwice),
        ("HOST: other.example", HostTwice),
        ("Transfer_Encoding: chunked", FramingUnderscore),
        ("Content_Length: 5", FramingUnderscore),
        ("transfer-Encoding_: chunked\r\nCONTENT_LENGTH: 5", FramingUnderscore),
        ("Expect: 200-ok", ExpectNotServed),
        ("Expect: 100-continue, x", ExpectNotServed),
        ("Expect:", ExpectNotServed),
        ("Expect: 100-continue\r\nExpect: 100-continue", ExpectNotServed),
        ("Upgrade: websocket\r\nConnection: upgrade", UpgradeNotServed),
        ("Upgrade: h2c", UpgradeNotServed),
        ("upgrade:", UpgradeNotServed),
    ];
    for (text, fault) in cases {
        assert_eq!(head_fault(&with(text)), Some(*fault), "{:?}", text.get(..80).unwrap_or(text));
    }
}

#[test]
fn framing_refused() {
    let cases: &[(&str, WireFault)] = &[
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", LengthWithCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", LengthWithCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", LengthWithCoding),
        ("Content-Length: 5\r\nContent-Length: 5", LengthTwice),
        ("Content-Length: 5\r\ncontent-length: 6", LengthTwice),
        ("Content-Length: 1,1", LengthMalformed),
        ("Content-Length: 1, 1", LengthMalformed),
        ("Content-Length: +1", LengthMalformed),
        ("Content-Length: -1", LengthMalformed),
        ("Content-Length: 0x1", LengthMalformed),
        ("Content-Length: 1e3", LengthMalformed),
        ("Content-Length: 1.0", LengthMalformed),
        ("Content-Length: 01", LengthMalformed),
        ("Content-Length: 00", LengthMalformed),
        ("Content-Length: 1 1", LengthMalformed),
        ("Content-Length:", LengthMalformed),
        ("Content-Length: \"1\"", LengthMalformed),
        ("Content-Length: 1;", LengthMalformed),
        ("Content-Length: \u{661}", LengthMalformed),
        ("Content-Length: 18446744073709551616", LengthMalformed),
        ("Content-Length: 9999999999999999999", LengthMalformed),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CodingTwice),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", CodingTwice),
        ("Transfer-Encoding: gzip, chunked", CodingNotServed),
        ("Transfer-Encoding: chunked, chunked", CodingNotServed),
        ("Transfer-Encoding: chunked, identity", CodingNotServed),
        ("Transfer-Encoding: identity", CodingNotServed),
        ("Transfer-Encoding: xchunked", CodingNotServed),
        ("Transfer-Encoding: chunked;q=1", CodingNotServed),
        ("Transfer-Encoding: \"chunked\"", CodingNotServed),
        ("Transfer-Encoding: chunk", CodingNotServed),
        ("Transfer-Encoding: ,chunked", CodingNotServed),
        ("Transfer-Encoding:", CodingNotServed),
        ("Transfer-Encoding: \u{b}chunked", ControlByte),
        ("Transfer-Encoding\u{a0}: chunked", FieldNameMalformed),
    ];
    for (text, fault) in cases {
        assert_eq!(head_fault(&with(text)), Some(*fault), "{text:?}");
    }
}

#[test]
fn hosts_refused() {
    let cases: &[(&str, WireFault)] = &[
        ("GET / HTTP/1.1\r\n\r\n", HostMissing),
        ("GET / HTTP/1.0\r\n\r\n", HostMissing),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: \t\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HostTwice),
        ("GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", CodingInOldVersion),
        (
            "GET / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            CodingInOldVersion,
        ),
    ];
    for (text, fault) in cases {
        assert_eq!(head_fault(text.as_bytes()), Some(*fault), "{text:?}");
    }
}

#[test]
fn chunks_refused() {
    let extension = format!("1;{}\r\n", "a".repeat(256));
    let endless = format!("1;{}", "a".repeat(400));
    let cases: &[(&str, WireFault)] = &[
        ("0x1\r\na\r\n", ChunkSizeMalformed),
        ("+1\r\na\r\n", ChunkSizeMalformed),
        ("-1\r\na\r\n", ChunkSizeMalformed),
        (" 1\r\na\r\n", ChunkSizeMalformed),
        ("1 \r\na\r\n", ChunkSizeMalformed),
        ("1 ;a\r\na\r\n", ChunkSizeMalformed),
        ("\r\n", ChunkSizeMalformed),
        (";a\r\n", ChunkSizeMalformed),
        ("g\r\n", ChunkSizeMalformed),
        ("1_0\r\n", ChunkSizeMalformed),
        ("1,0\r\n", ChunkSizeMalformed),
        ("ffffffffffffffff\r\n", ChunkSizeMalformed),
        ("00000000000000001\r\n", ChunkSizeMalformed),
        ("1\na\r\n", BareLf),
        ("1\rxa\r\n", BareCr),
        ("1;a\nb\r\na\r\n", BareLf),
        ("1;a\rb\r\na\r\n", BareCr),
        ("1;\0\r\na\r\n", NulByte),
        ("\0", NulByte),
        ("1;\u{1}\r\na\r\n", ControlByte),
        (&extension, ChunkExtensionTooLong),
        (&endless, ChunkExtensionTooLong),
        ("1\r\nab\r\n", ChunkEndMissing),
        ("1\r\na\n0\r\n\r\n", ChunkEndMissing),
        ("1\r\na\rb", ChunkEndMissing),
        ("1\r\na0\r\n\r\n", ChunkEndMissing),
        ("0\r\nHost: a\r\n\r\n", TrailerForbidden),
        ("0\r\nContent-Length: 1\r\n\r\n", TrailerForbidden),
        ("0\r\nTransfer-Encoding: chunked\r\n\r\n", TrailerForbidden),
        ("0\r\nauthorization: Bearer x\r\n\r\n", TrailerForbidden),
        ("0\r\nX-Sum: 1\r\nX_User_Id: 1\r\n\r\n", TrailerForbidden),
        ("0\r\nPortcullis-Identity: x\r\n\r\n", TrailerForbidden),
        ("0\r\n a: b\r\n\r\n", FoldedLine),
        ("0\r\na : b\r\n\r\n", FieldNameSpace),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", FieldNameSpace),
        ("0\r\na: b\n\r\n", BareLf),
        ("0\r\n\n", BareLf),
        ("0\r\n\rx", BareCr),
        ("0\r\na\r\n\r\n", FieldNameMalformed),
    ];
    for (text, fault) in cases {
        assert_eq!(body_fault(&chunked(text)), Some(*fault), "{text:?}");
    }
}

#[test]
fn trailers_too_large() {
    let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(33));
    let long = format!("0\r\na: {}", "b".repeat(8 * 1024));
    for text in [many, long] {
        assert_eq!(body_fault(&chunked(&text)), Some(TrailersTooLarge));
    }
}

#[test]
fn an_extension_of_256_bytes_passes() {
    let text = format!("1;{}\r\na\r\n0\r\n\r\n", "a".repeat(255));
    assert_eq!(whole(&chunked(&text)).verdict, Verdict::Passed);
}

#[test]
fn the_largest_head_passes() {
    let head = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nA: ";
        format!("{start}{}\r\n\r\n", "a".repeat(length - start.len() - 4)).into_bytes()
    };
    assert_eq!(whole(&head(MAX_HEAD_BYTES)).verdict, Verdict::Passed);
    assert_eq!(head_fault(&head(MAX_HEAD_BYTES + 1)), Some(HeadTooLarge));
}

#[test]
fn an_endless_line_is_refused_without_its_end() {
    for start in
        ["G", "GET /", "GET / HTTP/1.1\r\nHost: a\r\nA", "GET / HTTP/1.1\r\nHost: a\r\nA: "]
    {
        let mut stream = start.as_bytes().to_vec();
        stream.resize(MAX_HEAD_BYTES, b'A');
        assert!(head_fault(&stream).is_some(), "{start}");
    }
}

#[test]
fn the_fault_is_told_of_the_head_that_holds_it() {
    let mut stream = with("A: b");
    let first = stream.len();
    stream.extend(line("get / HTTP/1.1"));
    let outcome = whole(&stream);
    assert_eq!(outcome.passed, first);
    assert_eq!((outcome.heads, outcome.verdict), (1, Verdict::HeadRefused(MethodLowerCase)));
}

#[test]
fn nothing_passes_after_a_fault() {
    let mut guard = Guard::default();
    assert_eq!(guard.judge(b"get").verdict, Verdict::HeadRefused(MethodLowerCase));
    let after = guard.judge(&with("A: b"));
    assert_eq!((after.passed, guard.heads()), (0, 0));
}

#[test]
fn a_body_is_never_read_as_a_head() {
    let smuggled = with("A: b");
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", smuggled.len());
    let stream: Vec<u8> = head.into_bytes().into_iter().chain(smuggled).collect();
    assert_eq!(whole(&stream).heads, 1);
}

#[test]
fn every_status_is_an_answer_of_4xx_or_5xx() {
    assert_eq!(HeadTimedOut.status(), 408);
    assert_eq!(HeadTooLarge.status(), 431);
    assert_eq!(LengthWithCoding.status(), 400);
    assert_eq!(LengthWithCoding.rule(), "LengthWithCoding");
}

/// Streams that come near to the rules: pieces of messages, well-formed and not.
fn streams() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let piece = prop_oneof![
        4 => Just(b"GET /a HTTP/1.1\r\nHost: a\r\n".to_vec()),
        2 => Just(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        2 => Just(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_vec()),
        4 => Just(b"\r\n".to_vec()),
        2 => Just(b"A: b\r\n".to_vec()),
        2 => Just(b"5\r\nhello\r\n".to_vec()),
        2 => Just(b"5;a=b\r\nhello\r\n".to_vec()),
        2 => Just(b"0\r\n\r\n".to_vec()),
        1 => Just(b"0\r\nX: y\r\n\r\n".to_vec()),
        1 => Just(b"GET https://a/b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b" ".to_vec()),
        1 => Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        1 => Just(b"Content-Length: 1\r\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest::proptest! {
    /// However a stream is cut, the same bytes pass and the same fault is found.
    #[test]
    fn no_cut_changes_a_verdict(
        stream in streams(),
        cuts in proptest::collection::vec(1usize..40, 1..60),
    ) {
        let mut cuts = cuts.into_iter().cycle();
        let pieces = cut(&stream, || cuts.next().unwrap());
        let all = whole(&stream);
        if !stream.is_empty() {
            proptest::prop_assert_eq!(pieces, all);
            proptest::prop_assert_eq!(cut(&stream, || 1), all);
        }
    }

    /// No bytes make the guard panic, pass more than there is, or pass a bare LF in a head.
    #[test]
    fn no_bytes_make_it_panic(stream in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let outcome = whole(&stream);
        proptest::prop_assert!(outcome.passed <= stream.len());
    }
}
