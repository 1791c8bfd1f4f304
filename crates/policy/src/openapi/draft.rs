//! `init`: the access lines that a document asks for. What it leaves open is `REVIEW`, which stays
//! closed until a person writes who may call.

use portcullis_core::scope::Scopes;

use super::{Document, DocumentedSecurity};

/// The access lines that `init` writes for a document: key and table text, e.g.
/// (`GET /rates`, `{ allow = "REVIEW-PUBLIC" }`), aligned by the caller. `default` fills the
/// REVIEW lines of reads alone (`init --default`), e.g. `allow = "user"`. A table may be followed
/// by a comment, so nothing can follow it on its line.
pub fn draft_lines(document: &Document, default: Option<&str>) -> Vec<(String, String)> {
    document
        .operations
        .iter()
        .map(|operation| {
            let key = format!("{} {}", operation.method, operation.path);
            let review = match default.filter(|_| operation.method == "GET") {
                Some(default) => format!("{{ {default} }}"),
                None => "{ allow = \"REVIEW\" }".to_owned(),
            };
            (key, table(&operation.security, review))
        })
        .collect()
}

fn table(security: &DocumentedSecurity, review: String) -> String {
    match security {
        DocumentedSecurity::Silent => review,
        DocumentedSecurity::Public => "{ allow = \"REVIEW-PUBLIC\" }".to_owned(),
        DocumentedSecurity::Other(scheme) => {
            format!("{review}  # the document asks for {}", harmless(scheme))
        }
        DocumentedSecurity::Scopes(alternatives) => scoped(alternatives, review),
    }
}

/// One table per alternative; more than a line can have, or no scopes at all, are for a person.
fn scoped(alternatives: &[Vec<String>], review: String) -> String {
    let mut tables: Vec<String> = Vec::new();
    for scopes in alternatives {
        let table = match Scopes::parse(&scopes.join(" ")) {
            Ok(scopes) if scopes.is_empty() => "{ allow = \"user\" }".to_owned(),
            Ok(scopes) => format!("{{ allow = \"user\", scope = \"{scopes}\" }}"),
            Err(_) => return format!("{review}  # the document's scopes cannot be read"),
        };
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    match tables.as_slice() {
        [one] => one.clone(),
        many if many.len() <= crate::line::MAX_ALTERNATIVES => format!("[{}]", many.join(", ")),
        _ => format!("{review}  # the document has more alternatives than a line can have"),
    }
}

/// A name from the document, fit for a comment.
fn harmless(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}
