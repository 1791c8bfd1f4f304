//! Finds the parameter `_method` in a query or a form, byte by byte, so that it also works on a body
//! that streams by. Rails, Laravel, Symfony and others take `_method=DELETE` for the method: what was
//! permitted as a POST would be done as a DELETE.
//!
//! Names are read as the most lenient of them reads: in any case, percent-decoded, with `[…]` after
//! them, and as PHP does it (leading space dropped, `.` and space as `_`, cut at NUL).

/// The parameter's name.
const NAME: &[u8] = b"_method";

/// A reader of `name=value&…` that remembers only how much of [`NAME`] it has seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverrideScan(At);

#[derive(Clone, Copy, Debug)]
enum At {
    /// Within a name of which this many bytes are those of [`NAME`].
    Name(usize),
    /// Behind a `%` within such a name, with the first digit once it came.
    Escape(usize, Option<u8>),
    /// Within another name, or a value.
    Elsewhere,
    /// It is there.
    Found,
}

impl OverrideScan {
    /// At the start of a query or form.
    pub(crate) fn new() -> Self {
        OverrideScan(At::Name(0))
    }

    /// Reads on. Whether the name was found by now.
    pub(crate) fn finds(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            self.0 = self.0.then(*byte);
        }
        matches!(self.0, At::Found)
    }

    /// Whether the end makes a name of what was read last: a parameter without `=`.
    pub(crate) fn ends_found(self) -> bool {
        matches!(self.0, At::Found) || matches!(self.0, At::Name(seen) if seen == NAME.len())
    }
}

impl At {
    fn then(self, byte: u8) -> At {
        match (self, byte) {
            (At::Found, _) => At::Found,
            (At::Elsewhere, b'&' | b';') => At::Name(0),
            (At::Elsewhere, _) => At::Elsewhere,
            (At::Name(seen), b'&' | b';') => At::ended(seen, At::Name(0)),
            (At::Name(seen), b'=') => At::ended(seen, At::Elsewhere),
            (At::Name(seen), b'%') => At::Escape(seen, None),
            (At::Name(seen), b'+') => At::named(seen, b' '),
            (At::Name(seen), byte) => At::named(seen, byte),
            (At::Escape(seen, high), digit) => match (high, hex(digit)) {
                (None, Some(high)) => At::Escape(seen, Some(high)),
                (Some(high), Some(low)) => At::named(seen, high << 4 | low),
                (_, None) => At::Elsewhere.then(digit),
            },
        }
    }

    /// One more byte of a name, decoded.
    fn named(seen: usize, byte: u8) -> At {
        let byte = match byte.to_ascii_lowercase() {
            b' ' if seen == 0 => return At::Name(0),
            b'[' | 0 => return At::ended(seen, At::Elsewhere),
            b'.' | b' ' => b'_',
            byte => byte,
        };
        if NAME.get(seen) == Some(&byte) { At::Name(seen + 1) } else { At::Elsewhere }
    }

    fn ended(seen: usize, otherwise: At) -> At {
        if seen == NAME.len() { At::Found } else { otherwise }
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> bool {
        let mut scan = OverrideScan::new();
        scan.finds(text.as_bytes()) || scan.ends_found()
    }

    #[test]
    fn a_method_in_a_form_is_found_however_it_is_spelt() {
        for text in [
            "_method=DELETE",
            "a=1&_method=PUT",
            "a=b;_method=PUT",
            "_METHOD=x",
            "_method",
            "a&_method",
            "_method[]=x",
            "_method%5B%5D=x",
            "%5fmethod=x",
            "%5Fm%65thod=x",
            ".method=x",
            "+_method=x",
            "%20_method=x",
            "_method%00x=y",
            "a=%&_method=x",
            "%zz&_method=x",
            "%4&_method=x",
        ] {
            assert!(found(text), "{text}");
        }
    }

    #[test]
    fn other_names_pass() {
        for text in [
            "",
            "method=DELETE",
            "x=_method",
            "x_method=1",
            "_methods=1",
            "_metho=d",
            "a=b&c=_method",
            "_met%hod=x",
            "q=100%",
            "x=%26_method%3d1",
            "filter[_method]=1",
        ] {
            assert!(!found(text), "{text}");
        }
    }

    #[test]
    fn however_the_body_is_cut() {
        let text = b"a=b&%5fmethod=DELETE";
        for cut in 0..text.len() {
            let mut scan = OverrideScan::new();
            let (head, tail) = text.split_at(cut);
            let early = scan.finds(head);
            assert!(early || scan.finds(tail), "{cut}");
        }
    }
}
