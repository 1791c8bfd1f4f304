//! The password: argon2id in a bounded pool of threads, the same work for every name.
//!
//! Hashing takes tens of milliseconds and 19 MiB; the pool keeps a flood of logins from taking
//! every core and all memory. A full queue is said so (503), never waited for. Which account a
//! password belongs to, and how often it may be tried, is not decided here.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Params, Version};
use portcullis_core::entropy::Entropy;
use portcullis_core::hash::same;
use portcullis_core::jose::base64url;
use portcullis_core::secret::Secret;
use tokio::sync::oneshot;

/// Longest password, in bytes (NIST SP 800-63B-4 §3.1.1.2 wants at least 64 characters): more
/// would only be work for us.
pub const MAX_PASSWORD: usize = 256;

/// Hashes that wait for a thread: about a second of work for two threads.
const QUEUE: usize = 64;

/// 19 MiB, t = 2, p = 1 (OWASP's first choice; `4-identity`, "Factors").
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Most that a hash at rest may ask of us: an import or a restored file must not stop the pool.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 4;

/// Every thread is busy and the queue is full: answer 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked; try again in a moment")]
pub struct PoolFull;

/// The hash of nobody's password, verified when there is no account: the same work as for one.
/// Its parts are what [`hash`] writes; no password is known for it.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGF0IGFsbCEhIQ$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Threads that verify passwords.
pub(crate) struct PasswordPool {
    jobs: SyncSender<Job>,
}

struct Job {
    password: Secret<String>,
    hash: Option<String>,
    answer: oneshot::Sender<Verdict>,
}

/// What became of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the account's.
    Fits,
    /// It is not, or there is no account.
    Wrong,
}

impl PasswordPool {
    /// Starts max(1, cores − 1) threads; they end with the pool.
    pub(crate) fn start() -> Result<Self, std::io::Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with(cores.saturating_sub(1).max(1), QUEUE)
    }

    fn with(threads: usize, queue: usize) -> Result<Self, std::io::Error> {
        let (jobs, waiting) = sync_channel::<Job>(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads {
            let waiting = waiting.clone();
            let name = format!("password-{number}");
            std::thread::Builder::new().name(name).spawn(move || work(&waiting))?;
        }
        Ok(PasswordPool { jobs })
    }

    /// Whether the password is the one of the hash; `None` stands for an account that is not there
    /// and costs the same.
    ///
    /// # Errors
    /// [`PoolFull`] at once, without waiting.
    pub(crate) async fn verify(
        &self,
        password: Secret<String>,
        hash: Option<String>,
    ) -> Result<Verdict, PoolFull> {
        let (answer, answered) = oneshot::channel();
        match self.jobs.try_send(Job { password, hash, answer }) {
            Ok(()) => answered.await.map_err(|_| PoolFull),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(PoolFull),
        }
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        // A holder of this lock only receives; poison could come from nowhere.
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // Whoever asked is gone (the browser closed): the work would be for nobody.
        if job.answer.is_closed() {
            continue;
        }
        let against = job.hash.as_deref().unwrap_or(NOBODY);
        let fits = verify(job.password.expose(), against) && job.hash.is_some();
        let _ = job.answer.send(if fits { Verdict::Fits } else { Verdict::Wrong });
    }
}

/// Hashes a password into a PHC string. For the CLI and the pool's own threads: it takes tens of
/// milliseconds.
pub fn hash(password: &Secret<String>, entropy: &dyn Entropy) -> Option<String> {
    let mut salt = [0u8; SALT_BYTES];
    entropy.fill(&mut salt);
    let cost = Cost { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES };
    let digest = derive(password.expose(), &salt, cost)?;
    Some(format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        phc_encode(&salt),
        phc_encode(digest.expose()),
    ))
}

/// RFC 9106 §3.1: the parameters of one hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

fn verify(password: &str, hash: &str) -> bool {
    let Some((cost, salt, wanted)) = parse(hash) else { return false };
    derive(password, &salt, cost).is_some_and(|found| same(found.expose(), &wanted))
}

fn derive(password: &str, salt: &[u8], cost: Cost) -> Option<Secret<Vec<u8>>> {
    if password.len() > MAX_PASSWORD {
        return None;
    }
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(HASH_BYTES)).ok()?;
    let mut out = vec![0u8; HASH_BYTES];
    // RFC 9106 §4: argon2id, version 0x13.
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut out)
        .ok()?;
    Some(Secret::new(out))
}

/// Reads `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, and nothing else.
fn parse(phc: &str) -> Option<(Cost, Vec<u8>, Vec<u8>)> {
    let rest = phc.strip_prefix("$argon2id$v=19$")?;
    let (parameters, rest) = rest.split_once('$')?;
    let (salt, hash) = rest.split_once('$')?;
    let (memory, rest) = parameters.strip_prefix("m=")?.split_once(",t=")?;
    let (passes, lanes) = rest.split_once(",p=")?;
    let cost = Cost {
        memory_kib: memory.parse().ok().filter(|m| *m <= MEMORY_KIB_MAX)?,
        passes: passes.parse().ok().filter(|t| *t <= PASSES_MAX)?,
        lanes: lanes.parse().ok().filter(|p| *p <= LANES_MAX)?,
    };
    Some((cost, phc_decode(salt)?, phc_decode(hash)?))
}

/// The PHC format's B64: the standard alphabet, without padding.
fn phc_encode(bytes: &[u8]) -> String {
    base64url::encode(bytes).replace('-', "+").replace('_', "/")
}

fn phc_decode(text: &str) -> Option<Vec<u8>> {
    base64url::decode(&text.replace('+', "-").replace('/', "_")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_core::entropy::SeededEntropy;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_hash_fits_its_own_password_alone() {
        let made = hash(&secret("correct horse"), &SeededEntropy::new(1)).expect("hashed");
        assert!(made.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{made}");
        assert!(verify("correct horse", &made));
        for wrong in ["", "correct horsf", "Correct horse", "correct horse "] {
            assert!(!verify(wrong, &made), "{wrong}");
        }
    }

    #[test]
    fn a_hash_made_elsewhere_verifies() {
        // The argon2 reference implementation: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1
        let reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$\
                         CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify("password", reference));
    }

    #[test]
    fn every_salt_is_new() {
        let entropy = SeededEntropy::new(1);
        let (one, two) = (hash(&secret("same"), &entropy), hash(&secret("same"), &entropy));
        assert_ne!(one, two);
    }

    #[test]
    fn password_too_long_is_never_hashed() {
        let long = "a".repeat(MAX_PASSWORD + 1);
        assert!(hash(&secret(&long), &SeededEntropy::new(1)).is_none());
        assert!(hash(&secret(&long[1..]), &SeededEntropy::new(1)).is_some());
    }

    #[test]
    fn malformed_or_costly_hashes_fit_nothing() {
        for phc in [
            "",
            "plain",
            "$argon2i$v=19$m=19456,t=2,p=1$c29tc2FsdA$AAAA",
            "$argon2id$v=16$m=19456,t=2,p=1$c29tc2FsdA$AAAA",
            "$argon2id$v=19$m=4294967295,t=2,p=1$c29tc2FsdA$AAAA",
            "$argon2id$v=19$m=19456,t=4294967295,p=1$c29tc2FsdA$AAAA",
            "$argon2id$v=19$m=19456,t=2,p=1$!!$AAAA",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tc2FsdA$",
        ] {
            assert!(!verify("", phc), "{phc}");
        }
    }

    #[test]
    fn the_work_for_nobody_is_the_work_for_somebody() {
        let made = hash(&secret("x"), &SeededEntropy::new(1)).expect("hashed");
        let (nobody, somebody) = (parse(NOBODY).expect("a hash"), parse(&made).expect("a hash"));
        assert_eq!(nobody.0, somebody.0);
        assert_eq!((nobody.1.len(), nobody.2.len()), (somebody.1.len(), somebody.2.len()));
    }

    #[tokio::test]
    async fn nobody_is_never_let_in() {
        let pool = PasswordPool::with(1, 1).expect("threads");
        assert_eq!(pool.verify(secret("anything"), None).await, Ok(Verdict::Wrong));
        let hash = hash(&secret("right"), &SeededEntropy::new(1));
        assert_eq!(pool.verify(secret("right"), hash.clone()).await, Ok(Verdict::Fits));
        assert_eq!(pool.verify(secret("wrong"), hash).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn pool_full() {
        // No thread takes anything out: the second of one place is refused at once.
        let (jobs, _kept) = sync_channel(1);
        let pool = PasswordPool { jobs };
        let (answer, _answered) = oneshot::channel();
        let job = Job { password: secret("first"), hash: None, answer };
        assert!(pool.jobs.try_send(job).is_ok());
        assert_eq!(pool.verify(secret("second"), None).await, Err(PoolFull));
    }
}
