//! OTLP requests of either encoding to rows: what is done with each item that a walk finds.
//!
//! **Invariant:** whether an item is taken is decided from its bytes alone, in the same way with and without a sink.

use super::origin::{Origin, Part};
use super::schema;
use super::span::Span;
use super::survey::{Fault, Survey};
use super::tally::Tally;
use super::value::Style;
use super::walk::Visitor;
use super::wire::Malformed;
use super::{Sanitized, Sink, Source};
use crate::event::Flags;

/// A resource is stored with each of its scopes. So many bytes of them are taken a request: a large resource with very
/// many scopes would multiply.
const ORIGIN_BYTES: usize = 64 << 20;

/// Takes the spans of a request.
pub(super) struct Spans<'a, 's> {
    source: &'a Source,
    pub(super) tally: Tally,
    sink: Option<&'s mut dyn Sink>,
    resource: Option<Part<'a>>,
    scope: Option<Part<'a>>,
    /// Made for the first span of a scope.
    origin: Option<Origin>,
    is_scope_counted: bool,
    origin_bytes: usize,
    metadata: String,
}

impl<'a, 's> Spans<'a, 's> {
    pub(super) fn new(source: &'a Source, sink: Option<&'s mut dyn Sink>) -> Self {
        Self {
            source,
            tally: Tally::default(),
            sink,
            resource: None,
            scope: None,
            origin: None,
            is_scope_counted: false,
            origin_bytes: 0,
            metadata: String::new(),
        }
    }

    fn reject(&mut self, field: Option<&'static str>, reason: impl FnOnce() -> String) {
        self.tally.describe(self.tally.items(), field, reason);
        self.tally.reject();
    }

    /// Why no span of this scope can be taken.
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
                let reason = "the resources of this request, one a scope, are too large";
                return Some(("resource", reason.to_owned()));
            }
            self.origin_bytes = bytes;
            self.is_scope_counted = true;
        }
        None
    }
}

impl<'a> Visitor<'a> for Spans<'a, '_> {
    fn resource(&mut self, resource: Part<'a>) {
        self.tally.sanitized(&resource.seen);
        self.resource = Some(resource);
        self.scope = None;
    }

    fn scope(&mut self, scope: Part<'a>) {
        self.tally.sanitized(&scope.seen);
        self.scope = Some(scope);
        self.origin = None;
        self.is_scope_counted = false;
    }

    fn item(&mut self, item: &[u8]) -> Result<(), Malformed> {
        let survey = match Survey::of(item, &schema::SPAN, &self.source.limits) {
            Ok(survey) => survey,
            Err(Fault::Malformed(malformed)) => return Err(malformed),
            Err(fault) => {
                let source = self.source;
                self.reject(None, || sentence(fault, source));
                return Ok(());
            }
        };
        let span = Span::read(&survey.item)?;
        if let Some((field, reason)) = span.fault() {
            self.reject(Some(field), || reason.to_owned());
            return Ok(());
        }
        if let Some((field, reason)) = self.origin_fault() {
            self.reject(Some(field), || reason);
            return Ok(());
        }
        let received = self.source.received_unix_nano;
        let seen = Sanitized {
            time: span.is_start_replaced(received).into(),
            ..survey.seen
        };
        self.tally.sanitized(&seen);
        self.tally.accept(span.start());

        let (Some(sink), Some(resource), Some(scope)) =
            (&mut self.sink, &self.resource, &self.scope)
        else {
            return Ok(());
        };
        let origin = self.origin.get_or_insert_with(|| {
            let (origin, stored) = Origin::of(resource, scope);
            sink.resource(stored);
            origin
        });
        let mut flags = Flags::default();
        if seen.cut > 0 {
            flags.insert(Flags::CUT);
        }
        if [&seen, &resource.seen, &scope.seen]
            .iter()
            .any(|seen| seen.nul + seen.utf8 > 0)
        {
            flags.insert(Flags::TEXT_REPAIRED);
        }
        let style = Style::row(&self.source.limits);
        span.row(
            origin,
            received,
            flags,
            &style,
            &mut self.metadata,
            |event| {
                sink.event(event);
            },
        );
        Ok(())
    }
}

fn sentence(fault: Fault, source: &Source) -> String {
    let limits = &source.limits;
    match fault {
        Fault::Malformed(Malformed(what)) => what.to_owned(),
        Fault::TooDeep => format!("values are nested deeper than {} levels", limits.depth),
        Fault::TooManyNodes => {
            format!("more than {} values and messages in one item", limits.nodes)
        }
    }
}
