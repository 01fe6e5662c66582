//! The row that tells whether a database takes any.
//!
//! **Invariant:** every database of the right shape takes it.

use crate::event::{Event, EventFlags};
use crate::store::row_encoding::EncodedRows;

/// One harmless row, received long ago.
pub(super) fn probe_row() -> EncodedRows {
    let event = Event {
        correlation_id: "ruvvector-probe".into(),
        integration: "ruvvector".into(),
        provider: None,
        event_type: "probe".into(),
        timestamp_ms: 0,
        metadata: "{}".into(),
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        name: None,
        time_unix_nano: None,
        duration_ns: None,
        kind: None,
        status: None,
        resource_id: None,
        flags: EventFlags::default(),
    };
    let mut rows = EncodedRows::default();
    rows.push(&event, 0);
    rows
}
