//! Guessing made slow (`5-limits` point 6), charged before a hash is computed.
//!
//! From a known device that fits the account typed, only that device's own bucket; from anywhere
//! else address, prefix, account, and (account, address). So nobody locks the owner out, and a
//! success empties nothing but the bucket of the one who succeeded. Names that nobody has are
//! counted like any other.

use std::net::IpAddr;
use std::time::Duration;

use portcullis_core::id::{self, Id};
use portcullis_core::limit::{Bucket, Limit, Per, Rate};

use crate::desk::Desk;

/// The gateway charges the same buckets for forged and revoked tokens, under the same name.
const ADDRESS: &str = "failed_authentication";
const ACCOUNT: &str = "login_account";
const OWN: &str = "login_account_device";
const OTP: &str = "login_otp";
const DEVICE_SEEN: &str = "login_device_seen";
const DEVICE_ADDRESSES: &str = "login_device_addresses";

const DAY: Duration = Duration::from_secs(86_400);

/// A device at an address counts as new there once a day.
const SEEN: Rate = Rate { count: 1, period: DAY, burst: 1, per: Per::Caller };

/// New addresses of one device: a person on the road has a few, a copied cookie a hundred.
const ADDRESSES: Rate = Rate { count: 20, period: DAY, burst: 20, per: Per::Caller };

/// One attempt at a factor, with every bucket that it is counted in.
pub(crate) struct Attempt<'a> {
    desk: &'a Desk,
    counts: Vec<Count<'a>>,
}

struct Count<'a> {
    name: &'static str,
    position: usize,
    rate: &'a Rate,
    subject: Vec<u8>,
}

impl<'a> Attempt<'a> {
    /// At a password.
    pub(crate) fn at_password(
        desk: &'a Desk,
        login: &str,
        ip: Option<IpAddr>,
        device: Option<&Id<id::Device>>,
    ) -> Self {
        let throttles = &desk.settings.throttles;
        let mut attempt = Attempt { desk, counts: Vec::new() };
        if let Some(device) = device {
            attempt
                .count(OWN, &throttles.account_device, |_| pair(login, device.as_str().as_bytes()));
            return attempt;
        }
        attempt.count_address(ip);
        attempt.count(ACCOUNT, &throttles.account, |_| login.as_bytes().to_vec());
        attempt.count(OWN, &throttles.account_device, |_| pair(login, &address(Per::Ip, ip)));
        attempt
    }

    /// At a one-time password: after the first factor, so by the user alone; from a known device
    /// by that, or whoever has the password could lock its owner out.
    pub(crate) fn at_otp(
        desk: &'a Desk,
        user: &Id<id::User>,
        device: Option<&Id<id::Device>>,
    ) -> Self {
        let device = device.map(Id::as_str).unwrap_or_default();
        let subject = pair(user.as_str(), device.as_bytes());
        let mut attempt = Attempt { desk, counts: Vec::new() };
        attempt.count(OTP, &desk.settings.throttles.otp, |_| subject.clone());
        attempt
    }

    /// At a client's credential: a forged or unknown one charges its address, and no client.
    pub(crate) fn at_client(desk: &'a Desk, ip: Option<IpAddr>) -> Self {
        let mut attempt = Attempt { desk, counts: Vec::new() };
        attempt.count_address(ip);
        attempt
    }

    /// Charges every bucket.
    ///
    /// # Errors
    /// Whole seconds until the attempt would pass. All are asked before any is charged, so that a
    /// refusal by one does not eat another; two attempts at once may still both pay.
    pub(crate) fn charge(&self) -> Result<(), u64> {
        let (counters, now) = (&self.desk.shared.counters, self.desk.now);
        let asked = self.counts.iter().map(|count| counters.peek(count.bucket(), now));
        let refused = asked.filter(|charge| !charge.allowed).map(|charge| charge.retry_after).max();
        let refused = refused.or_else(|| {
            let charged = self.counts.iter().map(|count| counters.charge(count.bucket(), 1, now));
            // Each is charged, whatever the others said.
            let charged: Vec<_> = charged.collect();
            let over = charged.iter().filter(|charge| !charge.allowed);
            over.map(|charge| charge.retry_after).max()
        });
        match refused {
            // RFC 9110 §10.2.3: whole seconds, never less than the true wait.
            Some(wait) => {
                Err(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1))
            }
            None => Ok(()),
        }
    }

    /// The credential was right: only failures count, so this attempt's own unit is taken back.
    /// The bucket of the one who succeeded is emptied, and that alone: what failed before stays
    /// charged to address and account, or a guesser could reset them with an account of his own.
    pub(crate) fn succeeded(&self) {
        for count in &self.counts {
            let units = if count.name == OWN { count.rate.burst } else { 1 };
            self.desk.shared.counters.give_back(count.bucket(), units, self.desk.now);
        }
    }

    /// Nothing was tried after all.
    pub(crate) fn forget(&self) {
        for count in &self.counts {
            self.desk.shared.counters.give_back(count.bucket(), 1, self.desk.now);
        }
    }

    fn count_address(&mut self, ip: Option<IpAddr>) {
        self.count(ADDRESS, &self.desk.settings.throttles.address, |per| address(per, ip));
    }

    fn count(&mut self, name: &'static str, limit: &'a Limit, subject: impl Fn(Per) -> Vec<u8>) {
        for (position, rate) in limit.rates.iter().enumerate() {
            // The gateway skips these of `failed_authentication` too: an address names nobody.
            if name == ADDRESS && matches!(rate.per, Per::User | Per::Client) {
                continue;
            }
            self.counts.push(Count { name, position, rate, subject: subject(rate.per) });
        }
    }
}

/// Whether a known device has not shown up at too many addresses of late. `6-attacks`: a cookie
/// that comes from a hundred addresses was copied, and is worth nothing.
pub(crate) fn settled(desk: &Desk, device: &Id<id::Device>, ip: Option<IpAddr>) -> bool {
    let (counters, now) = (&desk.shared.counters, desk.now);
    let here = pair(device.as_str(), &address(Per::Ip, ip));
    let of = |limit, rate, subject| Bucket { limit, position: 0, rate, subject };
    let seen = of(DEVICE_SEEN, &SEEN, &here);
    let addresses = of(DEVICE_ADDRESSES, &ADDRESSES, device.as_str().as_bytes());
    if !counters.peek(seen, now).allowed {
        return true;
    }
    // An address that is refused is not marked, and so is new again the next time.
    let few = counters.charge(addresses, 1, now).allowed;
    if few {
        counters.charge(seen, 1, now);
    }
    few
}

impl Count<'_> {
    fn bucket(&self) -> Bucket<'_> {
        let (limit, position, rate) = (self.name, self.position, self.rate);
        Bucket { limit, position, rate, subject: &self.subject }
    }
}

fn pair(login: &str, other: &[u8]) -> Vec<u8> {
    // No login has a NUL in it, so the parts cannot slide.
    [login.as_bytes(), &[0], other].concat()
}

/// The bytes that the gateway counts an address under (`5-limits` point 3): IPv4 /32 and /24,
/// IPv6 /64 and /48.
fn address(per: Per, ip: Option<IpAddr>) -> Vec<u8> {
    let Some(ip) = ip else { return Vec::new() };
    let (mut bytes, kept) = match (ip.to_canonical(), per) {
        (IpAddr::V4(ip), Per::Prefix) => (ip.octets().to_vec(), 3),
        (IpAddr::V4(ip), _) => (ip.octets().to_vec(), 4),
        (IpAddr::V6(ip), Per::Prefix) => (ip.octets().to_vec(), 6),
        (IpAddr::V6(ip), _) => (ip.octets().to_vec(), 8),
    };
    bytes.truncate(kept);
    bytes
}

#[cfg(test)]
mod tests;
