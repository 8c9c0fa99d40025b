//! Access lines, on the way that costs least: one for every request, so they do not pass through
//! `tracing`, which would have each destination find out anew what the same fields are worth.

use std::cell::RefCell;
use std::fmt::Arguments;
use std::io::Write;
use std::net::IpAddr;
use std::sync::OnceLock;

use jiff::Timestamp;

use super::local_time::write_seconds;
use super::outbox::Outbox;

/// What tells the lines from all others.
const TARGET: &str = "mvllm::access";

static DESTINATIONS: OnceLock<Destinations> = OnceLock::new();

thread_local! {
    /// Room for a line, kept for the next.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where access lines go.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    pub(super) console: Option<Outbox>,
    pub(super) all: Option<Outbox>,
    pub(super) structured: Option<Outbox>,
}

/// A value of a line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Address(IpAddr),
    Number(u64),
    Seconds(f64),
    True,
}

/// A name, and what it stands for if there is anything to say.
pub(crate) type Field<'a> = (&'static str, Option<Value<'a>>);

/// From now on lines go there. Only the first call counts.
pub(super) fn open(destinations: Destinations) {
    let _ = DESTINATIONS.set(destinations);
}

/// Whether anybody wants lines.
pub(crate) fn is_open() -> bool {
    DESTINATIONS.get().is_some()
}

/// Writes one line to each destination.
pub(crate) fn write(message: Arguments<'_>, fields: &[Field<'_>]) {
    let Some(destinations) = DESTINATIONS.get() else { return };
    LINE.with_borrow_mut(|line| {
        let now = Timestamp::now();
        // Writing to memory cannot fail.
        let _ = destinations.write(now, message, fields, line);
    });
}

impl Destinations {
    fn write(
        &self,
        now: Timestamp,
        message: Arguments<'_>,
        fields: &[Field<'_>],
        line: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        line.clear();
        write_seconds(now, line)?;
        let seconds = line.len();
        // As tracing writes the others.
        write!(line, ".{:03}  INFO ", now.subsec_millisecond())?;
        let head = line.len();
        write!(line, "{message}")?;
        for (name, value) in fields {
            if let Some(value) = value {
                write!(line, " {name}=")?;
                value.write_text(line)?;
            }
        }
        line.push(b'\n');
        if let Some(console) = &self.console {
            console.push(&[line]);
        }
        if let Some(all) = &self.all {
            all.push(&[&line[..seconds], b" | INFO     | mvllm::access:0 - ", &line[head..]]);
        }
        if let Some(structured) = &self.structured {
            line.clear();
            write_json(now, message, fields, line)?;
            structured.push(&[line]);
        }
        Ok(())
    }
}

fn write_json(
    now: Timestamp,
    message: Arguments<'_>,
    fields: &[Field<'_>],
    line: &mut Vec<u8>,
) -> std::io::Result<()> {
    write!(line, "{{\"timestamp\":\"{now:.6}\",\"level\":\"INFO\",\"message\":")?;
    serde_json::to_writer(&mut *line, &message)?;
    for (name, value) in fields {
        if let Some(value) = value {
            write!(line, ",\"{name}\":")?;
            value.write_json(line)?;
        }
    }
    writeln!(line, ",\"target\":\"{TARGET}\"}}")
}

impl Value<'_> {
    fn write_text(self, line: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Text(text) => write!(line, "{text:?}"),
            Self::Address(address) => write!(line, "{address}"),
            other => other.write_json(line),
        }
    }

    fn write_json(self, line: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Text(text) => Ok(serde_json::to_writer(line, text)?),
            Self::Address(address) => write!(line, "\"{address}\""),
            Self::Number(number) => write!(line, "{number}"),
            Self::Seconds(seconds) => write!(line, "{seconds:?}"),
            Self::True => line.write_all(b"true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use super::super::outbox::outbox;
    use super::*;

    struct Paper(mpsc::Sender<Vec<u8>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_says_the_same_to_people_and_to_programs() {
        let open = || {
            let (sender, writes) = mpsc::channel();
            let (outbox, postman) = outbox(Paper(sender)).unwrap();
            (Some(outbox), postman, writes)
        };
        let (console, first, on_console) = open();
        let (all, second, in_file) = open();
        let (structured, third, in_json) = open();
        let destinations = Destinations { console, all, structured };
        let fields = [
            ("id", Some(Value::Text("a\"\n"))),
            ("client", Some(Value::Address([10, 0, 0, 7].into()))),
            ("model", None),
            ("bytes", Some(Value::Number(4070))),
            ("hedged", Some(Value::True)),
            ("total_s", Some(Value::Seconds(6.1e-5))),
        ];
        let now = "2026-11-23T15:36:07.0125Z".parse().unwrap();
        destinations.write(now, format_args!("GET /\" 200"), &fields, &mut Vec::new()).unwrap();
        drop((first, second, third));
        let text = |writes: mpsc::Receiver<Vec<u8>>| {
            String::from_utf8(writes.try_iter().collect::<Vec<_>>().concat()).unwrap()
        };
        let rest =
            "GET /\" 200 id=\"a\\\"\\n\" client=10.0.0.7 bytes=4070 hedged=true total_s=6.1e-5\n";
        let console = text(on_console);
        assert_eq!(console.split_once(".012  INFO ").unwrap().1, rest);
        let file = text(in_file);
        assert_eq!(file.split_once(" | INFO     | mvllm::access:0 - ").unwrap().1, rest);
        assert_eq!(file[..19], console[..19]);
        let json: serde_json::Value = serde_json::from_str(&text(in_json)).unwrap();
        let due = serde_json::json!({
            "timestamp": "2026-11-23T15:36:07.012500Z", "level": "INFO", "message": "GET /\" 200",
            "id": "a\"\n", "client": "10.0.0.7", "bytes": 4070, "hedged": true, "total_s": 6.1e-5,
            "target": "mvllm::access",
        });
        assert_eq!(json, due);
    }
}
