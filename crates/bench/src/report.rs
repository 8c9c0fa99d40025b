//! The report: Markdown, with all that is needed to judge the figures and to get them again.

use std::fmt::Write;

use crate::cells::{Cell, Load, Sample};
use crate::contenders::Contender;

/// All samples of a run.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) cells: Vec<Cell>,
    /// By contender and by cell, in the order of the two above; one sample for each round.
    pub(crate) samples: Vec<Vec<Vec<Sample>>>,
}

/// What a column shows of a sample.
type Figure = fn(&Sample) -> Option<f64>;

impl Results {
    /// The tables.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        self.cost(&mut text);
        for other in ["nginx", "HAProxy", "vllm-router round_robin"] {
            self.ratios(&mut text, other);
        }
        self.latency(&mut text);
        self.memory(&mut text);
        self.faults(&mut text);
        self.spread(&mut text);
        text
    }

    fn cost(&self, text: &mut String) {
        heading(
            text,
            "Cost",
            "Microseconds of processor time (user and system) of all processes of \
             the router, per request, or per event of a stream. Medians of all rounds.",
        );
        self.table(text, |_| true, |cell, samples| show(median(samples, per_unit(cell)), 1));
    }

    fn ratios(&self, text: &mut String, other: &str) {
        let Some(other_at) = self.contenders.iter().position(|it| it.name == other) else { return };
        heading(text, &format!("Ratio to {other}"), "Of the medians above; below 1 is cheaper.");
        let ratio = |nth: usize, at: usize| {
            let cost = |nth: usize| median(&self.samples[nth][at], per_unit(&self.cells[at]));
            Some(cost(nth)? / cost(other_at)?)
        };
        self.rows(text, |_| true, |nth| nth != 0, |nth, at| show(ratio(nth, at), 2));
    }

    fn latency(&self, text: &mut String) {
        heading(
            text,
            "Latency added",
            "p50 / p99 of the time from sending a request (where a rate is \
             given: from the moment at which it was due) to its last byte, less that without a \
             router; in microseconds. Medians of all rounds.",
        );
        let is_short = |cell: &Cell| matches!(cell.load, Load::Closed { .. } | Load::Open { .. });
        let added = |nth: usize, at: usize, figure: Figure| {
            let with = median(&self.samples[nth][at], figure)?;
            Some(with - median(&self.samples[0][at], figure)?)
        };
        self.rows(
            text,
            is_short,
            |nth| nth != 0,
            |nth, at| {
                let p50 = show(added(nth, at, |sample| sample.p50_micros), 0);
                let p99 = show(added(nth, at, |sample| sample.p99_micros), 0);
                format!("{p50} / {p99}")
            },
        );
    }

    fn memory(&self, text: &mut String) {
        heading(
            text,
            "Memory",
            "Resident memory of all processes of the router, in MB, while the \
             streams are open; in brackets, what each open stream has added, in KB.",
        );
        let is_paced = |cell: &Cell| matches!(cell.load, Load::Paced { .. });
        self.rows(
            text,
            is_paced,
            |nth| nth != 0,
            |nth, at| {
                let samples = &self.samples[nth][at];
                let resident = median(samples, |it| it.resident_kb.map(|kb| kb as f64 / 1024.0));
                let each = median(samples, |it| it.kb_per_stream);
                format!("{} ({})", show(resident, 1), show(each, 1))
            },
        );
    }

    fn faults(&self, text: &mut String) {
        heading(
            text,
            "Errors, truncations, byte mismatches",
            "Over all rounds; a request that was \
             not answered with 200, an answer that ended too soon, and one in which any byte was \
             not as the server had sent it, or whose request had not arrived as it was sent.",
        );
        self.rows(
            text,
            |_| true,
            |_| true,
            |nth, at| {
                let sum = |figure: fn(&Sample) -> u64| {
                    self.samples[nth][at].iter().map(figure).sum::<u64>()
                };
                let faults = [sum(|it| it.errors), sum(|it| it.truncated), sum(|it| it.mismatched)];
                let count = |unit: u64| if unit == 0 { "–".to_owned() } else { unit.to_string() };
                if self.samples[nth][at].is_empty() || faults == [0; 3] {
                    return count(0);
                }
                faults.map(count).join(" / ")
            },
        );
    }

    fn spread(&self, text: &mut String) {
        heading(
            text,
            "Spread and throughput",
            "Lowest and highest cost of all rounds, and the requests \
             or events in a second that went through on the one core.",
        );
        self.rows(
            text,
            |_| true,
            |_| true,
            |nth, at| {
                let samples = &self.samples[nth][at];
                let mut costs: Vec<f64> =
                    samples.iter().filter_map(per_unit(&self.cells[at])).collect();
                costs.sort_by(f64::total_cmp);
                let rate = median(samples, rate(&self.cells[at]));
                let range = |at: Option<&f64>| show(at.copied(), 1);
                format!("{}–{}, {}/s", range(costs.first()), range(costs.last()), show(rate, 0))
            },
        );
    }

    fn table(
        &self,
        text: &mut String,
        cells: impl Fn(&Cell) -> bool,
        show: impl Fn(&Cell, &[Sample]) -> String,
    ) {
        let shown = |nth: usize, at: usize| show(&self.cells[at], &self.samples[nth][at]);
        self.rows(text, cells, |nth| nth != 0, shown);
    }

    fn rows(
        &self,
        text: &mut String,
        cells: impl Fn(&Cell) -> bool,
        contenders: impl Fn(usize) -> bool,
        show: impl Fn(usize, usize) -> String,
    ) {
        let columns: Vec<usize> =
            (0..self.cells.len()).filter(|at| cells(&self.cells[*at])).collect();
        let names: Vec<&str> = columns.iter().map(|at| self.cells[*at].name.as_str()).collect();
        line(text, &format!("| | {} |", names.join(" | ")));
        line(text, &format!("|---{}|", "|---".repeat(columns.len())));
        for (nth, contender) in
            self.contenders.iter().enumerate().filter(|(nth, _)| contenders(*nth))
        {
            let values: Vec<String> = columns.iter().map(|at| show(nth, *at)).collect();
            line(text, &format!("| {} | {} |", contender.name, values.join(" | ")));
        }
        line(text, "");
    }
}

/// Processor time per request, or per event of a stream.
fn per_unit(cell: &Cell) -> Figure {
    match cell.load {
        Load::Closed { .. } | Load::Open { .. } => |sample| {
            let cpu = sample.cpu_micros?;
            (sample.requests > 0).then(|| cpu as f64 / sample.requests as f64)
        },
        Load::Unpaced { .. } | Load::Paced { .. } => |sample| {
            let cpu = sample.cpu_micros?;
            (sample.events > 0).then(|| cpu as f64 / sample.events as f64)
        },
    }
}

fn rate(cell: &Cell) -> Figure {
    match cell.load {
        Load::Closed { .. } | Load::Open { .. } => |it| Some(it.requests as f64 / it.seconds),
        Load::Unpaced { .. } | Load::Paced { .. } => |it| Some(it.events as f64 / it.seconds),
    }
}

fn median(samples: &[Sample], figure: Figure) -> Option<f64> {
    let mut values: Vec<f64> = samples.iter().filter_map(figure).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn show(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn heading(text: &mut String, title: &str, explanation: &str) {
    line(text, &format!("## {title}\n\n{explanation}\n"));
}

pub(crate) fn line(text: &mut String, more: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{more}");
}
