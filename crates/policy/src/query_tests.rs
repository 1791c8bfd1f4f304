//! Tests of the query reader.
