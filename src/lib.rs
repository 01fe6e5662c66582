//! RuvVector Service: an OTLP-compatible collector that is durable before it answers.
//!
//! The modules stand in the order of the data's way:
//! `receive -> decode -> log (append, group sync) -> 200 … log -> write -> store -> query`.

/// Every setting: name, default, meaning.
pub mod config;

/// The values that travel.
pub mod event;

/// Why a request is not answered with success.
pub mod error;

/// Connections and bodies under limits, and the answers.
pub mod receive;

/// Bytes to events.
pub mod decode;

/// Durable before the answer.
pub mod log;

/// Log to store, exactly once.
pub mod write;

/// PostgreSQL and SQLite.
pub mod store;

/// Parameters to SQL to a page.
pub mod query;

/// Health, metrics, log lines.
pub mod observe;
