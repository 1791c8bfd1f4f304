//! Redirect URIs: where a code may go.
//!
//! The strictest thing that works: a registered text, and what a client sends must be that text.
//! The registered one is read carefully, so that no spelling with two readings is ever registered;
//! the presented one is never parsed at all.

use super::address::{Address, AddressMalformed, Origin, Scheme};

/// Longest redirect that can be registered, in bytes: it travels in queries.
const MAX_REDIRECT_BYTES: usize = 512;

/// A registered redirect URI. Matched by simple string comparison (RFC 9700 §2.1), but for the
/// port of a loopback IP literal of a native client (RFC 8252 §7.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Redirect(Box<str>);

/// Whether a redirect is compared for a native client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// A native app: loopback ports vary.
    Yes,
    /// Anything else: exact.
    No,
}

impl Redirect {
    /// Reads a redirect: absolute, no fragment, no wildcard, no user info; `https`, loopback
    /// `http`, or a private-use scheme with a dot (RFC 8252 §7.1).
    ///
    /// # Errors
    /// [`AddressMalformed`] says what to write instead.
    pub fn parse(text: &str) -> Result<Self, AddressMalformed> {
        if text.len() > MAX_REDIRECT_BYTES {
            return Err(AddressMalformed("longer than 512 bytes; shorten it"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AddressMalformed(
                "holds white space, a control character or a letter beyond ascii; percent-encode it",
            ));
        }
        // RFC 6749 §3.1.2: the redirection endpoint MUST NOT include a fragment.
        if text.contains('#') {
            return Err(AddressMalformed("has a fragment; cut it off"));
        }
        if text.contains('*') {
            return Err(AddressMalformed("wildcards are not accepted; list each redirect"));
        }
        let (scheme, rest) = text
            .split_once(':')
            .ok_or(AddressMalformed("not absolute; write `https://host/path`"))?;
        if scheme != scheme.to_ascii_lowercase() {
            return Err(AddressMalformed("write the scheme in lower case"));
        }
        match scheme {
            "https" | "http" => check_web(text)?,
            _ => check_private_use(scheme, rest)?,
        }
        Ok(Redirect(text.into()))
    }

    /// Whether what a client sent is this redirect. `native` lets the port of a loopback IP
    /// literal (never `localhost`) vary.
    pub fn matches(&self, presented: &str, native: Native) -> bool {
        // RFC 9700 §2.1: exact string matching, nothing is decoded or normalised first.
        if *self.0 == *presented {
            return true;
        }
        match native {
            Native::Yes => self.matches_but_for_port(presented),
            Native::No => false,
        }
    }

    /// The text as registered.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its origin, when it has one of `http(s)`.
    pub fn origin(&self) -> Option<Origin> {
        Address::parse(split_web(&self.0)?.0).ok().map(|address| address.origin())
    }

    /// RFC 8252 §7.3: any port at the time of the request, for loopback IP literals over `http`;
    /// §8.3: not `localhost`, which a resolver may send elsewhere.
    fn matches_but_for_port(&self, presented: &str) -> bool {
        ["http://127.0.0.1", "http://[::1]"].into_iter().any(|literal| {
            let registered = self.0.strip_prefix(literal).and_then(after_port);
            registered.is_some()
                && registered == presented.strip_prefix(literal).and_then(after_port)
        })
    }
}

/// What follows an optional, well-formed port; `None` when the host goes on or the port is no port.
fn after_port(text: &str) -> Option<&str> {
    let Some(rest) = text.strip_prefix(':') else {
        return (text.is_empty() || text.starts_with(['/', '?'])).then_some(text);
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (port, tail) = rest.split_at(end);
    let digits = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    (digits && port.parse::<u16>().is_ok()).then_some(tail)
}

/// Splits an `http(s)` text into its origin's part and the path with query.
fn split_web(text: &str) -> Option<(&str, &str)> {
    let start = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let end = start.find(['/', '?']).unwrap_or(start.len());
    text.split_at_checked(text.len() - start.len() + end)
}

fn check_web(text: &str) -> Result<(), AddressMalformed> {
    let (base, tail) = split_web(text)
        .ok_or(AddressMalformed("write `//` after the scheme, as in `https://host/path`"))?;
    let address = Address::parse(base)?;
    if base.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(AddressMalformed("write the host in lower case"));
    }
    // RFC 8252 §7.3 and RFC 9700 §2.6: in the clear only where the code cannot leave the machine.
    if address.scheme() == Scheme::Http && !address.is_loopback() {
        return Err(AddressMalformed("`http` is for loopback only; write `https`"));
    }
    check_path_and_query(tail)
}

/// RFC 8252 §7.1: a private-use scheme is a domain name in reverse, under its owner's control. The
/// dot also keeps `javascript:`, `data:`, `file:` and their like out.
fn check_private_use(scheme: &str, rest: &str) -> Result<(), AddressMalformed> {
    let labels_are_good = scheme.contains('.')
        && scheme.split('.').all(|label| {
            label.starts_with(|c: char| c.is_ascii_lowercase())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
    if !labels_are_good {
        return Err(AddressMalformed(
            "not `https`, loopback `http` or a private-use scheme with a dot, as in `com.example.app:/cb`",
        ));
    }
    if !rest.starts_with('/') {
        return Err(AddressMalformed("write a `/` after the private-use scheme"));
    }
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(after) => {
            let end = after.find(['/', '?']).unwrap_or(after.len());
            let (authority, path) = after.split_at(end);
            if authority.is_empty()
                || !authority.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            {
                return Err(AddressMalformed(
                    "the part after `//` may hold letters, digits and `-._` only; write a single `/`",
                ));
            }
            path
        }
    };
    check_path_and_query(path)
}

fn check_path_and_query(text: &str) -> Result<(), AddressMalformed> {
    // RFC 3986 §3.3, §3.4, without what has a second reading somewhere: `\`, quotes, braces.
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/?-._~!$&'()+,;=:@%".contains(&b)) {
        return Err(AddressMalformed("holds a character that is not accepted; percent-encode it"));
    }
    check_escapes(text)?;
    let path = text.split('?').next().unwrap_or_default();
    for segment in path.split('/') {
        // `..;` is `..` to some servers, which cut parameters first.
        let name = segment.split(';').next().unwrap_or_default();
        if name == "." || name == ".." {
            return Err(AddressMalformed("the path holds `.` or `..`; write the path meant"));
        }
    }
    Ok(())
}

/// Every `%` is followed by two hex digits, and none hides a dot, a slash or a control character.
fn check_escapes(text: &str) -> Result<(), AddressMalformed> {
    for piece in text.split('%').skip(1) {
        let value = piece
            .get(..2)
            .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .ok_or(AddressMalformed("holds a `%` without two hex digits; write `%25`"))?;
        if matches!(value, b'.' | b'/' | b'\\' | b'%') || value.is_ascii_control() {
            return Err(AddressMalformed(
                "holds an encoded dot, slash, percent or control character; write the path meant",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERED: &str = "https://app.pay.example/cb";

    #[test]
    fn redirects_are_read() {
        for text in [
            REGISTERED,
            "https://app.pay.example",
            "https://app.pay.example:8443/cb?tenant=1&x=%20a",
            "http://127.0.0.1/cb",
            "http://127.0.0.1:7777/cb",
            "http://[::1]/cb",
            "http://localhost:3000/cb",
            "com.example.app:/cb",
            "com.example.app://callback/x?y=1",
        ] {
            assert_eq!(Redirect::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_has_a_second_reading_is_never_registered() {
        for (text, part_of_message) in [
            ("", "not absolute"),
            ("/cb", "not absolute"),
            ("//app.pay.example/cb", "not absolute"),
            ("https:/app.pay.example/cb", "`//`"),
            ("https:app.pay.example/cb", "`//`"),
            ("HTTPS://app.pay.example/cb", "lower case"),
            ("https://App.pay.example/cb", "lower case"),
            ("http://app.pay.example/cb", "loopback only"),
            ("http://127.0.0.1.evil.example/cb", "loopback only"),
            ("https://app.pay.example/cb#f", "fragment"),
            ("https://app.pay.example/cb#", "fragment"),
            ("https://*.pay.example/cb", "wildcards"),
            ("https://app.pay.example/*", "wildcards"),
            ("https://user@app.pay.example/cb", "user info"),
            ("https://app.pay.example:@evil.example/cb", "user info"),
            ("https://app.pay.example/a/../cb", "`..`"),
            ("https://app.pay.example/a/..;/cb", "`..`"),
            ("https://app.pay.example/./cb", "`.`"),
            ("https://app.pay.example/%2e%2e/cb", "encoded dot"),
            ("https://app.pay.example/a%2Fcb", "encoded dot, slash"),
            ("https://app.pay.example/a%5ccb", "encoded dot, slash"),
            ("https://app.pay.example/a%252fcb", "percent"),
            ("https://app.pay.example/cb%0d%0a", "control"),
            ("https://app.pay.example/cb%", "hex"),
            ("https://app.pay.example/cb%g0", "hex"),
            ("https://app.pay.example/cb%+1", "hex"),
            ("https://app.pay.example\\@evil.example", "user info"),
            ("https://app.pay.example/a\\b", "not accepted"),
            ("https://app.pay.example/cb\n", "control character"),
            ("https://app.pay.example/c b", "white space"),
            ("javascript:alert(1)", "private-use"),
            ("JaVaScRiPt:alert(1)", "lower case"),
            ("data:text/html,x", "private-use"),
            ("file:///etc/passwd", "private-use"),
            ("myapp:/cb", "private-use"),
            (".app:/cb", "private-use"),
            ("com..app:/cb", "private-use"),
            ("com.app:cb", "`/`"),
            ("com.app:///cb", "letters"),
            ("com.app://a@b/cb", "letters"),
        ] {
            let error = Redirect::parse(text).expect_err(text);
            assert!(error.0.contains(part_of_message), "{text}: {error}");
        }
        assert!(Redirect::parse(&format!("https://a.example/{}", "a".repeat(600))).is_err());
    }

    /// The list of the design's "Redirects": none of them matches, for any kind of client.
    #[test]
    fn a_neighbour_of_a_redirect_never_matches() {
        let redirect = Redirect::parse(REGISTERED).unwrap();
        for presented in [
            "",
            "https://app.pay.example",
            "https://app.pay.example/",
            "https://app.pay.example/cb/",
            "https://app.pay.example/cb/..;/evil",
            "https://app.pay.example/..;/cb",
            "https://app.pay.example/x/../cb",
            "https://app.pay.example/%63b",
            "https://app.pay.example/%2e/cb",
            "https://app.pay.example%2fcb",
            "https://app.pay.example/cb%2f..%2fevil",
            "https://evil@app.pay.example/cb",
            "https://app.pay.example@evil.example/cb",
            "https://app.pay.example:pw@evil.example/cb",
            "https://evilapp.pay.example/cb",
            "https://app.pay.example.evil.example/cb",
            "https://app.pay.example/cbevil",
            "https://app.pay.example/cb?x=1",
            "https://app.pay.example/cb#",
            "https://app.pay.example/cb#x",
            "https://app.pay.example/CB",
            "https://APP.pay.example/cb",
            "HTTPS://app.pay.example/cb",
            "http://app.pay.example/cb",
            "https://app.pay.example:443/cb",
            "https://app.pay.example:8443/cb",
            "https://app.pay.example./cb",
            "https:\\\\app.pay.example\\cb",
            "https:///app.pay.example/cb",
            "//app.pay.example/cb",
            "/\\app.pay.example/cb",
            "JaVaScRiPt:alert(1)",
            "javascript://app.pay.example/cb",
            "data:text/html,x",
            " https://app.pay.example/cb",
            "https://app.pay.example/cb ",
            "https://app.pay.example/cb\0",
            "https://app.pay.example/c\tb",
            "https://app.pay.example/cb\r\nLocation: x",
            "https://app.pay.example/cb/https://app.pay.example/cb",
        ] {
            for native in [Native::Yes, Native::No] {
                assert!(!redirect.matches(presented, native), "{presented:?}");
            }
        }
        assert!(redirect.matches(REGISTERED, Native::No));
    }

    #[test]
    fn only_the_port_of_a_loopback_literal_varies_and_only_for_native_clients() {
        for (registered, presented, native, expected) in [
            ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", Native::Yes, true),
            ("http://127.0.0.1:1/cb", "http://127.0.0.1:51004/cb", Native::Yes, true),
            ("http://127.0.0.1:1/cb", "http://127.0.0.1/cb", Native::Yes, true),
            ("http://[::1]/cb?a=1", "http://[::1]:51004/cb?a=1", Native::Yes, true),
            ("http://127.0.0.1", "http://127.0.0.1:51004", Native::Yes, true),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", Native::No, false),
            ("http://localhost/cb", "http://localhost:51004/cb", Native::Yes, false),
            ("http://localhost:3000/cb", "http://localhost:3001/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.2:51004/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://[::1]:51004/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://localhost/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "https://127.0.0.1:51004/cb", Native::Yes, false),
            ("https://127.0.0.1/cb", "https://127.0.0.1:51004/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51004/other", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb?x=1", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb#x", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:0/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:065/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:65536/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:+1/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:1@evil.example/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1@evil.example/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.1.evil.example/cb", Native::Yes, false),
            ("http://127.0.0.1/cb", "http://127.0.0.11/cb", Native::Yes, false),
            ("http://127.0.0.1", "http://127.0.0.1evil.example", Native::Yes, false),
        ] {
            let redirect = Redirect::parse(registered).unwrap();
            assert_eq!(redirect.matches(presented, native), expected, "{registered} {presented}");
        }
    }

    #[test]
    fn origins_of_redirects() {
        for (text, expected) in [
            ("https://app.pay.example/cb", Some("https://app.pay.example")),
            ("https://app.pay.example:443/cb", Some("https://app.pay.example")),
            ("http://127.0.0.1:3000?x", Some("http://127.0.0.1:3000")),
            ("com.example.app:/cb", None),
        ] {
            let origin = Redirect::parse(text).unwrap().origin();
            assert_eq!(origin.as_ref().map(Origin::as_str), expected);
        }
    }
}
