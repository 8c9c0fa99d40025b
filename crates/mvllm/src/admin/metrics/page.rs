//! The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::{Display, Write};

use crate::traffic::{BOUNDS_SECONDS, HistogramCounts};

/// A page that is being written. (Writing to a `String` cannot fail, so outcomes are dropped.)
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

type Labels<'a> = [(&'a str, &'a str)];

impl Page {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        self.labels(labels, None);
        let _ = writeln!(self.text, " {value}");
    }

    pub(super) fn histogram(&mut self, name: &str, labels: &Labels<'_>, counts: &HistogramCounts) {
        let mut reached = 0;
        for (at, count) in counts.buckets.iter().enumerate() {
            reached += count;
            let bound = BOUNDS_SECONDS.get(at).map_or("+Inf".to_owned(), ToString::to_string);
            let _ = write!(self.text, "{name}_bucket");
            self.labels(labels, Some(&bound));
            let _ = writeln!(self.text, " {reached}");
        }
        let seconds = counts.sum_nanos as f64 / 1e9;
        self.sample(&format!("{name}_sum"), labels, seconds);
        self.sample(&format!("{name}_count"), labels, reached);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn labels(&mut self, labels: &Labels<'_>, bound: Option<&str>) {
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        for (nth, (name, value)) in all.enumerate() {
            let opening = if nth == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{opening}{name}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() || bound.is_some() {
            self.text.push('}');
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_buckets_add_up() {
        let mut page = Page::default();
        page.sample("a", &[("m", "x\"\\\n")], 1);
        page.sample("b", &[], 0.5);
        let mut counts = HistogramCounts::default();
        (counts.buckets[0], counts.buckets[28], counts.sum_nanos) = (2, 1, 1_500_000_000);
        page.histogram("h", &[("s", "1")], &counts);
        let text = page.into_text();
        assert!(text.starts_with("a{m=\"x\\\"\\\\\\n\"} 1\nb 0.5\n"), "{text}");
        assert!(text.contains("h_bucket{s=\"1\",le=\"0.001\"} 2\n"), "{text}");
        assert!(text.ends_with(
            "h_bucket{s=\"1\",le=\"+Inf\"} 3\nh_sum{s=\"1\"} 1.5\nh_count{s=\"1\"} 3\n"
        ));
    }
}
