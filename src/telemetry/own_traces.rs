//! Traces of this service's work, exported over OTLP.
//!
//! The spans are `tracing` spans with a separate target; only [`spans`] and the middleware of requests make them.
//! `tracing-opentelemetry` converts them to OpenTelemetry's. The head of a request decides once if it is traced; all
//! work for the request then follows the current context.
//!
//! **Invariant:** no export of own traces is traced: exports are marked as not sampled, and a batch is traced only if
//! it holds the record of a sampled request.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::Either;
use opentelemetry::Context;
use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::{SpanId, TraceContextExt, TraceId};
use secrecy::SecretString;
use tracing::{Instrument, Span};

/// W3C Trace Context of callers.
pub mod caller;

/// The export of spans to the endpoint.
mod export;

/// Links from a batch to the requests whose records it holds.
pub mod links;

/// The spans: names, kinds, attributes.
pub mod spans;

pub use export::{ExportHeaders, OwnTraces};

/// Settings of own traces.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:port` or `https://host:port`, OTLP over gRPC.
    pub endpoint: String,
    /// Share of the requests without a caller's trace context that are traced, from 0 to 1.
    pub sample_ratio: f64,
    /// Headers of each export, with names in lower case, none of which the protocol sets itself.
    pub headers: Vec<(String, SecretString)>,
    /// Value of `service.instance.id`.
    pub instance: String,
}

/// The target of the spans; no log line has it.
pub const TARGET: &str = "ruvvector_service::own_traces";

/// The sampling, set once when own traces are started.
static SAMPLING: OnceLock<Sampling> = OnceLock::new();

/// The sampling of requests without a caller's trace context.
struct Sampling {
    /// Draws below this number are sampled.
    threshold: u64,
    /// State of the random sequence (splitmix64).
    state: AtomicU64,
}

impl Sampling {
    fn new(ratio: f64) -> Self {
        // 1 - 2^-64 is as good as 1; the cast saturates.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a ratio from 0 to 1; a share of the range of u64"
        )]
        let threshold = (ratio * 2.0_f64.powi(64)) as u64;
        Self {
            threshold,
            // If no random number is available, two instances draw the same sequence, which does no harm.
            state: AtomicU64::new(getrandom::u64().unwrap_or_default()),
        }
    }

    fn draw(&self) -> bool {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.state.fetch_add(STEP, Ordering::Relaxed);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) < self.threshold
    }
}

/// Returns `true` if own traces are on.
#[must_use]
pub(crate) fn is_on() -> bool {
    SAMPLING.get().is_some()
}

/// Decides at random if a request without a caller's trace context is traced.
pub(crate) fn draw() -> bool {
    SAMPLING.get().is_some_and(Sampling::draw)
}

/// Returns `true` if the current work belongs to a trace that this process records.
#[must_use]
pub(crate) fn is_sampled() -> bool {
    is_on() && Context::map_current(|context| context.span().span_context().is_sampled())
}

/// Returns the trace and span of the current work: our own, or its caller's if it is not traced here.
#[must_use]
pub fn current_ids() -> Option<(TraceId, SpanId)> {
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| (ids.trace_id(), ids.span_id()))
    })
}

/// A result of a step that sets attributes on the step's span.
pub(crate) trait SpanAttributes {
    fn record(&self, _span: &Span) {}
}

impl SpanAttributes for () {}

/// An error of a step, as the step's span reports it.
pub(crate) trait SpanError {
    /// Returns `error.type`, of a closed set; `None` if the client is at fault, so that the step did not fail.
    fn error_type(&self) -> Option<&'static str>;
}

/// Runs a step within `span`, which ends with it and gets the attributes of its result; unchanged if nothing is traced.
pub(crate) fn traced<T: SpanAttributes, E: SpanError>(
    span: Span,
    step: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    // An async block would hold the step twice.
    step.instrument(span.clone()).map(move |result| {
        if !span.is_disabled() {
            match &result {
                Ok(value) => value.record(&span),
                Err(error) => {
                    if let Some(fault) = error.error_type() {
                        spans::fail(&span, fault);
                    }
                }
            }
        }
        result
    })
}

/// Runs `work`, on a separate task, in the trace context of the task that began it, so that its log lines have its
/// trace id.
pub(crate) fn in_context<T>(
    context: Option<Context>,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    // An async block would hold the work twice.
    match context {
        Some(context) => Either::Left(work.with_context(context)),
        None => Either::Right(work),
    }
}

/// Wraps `work` for a separate thread, where it runs in the current trace context.
pub(crate) fn in_current_context<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let context = current_context();
    move || {
        let _within = context.map(Context::attach);
        work()
    }
}

/// Returns the current context, if it has a trace.
pub(crate) fn current_context() -> Option<Context> {
    Context::map_current(|context| context.has_active_span().then(|| context.clone()))
}

#[cfg(test)]
mod tests {
    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};

    use super::{Sampling, current_context, current_ids, in_context, in_current_context};

    #[tokio::test]
    async fn what_runs_on_another_task_or_thread_knows_whose_request_it_is_for() {
        let (trace, span) = (1.into(), 2.into());
        let caller = SpanContext::new(trace, span, TraceFlags::default(), true, TraceState::NONE);
        let (task, thread) = {
            let _within = Context::new().with_remote_span_context(caller).attach();
            let task = in_context(current_context(), async { current_ids() });
            (task, in_current_context(current_ids))
        };
        assert_eq!(current_ids(), None);
        assert_eq!(tokio::spawn(task).await.unwrap(), Some((trace, span)));
        let on_thread = tokio::task::spawn_blocking(thread).await.unwrap();
        assert_eq!(on_thread, Some((trace, span)));
        assert_eq!(
            tokio::spawn(in_context(current_context(), async { current_ids() }))
                .await
                .unwrap(),
            None
        );
    }

    #[test]
    fn as_many_are_drawn_as_the_ratio_says() {
        for (ratio, least, most) in [
            (0.0, 0, 0),
            (1.0, 100_000, 100_000),
            (0.01, 800, 1_200),
            (0.5, 49_000, 51_000),
        ] {
            let sampling = Sampling::new(ratio);
            let drawn = (0..100_000).filter(|_| sampling.draw()).count();
            assert!((least..=most).contains(&drawn), "{ratio}: {drawn}");
        }
    }
}
