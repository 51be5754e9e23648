//! The log of a process, on standard error.
//!
//! Each event is one line. Text in it comes from senders, targets and plugins as well, so the values
//! of fields are written without control characters, and further lines of a message are indented: no
//! text can look like an event of its own.

use std::fmt::{self, Debug};
use std::io;
use std::sync::Arc;

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::util::SubscriberInitExt;

use super::LogFormat;
use crate::plain;

/// Libraries that log what Weir says itself, in its own words, of the target that it happened to. A filter
/// that names one of them is stronger.
const QUIET: &str = "async_nats=off,librdkafka=off,rdkafka=off";

/// Starts logging to standard error, so that the output of a command stays clean.
///
/// # Errors
/// The filter is not one, or a log has been started already.
pub(super) fn start(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|error| error.to_string())?;
    let colours = io::IsTerminal::is_terminal(&io::stderr());
    let log = log(format, filter, colours, Arc::new(io::stderr()));
    log.try_init().map_err(|error| error.to_string())
}

fn log(
    format: LogFormat,
    filter: EnvFilter,
    colours: bool,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> Box<dyn tracing::Subscriber + Send + Sync> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(writer);
    match format {
        LogFormat::Text => Box::new(log.fmt_fields(debug_fn(text).delimited(" ")).finish()),
        LogFormat::Json => Box::new(log.json().map_writer(Escaping).finish()),
    }
}

/// Writes events of JSON. Strings in JSON may hold control characters above U+007F, and those that
/// change the direction of text.
struct Escaping<W>(W);

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for Escaping<M> {
    type Writer = Escaping<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Escaping(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for Escaping<W> {
    /// Writes a whole event: that is what it is called with.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        self.0.write_all(plain::lines(&text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes one field.
fn text(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = format!("{value:?}");
    match field.name() {
        "message" => writer.write_str(&plain::indented(&value)),
        name => write!(writer, "{name}={}", plain::line(&value)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for &Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, work: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = Arc::new(written.clone());
        let log = log(format, EnvFilter::new("debug"), false, writer);
        tracing::subscriber::with_default(log, work);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    // A request for a source whose name had a line break in it wrote an event of its own into the log,
    // and so did the name of an import of a rejected component.
    #[test]
    fn no_text_can_forge_an_event_or_colour_a_terminal() {
        let forged =
            "x\n2026-11-29T03:00:00Z ERROR weir::store: the store failed\u{1b}[31m\r\u{9b}m";
        let work = || {
            tracing::info!("there is no source {forged}");
            tracing::warn!(name = forged, error = %forged, debug = ?Some(forged), "rejected");
            tracing::debug_span!("request", path = %forged).in_scope(|| tracing::error!("inside"));
        };
        let text = logged(LogFormat::Text, work);
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].starts_with("    2026-11-29T03"), "{text}");
        assert!(lines[2].contains("rejected name=\"x\\n2026"), "{text}");
        assert!(lines[3].contains("path=x\\n2026"), "{text}");
        let controls = |text: &str| text.chars().filter(|c| c.is_control()).count();
        assert_eq!(controls(&text), 4, "only the ends of the lines: {text:?}");
        assert_eq!(controls(&logged(LogFormat::Json, work)), 3);
    }
}
