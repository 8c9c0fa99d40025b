//! The mean time to the first token over the load, a panel for each workload.

use std::fmt::Write;

use super::report::Cell;

const PANEL: (f64, f64) = (420.0, 300.0);
const MARGIN: f64 = 50.0;

/// Told apart by most eyes, also without colours' help from each other (Okabe and Ito).
const COLOURS: [&str; 8] =
    ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

pub(super) fn draw(cells: &[Cell]) -> String {
    let workloads = distinct(cells.iter().map(|cell| cell.workload.as_str()));
    let policies = distinct(cells.iter().map(|cell| cell.policy.as_str()));
    let (width, height) = (PANEL.0 * workloads.len().max(1) as f64 + 140.0, PANEL.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (nth, workload) in workloads.iter().enumerate() {
        let cells: Vec<_> = cells.iter().filter(|cell| cell.workload == *workload).collect();
        let panel = Panel::of(&cells, PANEL.0 * nth as f64);
        panel.frame(&mut svg, workload);
        for (policy, colour) in policies.iter().zip(COLOURS.iter().cycle()) {
            panel.line(&mut svg, cells.iter().filter(|cell| cell.policy == *policy), colour);
        }
    }
    let x = width - 135.0;
    for (nth, (policy, colour)) in policies.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let y = 40.0 + 18.0 * nth as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{y}\">{policy}</text>",
            y - 6.0,
            x + 20.0,
        );
    }
    svg + "</svg>\n"
}

/// The scales of a panel: load to the right, the logarithm of the time upwards.
struct Panel {
    left: f64,
    loads: (f64, f64),
    times: (f64, f64),
}

impl Panel {
    fn of(cells: &[&Cell], left: f64) -> Self {
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, 0.0), |(low, high), v| (v.min(low), v.max(high)))
        };
        let loads = range(&mut cells.iter().map(|cell| cell.load));
        let times = range(&mut cells.iter().map(|cell| cell.figures.ttft_mean.max(1e-3)));
        let whole = |time: f64, round: fn(f64) -> f64| 10f64.powf(round(time.log10()));
        Self { left, loads, times: (whole(times.0, f64::floor), whole(times.1, f64::ceil)) }
    }

    fn x(&self, load: f64) -> f64 {
        let span = (self.loads.1 - self.loads.0).max(1e-9);
        self.left + MARGIN + (load - self.loads.0) / span * (PANEL.0 - 1.6 * MARGIN)
    }

    fn y(&self, time: f64) -> f64 {
        let span = (self.times.1 / self.times.0).log10().max(1e-9);
        let part = (time.max(1e-3) / self.times.0).log10() / span;
        PANEL.1 - MARGIN - part * (PANEL.1 - 2.0 * MARGIN)
    }

    fn frame(&self, svg: &mut String, title: &str) {
        let (left, right) = (self.x(self.loads.0), self.x(self.loads.1));
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"30\" font-size=\"13\">{title}</text>");
        let mut time = self.times.0;
        while time <= self.times.1 * 1.01 {
            let y = self.y(time);
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{time} s</text>",
                left - 4.0,
                y + 4.0,
            );
            time *= 10.0;
        }
        for load in [self.loads.0, self.loads.1] {
            let (x, y) = (self.x(load), PANEL.1 - MARGIN + 16.0);
            let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{load}</text>");
        }
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">load; mean time to first token</text>",
            left.midpoint(right),
            PANEL.1 - 12.0,
        );
    }

    fn line<'a>(&self, svg: &mut String, cells: impl Iterator<Item = &'a &'a Cell>, colour: &str) {
        let points: Vec<_> =
            cells.map(|cell| (self.x(cell.load), self.y(cell.figures.ttft_mean))).collect();
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" "),
        );
        for (x, y) in points {
            let _ =
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
}

/// In the order of their first appearance.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}
