//! The text of API keys: `pk_<id>.<mac>`.
//!
//! The MAC covers the id, so a guess costs no look-up and a digest need not be kept. Whether a key is
//! still one of its client's, and what it may do, is the store's word (pushed to the gateway).

use crate::id::{self, Id};
use crate::jose::base64url;
use crate::seal::{Purpose, Sealer};
use crate::secret::Secret;

/// What every API key starts with, so that leaked ones can be searched for.
pub const PREFIX: &str = "pk_";
/// Longest API key, in bytes: prefix, id, dot, MAC.
pub const MAX_API_KEY_BYTES: usize = PREFIX.len() + id::MAX_ID + 1 + 43;

/// The text of a key, for the one answer that shows it. `None` when the sealer has no key.
pub fn mint(sealer: &Sealer, id: &Id<id::ApiKey>) -> Option<Secret<String>> {
    let mac = sealer.mac(Purpose::Key, id.as_str().as_bytes())?;
    Some(Secret::new(format!("{PREFIX}{id}.{}", base64url::encode(&mac))))
}

/// Reads one that came back; `None` unless a key of ours made it.
pub fn read(sealer: &Sealer, text: &str) -> Option<Id<id::ApiKey>> {
    if text.len() > MAX_API_KEY_BYTES {
        return None;
    }
    let (id, mac) = text.strip_prefix(PREFIX)?.rsplit_once('.')?;
    // RFC 4648 §3.5: one spelling of the MAC, or a key would have twins in logs and limits.
    let mac = base64url::decode(mac).ok()?;
    if sealer.made(Purpose::Key, id.as_bytes(), &mac) { Id::parse(id).ok() } else { None }
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
    fn id(text: &str) -> Id<id::ApiKey> {
        Id::parse(text).expect("an id")
    }
    fn minted(sealer: &Sealer, text: &str) -> String {
        mint(sealer, &id(text)).expect("a key").expose().clone()
    }

    #[test]
    fn what_is_minted_is_read_back() {
        for text in ["k_a", "k_a.b.c", &format!("k_{}", "x".repeat(62))] {
            let key = minted(&ours(), text);
            assert!(key.len() <= MAX_API_KEY_BYTES);
            assert_eq!(read(&ours(), &key), Some(id(text)), "{key}");
        }
        let old = minted(&sealer(&[(1, 1)], "i"), "k_a");
        assert_eq!(read(&sealer(&[(2, 2), (1, 1)], "i"), &old), Some(id("k_a")));
    }

    #[test]
    fn forgeries_are_not_read() {
        let key = minted(&ours(), "k_a");
        let (_, mac) = key.rsplit_once('.').expect("a MAC");
        let refresh = ours().mac(Purpose::Refresh, b"k_a").expect("a key");
        let stray = ours().mac(Purpose::Key, b"not an id").expect("a key");
        let table = [
            String::new(),
            "pk_".into(),
            "pk_k_a".into(),
            "pk_k_a.".into(),
            format!("pk_k_b.{mac}"),
            format!("pk_k_a..{mac}"),
            format!("k_a.{mac}"),
            format!("{key}="),
            format!(" {key}"),
            key.to_lowercase(),
            format!("pk_k_a.{}", base64url::encode(&[0; 32])),
            format!("pk_k_a.{}", &mac[..22]),
            format!("pk_k_a.{}", base64url::encode(&refresh)),
            format!("pk_not an id.{}", base64url::encode(&stray)),
            "x".repeat(100_000),
        ];
        for forged in table {
            assert_eq!(read(&ours(), &forged), None, "{forged}");
        }
        assert_eq!(read(&sealer(&[(1, 1)], "https://other.example"), &key), None);
        assert_eq!(read(&sealer(&[], "https://login.example"), &key), None);
        assert!(mint(&sealer(&[], "i"), &id("k_a")).is_none());
    }

    proptest! {
        #[test]
        fn no_text_panics_or_is_believed(text in ".{0,160}", tail in "[A-Za-z0-9_.-]{0,80}") {
            prop_assert_eq!(read(&ours(), &text), None);
            prop_assert_eq!(read(&ours(), &format!("pk_{tail}")), None);
        }
        #[test]
        fn one_changed_character_is_a_forgery(at: usize, to in "[A-Za-z0-9_.=+ -]") {
            let key = minted(&ours(), "k_0123456789abcdef");
            let mut forged = key.clone();
            let at = at % key.len();
            forged.replace_range(at..=at, &to);
            prop_assert_eq!(read(&ours(), &forged).is_some(), forged == key);
        }
    }
}
