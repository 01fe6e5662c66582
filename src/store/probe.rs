//! The harmless row that probes if a database accepts rows at all.
//!
//! **Invariant:** every database of the right shape accepts it.

use crate::event::Event;
use crate::store::row_encoding::EncodedRows;

/// Returns one harmless row with an old time of receipt.
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
