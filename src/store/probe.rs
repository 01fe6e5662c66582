//! The row that tells whether a database takes any.
//!
//! **Invariant:** every database of the right shape takes it.

use crate::event::Event;
use crate::store::row_encoding::EncodedRows;

/// One harmless row, received long ago.
pub(super) fn probe_row() -> EncodedRows {
    let event = Event {
        correlation_id: "ruvvector-probe".into(),
        integration: "ruvvector".into(),
        event_type: "probe".into(),
        ..Event::EMPTY
    };
    let mut rows = EncodedRows::default();
    rows.push(&event, 0);
    rows
}
