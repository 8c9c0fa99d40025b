//! `docs/config.md`, generated from the table of knobs.

use super::knobs::{Applies, Knob, ServerSettings, Tuning};

/// The whole document.
pub fn config_reference() -> String {
    let mut text = String::from(INTRODUCTION);
    text += "\n## Entries of `servers.servers`\n\n";
    text += &section(ServerSettings::KNOBS);
    text += "\n## The table `[config]`\n\n";
    text += &section(Tuning::KNOBS);
    text += RELOAD;
    text
}

const INTRODUCTION: &str = "\
<!-- Generated from crates/mvllm/src/config/knobs.rs by `UPDATE_DOCS=1 cargo test -p mvllm docs`. -->

# The configuration file

mvllm reads one [TOML](https://toml.io) file, `servers.toml` in the working directory unless
`--config` or `CONFIG_PATH` names another. `servers.example.toml` is one to start from;
`mvllm check-config` says what is wrong with a file, with line and column, and what to write
instead.

```toml
[servers]
servers = [
  { url = \"http://10.0.0.1:8000\", max_concurrent_requests = 64 },
  { url = \"http://10.0.0.2:8000\", max_concurrent_requests = 64 },
]

[config]
health_check_interval = 10
```

The list may also be written as blocks, each headed `[[servers.servers]]`. A file that does not
exist, or that names no server, is a warning: mvllm starts and refuses requests until it does.

Numbers and switches may be quoted (`\"7\"`, `\"yes\"`), and a whole number may be written `7.0`, as
files for mvllm 0.1 could. A key that is not known has no effect and gives a warning; so does a
key in the wrong table.
";

const RELOAD: &str = "
## Changing the file while mvllm runs

The file is read once a second. Any difference in its content counts, whatever its times say, so a
restored backup, a swapped symlink (a Kubernetes ConfigMap) and a file renamed over the old one all
work. A change is taken over once the file has stayed the same for 0.2 s, all of it at once:

- a server that stays in the list keeps its health, its counts and its running requests, wherever in
  the list it stands now; it is known by its url, and the second entry of one url by being the second;
- a server that is taken out gets no new requests; those that run are finished;
- a new server gets requests after its first health check.

A file that cannot be read or has an error changes nothing: the last good settings stay in force, and
the log says once what is wrong. The same holds for a file that names no server when there were some,
because that is what a file cut short looks like. SIGHUP has the file read at once.
";

fn section(knobs: &[Knob]) -> String {
    let mut text =
        String::from("| key | value | default | takes effect | since |\n|---|---|---|---|---|\n");
    for knob in knobs {
        let default = knob.default.map_or("required".into(), |default| format!("`{}`", default()));
        let applies = match knob.applies {
            Applies::Reload => "at once",
            Applies::Restart => "at the next start",
        };
        let expected = (knob.expected)();
        text += &format!(
            "| [`{key}`](#{key}) | {expected} | {default} | {applies} | {since} |\n",
            key = knob.key,
            since = knob.since,
        );
    }
    for knob in knobs {
        text += &format!("\n### `{}`\n\n", knob.key);
        for line in knob.doc {
            text += line.trim();
            text.push('\n');
        }
        text += &format!("\nFor example `{} = {}`.\n", knob.key, (knob.example)());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::file::{load, parse};
    use super::*;

    /// The root of the repository, where `docs/` and `servers.example.toml` lie.
    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

    #[test]
    fn the_reference_in_docs_is_fresh() {
        let path = Path::new(ROOT).join("docs/config.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, config_reference()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == config_reference(),
            "docs/config.md is stale: run UPDATE_DOCS=1 cargo test -p mvllm docs"
        );
    }

    #[test]
    fn the_shipped_example_loads_without_a_warning() {
        let loaded = load(&Path::new(ROOT).join("servers.example.toml")).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        assert!(!loaded.settings.servers.is_empty());
    }

    /// Every key stands in the example, set or as a comment that shows its default.
    #[test]
    fn the_shipped_example_shows_every_key() {
        let text = std::fs::read_to_string(Path::new(ROOT).join("servers.example.toml")).unwrap();
        for knob in ServerSettings::KNOBS {
            assert!(text.contains(&format!("{} = ", knob.key)), "{} is not shown", knob.key);
        }
        for knob in Tuning::KNOBS {
            let default = knob.default.map_or_else(String::new, |default| default());
            let commented = text.contains(&format!("\n# {} = {default}\n", knob.key));
            let set = text.contains(&format!("\n{} = ", knob.key));
            assert!(commented || set, "{} = {default} is not shown", knob.key);
        }
    }

    /// The `toml` blocks of the reference and the examples of the knobs are files that load.
    #[test]
    fn every_example_in_the_reference_is_right() {
        let file: Arc<Path> = Path::new("servers.toml").into();
        let check = |text: &str| {
            let loaded = parse(&file, &text.as_bytes().into());
            let warnings = loaded.unwrap_or_else(|report| panic!("{text}:\n{report}")).warnings;
            assert!(warnings.is_empty(), "{text}:\n{warnings}");
        };
        let reference = config_reference();
        let blocks: Vec<&str> = reference.split("```toml\n").skip(1).collect();
        assert!(!blocks.is_empty());
        blocks.iter().for_each(|block| check(block.split("```").next().unwrap()));
        let server = "[[servers.servers]]\nurl = 'http://a'\n";
        for knob in ServerSettings::KNOBS.iter().filter(|knob| knob.default.is_some()) {
            check(&format!("{server}{} = {}", knob.key, (knob.example)()));
        }
        for knob in Tuning::KNOBS {
            check(&format!("{server}[config]\n{} = {}", knob.key, (knob.example)()));
        }
    }

    #[test]
    fn a_default_reads_back_as_itself() {
        let file: Arc<Path> = Path::new("servers.toml").into();
        let lines: String = Tuning::KNOBS
            .iter()
            .filter_map(|knob| Some(format!("{} = {}\n", knob.key, knob.default?())))
            .collect();
        let text = format!("[config]\n{lines}");
        let loaded = parse(&file, &text.as_bytes().into()).unwrap();
        assert_eq!(loaded.settings.tuning, Tuning::with_defaults());
    }
}
