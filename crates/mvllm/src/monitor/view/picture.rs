//! The picture of the monitor in the README, drawn from the same code as the screen.

use std::fmt::Write;
use std::path::Path;

use ratatui::buffer::Cell;
use ratatui::style::{Color, Modifier};

use super::tests::frame;
use super::*;
use crate::monitor::samples::{server, state, unhealthy};
use crate::status::Admission;

/// Size of a character cell, in the picture's own units.
const CELL_WIDTH: f64 = 8.4;
const CELL_HEIGHT: f64 = 18.0;

fn colour(of: Color) -> &'static str {
    match of {
        Color::Red | Color::LightRed => "#f7768e",
        Color::Green | Color::LightGreen => "#9ece6a",
        Color::Yellow | Color::LightYellow => "#e0af68",
        Color::Blue | Color::LightBlue => "#7aa2f7",
        Color::Cyan | Color::LightCyan => "#7dcfff",
        Color::DarkGray => "#565f89",
        _ => "#c0caf5",
    }
}

fn svg(buffer: &Buffer) -> String {
    let (columns, rows) = (buffer.area.width, buffer.area.height);
    let (width, height) = (f64::from(columns) * CELL_WIDTH, f64::from(rows) * CELL_HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w:.0} {h:.0}\" role=\"img\" \
         aria-label=\"The mvllm monitor\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" \
         fill=\"#1a1b26\"/>\n<g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" \
         font-size=\"14\" xml:space=\"preserve\">\n",
        w = width + 20.0,
        h = height + 20.0
    );
    for (row, cells) in (0u16..).zip(buffer.content.chunks(usize::from(columns))) {
        for (column, run) in runs(cells) {
            let text: String = run.iter().map(Cell::symbol).collect();
            if text.trim().is_empty() {
                continue;
            }
            let x = 10.0 + f64::from(column) * CELL_WIDTH;
            let y = 10.0 + f64::from(row) * CELL_HEIGHT + 14.0;
            let length = run.len() as f64 * CELL_WIDTH;
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{length:.1}\" \
                 lengthAdjust=\"spacingAndGlyphs\" fill=\"{}\"{}>{}</text>",
                colour(run[0].fg),
                style(&run[0]),
                escaped(&text)
            );
        }
    }
    svg + "</g>\n</svg>\n"
}

/// Neighbouring cells that look alike, each run with its first column.
fn runs(cells: &[Cell]) -> Vec<(u16, &[Cell])> {
    let alike = |a: &Cell, b: &Cell| a.fg == b.fg && a.modifier == b.modifier;
    let mut column = 0;
    cells
        .chunk_by(alike)
        .map(|run| {
            let at = column;
            column += run.len() as u16;
            (at, run)
        })
        .collect()
}

fn style(cell: &Cell) -> String {
    let mut style = String::new();
    let wants = |modifier| cell.modifier.contains(modifier);
    if wants(Modifier::BOLD) {
        style += " font-weight=\"bold\"";
    }
    if wants(Modifier::DIM) {
        style += " opacity=\"0.65\"";
    }
    if wants(Modifier::CROSSED_OUT) {
        style += " text-decoration=\"line-through\"";
    }
    style
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `UPDATE_DOCS=1 cargo test -p mvllm picture` draws it anew.
#[test]
fn the_picture_in_docs_is_fresh() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/monitor.svg"));
    let draining = ServerStatus { admission: Admission::Draining, ..server("gpu-04", 25.0) };
    let servers = vec![
        server("gpu-01", 46.9),
        server("gpu-02", 71.9),
        server("gpu-03", 93.8),
        draining,
        unhealthy("gpu-05"),
        server("gpu-06", 31.3),
    ];
    let picture = svg(&frame(&state(servers), Colours::On, 118, 30));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &picture).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == picture,
        "docs/monitor.svg is stale: run UPDATE_DOCS=1 cargo test -p mvllm picture"
    );
}
