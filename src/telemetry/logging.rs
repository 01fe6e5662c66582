//! Log lines on standard error: text on a terminal, else JSON; with the ids of the current trace and span, if any.
//!
//! **Invariant:** one event is one line; no byte of a request can end a line or reach a terminal as a control code.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::time::Duration;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{
    FmtContext, FormatEvent, FormatFields, MakeWriter, {self as lines},
};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::telemetry::logging::line_queue::LineQueue;
use crate::telemetry::own_traces::{OwnTraces, TARGET, current_ids};

/// The queue of lines for the thread that writes them.
mod line_queue;

/// Longest time that the end of the process waits for unwritten lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The queue, set once at the start of the process.
static LINES: OnceLock<LineQueue> = OnceLock::new();

/// Starts the only thread that writes to standard error, so that no other thread waits for its reader.
///
/// # Errors
/// [`io::Error`] if the system cannot start a thread.
pub fn start_lines() -> io::Result<LinesEnd> {
    let queue = LineQueue::start(io::stderr(), report_dropped)?;
    LINES.get_or_init(|| queue);
    Ok(LinesEnd)
}

/// Guard that writes the last lines when it is dropped.
pub struct LinesEnd;

impl Drop for LinesEnd {
    fn drop(&mut self) {
        flush();
    }
}

/// Waits until all lines are written, at most 1 s.
pub fn flush() {
    if let Some(queue) = LINES.get() {
        queue.flush(LAST_LINES);
    }
}

/// Writes text that is not a log line to standard error, in order with the log lines.
pub fn write_plain(text: &str) {
    // An error cannot be reported anywhere.
    let _ = StandardError.write_all(text.as_bytes());
}

/// Logs the number of dropped lines, at the level `ERROR`, so that no setting of the level hides the loss.
fn report_dropped(lines: u64) {
    tracing::error!("{lines} log lines were dropped, as nobody read standard error fast enough");
}

/// Standard error, through the queue if [`start_lines`] was called.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match LINES.get() {
            Some(queue) => {
                queue.push(bytes);
                Ok(bytes.len())
            }
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text if standard error is a terminal, else JSON.
    #[default]
    Auto,
    Text,
    Json,
}

impl LogFormat {
    /// Returns whether lines are text, which people read and copy from.
    #[must_use]
    pub fn is_text(self) -> bool {
        match self {
            Self::Auto => io::stderr().is_terminal(),
            Self::Text => true,
            Self::Json => false,
        }
    }
}

/// Starts logging for the whole process, and the export of own traces if they are on. `filter` has the form `info` or
/// `warn,ruvvector_service=debug`.
///
/// # Errors
/// A sentence, if the filter cannot be parsed or logging was started before.
pub fn init(filter: &str, format: LogFormat, own_traces: Option<&OwnTraces>) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("the log filter {filter:?} cannot be read: {error}"))?;
    // Two kinds of subscriber: when own traces are off, no OpenTelemetry layer is consulted for each event.
    let registry = Registry::default();
    match own_traces {
        Some(own_traces) => registry
            .with(own_traces.layer())
            .with(layer(filter, format, || StandardError))
            .try_init(),
        None => registry
            .with(layer(filter, format, || StandardError))
            .try_init(),
    }
    .map_err(|error| error.to_string())?;
    // The default hook writes to standard error directly, and could wait for its reader for ever.
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    let backtrace = backtrace.as_ref().map(tracing::field::display);
    let thread = std::thread::current();
    let thread = thread.name();
    tracing::error!(backtrace, thread, "{panic}");
}

/// Returns the layer that writes the events that `filter` admits to `out`. It disables the spans of own traces,
/// whatever the filter is.
fn layer<S, M>(filter: EnvFilter, format: LogFormat, out: M) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    M: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let no_spans = format!("{TARGET}=off").parse();
    let filter = filter.add_directive(no_spans.expect("a target and a level are a directive"));
    let lines = lines::layer().with_writer(out).log_internal_errors(false);
    if format.is_text() {
        let text = lines::format().with_ansi(false).with_target(false);
        let lines = lines
            .with_ansi(false)
            .event_format(PrintableLines::Text(text));
        lines.with_filter(filter).boxed()
    } else {
        let json = lines::format().json().flatten_event(true);
        let lines = lines.json().event_format(PrintableLines::Json(json));
        lines.with_filter(filter).boxed()
    }
}

/// A format that appends the ids of the current trace and span to each line, under OpenTelemetry's names ("Trace
/// Context in non-OTLP Log Formats"), and escapes the control characters in it.
enum PrintableLines<F> {
    Json(F),
    Text(F),
}

impl<S, N, F> FormatEvent<S, N> for PrintableLines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (Self::Json(format) | Self::Text(format)) = self;
        let mut line = String::new();
        format.format_event(context, Writer::new(&mut line), event)?;
        let mut line = line.strip_suffix('\n').unwrap_or(&line);
        let ids = current_ids().map(|(trace_id, span_id)| match self {
            Self::Json(_) => format!(r#","trace_id":"{trace_id}","span_id":"{span_id}"}}"#),
            Self::Text(_) => format!(" trace_id={trace_id} span_id={span_id}"),
        });
        if let (Self::Json(_), Some(_)) = (self, &ids) {
            line = line.strip_suffix('}').ok_or(fmt::Error)?;
        }
        for c in line.chars() {
            match self {
                _ if !c.is_control() => writer.write_char(c)?,
                // Rust's escape would not be JSON.
                Self::Json(_) => write!(writer, "\\u{:04x}", u32::from(c))?,
                Self::Text(_) => write!(writer, "{}", c.escape_default())?,
            }
        }
        writeln!(writer, "{}", ids.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use opentelemetry::Context;
    use opentelemetry::trace::{
        SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState,
    };
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{EnvFilter, Registry};

    use super::{LogFormat, TARGET, layer};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, event: impl FnOnce()) -> String {
        let captured = Captured::default();
        let to = captured.clone();
        let lines = layer(EnvFilter::new("trace"), format, move || to.clone());
        let subscriber = Registry::default().with(lines);
        tracing::subscriber::with_default(subscriber, event);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_request_cannot_forge_a_line_or_paint_a_terminal() {
        let hostile = "x\r\n2026-01-01 ERROR forged\u{1b}[31m\u{9b}1m";
        for format in [LogFormat::Text, LogFormat::Json] {
            let _caller = caller().attach();
            let line = logged(
                format,
                || tracing::warn!(path = %hostile, "refused {hostile}"),
            );
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(line.ends_with('\n'));
            assert!(!line.trim_end().contains(char::is_control), "{line}");
            assert!(line.contains("forged"), "{line}");
            if format == LogFormat::Json {
                let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                assert_eq!(json["path"], hostile);
            }
        }
    }

    fn caller() -> Context {
        let span = SpanContext::new(
            TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
            SpanId::from(0xb7ad_6b71_6920_3331),
            TraceFlags::default(),
            true,
            TraceState::NONE,
        );
        Context::new().with_remote_span_context(span)
    }

    #[test]
    fn a_line_tells_the_trace_that_it_was_written_in_and_no_other() {
        let event = || tracing::warn!(n = 3, "said");
        for format in [LogFormat::Text, LogFormat::Json] {
            let outside = logged(format, event);
            assert!(!outside.contains("trace_id"), "{outside}");
        }
        let _within = caller().attach();
        let json: serde_json::Value =
            serde_json::from_str(&logged(LogFormat::Json, event)).unwrap();
        assert_eq!(json["message"], "said");
        assert_eq!(json["n"], 3);
        assert_eq!(json["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(json["span_id"], "b7ad6b7169203331");
        let text = logged(LogFormat::Text, event);
        assert!(
            text.ends_with(
                "said n=3 trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn spans_of_own_traces_are_off_with_them_whatever_lines_are_written() {
        let line = logged(LogFormat::Json, || {
            let ours = tracing::error_span!(target: TARGET, "ours");
            assert!(ours.is_disabled());
            let others = tracing::error_span!("others");
            assert!(!others.is_disabled());
            let _in = ours.entered();
            tracing::info!("said");
        });
        assert!(!line.contains("ours"), "{line}");
    }
}
