//! Accepts or rejects each item of an OTLP request in either encoding, and makes the rows of accepted items.
//!
//! **Invariant:** the decision depends on the request's bytes and its `Source` alone; it is the same with and without
//! a sink.

use crate::decode::decode_report::{ReportBuilder, TOO_EXPANDED};
use crate::decode::event_metadata::hand_on;
use crate::decode::json::json_text::InvalidText;
use crate::decode::otlp::any_value::ValueStyle;
use crate::decode::otlp::item::{
    ItemContext, ItemKind, OtlpItem, RowMemory, column_time, cut_columns, is_time_replaced,
    timestamp_ms,
};
use crate::decode::otlp::json_to_protobuf::Unmapped;
use crate::decode::otlp::resource_scope::{EncodedPart, StoredResource, stored_bytes};
use crate::decode::otlp::validate::{Invalid, ValidItem};
use crate::decode::protobuf::Malformed;
use crate::decode::{DecodeError, DecodeReport, ItemValidation, SINK_IS_FULL, Sink};
use crate::event::{EventFlags, Position, Sanitized, Source};

/// Maximum number of bytes of a request's resources and scopes. A resource is stored once for each of its scopes, so a
/// large resource with very many scopes would multiply.
const ORIGIN_BYTES: usize = 64 << 20;

/// Maximum number of bytes of envelopes in a request's rows. The row of each data point has a copy of its metric's
/// envelope, so a large envelope with very many points would multiply.
const ENVELOPE_BYTES: usize = 128 << 20;

/// Maximum number of accepted items in one request. An item of 2 bytes makes a row of 200 bytes, so this bounds the
/// rows that one request may write into the store. Items of the usual size reach the limit of a body first.
const ITEMS: u32 = 500_000;

/// Makes the rows and the report of one request.
pub(in crate::decode) struct RowBuilder<'a, 's> {
    source: &'a Source,
    position: Position,
    validation: ItemValidation,
    report: ReportBuilder,
    sink: Option<&'s mut dyn Sink>,
    resource: Option<EncodedPart<'a>>,
    scope: Option<EncodedPart<'a>>,
    /// The current resource and scope as stored; made for the first row of the scope.
    origin: Option<StoredResource>,
    /// The current scope is included in `origin_bytes`.
    is_scope_counted: bool,
    /// Number of bytes of the resources and scopes so far, up to [`ORIGIN_BYTES`].
    origin_bytes: usize,
    /// Number of scopes in `origin_bytes`.
    counted_scopes: usize,
    /// Number of bytes of the items' envelopes so far, up to [`ENVELOPE_BYTES`].
    envelope_bytes: usize,
    memory: RowMemory,
}

impl<'a, 's> RowBuilder<'a, 's> {
    pub(in crate::decode) fn new(
        source: &'a Source,
        position: Position,
        validation: ItemValidation,
        sink: Option<&'s mut dyn Sink>,
    ) -> Self {
        Self {
            source,
            position,
            validation,
            report: ReportBuilder::default(),
            sink,
            resource: None,
            scope: None,
            origin: None,
            is_scope_counted: false,
            origin_bytes: 0,
            counted_scopes: 0,
            envelope_bytes: 0,
            memory: RowMemory::default(),
        }
    }

    /// Returns a builder that has received nothing, if this one makes no rows but a report alone.
    pub(in crate::decode) fn anew_without_sink(&self) -> Option<Self> {
        let (source, validation) = (self.source, self.validation);
        let is_report = self.sink.is_none();
        is_report.then(|| Self::new(source, self.position, validation, None))
    }

    pub(in crate::decode) const fn validation(&self) -> ItemValidation {
        self.validation
    }

    /// Returns the number of scopes whose bytes, with their resource's, are counted within [`ORIGIN_BYTES`].
    pub(in crate::decode) const fn counted_scopes(&self) -> usize {
        self.counted_scopes
    }

    /// Counts bytes of resources and scopes that follow their items; `None` if they exceed [`ORIGIN_BYTES`].
    pub(in crate::decode) fn add_origin_bytes(&mut self, bytes: usize) -> Option<()> {
        self.origin_bytes = self.origin_bytes.checked_add(bytes)?;
        (self.origin_bytes <= ORIGIN_BYTES).then_some(())
    }

    /// Counts the changes to an object around the items.
    pub(in crate::decode) const fn sanitized(&mut self, seen: &Sanitized) {
        self.report.sanitized(seen);
    }

    /// Rejects items whose JSON cannot be mapped, because of a fault in it or in a member around them.
    pub(in crate::decode) fn reject_unmapped(&mut self, items: u32, unmapped: &Unmapped) {
        let index = self.report.items();
        self.report
            .describe(index, unmapped.key(), || unmapped.to_string());
        for _ in 0..items {
            self.report.reject();
        }
    }

    /// Records the unknown name of a member around the items.
    pub(in crate::decode) fn unknown(&mut self, name: &str) {
        self.report.unknown_name(name);
    }

    /// Rejects an item.
    fn reject(&mut self, field: Option<&'static str>, reason: impl FnOnce() -> String) {
        self.report.describe(self.report.items(), field, reason);
        self.report.reject();
    }

    /// Returns the report of the request.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if the request has items and none of them is accepted.
    pub(in crate::decode) fn finish(self) -> Result<DecodeReport, DecodeError> {
        self.report.finish()
    }

    /// Returns the field at fault and the reason, if no item of this scope can be accepted. Counts the scope's bytes
    /// once.
    fn origin_fault(&mut self) -> Option<(&'static str, String)> {
        let (resource, scope) = (self.resource.as_ref()?, self.scope.as_ref()?);
        for (part, field) in [(resource, "resource"), (scope, "scope")] {
            if let Some(fault) = part.fault {
                return Some((field, sentence(fault, self.source)));
            }
        }
        if !self.is_scope_counted {
            let bytes = self.origin_bytes + resource.len() + scope.len();
            if bytes > ORIGIN_BYTES {
                let reason = "the resources of this request, one for each scope, are too large";
                return Some(("resource", reason.to_owned()));
            }
            self.origin_bytes = bytes;
            self.counted_scopes += 1;
            self.is_scope_counted = true;
        }
        None
    }

    pub(in crate::decode) fn resource(&mut self, resource: EncodedPart<'a>) {
        self.report.sanitized(&resource.repairs);
        if resource.is_changed {
            self.report.not_clean();
        }
        self.resource = Some(resource);
        self.scope = None;
    }

    pub(in crate::decode) fn scope(&mut self, scope: EncodedPart<'a>) {
        self.report.sanitized(&scope.repairs);
        if scope.is_changed {
            self.report.not_clean();
        }
        self.scope = Some(scope);
        self.origin = None;
        self.is_scope_counted = false;
    }

    /// Accepts or rejects one item, of whose JSON `repaired` texts were repaired.
    ///
    /// # Errors
    /// [`Malformed`] if it is not protobuf, because then no part of the request can be trusted, or if the sink ends the
    /// walk.
    pub(in crate::decode) fn item<K: ItemKind>(
        &mut self,
        kind: &K,
        message: &[u8],
        repaired: u32,
    ) -> Result<(), Malformed> {
        let source = self.source;
        if let Some(fault) = kind.envelope_fault() {
            self.reject(Some("metadata"), || sentence(fault, source));
            return Ok(());
        }
        self.envelope_bytes = self.envelope_bytes.saturating_add(kind.envelope_bytes());
        if self.envelope_bytes > ENVELOPE_BYTES {
            let reason =
                "the descriptions of this request's metrics, one for each point, are too large";
            self.reject(Some("description"), || reason.to_owned());
            return Ok(());
        }
        let valid = match self.validation {
            ItemValidation::Done => ValidItem::of_clean(message, source)?,
            ItemValidation::Needed => match ValidItem::of(message, kind.schema(), source) {
                Ok(valid) => valid,
                Err(Invalid::Malformed(malformed)) => return Err(malformed),
                Err(fault) => {
                    self.reject(None, || sentence(fault, source));
                    return Ok(());
                }
            },
        };
        let item = kind.read(&valid.fields());
        if let Some((field, reason)) = item.fault() {
            self.reject(Some(field), || reason.to_owned());
            return Ok(());
        }
        if let Some((field, reason)) = self.origin_fault() {
            self.reject(Some(field), || reason);
            return Ok(());
        }
        if self.report.accepted() >= ITEMS {
            self.reject(None, || format!("more than {ITEMS} items in one request"));
            return Ok(());
        }
        match self.validation {
            ItemValidation::Done => {
                std::str::from_utf8(item.name()).map_err(|_| NOT_UTF8)?;
            }
            ItemValidation::Needed => {
                if !self.report.add_expansion(valid.expansion_bytes) {
                    self.reject(None, || TOO_EXPANDED.to_owned());
                    return Ok(());
                }
                if !valid.is_clean() {
                    self.report.not_clean();
                }
            }
        }
        let style = ValueStyle::row(&source.limits);
        let mut seen = Sanitized {
            time: is_time_replaced(item.time(), source).into(),
            utf8: valid.repairs.utf8.saturating_add(repaired),
            ..valid.repairs
        };
        if source.flags_cut_columns() {
            seen.cut += cut_columns(&item, valid.longest_value_bytes, &style);
        }
        let index = self.report.items();
        self.report.sanitized(&seen);
        self.report.accept(column_time(item.time()));

        let (Some(sink), Some(resource), Some(scope)) =
            (&mut self.sink, &self.resource, &self.scope)
        else {
            return Ok(());
        };
        let origin = self.origin.get_or_insert_with(|| {
            let origin = StoredResource::of(resource, scope);
            if sink.wants_resource(stored_bytes(resource, scope)) {
                sink.resource(origin.texts(resource, scope));
            }
            origin
        });
        let mut flags = EventFlags::default();
        if seen.time > 0 {
            flags.insert(EventFlags::TIME_REPLACED);
        }
        if seen.cut + resource.repairs.cut > 0 {
            flags.insert(EventFlags::CUT);
        }
        if [&seen, &resource.repairs, &scope.repairs]
            .iter()
            .any(|seen| seen.nul + seen.utf8 > 0)
        {
            flags.insert(EventFlags::TEXT_REPAIRED);
        }
        let place = ItemContext {
            origin,
            timestamp_ms: timestamp_ms(item.time(), source),
            position: self.position,
            index,
            flags,
            style,
            source,
        };
        let item_bytes = valid.item.len() + valid.expansion_bytes;
        let row_bytes = item_bytes + kind.envelope_bytes();
        let mut handed_on = Ok(true);
        item.row(&place, &mut self.memory, &mut |event, write| {
            handed_on = hand_on(*sink, event, write, row_bytes);
        });
        match handed_on {
            Ok(true) => Ok(()),
            Ok(false) => Err(Malformed(SINK_IS_FULL)),
            Err(InvalidText) => Err(NOT_UTF8),
        }
    }
}

const NOT_UTF8: Malformed = Malformed("a text is not UTF-8");

fn sentence(fault: Invalid, source: &Source) -> String {
    let limits = &source.limits;
    match fault {
        Invalid::Malformed(Malformed(what)) => what.to_owned(),
        Invalid::TooDeep => format!("values are nested deeper than {} levels", limits.depth),
        Invalid::TooManyNodes => {
            format!("more than {} values and messages in one item", limits.nodes)
        }
    }
}
