//! What a document's `security` says about who may call an operation. Its own list replaces the
//! document's (OpenAPI 3.1 §4.8.10); both name schemes of `components`.

use portcullis_core::fault::Fault;

use super::DocumentedSecurity;
use super::node::{Node, References};

/// Of one operation.
pub(super) fn of<'n>(
    references: &References<'n>,
    operation: &'n Node,
) -> Result<DocumentedSecurity, Fault> {
    let own = operation.member("security").or_else(|| references.root.member("security"));
    let Some(security) = own else { return Ok(DocumentedSecurity::Silent) };
    let requirements = security.items();
    // OpenAPI 3.1 §4.8.30: an empty requirement makes the others optional.
    if requirements.is_empty() || requirements.iter().any(|one| one.members().is_empty()) {
        return Ok(DocumentedSecurity::Public);
    }
    let mut alternatives = Vec::new();
    for requirement in requirements {
        let mut scopes: Vec<String> = Vec::new();
        for (name, asked) in requirement.members() {
            let asked = asked.items().iter().filter_map(Node::text);
            let asked: Vec<String> = asked.map(str::to_owned).collect();
            match scheme(references, name)? {
                Scheme::Tokens => scopes.extend(asked),
                Scheme::Bearer if asked.is_empty() => {}
                // OpenAPI 3.1 §4.8.30: these are roles of the API's own making, no scopes.
                Scheme::Bearer => {
                    let other = format!("bearer with {}", asked.join(" "));
                    return Ok(DocumentedSecurity::Other(other));
                }
                Scheme::Other(other) => return Ok(DocumentedSecurity::Other(other)),
            }
        }
        alternatives.push(scopes);
    }
    Ok(DocumentedSecurity::Scopes(alternatives))
}

enum Scheme {
    /// OAuth or OpenID Connect: what is asked for are scopes.
    Tokens,
    /// `http` with `bearer`.
    Bearer,
    /// What Portcullis does not take on its own.
    Other(String),
}

fn scheme(references: &References<'_>, name: &str) -> Result<Scheme, Fault> {
    let components = references.root.member("components");
    let schemes = components.and_then(|all| all.member("securitySchemes"));
    let Some(scheme) = schemes.and_then(|schemes| schemes.member(name)) else {
        return Ok(Scheme::Other(format!("{name} (not defined)")));
    };
    let scheme = references.resolve(scheme)?;
    let text = |key: &str| scheme.member(key).and_then(Node::text).unwrap_or_default();
    Ok(match text("type") {
        "oauth2" | "openIdConnect" => Scheme::Tokens,
        "http" if text("scheme").eq_ignore_ascii_case("bearer") => Scheme::Bearer,
        "http" => Scheme::Other(text("scheme").to_ascii_lowercase()),
        other => Scheme::Other(other.to_owned()),
    })
}
