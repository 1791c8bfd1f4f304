//! A value that cannot be printed, compared with `==` or left in memory.
//!
//! ```compile_fail,E0277
//! let secret = portcullis_core::secret::Secret::new(String::from("s3cret"));
//! println!("{:?}", secret);
//! ```
//! The twin, which differs by the one forbidden expression:
//! ```
//! let secret = portcullis_core::secret::Secret::new(String::from("s3cret"));
//! println!("{:?}", secret.expose().len());
//! ```

use zeroize::Zeroize;

/// A secret: no `Debug`, no `Display`, no `==`; zeroised when dropped.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes a secret in.
    pub fn new(value: T) -> Self {
        Secret(value)
    }

    /// The only way to the value. Each call site is a place that an auditor looks at.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Constant-time comparison; lengths are not secret.
    pub fn matches(&self, other: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_ref(), other).is_ok()
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn comparison_sees_every_byte() {
        let secret = Secret::new(b"s3cret".to_vec());
        assert!(secret.matches(b"s3cret"));
        for other in [&b""[..], b"s3cre", b"s3creT", b"s3cret ", b"S3cret"] {
            assert!(!secret.matches(other), "{other:?}");
        }
    }

    /// Writes down that it was zeroised.
    struct Watched(Arc<Mutex<bool>>);

    impl Zeroize for Watched {
        fn zeroize(&mut self) {
            *self.0.lock().expect("one thread") = true;
        }
    }

    #[test]
    fn a_dropped_secret_is_zeroised() {
        let zeroised = Arc::new(Mutex::new(false));
        let secret = Secret::new(Watched(zeroised.clone()));
        assert!(!*zeroised.lock().expect("one thread"));
        drop(secret);
        assert!(*zeroised.lock().expect("one thread"));
    }
}
