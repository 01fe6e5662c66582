//! The rules of the mapping that changed from one version of the decoder to a later one.
//!
//! A record in the journal decodes as it was accepted, so a rule asks for the version of the record, never of this build.
//!
//! **Invariant:** a rule of a released version never changes; each change of the mapping is a rule of a later version.

use crate::event::Source;

/// The rules of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    version: u16,
}

impl Source {
    /// The rules that the request is mapped by.
    pub(super) const fn rules(&self) -> Rules {
        Rules {
            version: self.version,
        }
    }
}

impl Rules {
    /// From version 2 on, members of a native event that are no fields join its metadata; before, they are passed over.
    pub(super) const fn keeps_unknown_members(self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, half of a surrogate pair in a native event becomes U+FFFD; before, it makes the event invalid.
    pub(super) const fn repairs_lone_surrogates(self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, the pieces of an embedded message are merged; before, the last one counted.
    pub(super) const fn merges_pieces(self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, scopes under their names before OTLP 0.15 (`instrumentationLibrarySpans`, field 1000) are mapped
    /// if a resource has no others.
    pub(super) const fn maps_instrumentation_libraries(self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, half of a surrogate pair in OTLP's JSON becomes one U+FFFD; before, three question marks.
    pub(super) const fn replaces_half_surrogates(self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, texts that are cut to their column are flagged and counted.
    pub(super) const fn flags_cut_columns(self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, the receive time stands in for an OTLP time that is plainly in s, ms or µs.
    pub(super) const fn replaces_times_in_other_units(self) -> bool {
        self.version >= 2
    }

    /// From version 2 on, a span whose end is beyond the column's range (after the year 2262) is flagged, as one without
    /// an end is.
    pub(super) const fn flags_ends_out_of_range(self) -> bool {
        self.version >= 2
    }
}
