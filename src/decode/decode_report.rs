//! What was taken and what was not, as the answer needs it.
//!
//! **Invariant:** however many items are rejected, no more than 20 rejections are described.

use crate::decode::{DecodeError, DecodeReport, Rejection, UnknownMemberFate, UnknownName};
use crate::event::Sanitized;
use crate::text::shown;

const REJECTIONS: usize = 20;

const UNKNOWN_NAMES: usize = 10;

/// Most that comes is about as long when it is written. What is a multiple of it, such as `1e300` in plain digits, may
/// make a request so much longer: this bounds the bytes that one request may write into the store.
const EXPANSION_BYTES: usize = 128 << 20;

/// The same for members that are no fields, apart, so that they take no room from what was accepted without them.
const UNKNOWN_EXPANSION_BYTES: usize = 16 << 20;

/// Why an item is not taken for which there is no such room.
pub(super) const TOO_EXPANDED: &str =
    "this request's numbers in plain digits and its texts with escapes are too long";

/// Counts items as they go by.
#[derive(Debug, Default)]
pub(super) struct ReportBuilder {
    checked: DecodeReport,
    swell_bytes: usize,
    unknown_swell_bytes: usize,
}

impl ReportBuilder {
    /// The items so far: the next one's number, from 0.
    pub(super) const fn items(&self) -> u32 {
        self.checked.accepted.saturating_add(self.checked.rejected)
    }

    /// The items that were taken so far.
    pub(super) const fn accepted(&self) -> u32 {
        self.checked.accepted
    }

    /// An item is taken; `unix_nano` is its time, if it gave one.
    pub(super) fn accept(&mut self, unix_nano: Option<i64>) {
        self.checked.accepted = self.checked.accepted.saturating_add(1);
        self.checked.latest_unix_nano = self.checked.latest_unix_nano.max(unix_nano);
    }

    /// Whether an item may be so many bytes longer when it is written; if so they are taken.
    pub(super) const fn add_expansion(&mut self, bytes: usize) -> bool {
        let all = self.swell_bytes.saturating_add(bytes);
        if all > EXPANSION_BYTES {
            return false;
        }
        self.swell_bytes = all;
        true
    }

    /// The same for a member that is no field.
    pub(super) const fn add_unknown_expansion(&mut self, bytes: usize) -> bool {
        let all = self.unknown_swell_bytes.saturating_add(bytes);
        if all > UNKNOWN_EXPANSION_BYTES {
            return false;
        }
        self.unknown_swell_bytes = all;
        true
    }

    /// Counts members of that name that are no fields; `meant` is asked for the first ones.
    pub(super) fn unknown(
        &mut self,
        name: &str,
        fate: UnknownMemberFate,
        meant: impl FnOnce(&str) -> Option<&'static str>,
    ) {
        self.count_unknown(fate, 1);
        let names = &mut self.checked.unknown.names;
        let find = |name: &str| names.iter().position(|known| known.name == name);
        // Most names are shown as they are: no text is made for one that is known.
        let (at, shown) = match find(name) {
            Some(at) => (Some(at), String::new()),
            None => {
                let shown = shown(name);
                (find(&shown), shown)
            }
        };
        if let Some(at) = at {
            names[at].fate = names[at].fate.max(fate);
        } else if names.len() < UNKNOWN_NAMES {
            names.push(UnknownName {
                name: shown,
                meant: meant(name),
                fate,
            });
        }
    }

    /// Counts members without a name.
    pub(super) const fn count_unknown(&mut self, fate: UnknownMemberFate, members: u32) {
        let all = &mut self.checked.unknown;
        let count = match fate {
            UnknownMemberFate::Kept => &mut all.kept,
            UnknownMemberFate::LeftOut => &mut all.left_out,
        };
        *count = count.saturating_add(members);
    }

    pub(super) const fn reject(&mut self) {
        self.checked.rejected = self.checked.rejected.saturating_add(1);
    }

    /// Notes a name around the items that is not known; the first one is kept, if nothing was found before it.
    pub(super) fn unknown_name(&mut self, name: &str) {
        if self.items() == 0 && self.checked.unknown_name.is_none() {
            self.checked.unknown_name = Some(shown(name));
        }
    }

    /// Describes why an item is rejected; `reason` is asked only while there is room for it.
    pub(super) fn describe(
        &mut self,
        index: u32,
        field: Option<&str>,
        reason: impl FnOnce() -> String,
    ) {
        if self.checked.rejections.len() < REJECTIONS {
            self.checked.rejections.push(Rejection {
                index,
                field: field.map(str::to_owned),
                reason: reason(),
            });
        }
    }

    pub(super) const fn sanitized(&mut self, seen: &Sanitized) {
        let all = &mut self.checked.sanitized;
        all.nul = all.nul.saturating_add(seen.nul);
        all.utf8 = all.utf8.saturating_add(seen.utf8);
        all.time = all.time.saturating_add(seen.time);
        all.cut = all.cut.saturating_add(seen.cut);
        all.string_reference = all.string_reference.saturating_add(seen.string_reference);
    }

    /// The whole of a request in which invalid items are left out; it fails if they are all there is.
    pub(super) fn finish(mut self) -> Result<DecodeReport, DecodeError> {
        if self.items() > 0 {
            self.checked.unknown_name = None;
        }
        if self.checked.rejected > 0 && self.checked.accepted == 0 {
            return Err(DecodeError::Invalid(Box::new(self.checked)));
        }
        Ok(self.checked)
    }

    /// The whole of a request that is a unit: it fails with any invalid item.
    pub(super) fn finish_unit(self) -> Result<DecodeReport, DecodeError> {
        if self.checked.rejected > 0 {
            return Err(DecodeError::Invalid(Box::new(self.checked)));
        }
        Ok(self.checked)
    }

    /// The whole of a request in which there may be no valid item at all.
    pub(super) fn finish_partial(self) -> DecodeReport {
        self.checked
    }
}

/// A piece of the input for an error text, quoted.
pub(super) fn echo(text: &str) -> String {
    format!("\"{}\"", shown(text))
}
