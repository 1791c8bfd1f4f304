//! The text of refresh tokens: `rt_<grant>.<n>.<mac>`, where n counts the uses of the grant.
//!
//! The MAC covers both, so whatever can be read here was minted here: garbage costs no look-up and
//! can revoke nothing (RFC 9700 §4.14.2 wants reuse to revoke; only *provable* reuse does). Whether
//! n is the one that counts now is identity's question, with the grant's row before it.

use crate::id::{self, Id};
use crate::jose::base64url;
use crate::seal::{Purpose, Sealer};
use crate::secret::Secret;

/// What every refresh token starts with, so that leaked ones can be searched for.
pub const PREFIX: &str = "rt_";
/// Longest refresh token, in bytes: prefix, grant, two dots, 20 digits, MAC.
pub const MAX_REFRESH_BYTES: usize = PREFIX.len() + id::MAX_ID + 2 + 20 + 43;

/// The n-th refresh token of a grant: always the same text while the sealer's first key stays, so
/// that two tabs get the identical successor. `None` when the sealer has no key.
pub fn mint(sealer: &Sealer, grant: &Id<id::Grant>, n: u64) -> Option<Secret<String>> {
    let mac = sealer.mac(Purpose::Refresh, signed(grant.as_str(), n).as_bytes())?;
    Some(Secret::new(format!("{PREFIX}{}.{}", signed(grant.as_str(), n), base64url::encode(&mac))))
}

/// Reads one that came back; `None` unless a key of ours made it.
pub fn read(sealer: &Sealer, text: &str) -> Option<(Id<id::Grant>, u64)> {
    if text.len() > MAX_REFRESH_BYTES {
        return None;
    }
    // From the end: an id may hold dots, the other two may not.
    let (rest, mac) = text.strip_prefix(PREFIX)?.rsplit_once('.')?;
    let (grant, n) = rest.rsplit_once('.')?;
    let mac = base64url::decode(mac).ok()?;
    // The MAC covers the text, not what it means: `+7` and `007` were never minted.
    if !sealer.made(Purpose::Refresh, rest.as_bytes(), &mac) {
        return None;
    }
    Some((Id::parse(grant).ok()?, n.parse().ok()?))
}

fn signed(grant: &str, n: u64) -> String {
    format!("{grant}.{n}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealer(ring: &[(u32, u8)], issuer: &str) -> Sealer {
        let ring = ring.iter().map(|(id, byte)| (*id, Secret::new([*byte; 32])));
        Sealer::new(ring.collect(), issuer)
    }
    fn ours() -> Sealer {
        sealer(&[(1, 1)], "https://login.example")
    }
    fn grant(text: &str) -> Id<id::Grant> {
        Id::parse(text).expect("a grant")
    }
    fn minted(sealer: &Sealer, text: &str, n: u64) -> String {
        mint(sealer, &grant(text), n).expect("a key").expose().clone()
    }

    #[test]
    fn what_is_minted_is_read_back() {
        for text in ["g_a", "g_a.b..c", "g_.1", &format!("g_{}", "x".repeat(62))] {
            for n in [0, 1, 9, 10, u64::MAX] {
                let token = minted(&ours(), text, n);
                assert!(token.len() <= MAX_REFRESH_BYTES);
                assert_eq!(read(&ours(), &token), Some((grant(text), n)), "{token}");
                assert_eq!(minted(&ours(), text, n), token, "the identical successor");
            }
        }
    }

    #[test]
    fn a_token_of_a_turned_ring_is_still_read() {
        let old = minted(&sealer(&[(1, 1)], "i"), "g_a", 3);
        let turned = sealer(&[(2, 2), (1, 1)], "i");
        assert_eq!(read(&turned, &old), Some((grant("g_a"), 3)));
        assert_ne!(minted(&turned, "g_a", 3), old);
        assert_eq!(read(&sealer(&[(2, 2)], "i"), &old), None, "the key is gone");
    }

    #[test]
    fn forgeries_are_not_read() {
        let token = minted(&ours(), "g_a", 7);
        let (rest, mac) = token.rsplit_once('.').expect("a MAC");
        let (_, other) = minted(&ours(), "g_a", 8).rsplit_once('.').map(own).expect("a MAC");
        let table = [
            String::new(),
            "rt_".into(),
            "rt_..".into(),
            rest.into(),
            format!("{rest}."),
            format!("{rest}.{other}"),
            format!("rt_g_a.8.{mac}"),
            format!("rt_g_a.07.{mac}"),
            format!("rt_g_a.+7.{mac}"),
            format!("rt_g_a.7 .{mac}"),
            format!("rt_g_b.7.{mac}"),
            format!("rt_g_a..7.{mac}"),
            format!("rt_g_a.-7.{mac}"),
            format!("rt_g_a.18446744073709551623.{mac}"),
            format!("rt_7.{mac}"),
            format!("{token}="),
            format!(" {token}"),
            format!("{token}\n"),
            token.to_uppercase(),
            token.replacen("rt_", "at_", 1),
            format!("rt_g_a.7.{}", base64url::encode(&[0; 32])),
            format!("rt_g_a.7.{}", &mac[..22]),
            "x".repeat(100_000),
        ];
        for forged in table {
            assert_eq!(read(&ours(), &forged), None, "{forged}");
        }
        assert_eq!(read(&sealer(&[(1, 1)], "https://other.example"), &token), None);
        assert_eq!(read(&sealer(&[], "https://login.example"), &token), None);
        assert!(mint(&sealer(&[], "i"), &grant("g_a"), 1).is_none());
    }

    #[test]
    fn a_mac_of_another_purpose_is_no_refresh_token() {
        for purpose in [Purpose::Key, Purpose::Opaque, Purpose::Pairwise, Purpose::Code] {
            let mac = ours().mac(purpose, b"g_a.7").expect("a key");
            assert_eq!(read(&ours(), &format!("rt_g_a.7.{}", base64url::encode(&mac))), None);
        }
    }

    fn own((one, other): (&str, &str)) -> (String, String) {
        (one.to_owned(), other.to_owned())
    }

    proptest! {
        #[test]
        fn no_text_panics_or_is_believed(text in ".{0,160}", tail in "[A-Za-z0-9_.-]{0,80}") {
            prop_assert_eq!(read(&ours(), &text), None);
            prop_assert_eq!(read(&ours(), &format!("rt_{tail}")), None);
        }
        #[test]
        fn one_changed_character_is_a_forgery(n: u64, at: usize, to in "[A-Za-z0-9_.=+ -]") {
            let token = minted(&ours(), "g_0123456789abcdef", n);
            let mut forged = token.clone();
            let at = at % token.len();
            forged.replace_range(at..=at, &to);
            prop_assert_eq!(read(&ours(), &forged).is_some(), forged == token);
        }
    }
}
