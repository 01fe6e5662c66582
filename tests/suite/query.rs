//! Queries: each case is asked of PostgreSQL and of SQLite, which hold the same events, and both answers must be the same
//! bytes.

/// The two stores with the same events in them, and one request to both.
mod stores;

/// Parameters and the events that they find.
mod found;

/// Numbers of events, errors and percentiles.
mod aggregates;

/// Successive pages.
mod paging;

/// Searches slice by slice, and events by their ids.
mod slices;

/// Slots, deadlines, unavailable databases.
mod limits;

/// Answers within their share of memory.
mod memory;

/// Pages as OTLP.
mod otlp;

/// Invalid requests.
mod refused;

/// PostgreSQL's plans for the API's queries.
mod plans;
