//! Rules of the mapping that differ between versions of the decoder.
//!
//! A record in the journal decodes as it was accepted, so a rule depends on the record's version, never on this
//! build's.
//!
//! **Invariant:** a rule of a released version never changes; each change of the mapping is a rule of a later version.

use crate::event::Source;

impl Source {
    /// From version 2 on, members of a native event that are not fields are added to its metadata; before, they are
    /// ignored.
    pub(super) const fn keeps_unknown_members(&self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, half of a surrogate pair in a native event becomes U+FFFD; before, it makes the event
    /// invalid.
    pub(super) const fn repairs_lone_surrogates(&self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, the pieces of an embedded message are merged; before, the last piece counts.
    pub(super) const fn merges_pieces(&self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, if a resource has no scopes under the current name, those under the name before OTLP 0.15
    /// (`instrumentationLibrarySpans`, field 1000) are mapped.
    pub(super) const fn maps_instrumentation_libraries(&self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, half of a surrogate pair in OTLP's JSON becomes one U+FFFD; before, three question marks.
    pub(super) const fn replaces_half_surrogates(&self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, texts that are cut to their column are flagged and counted.
    pub(super) const fn flags_cut_columns(&self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, the receive time replaces an OTLP time that is plainly in s, ms or µs.
    pub(super) const fn replaces_times_in_other_units(&self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, a span whose end is beyond the column's range (after the year 2262) is flagged, as is a span
    /// without an end.
    pub(super) const fn flags_ends_out_of_range(&self) -> bool {
        self.version >= 2
    }
}
