//! Our narrow view of an OpenAPI document (3.0, 3.1; JSON or YAML): paths, methods, parameters,
//! security, bodies. Doubled keys refused, YAML aliases within a budget, local `$ref` only, all sizes
//! capped. The tree of the document is gone when it has been read: what rules may ask of an
//! operation stands in it.

mod carried;
mod draft;
mod json;
mod node;
mod schema;
mod security;
mod template;
mod yaml;

use std::collections::HashSet;
use std::sync::Arc;

use portcullis_core::fault::Fault;

pub use draft::draft_lines;

use self::carried::Declared;
use self::node::{Node, References, Source, Unit};
use self::schema::Schemas;
use self::template::Template;
use crate::body::BodyShape;
use crate::field::Field;
use crate::lookalike::unescape;

/// The part of a document that access rules need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The file's name as the operator wrote it.
    pub file: String,
    /// `info.title`.
    pub title: String,
    /// Its operations, in order.
    pub operations: Vec<DocumentedOperation>,
}

/// One operation of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentedOperation {
    /// Upper case.
    pub method: String,
    /// `/accounts/{account}`, in the spelling of an access line: parameters in lower case
    /// (`{accountId}` is `{account_id}`), a segment that is partly a parameter is one, literals
    /// percent-encoded.
    pub path: String,
    /// `operationId`.
    pub id: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Path parameters: name and type (`string`, `integer`, `uuid`).
    pub path_parameters: Vec<(String, String)>,
    /// Query parameters that a rule may read, in the document's order: those of one value, and
    /// lists with commas (`explode: false`).
    pub query: Vec<Field>,
    /// Header parameters that a rule may read; names in lower case.
    pub header: Vec<Field>,
    /// What an `application/json` body may hold; `None` where the document has none.
    pub body: Option<Arc<BodyShape>>,
    /// What the successful answer holds, if it is `application/json`.
    pub response: Option<Arc<BodyShape>>,
    /// What its `security` asks for.
    pub security: DocumentedSecurity,
}

/// What a document says about who may call.
#[derive(Clone, Debug, PartialEq)]
pub enum DocumentedSecurity {
    /// No `security` anywhere: REVIEW.
    Silent,
    /// `security: []`, or `{}` among others: REVIEW-PUBLIC.
    Public,
    /// OAuth scopes or bearer/openIdConnect: alternatives of scope lists.
    Scopes(Vec<Vec<String>>),
    /// `apiKey`, `basic`, `mutualTLS`: REVIEW, with the scheme named.
    Other(String),
}

/// Largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 32 * 1024 * 1024;
/// Most operations.
pub const MAX_OPERATIONS: usize = 5_000;

/// Reads a document; `file` is how messages name it. HEAD and TRACE are left out: HEAD follows GET,
/// TRACE never reaches a rule.
///
/// # Errors
/// A [`Fault`] with the place in the document.
pub fn read(file: &str, text: &str) -> Result<Document, Fault> {
    let is_json = match file.rsplit_once('.').map(|(_, ending)| ending) {
        Some("json") => true,
        Some("yaml" | "yml") => false,
        _ => text.trim_start().starts_with('{'),
    };
    let unit = if is_json { Unit::Bytes } else { Unit::Characters };
    let source = Source { file, text, unit };
    if text.len() > MAX_DOCUMENT_BYTES {
        let message = format!("the document has {} bytes", text.len());
        return Err(source.fault("DocumentTooLarge", 0, message, "keep to 32 MiB"));
    }
    let root = if is_json { json::read(&source)? } else { yaml::read(&source)? };
    check_version(&root, &source)?;
    let title = root.member("info").and_then(|about| about.member("title"));
    Ok(Document {
        file: file.to_owned(),
        title: title.and_then(Node::text).unwrap_or_default().to_owned(),
        operations: Reader::new(&References::new(&root, &source)).operations()?,
    })
}

/// A member that stands twice.
fn doubled(source: &Source<'_>, at: usize, name: &str) -> Fault {
    let message = format!("`{name}` stands twice in one object");
    source.fault("MemberDoubled", at, message, "keep one: readers disagree on which one counts")
}

fn check_version(root: &Node, source: &Source<'_>) -> Result<(), Fault> {
    let version = root.member("openapi");
    let known = |text: &str| {
        text == "3.0" || text == "3.1" || text.starts_with("3.0.") || text.starts_with("3.1.")
    };
    if version.and_then(Node::text).is_some_and(known) {
        return Ok(());
    }
    let (at, message) = match (version, root.member("swagger")) {
        (Some(version), _) => {
            let text = version.text().unwrap_or_default();
            (version.at, format!("OpenAPI `{text}` is not supported"))
        }
        (None, Some(swagger)) => (swagger.at, "Swagger 2 is not supported".to_owned()),
        (None, None) => (root.at, "not an OpenAPI document: `openapi` is missing".to_owned()),
    };
    let remedy = "write or convert it to OpenAPI 3.0 or 3.1; `npx swagger2openapi OLD -o NEW` \
                  converts Swagger 2.0";
    Err(source.fault("VersionUnsupported", at, message, remedy))
}

const METHODS: [(&str, &str); 6] = [
    ("get", "GET"),
    ("put", "PUT"),
    ("post", "POST"),
    ("delete", "DELETE"),
    ("options", "OPTIONS"),
    ("patch", "PATCH"),
];

struct Reader<'r, 'n> {
    references: &'r References<'n>,
    schemas: Schemas<'r, 'n>,
}

impl<'r, 'n> Reader<'r, 'n> {
    fn new(references: &'r References<'n>) -> Self {
        Reader { references, schemas: Schemas::new(references) }
    }

    fn operations(&self) -> Result<Vec<DocumentedOperation>, Fault> {
        let mut operations = Vec::new();
        let mut seen = HashSet::new();
        let Some(paths) = self.references.root.member("paths") else { return Ok(operations) };
        for (written, item) in paths.members().iter().filter(|(path, _)| path.starts_with('/')) {
            let item = self.references.resolve(item)?;
            let template = Template::of(written).ok_or_else(|| self.bad_path(written, item))?;
            for (name, method) in METHODS {
                let Some(node) = item.member(name) else { continue };
                let operation = self.operation(method, &template, (item, node))?;
                // OpenAPI 3.1 §4.8.8.1: templates that differ in names alone are identical.
                if !seen.insert((method, template.shape.clone())) {
                    return Err(self.path_twice(node, method, written));
                }
                operations.push(operation);
                if operations.len() > MAX_OPERATIONS {
                    let message = format!("more than {MAX_OPERATIONS} operations");
                    let remedy = "split the document over several APIs";
                    let source = self.references.source;
                    return Err(source.fault("DocumentTooLarge", node.at, message, remedy));
                }
            }
        }
        Ok(operations)
    }

    fn operation(
        &self,
        method: &str,
        template: &Template,
        nodes: (&'n Node, &'n Node),
    ) -> Result<DocumentedOperation, Fault> {
        let (item, node) = nodes;
        let tags = node.member("tags").map(Node::items).unwrap_or_default();
        let declared = Declared::of(&self.schemas, item, node)?;
        let parameters = template.parameters.iter();
        let path_parameters = parameters
            .map(|(written, name)| (name.clone(), declared.path_kind(written).to_owned()))
            .collect();
        Ok(DocumentedOperation {
            method: method.to_owned(),
            path: template.path.clone(),
            id: node.member("operationId").and_then(Node::text).map(str::to_owned),
            tags: tags.iter().filter_map(Node::text).map(str::to_owned).collect(),
            path_parameters,
            query: declared.query,
            header: declared.header,
            body: carried::body(&self.schemas, node)?,
            response: carried::response(&self.schemas, node)?,
            security: security::of(self.references, node)?,
        })
    }

    fn bad_path(&self, written: &str, item: &Node) -> Fault {
        let message = format!("`{written}` is not a path that a rule can name");
        let remedy = "write it without empty or dot segments, query and fragment, and with at most 16 parameters";
        self.references.source.fault("PathMalformed", item.at, message, remedy)
    }

    fn path_twice(&self, node: &Node, method: &str, written: &str) -> Fault {
        let message = format!("`{method} {written}` has the same shape as another path");
        self.references.source.fault("ShapeTwice", node.at, message, "keep one of the two")
    }
}

/// Percent escapes off; what is not UTF-8 then stays as it was.
fn percent_decoded(text: &str) -> String {
    String::from_utf8(unescape(text.as_bytes())).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
