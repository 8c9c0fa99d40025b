//! Frames as reviewed text, and what text does not show: colours.

use std::sync::Arc;

use proptest::num::f64::ANY;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::*;
use crate::monitor::input::{Input, meaning};
use crate::monitor::keyboard::Key;
use crate::monitor::samples::{SECOND, fleet, press, server, state, unhealthy};
use crate::monitor::source::News;
use crate::monitor::state::Models;
use crate::status::{
    Admission, EventLine, Phase, RequestUnderWay, Severity, StatusReport, Traffic,
};

pub(super) fn frame(state: &State, colours: Colours, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, Theme::new(colours), SECOND)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    };
    buffer.content.chunks(width).map(line).collect::<Vec<_>>().join("\n")
}

/// Compares the frame with `snapshots/{name}.snap`.
fn check(name: &str, state: &State, width: u16, height: u16) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::assert_snapshot!(name, text(&frame(state, Colours::On, width, height)));
    });
}

fn draining() -> ServerStatus {
    ServerStatus { admission: Admission::Draining, ..server("gpu-2", 12.5) }
}

fn large_fleet() -> Vec<ServerStatus> {
    (1..=200).map(|n| server(&format!("gpu-{n:03}"), f64::from(n % 100))).collect()
}

#[test]
fn a_healthy_fleet() {
    check("healthy_80x24", &state(fleet()), 80, 24);
    check("healthy_200x50", &state(fleet()), 200, 50);
    check("healthy_40x12", &state(fleet()), 40, 12);
    check("healthy_20x5", &state(fleet()), 20, 5);
}

#[test]
fn servers_out_of_order() {
    let mut checking = unhealthy("gpu-5");
    checking.health = HealthWord::Checking;
    checking.reason = None;
    let cordoned = ServerStatus { admission: Admission::Cordoned, ..server("gpu-6", 3.0) };
    let state =
        state(vec![server("gpu-1", 46.9), draining(), unhealthy("gpu-3"), checking, cordoned]);
    check("out_of_order_80x24", &state, 80, 24);
    check("out_of_order_200x50", &state, 200, 50);
}

#[test]
fn models_of_each_server() {
    let models = |count: usize| ServerStatus {
        models: ["a", "b", "c", "d"].iter().take(count).map(|&model| model.to_owned()).collect(),
        ..server("gpu", 10.0)
    };
    let mut state = state((0..=4).map(models).collect());
    press(&mut state, "m");
    check("models_80x24", &state, 80, 24);
}

#[test]
fn a_long_table_scrolls_with_the_selection() {
    let mut state = state(large_fleet());
    press(&mut state, &"j".repeat(120));
    check("scrolled_100x20", &state, 100, 20);
}

#[test]
fn the_details_of_a_server() {
    let mut state = state(vec![server("gpu-1", 75.0), unhealthy("gpu-2")]);
    press(&mut state, "j\n");
    check("details_80x24", &state, 80, 24);
    check("details_40x12", &state, 40, 12);
    press(&mut state, "j");
    check("details_unhealthy_120x40", &state, 120, 40);
}

#[test]
fn what_lies_over_the_screen() {
    let mut state = state(fleet());
    press(&mut state, "?");
    check("help_80x24", &state, 80, 24);
    press(&mut state, " jd");
    check("confirm_80x24", &state, 80, 24);
    check("confirm_40x12", &state, 40, 12);
}

#[test]
fn a_filter_and_a_sort_order_are_seen() {
    let mut state = state(fleet());
    press(&mut state, "ssss/gpu-2");
    check("filter_80x24", &state, 80, 24);
    press(&mut state, "x");
    check("filter_nothing_80x24", &state, 80, 24);
}

#[test]
fn enlarged_panes() {
    let mut state = state(fleet());
    press(&mut state, "e");
    check("events_80x24", &state, 80, 24);
    press(&mut state, "r");
    check("requests_80x24", &state, 80, 24);
}

#[test]
fn a_lost_connection() {
    let lost = || Input::News(News::Lost { why: "connection refused".to_owned() });
    let mut never = State::new("http://router:8888".to_owned(), Models::Hidden);
    check("connecting_80x24", &never, 80, 24);
    never.apply(lost(), Duration::ZERO);
    check("never_connected_80x24", &never, 80, 24);
    let mut once = state(fleet());
    once.apply(lost(), Duration::ZERO);
    check("lost_80x24", &once, 80, 24);
}

/// The style of the first cell of `needle`.
fn style_of(buffer: &Buffer, needle: &str) -> (Color, Modifier) {
    let width = usize::from(buffer.area.width);
    let symbols: Vec<&str> = needle.split("").filter(|symbol| !symbol.is_empty()).collect();
    let found = buffer.content.windows(symbols.len()).position(|cells| {
        cells.iter().zip(&symbols).all(|(cell, symbol)| cell.symbol() == *symbol)
    });
    let at = found.unwrap_or_else(|| panic!("no {needle} in a frame of width {width}"));
    (buffer.content[at].fg, buffer.content[at].modifier)
}

#[test]
fn rows_have_the_colours_of_0_1_0() {
    let mut checking = server("gpu-5", 10.0);
    checking.health = HealthWord::Checking;
    let servers = [("gpu-1", 69.9), ("gpu-2", 70.0), ("gpu-3", 90.0)];
    let mut servers: Vec<_> = servers.map(|(name, usage)| server(name, usage)).into();
    servers.extend([unhealthy("gpu-4"), checking]);
    let drawn = frame(&state(servers), Colours::On, 80, 24);
    let check = |name, colour, strike| {
        let (fg, modifier) = style_of(&drawn, name);
        assert_eq!((fg, modifier.contains(Modifier::CROSSED_OUT)), (colour, strike), "{name}");
    };
    check("http://gpu-1", Color::Green, false);
    check("http://gpu-2", Color::Yellow, false);
    check("http://gpu-3", Color::Red, false);
    check("http://gpu-4", Color::Red, true);
    check("http://gpu-5", Color::Yellow, false);
    assert_eq!(style_of(&drawn, "╭").0, Color::LightBlue);
}

#[test]
fn without_colours_signs_and_words_say_the_same() {
    let mut checking = unhealthy("gpu-3");
    checking.health = HealthWord::Checking;
    let mut state = state(vec![server("gpu-1", 95.0), draining(), checking, unhealthy("gpu-4")]);
    press(&mut state, "j");
    let drawn = frame(&state, Colours::Off, 80, 24);
    let coloured =
        |cell: &&ratatui::buffer::Cell| cell.fg != Color::Reset || cell.bg != Color::Reset;
    assert_eq!(drawn.content.iter().filter(coloured).count(), 0);
    let text = text(&drawn);
    let line = |name| {
        let line = text.lines().find(|line| line.contains(name)).unwrap();
        line.trim_matches('│').trim_end()
    };
    assert!(line("gpu-1").starts_with(">   1"), "{text}");
    assert!(line("gpu-2").starts_with(" -  2") && line("gpu-2").contains("draining, 8 left"));
    assert!(line("gpu-3").starts_with(" ?  3") && line("gpu-3").ends_with(" 2m"), "{text}");
    assert!(line("gpu-4").starts_with(" x  4"), "{text}");
}

#[test]
fn colours_are_left_out_when_the_environment_says_so() {
    let check = |no_color, term, expect| assert_eq!(Colours::asked_for(no_color, term), expect);
    check(None, Some("xterm-256color"), Colours::On);
    check(Some(""), None, Colours::On);
    check(Some("1"), Some("xterm"), Colours::Off);
    check(None, Some("dumb"), Colours::Off);
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,40}", "http://[a-z]{1,60}:8000", "[\\x00-\\x1f模é\u{200d}]{0,9}"]
}

fn any_traffic() -> impl Strategy<Value = Traffic> {
    ([ANY; 2], [proptest::option::of(ANY), proptest::option::of(ANY)], any::<[u64; 2]>()).prop_map(
        |([requests_per_second, output_tokens_per_second], ttft, [retries, errors])| Traffic {
            requests_per_second,
            ttft_p50_seconds: ttft[0],
            ttft_p99_seconds: ttft[1],
            output_tokens_per_second,
            retries,
            errors,
        },
    )
}

prop_compose! {
    fn any_server()(
        texts in (any_text(), proptest::option::of(any_text()), prop::collection::vec(any_text(), 0..5)),
        health in prop::sample::select(
            vec![HealthWord::Healthy, HealthWord::Checking, HealthWord::Unhealthy],
        ),
        admission in prop::sample::select(
            vec![Admission::Open, Admission::Cordoned, Admission::Draining, Admission::Drained],
        ),
        counts: (u64, u64, u32, u32),
        usage_percent in ANY,
        figures in [proptest::option::of(ANY), proptest::option::of(ANY), proptest::option::of(ANY)],
        traffic in any_traffic(),
        usage_history in prop::collection::vec(proptest::num::f32::ANY, 0..130),
    ) -> ServerStatus {
        ServerStatus {
            url: texts.0, health, reason: texts.1, since_seconds: figures[0], admission,
            models: texts.2, running: counts.0, waiting: counts.1, capacity: counts.2,
            usage_percent, in_flight: counts.3, kv_cache_usage: figures[1],
            prefix_cache_hit_rate: figures[2], traffic, usage_history,
        }
    }
}

prop_compose! {
    fn any_report()(
        servers in prop::collection::vec(any_server(), 0..12),
        traffic in any_traffic(),
        texts in prop::collection::vec(any_text(), 12),
        uptime_seconds in ANY,
        age_seconds in ANY,
        attempts: u32,
    ) -> StatusReport {
        let event = |text: &String| EventLine {
            time: texts[2].clone(), severity: Severity::Error, text: text.clone(),
        };
        let request = |id: &String| RequestUnderWay {
            id: id.clone(), age_seconds, server: Some(texts[3].clone()), model: None,
            path: texts[4].clone(), phase: Phase::Waiting, attempts,
        };
        StatusReport {
            version: texts[0].clone(), time: texts[1].clone(), uptime_seconds, servers, silence_is_ours: false, traffic,
            events: texts.iter().map(event).collect(), slowest: texts.iter().map(request).collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_report_and_no_size_is_too_odd_to_draw(
        report in any_report(),
        keys in "[jkssSm/aepr?dcuy\n\x1b]{0,12}",
        (width, height) in prop_oneof![(1..=250_u16, 1..=80_u16), (1..=24_u16, 1..=9_u16)],
    ) {
        let mut state = State::new("the router".to_owned(), Models::Shown);
        let now = Duration::ZERO;
        state.apply(Input::News(News::Report(Arc::new(report))), now);
        for key in keys.chars() {
            let key = match key {
                '\n' => Key::Enter,
                '\x1b' => Key::Esc,
                letter => Key::Char(letter),
            };
            meaning(key, state.keys()).and_then(|input| state.apply(input, now));
        }
        let drawn = frame(&state, Colours::On, width, height);
        // A report comes from elsewhere: it must not be able to send the terminal commands.
        let commands = |cell: &&ratatui::buffer::Cell| cell.symbol().contains(char::is_control);
        prop_assert_eq!(drawn.content.iter().filter(commands).count(), 0);
    }
}
