//! JSON bodies that rules read: what one may hold, and the strict reader. The bytes judged are the
//! bytes sent on, so whatever two readers could understand differently is refused: members doubled
//! (also after case folding), undeclared members, numbers that do not fit, a byte order mark, lone
//! surrogates, deep nesting.
//!
//! What is judged where: syntax, depth and doubled members everywhere; undeclared members wherever
//! the shape is known; types and required members only on the way to what a rule reads, since the
//! rest is the upstream's to judge.

mod reader;
mod shape;

pub use reader::{BodyFault, read};
pub use shape::{BodyShape, Extra, Member};

/// Most bytes of a judged body unless the line says more.
pub const DEFAULT_MAX: u64 = 64 * 1024;
/// Most bytes that a line may ask for.
pub const MAX_BYTES: u64 = 1024 * 1024;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 32;
