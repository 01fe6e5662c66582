//! Code that the tests share.

/// PostgreSQL: a separate database in the shared cluster, or a whole cluster that a test may stop and kill.
pub mod postgres;

/// Accepts connections for the proxy and the relay, and connects them to the server.
pub mod between;

/// A TCP proxy that cuts, stalls and loses answers.
pub mod proxy;

/// A TCP relay that delays.
pub mod relay;

/// The real binary as a process.
pub mod service;

/// Other projects' programs.
pub mod programs;

/// HTTP as bytes, and HTTP/2.
pub mod http;

/// HTTP/2 as frames.
pub mod frames;

/// An HTTP client.
pub mod client;

/// A `/metrics` page, read.
pub mod metrics;

/// The events that were sent, for comparison with the stored ones.
pub mod ledger;

/// Clients that send without end.
pub mod load;

/// Ports that are known before anything listens on them.
pub mod ports;

/// A real Prometheus server.
pub mod prometheus;

/// A limit of memory for a process.
pub mod memory_limit;

/// A disk whose syncs are slow.
pub mod slow_disk;
