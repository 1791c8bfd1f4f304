//! `acr_values` (OpenID Connect Core §3.1.2.1, RFC 9470 §4): how strongly the user must be proven.
//!
//! Taken as a demand, not as a wish: whoever sends it was told by an API that less is not enough,
//! and a token that is refused again would send the user round in circles.

use portcullis_core::oauth::error::{ErrorCode, OauthError};

/// How strongly a user must be proven for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Assurance {
    /// As the settings say.
    #[default]
    AsUsual,
    /// With a second factor, whatever the settings say (`aal2`).
    Second,
}

/// Reads the parameter: the first value that the factors which exist can reach. `phr` and `phrh`
/// (OpenID EAP ACR Values §2) want a passkey.
///
/// # Errors
/// `unmet_authentication_requirements` (RFC 9470 §5) when none of them can be reached.
pub(super) fn read(acr_values: Option<&str>) -> Result<Assurance, OauthError> {
    let mut words = acr_values.unwrap_or_default().split(' ').filter(|word| !word.is_empty());
    let reachable = |word| match word {
        "aal1" => Some(Assurance::AsUsual),
        "aal2" => Some(Assurance::Second),
        _ => None,
    };
    let Some(first) = words.next() else { return Ok(Assurance::AsUsual) };
    // In the client's order of preference.
    let found = std::iter::once(first).chain(words).find_map(reachable);
    found.ok_or_else(|| {
        OauthError::new(
            ErrorCode::UnmetAuthenticationRequirements,
            "AssuranceUnreachable",
            "none of acr_values can be reached here; aal1 and aal2 can",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_that_can_be_reached_counts() {
        for (asked, expected) in [
            (None, Assurance::AsUsual),
            (Some(" "), Assurance::AsUsual),
            (Some("aal1"), Assurance::AsUsual),
            (Some("aal2"), Assurance::Second),
            (Some("aal2 aal1"), Assurance::Second),
            (Some("aal1 aal2"), Assurance::AsUsual),
            (Some("phrh phr  aal2"), Assurance::Second),
            (Some("urn:other aal1"), Assurance::AsUsual),
        ] {
            assert_eq!(read(asked).ok(), Some(expected), "{asked:?}");
        }
    }

    #[test]
    fn assurance_unreachable() {
        for asked in ["phr", "phrh", "phr phrh", "AAL2", "aal3", "aal2,aal1"] {
            let error = read(Some(asked)).expect_err(asked);
            assert_eq!(error.code.as_str(), "unmet_authentication_requirements");
            assert_eq!(error.rule, "AssuranceUnreachable");
        }
    }
}
