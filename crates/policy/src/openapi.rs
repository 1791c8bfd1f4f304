//! Our narrow view of an OpenAPI document (3.0, 3.1; JSON or YAML): paths, methods, parameters,
//! security. Doubled keys refused, YAML aliases within a budget, local `$ref` only, all sizes capped.

mod draft;
mod json;
mod node;
mod yaml;

use std::collections::HashSet;

use portcullis_core::fault::Fault;

pub use draft::draft_lines;

use self::node::{Node, NodeKind, Source, Unit, resolve};
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
        operations: Reader { root: &root, source: &source }.operations()?,
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
    Err(source.fault(
        "VersionUnsupported",
        at,
        message,
        "write or convert it to OpenAPI 3.0 or 3.1",
    ))
}

const METHODS: [(&str, &str); 6] = [
    ("get", "GET"),
    ("put", "PUT"),
    ("post", "POST"),
    ("delete", "DELETE"),
    ("options", "OPTIONS"),
    ("patch", "PATCH"),
];

struct Reader<'n> {
    root: &'n Node,
    source: &'n Source<'n>,
}

impl<'n> Reader<'n> {
    fn operations(&self) -> Result<Vec<DocumentedOperation>, Fault> {
        let mut operations = Vec::new();
        let mut seen = HashSet::new();
        let Some(paths) = self.root.member("paths") else { return Ok(operations) };
        for (written, item) in paths.members().iter().filter(|(path, _)| path.starts_with('/')) {
            let item = self.resolve(item)?;
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
                    return Err(self.source.fault("DocumentTooLarge", node.at, message, remedy));
                }
            }
        }
        Ok(operations)
    }

    fn resolve(&self, node: &'n Node) -> Result<&'n Node, Fault> {
        resolve(self.root, node, self.source)
    }

    fn operation(
        &self,
        method: &str,
        template: &Template,
        nodes: (&'n Node, &'n Node),
    ) -> Result<DocumentedOperation, Fault> {
        let (item, node) = nodes;
        let tags = node.member("tags").map(Node::items).unwrap_or_default();
        let mut path_parameters = Vec::new();
        for (written, name) in &template.parameters {
            let kind = self.parameter_kind(written, item, node)?;
            path_parameters.push((name.clone(), kind.to_owned()));
        }
        Ok(DocumentedOperation {
            method: method.to_owned(),
            path: template.path.clone(),
            id: node.member("operationId").and_then(Node::text).map(str::to_owned),
            tags: tags.iter().filter_map(Node::text).map(str::to_owned).collect(),
            path_parameters,
            security: self.security(node)?,
        })
    }

    /// The operation's own declaration before the path's.
    fn parameter_kind(
        &self,
        written: &str,
        item: &'n Node,
        node: &'n Node,
    ) -> Result<&'static str, Fault> {
        for owner in [node, item] {
            let declared = owner.member("parameters").map(Node::items).unwrap_or_default();
            for parameter in declared {
                let parameter = self.resolve(parameter)?;
                let is = |key: &str, value: &str| {
                    parameter.member(key).and_then(Node::text) == Some(value)
                };
                if !is("in", "path") || !is("name", written) {
                    continue;
                }
                let Some(schema) = parameter.member("schema") else { return Ok("string") };
                let schema = self.resolve(schema)?;
                return Ok(schema_kind(schema));
            }
        }
        Ok("string")
    }

    fn security(&self, node: &'n Node) -> Result<DocumentedSecurity, Fault> {
        let Some(security) = node.member("security").or_else(|| self.root.member("security"))
        else {
            return Ok(DocumentedSecurity::Silent);
        };
        let requirements = security.items();
        if requirements.is_empty() || requirements.iter().any(|one| one.members().is_empty()) {
            return Ok(DocumentedSecurity::Public);
        }
        let mut alternatives = Vec::new();
        for requirement in requirements {
            let mut scopes: Vec<String> = Vec::new();
            for (scheme, asked) in requirement.members() {
                if let Some(other) = self.foreign_scheme(scheme)? {
                    return Ok(DocumentedSecurity::Other(other));
                }
                scopes.extend(asked.items().iter().filter_map(Node::text).map(str::to_owned));
            }
            alternatives.push(scopes);
        }
        Ok(DocumentedSecurity::Scopes(alternatives))
    }

    /// The name of a scheme that is neither OAuth, OpenID Connect nor bearer.
    fn foreign_scheme(&self, name: &str) -> Result<Option<String>, Fault> {
        let schemes = self.root.member("components").and_then(|all| all.member("securitySchemes"));
        let Some(scheme) = schemes.and_then(|schemes| schemes.member(name)) else {
            return Ok(Some(format!("{name} (not defined)")));
        };
        let scheme = self.resolve(scheme)?;
        let text = |key: &str| scheme.member(key).and_then(Node::text).unwrap_or_default();
        Ok(match text("type") {
            "oauth2" | "openIdConnect" => None,
            "http" if text("scheme").eq_ignore_ascii_case("bearer") => None,
            "http" => Some(text("scheme").to_ascii_lowercase()),
            other => Some(other.to_owned()),
        })
    }

    fn bad_path(&self, written: &str, item: &Node) -> Fault {
        let message = format!("`{written}` is not a path that a rule can name");
        let remedy = "write it without empty or dot segments, query and fragment, and with at most 16 parameters";
        self.source.fault("PathMalformed", item.at, message, remedy)
    }

    fn path_twice(&self, node: &Node, method: &str, written: &str) -> Fault {
        let message = format!("`{method} {written}` has the same shape as another path");
        self.source.fault("ShapeTwice", node.at, message, "keep one of the two")
    }
}

fn schema_kind(schema: &Node) -> &'static str {
    let is = |key: &str, value: &str| match schema.member(key).map(|node| &node.kind) {
        Some(NodeKind::Scalar(text)) => text == value,
        // OpenAPI 3.1 writes `type: [integer]`.
        Some(NodeKind::List(items)) => {
            items.len() == 1 && items.iter().all(|item| item.text() == Some(value))
        }
        Some(NodeKind::Map(_)) | None => false,
    };
    if is("type", "integer") {
        "integer"
    } else if is("type", "string") && is("format", "uuid") {
        "uuid"
    } else {
        "string"
    }
}

/// A documented path in the spelling of an access line.
struct Template {
    path: String,
    /// The same without names, to find doubles.
    shape: String,
    /// As written, and as named in the line; a segment with several has the first's declaration
    /// only if it is that parameter alone.
    parameters: Vec<(String, String)>,
}

impl Template {
    fn of(written: &str) -> Option<Self> {
        let mut template =
            Template { path: String::new(), shape: String::new(), parameters: Vec::new() };
        for segment in written.strip_prefix('/')?.split('/') {
            template.path.push('/');
            template.shape.push('/');
            if segment.contains('{') {
                let whole = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
                let name = template.fresh_name(segment);
                template.path.push_str(&format!("{{{name}}}"));
                template.shape.push_str("{}");
                let declared = whole.filter(|inner| !inner.contains(['{', '}'])).unwrap_or("");
                template.parameters.push((declared.to_owned(), name));
            } else {
                let literal = encoded(&percent_decoded(segment));
                template.path.push_str(&literal);
                template.shape.push_str(&literal);
            }
        }
        crate::shape::Shape::parse(&template.path).is_ok().then_some(template)
    }

    /// `{accountId}` → `account_id`, `{year}-{month}` → `year_month`.
    fn fresh_name(&self, segment: &str) -> String {
        let mut name = String::new();
        let mut before = '_';
        for c in segment.chars() {
            if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
                name.push('_');
            }
            before = c;
            match c {
                '{' | '}' => {}
                c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
                _ => name.push('_'),
            }
        }
        name.truncate(48);
        if !name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') {
            name.insert(0, '_');
        }
        let taken = |name: &str| self.parameters.iter().any(|(_, known)| known == name);
        let mut count = 2;
        let mut fresh = name.clone();
        while taken(&fresh) {
            fresh = format!("{name}_{count}");
            count += 1;
        }
        fresh
    }
}

/// Percent escapes off; what is not UTF-8 then stays as it was.
fn percent_decoded(text: &str) -> String {
    String::from_utf8(unescape(text.as_bytes())).unwrap_or_else(|_| text.to_owned())
}

/// RFC 3986 §3.3: everything but `pchar` escaped, in upper case; `;` and `*` too, which shapes lack.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
