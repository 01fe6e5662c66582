//! Decodes OTLP requests: protobuf and JSON to validated items, and items to rows.
//!
//! **Invariant:** the same message in protobuf and in JSON yields the same events.

/// The outer levels of a request in protobuf.
pub(in crate::decode) mod protobuf_request;

/// The outer levels of a request in JSON.
pub(in crate::decode) mod json_request;

/// The same for requests whose members are in the usual order.
pub(in crate::decode) mod json_in_order;

/// Items of a request in JSON that are rejected together.
pub(in crate::decode) mod json_rejection;

/// Metrics in JSON and their data points.
pub(in crate::decode) mod json_metric;

/// Conversion of a message in OTLP's JSON to protobuf.
pub(in crate::decode) mod json_to_protobuf;

/// The fields of each message, as tables.
pub(in crate::decode) mod schema;

/// Validation of one item before it is mapped.
pub(in crate::decode) mod validate;

/// Merging of messages that arrive in pieces.
pub(in crate::decode) mod pieces;

/// A resource and its scope, with their id.
pub(in crate::decode) mod resource_scope;

/// Acceptance or rejection of each item, and its row.
pub(in crate::decode) mod row_builder;

/// The traits of all kinds of items, and the fields that they have in common.
pub(in crate::decode) mod item;

/// Conversion of a span to a row.
pub(in crate::decode) mod span;

/// Conversion of a log record to a row.
pub(in crate::decode) mod log_record;

/// A metric's envelope and its data points.
pub(in crate::decode) mod metric;

/// Conversion of a data point to a row.
pub(in crate::decode) mod data_point;

/// The attributes that fill columns.
pub(in crate::decode) mod column_keys;

/// The order of keys and their JSON.
pub(in crate::decode) mod key_layout;

/// Key-value pairs in order.
pub(in crate::decode) mod key_values;

/// Attributes and values as JSON.
pub(in crate::decode) mod any_value;
