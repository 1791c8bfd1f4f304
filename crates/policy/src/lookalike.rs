//! Segments that an upstream may take for a literal that stands in the table: `Admin`, `admin.`,
//! `admin;x`, `%61dmin`, `ａｄｍｉｎ`. Beside such a literal they do not exist (`1-product`, "Paths").
//!
//! What is covered: ASCII case, percent escapes (up to four layers deep), everything from the
//! first `;`, trailing dots and spaces, and every character that NFKC with case folding turns into
//! something with an ASCII character in it, or drops. Those characters are not folded but suspected:
//! a segment that holds one is a look-alike of *every* literal beside it, which is stricter than
//! folding and needs no Unicode tables. Beside a literal that is not ASCII itself, every other
//! segment that is not ASCII is one. Not covered: glyphs that merely look alike (Cyrillic `а`);
//! no upstream takes those for one another.

/// How often a segment is unescaped: deeper escapes are refused by the gateway's hygiene.
const MAX_LAYERS: usize = 4;

/// A segment as a lenient upstream might read it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// ASCII: compared with the readings of the literals beside it.
    Plain(String),
    /// Not ASCII, and nothing that folds into ASCII.
    Foreign,
    /// Could be read as anything.
    Suspect,
}

/// Reads a segment the lenient way.
pub(crate) fn read(segment: &str) -> Reading {
    let mut bytes = segment.as_bytes().to_vec();
    for _ in 0..MAX_LAYERS {
        let unescaped = unescape(&bytes);
        if unescaped == bytes {
            break;
        }
        bytes = unescaped;
    }
    let Ok(text) = String::from_utf8(bytes) else { return Reading::Suspect };
    // Escapes of a fifth layer: nobody sends them in good faith.
    if unescape(text.as_bytes()) != text.as_bytes() || text.chars().any(folds_into_ascii) {
        return Reading::Suspect;
    }
    let text = text.split(';').next().unwrap_or_default();
    let text = text.trim_matches(|c: char| c.is_ascii_control()).trim_end_matches(['.', ' ', '\t']);
    if text.is_ascii() { Reading::Plain(text.to_ascii_lowercase()) } else { Reading::Foreign }
}

/// One layer of percent escapes off; what is no escape stays.
pub(crate) fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, others @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(nibble(*high) << 4 | nibble(*low));
                rest = others;
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// The value of a hexadecimal digit, zero for anything else.
pub(crate) fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

/// Whether NFKC with case folding makes ASCII of this character, or drops it.
fn folds_into_ascii(c: char) -> bool {
    let code = u32::from(c);
    let after = FOLDING.partition_point(|(start, _)| *start <= code);
    after.checked_sub(1).and_then(|last| FOLDING.get(last)).is_some_and(|(_, end)| code <= *end)
}

/// Computed from Unicode 14's NFKC and case folding over all code points (ranges at most eight
/// apart are joined), with the default ignorable characters; sorted.
const FOLDING: &[(u32, u32)] = &[
    (0xa0, 0xbe),
    (0xdf, 0xdf),
    (0x130, 0x133),
    (0x13f, 0x140),
    (0x149, 0x149),
    (0x17f, 0x17f),
    (0x1c4, 0x1cc),
    (0x1f1, 0x1f3),
    (0x2b0, 0x2b8),
    (0x2d8, 0x2e3),
    (0x34f, 0x34f),
    (0x37a, 0x385),
    (0x61c, 0x61c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x1d2c, 0x1d65),
    (0x1d9c, 0x1da0),
    (0x1dbb, 0x1dbb),
    (0x1e9a, 0x1e9e),
    (0x1fbd, 0x1fc1),
    (0x1fcd, 0x1fcf),
    (0x1fdd, 0x1fdf),
    (0x1fed, 0x1fef),
    (0x1ffd, 0x200f),
    (0x2017, 0x2017),
    (0x2024, 0x202f),
    (0x203c, 0x203e),
    (0x2047, 0x2049),
    (0x205f, 0x209c),
    (0x20a8, 0x20a8),
    (0x2100, 0x213b),
    (0x2145, 0x217f),
    (0x2189, 0x2189),
    (0x2460, 0x24ea),
    (0x2a74, 0x2a76),
    (0x2c7c, 0x2c7d),
    (0x3000, 0x3000),
    (0x309b, 0x309c),
    (0x3164, 0x3164),
    (0x3200, 0x3243),
    (0x3250, 0x325f),
    (0x32b1, 0x32cf),
    (0x3358, 0x33ff),
    (0xa7f2, 0xa7f4),
    (0xfb00, 0xfb06),
    (0xfb29, 0xfb29),
    (0xfc5e, 0xfc63),
    (0xfdfa, 0xfdfb),
    (0xfe00, 0xfe19),
    (0xfe30, 0xfe38),
    (0xfe47, 0xfe7e),
    (0xfeff, 0xfeff),
    (0xff01, 0xff5e),
    (0xffa0, 0xffa0),
    (0xffe3, 0xffe3),
    (0xfff0, 0xfff8),
    (0x107a5, 0x107a5),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0x1d400, 0x1d6a3),
    (0x1d7ce, 0x1d7ff),
    (0x1f100, 0x1f14f),
    (0x1f16a, 0x1f16c),
    (0x1f190, 0x1f190),
    (0x1fbf0, 0x1fbf9),
    (0xe0000, 0xe0fff),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_readings_fold_case_escapes_tails_and_parameters() {
        for spelled in [
            "admin",
            "Admin",
            "ADMIN",
            "admin.",
            "admin..",
            "admin%20",
            "admin. .",
            "admin;x=1",
            "%61dmin",
            "%2561dmin",
            "%25252561dmin",
            "admin%3Bx",
            "adm%49n",
            "admin%00",
            "admin%2E",
        ] {
            assert_eq!(read(spelled), Reading::Plain("admin".into()), "{spelled}");
        }
        for other in ["admins", "adm", ".admin", "a-dmin", "admin-x"] {
            assert_ne!(read(other), Reading::Plain("admin".into()), "{other}");
        }
    }

    #[test]
    fn compatibility_characters_and_ignorables_are_suspect() {
        for spelled in [
            "ａdmin",
            "admın\u{0130}",
            "ſettings",
            "\u{212a}eys",
            "ﬁles",
            "①",
            "𝐚dmin",
            "ad\u{200b}min",
            "ad\u{ad}min",
            "%EF%BD%81dmin",
            "admin\u{ff0e}",
            "%FF",
            "ad\u{fe0f}min",
        ] {
            assert_eq!(read(spelled), Reading::Suspect, "{spelled}");
        }
        assert_eq!(read("%2525252561dmin"), Reading::Suspect, "five layers deep");
        assert_eq!(read("café"), Reading::Foreign);
        assert_eq!(read("%D0%B0dmin"), Reading::Foreign, "a look-alike for eyes alone");
    }

    #[test]
    fn the_table_is_sorted_and_disjoint() {
        for pair in FOLDING.windows(2) {
            assert!(pair[0].0 <= pair[0].1 && pair[0].1 < pair[1].0, "{pair:x?}");
        }
    }

    #[test]
    fn every_character_that_std_folds_into_ascii_is_in_the_table() {
        for c in (0x80..0x11_0000).filter_map(char::from_u32) {
            let folded: String =
                c.to_uppercase().flat_map(char::to_lowercase).chain(c.to_lowercase()).collect();
            if folded.chars().any(|f| f.is_ascii()) && c != '\u{131}' {
                // `ı` upper-cases to `I` in std, but neither NFKC nor case folding touches it.
                let known = folds_into_ascii(c);
                let accented = folded.chars().any(|f| ('\u{300}'..'\u{36f}').contains(&f));
                assert!(known || accented, "{c} {:x} {folded}", u32::from(c));
            }
        }
    }
}
