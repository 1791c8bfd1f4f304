//! When a signing key moves on: next → active → verify-only → gone.
//!
//! Pure: all of it follows from when each key was made. A next key is made at the very moment at
//! which the one before it begins to sign, so the keys' own dates say since when a key signs and
//! when it stopped; no further date is kept that could disagree.

use std::time::Duration;

use portcullis_core::time::Timestamp;
use portcullis_store::keys::{KeyRecord, KeyState, KeyUse};
use portcullis_store::revocations::LONGEST_TOKEN;

/// How long a key is published before it signs: a verifier that holds a set for a day knows it by
/// then (`4-identity`, "Keys").
pub const PUBLISHED_AHEAD: Duration = Duration::from_secs(24 * 3_600);

/// A passport's life (`3-gateway`): 60 s, and 30 more within which it is handed out again.
const PASSPORT_LIFE: Duration = Duration::from_secs(90);

/// What clocks and caches of nodes may be apart by, at the very end of a key's life.
const SLACK: Duration = Duration::from_secs(3_600);

/// How long a key verifies after it signed last: nothing that it signed is alive any more.
pub const VERIFY_FOR: Duration =
    Duration::from_secs(LONGEST_TOKEN.as_secs() + PASSPORT_LIFE.as_secs() + SLACK.as_secs());

/// The key of a use in a state: of several (two nodes raced, an old installation) the oldest.
pub(crate) fn find(keys: &[KeyRecord], usage: KeyUse, state: KeyState) -> Option<&KeyRecord> {
    keys.iter().filter(|key| key.usage == usage && key.state == state).min_by_key(|key| key.made)
}

/// When a next key may begin to sign, at the earliest.
pub(crate) fn ready_at(next: &KeyRecord) -> Timestamp {
    next.made.after(PUBLISHED_AHEAD)
}

/// Since when a use's active key signs: since its successor was made.
pub(crate) fn signs_since(keys: &[KeyRecord], usage: KeyUse) -> Option<Timestamp> {
    let active = find(keys, usage, KeyState::Active)?;
    let next = find(keys, usage, KeyState::Next)?;
    Some(active.made.max(next.made))
}

/// When a use's next key takes over by itself; `None` while there is none.
pub(crate) fn due_at(keys: &[KeyRecord], usage: KeyUse, life: Duration) -> Option<Timestamp> {
    let next = find(keys, usage, KeyState::Next)?;
    // INVARIANT: no life, however short, lets a key sign that verifiers may not have yet.
    Some(signs_since(keys, usage)?.after(life).max(ready_at(next)))
}

/// When a verify-only key goes; `None` for others, and while there is no next key to tell by.
pub(crate) fn gone_at(keys: &[KeyRecord], key: &KeyRecord) -> Option<Timestamp> {
    if key.state != KeyState::VerifyOnly {
        return None;
    }
    // It stopped when its successor's successor was made: the second of those made after it. A
    // successor that was killed meanwhile only makes it stay longer.
    let mut newer: Vec<Timestamp> = keys
        .iter()
        .filter(|other| other.usage == key.usage && other.made > key.made)
        .map(|other| other.made)
        .collect();
    newer.sort();
    let stopped = match newer.get(1) {
        Some(second) => *second,
        None => find(keys, key.usage, KeyState::Next)?.made,
    };
    Some(stopped.after(VERIFY_FOR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_core::jose::algorithm::Algorithm;

    const DAY: u64 = 86_400;
    const LIFE: Duration = Duration::from_secs(90 * DAY);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000).after(Duration::from_secs(seconds))
    }

    fn key(kid: &str, state: KeyState, made: u64) -> KeyRecord {
        KeyRecord {
            kid: kid.into(),
            usage: KeyUse::Access,
            algorithm: Algorithm::EdDsa,
            state,
            sealed: String::new(),
            made: at(made),
        }
    }

    #[test]
    fn a_next_key_is_published_for_a_day_before_it_signs() {
        assert_eq!(ready_at(&key("b", KeyState::Next, 5)), at(5 + DAY));
    }

    #[test]
    fn a_key_signs_since_its_successor_was_made() {
        let (a, b) = (key("a", KeyState::Active, 0), key("b", KeyState::Next, 90 * DAY));
        let keys = [a, b];
        assert_eq!(signs_since(&keys, KeyUse::Access), Some(at(90 * DAY)));
        assert_eq!(due_at(&keys, KeyUse::Access, LIFE), Some(at(180 * DAY)));
        assert_eq!(signs_since(&keys, KeyUse::Identity), None);
        assert_eq!(due_at(&keys[..1], KeyUse::Access, LIFE), None, "nothing to take over");
    }

    #[test]
    fn no_life_is_so_short_that_a_key_signs_unpublished() {
        let keys = [key("a", KeyState::Active, 0), key("b", KeyState::Next, 0)];
        let hour = Duration::from_secs(3_600);
        assert_eq!(due_at(&keys, KeyUse::Access, hour), Some(at(DAY)));
    }

    #[test]
    fn a_key_verifies_longer_than_anything_that_it_signed() {
        assert!(VERIFY_FOR > LONGEST_TOKEN + PASSPORT_LIFE);
        let stays = VERIFY_FOR.as_secs();
        // The second and third were made when the one before the first began, and when it stopped.
        let keys = [
            key("a", KeyState::VerifyOnly, 0),
            key("b", KeyState::Active, 10),
            key("c", KeyState::Next, 500),
        ];
        assert_eq!(gone_at(&keys, &keys[0]), Some(at(500 + stays)));
        assert_eq!(gone_at(&keys, &keys[1]), None);
    }

    #[test]
    fn keys_made_at_one_moment_stay_longer_never_shorter() {
        // The first two of an installation: `b` began when `c` was made and stopped with `d`.
        let keys = [
            key("a", KeyState::VerifyOnly, 0),
            key("b", KeyState::VerifyOnly, 0),
            key("c", KeyState::Active, 100),
            key("d", KeyState::Next, 900),
        ];
        let stays = VERIFY_FOR.as_secs();
        for old in &keys[..2] {
            assert_eq!(gone_at(&keys, old), Some(at(900 + stays)));
        }
        // A successor that was killed: told by the next key alone.
        let killed = [key("a", KeyState::VerifyOnly, 0), key("d", KeyState::Next, 900)];
        assert_eq!(gone_at(&killed, &killed[0]), Some(at(900 + stays)));
        assert_eq!(gone_at(&killed[..1], &killed[0]), None, "nothing to tell by: it stays");
    }
}
