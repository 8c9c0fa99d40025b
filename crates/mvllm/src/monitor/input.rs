//! What a key means.

use super::keyboard::Key;
use super::source::{News, Verb};

/// Everything that can change the state.
#[derive(Debug)]
pub(super) enum Input {
    News(News),
    Select(Step),
    /// The details of the selected server.
    Open,
    /// Out of whatever was opened last.
    Back,
    NextSort,
    ReverseSort,
    EditFilter,
    Type(char),
    Erase,
    EraseAll,
    /// The filter as it has been typed.
    Accept,
    Pause,
    Ask(Verb),
    Confirm,
    ToggleModels,
    Enlarge(Pane),
    Help,
    Quit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

/// A part of the screen below the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Events,
    Requests,
}

/// What keys are for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    Commands,
    Text,
    YesOrNo,
    AnyCloses,
}

/// The meaning of `key`, if it has one.
pub(super) fn meaning(key: Key, keys: Keys) -> Option<Input> {
    match (keys, key) {
        (_, Key::Ctrl('c')) => Some(Input::Quit),
        (Keys::Commands, key) => command(key),
        (Keys::Text, key) => text(key),
        (Keys::YesOrNo, Key::Char('y' | 'Y')) => Some(Input::Confirm),
        (Keys::YesOrNo, Key::Char('n' | 'N' | 'q') | Key::Esc) => Some(Input::Back),
        // Enter and slips of the finger neither confirm nor cancel.
        (Keys::YesOrNo, _) => None,
        (Keys::AnyCloses, _) => Some(Input::Back),
    }
}

fn command(key: Key) -> Option<Input> {
    Some(match key {
        Key::Up | Key::Char('k') => Input::Select(Step::Up),
        Key::Down | Key::Char('j') => Input::Select(Step::Down),
        Key::PageUp => Input::Select(Step::PageUp),
        Key::PageDown => Input::Select(Step::PageDown),
        Key::Home => Input::Select(Step::First),
        Key::End => Input::Select(Step::Last),
        Key::Enter => Input::Open,
        Key::Esc => Input::Back,
        Key::Char('s') => Input::NextSort,
        Key::Char('S') => Input::ReverseSort,
        Key::Char('/') => Input::EditFilter,
        Key::Char('p') => Input::Pause,
        Key::Char('c') => Input::Ask(Verb::Cordon),
        Key::Char('d') => Input::Ask(Verb::Drain),
        Key::Char('u') => Input::Ask(Verb::Uncordon),
        Key::Char('m') => Input::ToggleModels,
        Key::Char('e') => Input::Enlarge(Pane::Events),
        Key::Char('r') => Input::Enlarge(Pane::Requests),
        Key::Char('?') => Input::Help,
        Key::Char('q') => Input::Quit,
        Key::Char(_) | Key::Ctrl(_) | Key::Backspace => return None,
    })
}

fn text(key: Key) -> Option<Input> {
    Some(match key {
        Key::Char(letter) => Input::Type(letter),
        Key::Backspace => Input::Erase,
        Key::Ctrl('u') => Input::EraseAll,
        Key::Enter => Input::Accept,
        Key::Esc => Input::Back,
        Key::Up => Input::Select(Step::Up),
        Key::Down => Input::Select(Step::Down),
        Key::PageUp => Input::Select(Step::PageUp),
        Key::PageDown => Input::Select(Step::PageDown),
        Key::Home | Key::End | Key::Ctrl(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_mode_says() {
        let is_quit = |key, keys| matches!(meaning(key, keys), Some(Input::Quit));
        assert!(is_quit(Key::Char('q'), Keys::Commands));
        assert!(!is_quit(Key::Char('q'), Keys::Text));
        assert!(!is_quit(Key::Char('q'), Keys::YesOrNo));
        for keys in [Keys::Commands, Keys::Text, Keys::YesOrNo, Keys::AnyCloses] {
            assert!(is_quit(Key::Ctrl('c'), keys));
        }
        assert!(meaning(Key::Enter, Keys::YesOrNo).is_none(), "Enter is pressed too easily");
    }
}
