//! The signature algorithms, closed: a name that is not here does not verify.

/// A JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519, under its old name `EdDSA` or its full one `Ed25519`.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PSS with SHA-256; keys of 2048 bits or more.
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256; only for issuers and clients that say so.
    Rs256,
}

impl Algorithm {
    /// The name minted into headers and metadata.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::EdDsa => "EdDSA",
            Algorithm::Es256 => "ES256",
            Algorithm::Ps256 => "PS256",
            Algorithm::Rs256 => "RS256",
        }
    }
    /// Reads a header's `alg`, exactly: `none` in any case, HMAC and the rest are not here.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "EdDSA" | "Ed25519" => Some(Algorithm::EdDsa),
            "ES256" => Some(Algorithm::Es256),
            "PS256" => Some(Algorithm::Ps256),
            "RS256" => Some(Algorithm::Rs256),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back() {
        use Algorithm::*;
        for algorithm in [EdDsa, Es256, Ps256, Rs256] {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_name("Ed25519"), Some(EdDsa));
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "none", "NONE", "HS256", "es256", "ES384", "RS512", "Ed448", "ES256\0"] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
    }
}
