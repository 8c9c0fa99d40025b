//! What lies over the screen until it is answered: the help, and "do you mean it".

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph, Widget, Wrap};

use super::text::{draw_lines, width};
use super::theme::Theme;
use crate::monitor::source::{AdminCommand, Verb};
use crate::status::ServerStatus;

const HELP: [(&str, &str); 21] = [
    ("↑ ↓ j k PgUp PgDn", "select a server"),
    ("Enter / Esc", "its details / back"),
    ("s / S", "next sort order / reverse it"),
    ("/", "only servers with these words: url, model, state"),
    ("m", "column of models"),
    ("e / r", "more events / more requests"),
    ("p", "pause, and go on"),
    ("c", "cordon: no new requests"),
    ("d", "drain: no new ones, those under way finish"),
    ("u", "uncordon: new requests again"),
    ("q, Ctrl-C", "quit"),
    ("", ""),
    ("x red, struck", "unhealthy: gets no requests"),
    ("? yellow", "checking: not proven, or suspect"),
    ("= - _", "cordoned, draining, drained"),
    ("green yellow red", "usage below 70 %, from 70 %, from 90 %"),
    ("", ""),
    ("Usage", "(running + waiting) / capacity"),
    ("KV, Prefix", "KV cache in use; prompt tokens found cached"),
    ("TTFT, Req/s, Tok/s", "over the last minute"),
    ("In flight", "requests of this router at the server"),
];

/// The width of the keys and of the gap after them.
const KEYS_WIDTH: usize = 20;

pub(super) fn help(theme: Theme, area: Rect, buffer: &mut Buffer) {
    let widest = HELP.iter().map(|(_, meaning)| KEYS_WIDTH + width(meaning)).max().unwrap_or(0);
    let inner = open_box(" Help ", widest as u16, HELP.len() as u16, theme.border(), area, buffer);
    let lines = HELP.map(|(key, meaning)| {
        let blank = " ".repeat(KEYS_WIDTH.saturating_sub(width(key)));
        Line::from(vec![Span::styled(key, theme.strong()), Span::raw(blank), Span::raw(meaning)])
    });
    draw_lines(lines, inner, buffer);
}

pub(super) fn confirm(
    command: &AdminCommand,
    server: Option<&ServerStatus>,
    theme: Theme,
    area: Rect,
    buffer: &mut Buffer,
) {
    let (title, consequence) = consequence(command.verb, server);
    let lines = vec![
        Line::styled(command.url.clone(), theme.strong()),
        Line::default(),
        Line::from(consequence),
    ];
    let widest = lines.iter().map(Line::width).max().unwrap_or(0);
    let height = lines.len() as u16 + 1;
    let inner = open_box(title, widest as u16, height, theme.warning(), area, buffer);
    let text = Paragraph::new(lines).wrap(Wrap { trim: true }).alignment(Alignment::Center);
    text.render(inner, buffer);
    // On the lower edge, where no text that wraps can push it out.
    let bottom = inner.bottom().min(area.bottom().saturating_sub(1));
    let answers = Line::from(vec![
        Span::styled(" y", theme.strong()),
        Span::raw(" yes   "),
        Span::styled("n", theme.strong()),
        Span::raw(" no "),
    ]);
    let edge = Rect { y: bottom, height: 1, ..inner };
    answers.centered().render(edge.intersection(area), buffer);
}

fn consequence(verb: Verb, server: Option<&ServerStatus>) -> (&'static str, String) {
    let under_way = server.map_or(0, |server| server.in_flight);
    match verb {
        Verb::Cordon => (" Cordon? ", "It gets no new requests until uncordoned.".to_owned()),
        Verb::Drain => {
            let text = format!("It gets no new requests; {under_way} under way may finish.");
            (" Drain? ", text)
        }
        Verb::Uncordon => (" Uncordon? ", "It gets new requests again.".to_owned()),
    }
}

/// A box in the middle for `width` x `height` cells, as far as there is room; its inside.
fn open_box(
    title: &'static str,
    width: u16,
    height: u16,
    style: Style,
    area: Rect,
    buffer: &mut Buffer,
) -> Rect {
    // Two cells for the frame, and one on each side for air.
    let width = (width + 4).min(area.width);
    let height = (height + 2).min(area.height);
    let outer = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(outer, buffer);
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(style)
        .title_top(Line::from(title).centered());
    let inner = block.inner(outer);
    block.render(outer, buffer);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}
