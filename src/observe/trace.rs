//! Log lines: text on a terminal, JSON off one, on standard error.
//!
//! **Invariant:** one event is one line; no byte of a request can end a line or reach a terminal as a control code.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text when standard error is a terminal, else JSON.
    #[default]
    Auto,
    Text,
    Json,
}

/// Starts logging for the whole process. `filter` has the form `info` or `warn,ruvvector_service=debug`.
///
/// # Errors
/// When the filter cannot be read, or logging was started before; a sentence.
pub fn init(filter: &str, format: Format) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("the log filter {filter:?} cannot be read: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Printable(io::stderr));
    let json = match format {
        Format::Auto => !io::stderr().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    };
    if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(false).with_target(false).try_init()
    }
    .map_err(|error| error.to_string())
}

/// Escapes control characters in what an event wrote, but for the line's end.
struct Printable<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Printable<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line {
            out: self.0.make_writer(),
        }
    }
}

/// One event's line. The subscriber hands an event over in one piece.
struct Line<W> {
    out: W,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (body, end) = match event.split_last() {
            Some((b'\n', body)) => (body, "\n"),
            _ => (event, ""),
        };
        let text = String::from_utf8_lossy(body);
        if text.contains(char::is_control) {
            let mut line = String::with_capacity(text.len() + 16);
            for c in text.chars() {
                if c.is_control() {
                    line.extend(c.escape_default());
                } else {
                    line.push(c);
                }
            }
            line.push_str(end);
            self.out.write_all(line.as_bytes())?;
        } else {
            self.out.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::Printable;

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

    fn logged(event: impl FnOnce()) -> String {
        let captured = Captured::default();
        let to = captured.clone();
        let lines = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(Printable(move || to.clone()))
            .finish();
        tracing::subscriber::with_default(lines, event);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_request_cannot_forge_a_line_or_paint_a_terminal() {
        let hostile = "x\r\n2026-01-01 ERROR forged\u{1b}[31m\u{9b}1m";
        let line = logged(|| tracing::warn!(path = %hostile, "refused {hostile}"));
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(line.ends_with('\n'));
        assert!(!line.trim_end().contains(char::is_control), "{line}");
        assert!(line.contains("forged"), "{line}");
    }
}
