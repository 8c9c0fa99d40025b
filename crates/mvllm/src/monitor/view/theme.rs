//! Colours and other marks: the colours of 0.1.0, all of them from the sixteen that follow the
//! terminal's own light or dark scheme.

use ratatui::style::{Color, Modifier, Style};

use crate::status::{Admission, HealthWord, ServerStatus, Severity};

/// 0.1.0's limits, in percent of the capacity.
const BUSY: f64 = 70.0;
const FULL: f64 = 90.0;

/// Whether colours may be used. All is readable without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    On,
    Off,
}

impl Colours {
    /// What the variables `NO_COLOR` and `TERM` ask for; <https://no-color.org>: any value but an
    /// empty one.
    pub(crate) fn asked_for(no_color: Option<&str>, term: Option<&str>) -> Self {
        match (no_color, term) {
            (Some(value), _) if !value.is_empty() => Self::Off,
            (_, Some("dumb")) => Self::Off,
            _ => Self::On,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(in crate::monitor) struct Theme {
    colours: Colours,
}

impl Theme {
    pub(in crate::monitor) fn new(colours: Colours) -> Self {
        Self { colours }
    }

    /// 0.1.0's `bright_blue`.
    pub(super) fn border(self) -> Style {
        self.foreground(Color::LightBlue)
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn good(self) -> Style {
        self.foreground(Color::Green)
    }

    pub(super) fn warning(self) -> Style {
        self.foreground(Color::Yellow)
    }

    pub(super) fn error(self) -> Style {
        self.foreground(Color::Red)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Info => Style::new(),
            Severity::Warning => self.warning(),
            Severity::Error => self.error(),
        }
    }

    /// The colour of a server's row, without the strike.
    pub(super) fn server(self, server: &ServerStatus) -> Style {
        match server.health {
            HealthWord::Unhealthy => self.error(),
            HealthWord::Checking => self.warning(),
            HealthWord::Healthy => self.usage(server.usage_percent),
        }
    }

    pub(super) fn usage(self, percent: f64) -> Style {
        match percent {
            percent if percent >= FULL => self.error(),
            percent if percent >= BUSY => self.warning(),
            _ => self.good(),
        }
    }

    fn foreground(self, colour: Color) -> Style {
        match self.colours {
            Colours::On => Style::new().fg(colour),
            Colours::Off => Style::new(),
        }
    }
}

/// The strike through the row of a server that is out.
pub(super) fn strike(server: &ServerStatus) -> Style {
    match server.health {
        HealthWord::Unhealthy => Style::new().add_modifier(Modifier::CROSSED_OUT),
        HealthWord::Checking | HealthWord::Healthy => Style::new(),
    }
}

/// What a colour says, as a sign. A server with nothing to tell has none, so that signs stand out.
/// All are one cell wide everywhere, also where East Asian widths are in use.
pub(super) fn sign(server: &ServerStatus) -> &'static str {
    match (server.health, server.admission) {
        (HealthWord::Unhealthy, _) => "x",
        (HealthWord::Checking, _) => "?",
        (HealthWord::Healthy, Admission::Open) => " ",
        (HealthWord::Healthy, Admission::Cordoned) => "=",
        (HealthWord::Healthy, Admission::Draining) => "-",
        (HealthWord::Healthy, Admission::Drained) => "_",
    }
}

pub(super) fn severity_sign(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => " ",
        Severity::Warning => "!",
        Severity::Error => "x",
    }
}
