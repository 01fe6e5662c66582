//! Reads JSON step by step and writes it in one normal form.
//!
//! **Invariant:** no value is ever built as a tree, and no number is rounded.

/// A pull reader of JSON.
pub(in crate::decode) mod json_reader;

/// Whole numbers, eight digits at once.
pub(in crate::decode) mod digits;

/// JSON text that is being written.
pub(in crate::decode) mod json_text;

/// A writer of JSON in the form that JSONB prints.
pub(in crate::decode) mod json_writer;

/// JSON strings and their escapes.
pub(in crate::decode) mod string;

/// The normal form of native metadata.
pub(in crate::decode) mod normalize;
