//! Distinguished names: the operator's text (RFC 4514) and the certificate's DER, compared part by
//! part.
//!
//! Comparing rendered texts would hang on spaces, escapes and the order of parts. Letters count as
//! they are: the directory's rules for which letters are equal (RFC 4517) are left out, since they
//! could only make more names equal.

use x509_parser::x509::X509Name;

/// Longest name in a rule, in bytes.
pub const MAX_SUBJECT: usize = 1024;

/// A name, most significant part last, as RFC 4514 writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(Vec<Vec<Part>>);

/// One attribute of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    /// Dotted.
    oid: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    /// One of the string types, whichever.
    Text(String),
    /// Anything else, by its DER: `#04024869`.
    Der(Vec<u8>),
}

/// RFC 4514 §3, and the e-mail of PKCS #9, which many certificates carry.
const KEYWORDS: [(&str, &str); 10] = [
    ("CN", "2.5.4.3"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("C", "2.5.4.6"),
    ("STREET", "2.5.4.9"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];

impl Name {
    /// A certificate's name. RFC 4514 §2.1: the text begins with the last part.
    pub(super) fn of(name: &X509Name<'_>) -> Self {
        let set = |rdn: &x509_parser::x509::RelativeDistinguishedName<'_>| {
            sorted(rdn.iter().map(|attribute| Part {
                oid: attribute.attr_type().to_id_string(),
                value: match attribute.as_str() {
                    Ok(text) => Value::Text(text.to_owned()),
                    Err(_) => Value::Der(der(attribute.attr_value())),
                },
            }))
        };
        let mut sets: Vec<_> = name.iter_rdn().map(set).collect();
        sets.reverse();
        Name(sets)
    }

    /// Reads RFC 4514 text; `None` when it is none, empty, or longer than [`MAX_SUBJECT`].
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > MAX_SUBJECT {
            return None;
        }
        let sets = split(text, ',').into_iter().map(|set| {
            let parts: Option<Vec<Part>> = split(set, '+').into_iter().map(part).collect();
            parts.map(|parts| sorted(parts.into_iter()))
        });
        sets.collect::<Option<Vec<_>>>().map(Name)
    }
}

/// RFC 4514 §2.2: the parts of one set come in any order.
fn sorted(parts: impl Iterator<Item = Part>) -> Vec<Part> {
    let mut parts: Vec<_> = parts.collect();
    parts.sort();
    parts
}

/// Splits where the separator is not escaped.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut escaped = false;
    text.split(move |letter: char| {
        let cuts = letter == separator && !escaped;
        escaped = letter == '\\' && !escaped;
        cuts
    })
    .collect()
}

/// RFC 4514 §3 `attributeTypeAndValue`; spaces around it are what people write after a comma.
fn part(text: &str) -> Option<Part> {
    let (kind, value) = text.split_once('=')?;
    let kind = kind.trim_matches(' ');
    let keyword = KEYWORDS.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(kind));
    let dotted = kind.contains('.')
        && kind.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()));
    let oid = match keyword {
        Some((_, oid)) => (*oid).to_owned(),
        None if dotted => kind.to_owned(),
        None => return None,
    };
    let value = value.trim_start_matches(' ');
    let value = match value.strip_prefix('#') {
        Some(digits) => Value::Der(hex(digits.trim_end_matches(' '))?),
        None => Value::Text(unescaped(value)?),
    };
    Some(Part { oid, value })
}

/// RFC 4514 §2.4: `\` before a special character, or before two hexadecimal digits of UTF-8.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    // How much of it stands for sure: spaces at the end are not meant unless escaped.
    let mut meant = 0;
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => {
                bytes.push(escape(&mut rest)?);
                meant = bytes.len();
            }
            // RFC 4514 §3: these never stand bare.
            b'"' | b';' | b'<' | b'>' | 0 => return None,
            b' ' => bytes.push(byte),
            _ => {
                bytes.push(byte);
                meant = bytes.len();
            }
        }
    }
    bytes.truncate(meant);
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

fn escape(rest: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = rest.next()?;
    if b" \"#+,;<=>\\".contains(&first) {
        return Some(first);
    }
    let digits = [first, rest.next()?];
    hex(std::str::from_utf8(&digits).ok()?)?.first().copied()
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let shaped = !digits.is_empty()
        && digits.len().is_multiple_of(2)
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if shaped { digits.as_bytes().chunks(2).map(byte).collect() } else { None }
}

/// The value's DER again: RFC 4514 §2.4's `#` form is of the whole value, tag and length too.
fn der(value: &x509_parser::der_parser::asn1_rs::Any<'_>) -> Vec<u8> {
    use x509_parser::der_parser::asn1_rs::ToDer as _;
    value.to_der_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn spellings_of_one_name_are_equal() {
        let table = [
            ("CN=ledger,O=Example,C=DE", "cn=ledger, o=Example , C = DE"),
            ("CN=ledger", "2.5.4.3=ledger"),
            ("OU=Sales+CN=J. Smith,DC=example", "CN=J. Smith+OU=Sales,DC=example"),
            (r"CN=James \22Jim\22 Smith\, III", r#"CN=James \"Jim\" Smith\2C III"#),
            (r"CN=Lu\C4\8Di\C4\87", "CN=Lučić"),
            (r"CN=a\ ", r"CN=a\20"),
            (r"CN=\#a", r"CN=\23a"),
            (r"CN=a\+b", r"CN=a\2Bb"),
            (r"CN=a=b", r"CN=a\=b"),
            ("1.3.6.1.4.1.1466.0=#04024869", "1.3.6.1.4.1.1466.0= #04024869 "),
        ];
        for (one, other) in table {
            assert_eq!(name(one), name(other), "{one} {other}");
        }
    }

    #[test]
    fn other_names_are_not_equal() {
        let table = [
            "CN=ledger,O=Example",
            "O=Example,CN=ledger,C=DE",
            "C=DE,O=Example,CN=ledger",
            "CN=Ledger,O=Example,C=DE",
            "CN=ledger+O=Example,C=DE",
            "CN=ledger,O=Example,C=DE,DC=x",
            r"CN=ledger\,O=Example,C=DE",
            "CN=ledger,OU=Example,C=DE",
            "CN=ledger,O=Exam ple,C=DE",
            r"CN=ledger\ ,O=Example,C=DE",
            "CN=#0C066C6564676572,O=Example,C=DE",
        ];
        for other in table {
            assert_ne!(name("CN=ledger,O=Example,C=DE"), name(other), "{other}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("CN={}", "x".repeat(MAX_SUBJECT));
        for bad in [
            "",
            " ",
            ",",
            "CN",
            "CN=",
            "CN= ",
            "=x",
            "CN=a,",
            ",CN=a",
            "CN=a,,C=DE",
            "XX=a",
            "2=a",
            "2.5.=a",
            "CN=a;C=DE",
            "CN=\"a\"",
            "CN=a\\",
            r"CN=a\g",
            r"CN=a\4",
            r"CN=\C4",
            "CN=a\0",
            "CN=#",
            "CN=#0",
            "CN=#zz",
            "CN=a+",
            "CN=<a>",
            &long,
        ] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}", tail in r"[CNO=,+# \\\\0-9a-fé]{0,40}") {
            let _ = Name::parse(&text);
            let _ = Name::parse(&format!("CN={tail}"));
        }
    }
}
