//! The file `servers.toml`: what it may say, what is wrong with it, and when it has changed.
//!
//! A file is parsed once, into [`Settings`]; nothing behind this module sees TOML, an optional
//! that has to be filled in later, or a number without its unit. This module knows no other
//! module of the program.
//!
//! | file | subject |
//! |---|---|
//! | `knobs` | the one declaration of every key |
//! | `kind` | how a value of each kind is read, bounded and shown |
//! | `lax` | numbers and switches as leniently as mvllm 0.1 |
//! | `url`, `path_pattern`, `origin`, `header` | the values that have a syntax of their own |
//! | `file`, `section` | TOML to [`Settings`], with every problem on the way |
//! | `report` | problems as people read them |
//! | `sighting` | one look at the file |
//! | `diff` | what differs between two settings |
//! | `watch` | when a changed file becomes the settings in force |
//! | `docs` | `docs/config.md`, generated from `knobs` |

pub mod diff;
pub mod docs;
pub mod file;
mod header;
pub mod kind;
pub mod knobs;
mod lax;
mod one_of;
pub mod origin;
pub mod path_pattern;
pub mod report;
pub mod secret;
mod section;
pub mod settings;
pub mod sighting;
pub mod url;
pub mod watch;

pub use self::diff::Changes;
pub use self::file::{Loaded, load, parse};
pub use self::knobs::{ServerSettings, Tuning};
pub use self::report::Report;
pub use self::settings::Settings;
pub use self::url::ServerUrl;
pub use self::watch::{WatchEvent, Watcher, watch};
