//! Tests of the body reader.
