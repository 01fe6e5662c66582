//! Queries: each case is asked of PostgreSQL and of SQLite, which hold the same events, and both answers must be the same
//! bytes.

/// The two stores with the same events in them, and one request to both.
mod stores;

/// Parameters to the events they find.
mod found;

/// Pages, one after another.
mod paging;

/// Slots, deadlines, absent databases.
mod limits;

/// Answers within their share of memory.
mod memory;

/// Pages as OTLP.
mod otlp;

/// Requests that are at fault.
mod refused;

/// What PostgreSQL does for the API's queries.
mod plans;
