//! JSON, read by pulling and written in one form, without a tree.
//!
//! **Invariant:** no value is ever built as a tree, and no number is rounded.

/// JSON read, step by step.
pub(in crate::decode) mod json_reader;

/// JSON text that is being written.
pub(in crate::decode) mod json_text;

/// JSON written as JSONB prints it.
pub(in crate::decode) mod json_writer;

/// JSON's strings.
pub(in crate::decode) mod string;

/// Native metadata normalised.
pub(in crate::decode) mod normalize;
