//! Builds the report of a request: the counts of its accepted and rejected items, and the first reasons.
//!
//! **Invariant:** however many items are rejected, no more than 20 rejections are described.

use crate::decode::{DecodeError, DecodeReport, Rejection, UnknownMemberFate, UnknownName};
use crate::event::Sanitized;
use crate::text::shown;

const REJECTIONS: usize = 20;

const UNKNOWN_NAMES: usize = 10;

/// Maximum number of bytes by which a request's rows may exceed its body. Most values keep about their size, but
/// `1e300` becomes 301 digits.
const EXPANSION_BYTES: usize = 128 << 20;

/// The same limit for members that are not fields. It is separate, so that no item is rejected because of them.
const UNKNOWN_EXPANSION_BYTES: usize = 16 << 20;

/// Reason for rejecting an item that would exceed [`EXPANSION_BYTES`].
pub(super) const TOO_EXPANDED: &str =
    "this request's numbers in plain digits and its texts with escapes are too long";

/// Collects a [`DecodeReport`] while a walk accepts and rejects items.
#[derive(Debug, Default)]
pub(super) struct ReportBuilder {
    report: DecodeReport,
    /// An item or an object around items was changed, or an item expands to a multiple.
    is_not_clean: bool,
    expansion_bytes: usize,
    unknown_expansion_bytes: usize,
}

impl ReportBuilder {
    /// Returns the number of items so far, which is the next item's number from 0.
    pub(super) const fn items(&self) -> u32 {
        self.report.accepted.saturating_add(self.report.rejected)
    }

    /// Returns the number of items accepted so far.
    pub(super) const fn accepted(&self) -> u32 {
        self.report.accepted
    }

    /// Counts an accepted item; `unix_nano` is its time, if it gives one.
    pub(super) fn accept(&mut self, unix_nano: Option<i64>) {
        self.report.accepted = self.report.accepted.saturating_add(1);
        self.report.latest_unix_nano = self.report.latest_unix_nano.max(unix_nano);
    }

    /// Adds an item's expansion and returns true; if that would exceed [`EXPANSION_BYTES`], adds nothing and returns
    /// false.
    pub(super) const fn add_expansion(&mut self, bytes: usize) -> bool {
        add_within(&mut self.expansion_bytes, bytes, EXPANSION_BYTES)
    }

    /// The same for a member that is not a field, up to [`UNKNOWN_EXPANSION_BYTES`].
    pub(super) const fn add_unknown_expansion(&mut self, bytes: usize) -> bool {
        add_within(
            &mut self.unknown_expansion_bytes,
            bytes,
            UNKNOWN_EXPANSION_BYTES,
        )
    }

    /// Counts a member of that name that is not a field. `meant` returns the field that was probably meant; it is
    /// called once for each name in the report.
    pub(super) fn unknown(
        &mut self,
        name: &str,
        fate: UnknownMemberFate,
        meant: impl FnOnce(&str) -> Option<&'static str>,
    ) {
        self.count_unknown(fate, 1);
        let names = &mut self.report.unknown.names;
        let find = |name: &str| names.iter().position(|known| known.name == name);
        // Most names are shown unchanged, so a name that is already in the report is found without an allocation.
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

    /// Counts members without adding a name to the report.
    pub(super) const fn count_unknown(&mut self, fate: UnknownMemberFate, members: u32) {
        let all = &mut self.report.unknown;
        let count = match fate {
            UnknownMemberFate::Kept => &mut all.kept,
            UnknownMemberFate::LeftOut => &mut all.left_out,
        };
        *count = count.saturating_add(members);
    }

    /// Records that the request is not clean, although nothing of it is rejected or sanitised.
    pub(super) const fn not_clean(&mut self) {
        self.is_not_clean = true;
    }

    pub(super) const fn reject(&mut self) {
        self.report.rejected = self.report.rejected.saturating_add(1);
    }

    /// Records an unknown name of a member around the items, if it is the first one and no item was found before it.
    pub(super) fn unknown_name(&mut self, name: &str) {
        if self.items() == 0 && self.report.unknown_name.is_none() {
            self.report.unknown_name = Some(shown(name));
        }
    }

    /// Describes a rejection. `reason` is called only while the report has fewer than 20 descriptions.
    pub(super) fn describe(
        &mut self,
        index: u32,
        field: Option<&str>,
        reason: impl FnOnce() -> String,
    ) {
        if self.report.rejections.len() < REJECTIONS {
            self.report.rejections.push(Rejection {
                index,
                field: field.map(str::to_owned),
                reason: reason(),
            });
        }
    }

    pub(super) const fn sanitized(&mut self, seen: &Sanitized) {
        let all = &mut self.report.sanitized;
        all.nul = all.nul.saturating_add(seen.nul);
        all.utf8 = all.utf8.saturating_add(seen.utf8);
        all.time = all.time.saturating_add(seen.time);
        all.cut = all.cut.saturating_add(seen.cut);
        all.string_reference = all.string_reference.saturating_add(seen.string_reference);
    }

    /// Returns the report of a request whose invalid items are left out.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if there are items and all of them are invalid.
    pub(super) fn finish(mut self) -> Result<DecodeReport, DecodeError> {
        if self.items() > 0 {
            self.report.unknown_name = None;
        }
        if self.report.rejected > 0 && self.report.accepted == 0 {
            return Err(DecodeError::Invalid(Box::new(self.report)));
        }
        self.report.is_clean = !self.is_not_clean
            && self.report.accepted > 0
            && self.report.rejected == 0
            && self.report.sanitized == Sanitized::default();
        Ok(self.report)
    }

    /// Returns the report of a request that is accepted as a whole or not at all.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if any item is invalid.
    pub(super) fn finish_unit(self) -> Result<DecodeReport, DecodeError> {
        if self.report.rejected > 0 {
            return Err(DecodeError::Invalid(Box::new(self.report)));
        }
        Ok(self.report)
    }

    /// Returns the report of a request that is accepted even if no item is valid.
    pub(super) fn finish_partial(self) -> DecodeReport {
        self.report
    }
}

/// Adds `bytes` and returns true; if the sum would exceed `limit_bytes`, adds nothing and returns false.
const fn add_within(sum_bytes: &mut usize, bytes: usize, limit_bytes: usize) -> bool {
    let is_within = sum_bytes.saturating_add(bytes) <= limit_bytes;
    if is_within {
        *sum_bytes += bytes;
    }
    is_within
}

/// Quotes a text of the request for an error message; escaped, at most 64 characters.
pub(super) fn echo(text: &str) -> String {
    format!("\"{}\"", shown(text))
}
