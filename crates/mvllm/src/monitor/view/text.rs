//! Fitting text into cells.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// `text`, or as much of its beginning as fits into `width`, with a sign that some is missing.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(1) else { return String::new() };
    let mut used = 0;
    let fits = |letter: &char| {
        used += letter.width().unwrap_or(0);
        used <= room
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    kept.push('…');
    kept
}

/// As [`cut`], leaving out the middle: of urls, hosts and ports differ at both ends.
pub(super) fn cut_middle(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(1) else { return String::new() };
    let tail_room = room / 2;
    let mut used = 0;
    let fits = |letter: &char| {
        used += letter.width().unwrap_or(0);
        used <= tail_room
    };
    let tail: Vec<char> = text.chars().rev().take_while(fits).collect();
    let mut kept = cut(text, width - tail_room);
    kept.extend(tail.into_iter().rev());
    kept
}

/// The first of `parts` that fit into `width` side by side, with `between` between them.
pub(super) fn join_fitting<'a>(
    parts: impl IntoIterator<Item = Line<'a>>,
    between: &'a str,
    width: usize,
) -> Line<'a> {
    let mut joined = Line::default();
    for part in parts {
        let gap = if joined.spans.is_empty() { "" } else { between };
        if joined.width() + gap.width() + part.width() > width {
            break;
        }
        joined.push_span(gap);
        joined.extend(part.spans);
    }
    joined
}

/// Draws `lines` below each other, as far as there is room.
pub(super) fn draw_lines<'a>(
    lines: impl IntoIterator<Item = Line<'a>>,
    area: Rect,
    buffer: &mut Buffer,
) {
    for (line, row) in lines.into_iter().zip(area.rows()) {
        line.render(row, buffer);
    }
}

/// The last `width` figures of `history` (percent) as a line of bars, the newest at the right; each
/// stands for several where there are more.
pub(super) fn sparkline(history: &[f32], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if width == 0 {
        return String::new();
    }
    let per_bar = history.len().div_ceil(width).max(1);
    let bar = |figures: &[f32]| {
        let most = figures.iter().copied().fold(0.0, f32::max).min(100.0);
        // 100 % is a full bar, 0 % the lowest one: a line that is there and rests.
        BARS[((most / 100.0 * 7.0).round() as usize).min(7)]
    };
    // From the newest backwards, so that only the oldest bar stands for fewer.
    let bars: Vec<char> = history.rchunks(per_bar).take(width).map(bar).collect();
    let blank = std::iter::repeat_n(' ', width - bars.len());
    blank.chain(bars.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("llama", 5), "llama");
        assert_eq!(cut("llama-3", 5), "llam…");
        assert_eq!(cut("模型模型", 6), "模型…");
        assert_eq!(cut("llama", 1), "…");
        assert_eq!(cut("llama", 0), "");
        assert_eq!(cut_middle("gpu-01.lan:8000", 9), "gpu-…8000");
        assert_eq!(cut_middle("模型模型模型", 7), "模…型");
        assert_eq!(cut_middle("abc", 1), "…");
    }

    #[test]
    fn a_sparkline_ends_with_the_newest_figure() {
        assert_eq!(sparkline(&[0.0, 50.0, 100.0], 5), "  ▁▅█");
        assert_eq!(sparkline(&[100.0, 0.0, 0.0, 0.0], 2), "█▁");
        assert_eq!(sparkline(&[f32::NAN, -3.0, 400.0], 3), "▁▁█");
        assert_eq!(sparkline(&[], 2), "  ");
        assert_eq!(sparkline(&[1.0], 0), "");
    }

    #[test]
    fn parts_are_left_out_from_the_end() {
        let parts = ["one", "two", "three"].map(Line::from);
        assert_eq!(join_fitting(parts, "  ", 12).to_string(), "one  two");
    }
}
