//! What a request is about (`resource` in a rule): the path's parameters, and what was declared of
//! query, headers and body; each read once, typed, in the order of the operation's own lists.

use crate::field::Value;

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The path's parameters, decoded once, in the shape's order.
    pub parameters: Vec<(String, String)>,
    /// In the order of [`crate::compile::Operation::query`]; `None` where it is absent.
    pub query: Vec<Option<Value>>,
    /// In the order of [`crate::compile::Operation::header`].
    pub header: Vec<Option<Value>>,
    /// In the order of the fields of [`crate::compile::Operation::body`]; `None` while the body has
    /// not been read.
    pub body: Option<Vec<Option<Value>>>,
    /// Who owns the object; `None` while it has not been looked up.
    pub owner: Option<String>,
}

impl Resource {
    /// Of a path alone.
    pub fn of_path(parameters: Vec<(String, String)>) -> Self {
        Resource { parameters, ..Resource::default() }
    }
}
