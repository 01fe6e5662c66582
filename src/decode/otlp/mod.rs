//! OTLP requests: protobuf and JSON to validated items, and items to rows.
//!
//! **Invariant:** the same message in protobuf and in JSON yields the same events.

/// OTLP: the outer levels over the wire, each item surveyed, then mapped.
pub(in crate::decode) mod protobuf_request;

/// The same in JSON.
pub(in crate::decode) mod json_request;

/// The same in JSON.
pub(in crate::decode) mod json_metric;

/// A message of OTLP's JSON to protobuf.
pub(in crate::decode) mod json_to_protobuf;

/// What each message holds, as tables.
pub(in crate::decode) mod schema;

/// One item looked over before anything is made of it.
pub(in crate::decode) mod validate;

/// Messages in pieces put together.
pub(in crate::decode) mod pieces;

/// A resource and its scope, with their id.
pub(in crate::decode) mod resource_scope;

/// What is done with each item.
pub(in crate::decode) mod row_builder;

/// What all kinds of items have in common.
pub(in crate::decode) mod item;

/// A span to a row.
pub(in crate::decode) mod span;

/// A log record to a row.
pub(in crate::decode) mod log_record;

/// A metric's envelope, and its points one by one.
pub(in crate::decode) mod metric;

/// A data point to a row.
pub(in crate::decode) mod data_point;

/// Attributes and values as JSON.
pub(in crate::decode) mod any_value;
