//! The promises of the service, on the real components.

/// A private PostgreSQL, the real binary, an HTTP client.
pub mod support;

mod collector;
mod command_line;
mod config;
mod decode;
mod drain;
mod end_to_end;
mod export;
mod faults;
mod journal;
mod listen;
mod log_lines;
mod own_traces;
mod postgres;
mod query;
mod receive;
mod rotation;
mod sdk;
mod source;
mod sqlite;
mod store_kind;
mod supervisor;
mod telemetrygen;
mod write;
