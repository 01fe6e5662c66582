//! The row that tells whether a database takes any.
//!
//! **Invariant:** every database of the right shape takes it.

use super::copy::Rows;
use crate::event::Event;

/// One harmless row, received long ago.
pub(super) fn harmless() -> Rows {
    let event = Event {
        correlation_id: "ruvvector-probe".into(),
        integration: "ruvvector".into(),
        event_type: "probe".into(),
        ..Event::EMPTY
    };
    let mut rows = Rows::default();
    rows.push(&event, 0);
    rows
}
