//! The command line: what it prints, how it exits, and what the environment may say.

use std::net::TcpListener;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::router::{Process, configuration, mvllm};

fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output, text)
}

/// A folder with a `servers.toml`.
fn folder(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("servers.toml"), text).unwrap();
    folder
}

fn good() -> String {
    configuration(&["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()], "")
}

#[test]
fn version_has_the_words_of_0_1_0() {
    let (output, text) = run(mvllm().arg("version"));
    assert!(output.status.success());
    let expected = format!(
        "vLLM Router v{}\nReal-time load balancing for vLLM servers\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(text, expected);
}

#[test]
fn check_config_lists_the_servers_of_a_good_file() {
    let folder = folder(&good());
    let (output, text) = run(mvllm().arg("check-config").current_dir(folder.path()));
    assert!(output.status.success());
    let expected = "✅ Configuration loaded successfully\n   Total servers: 2\n   \
                    Healthy servers: 0\n   🟡 http://127.0.0.1:1 (max_concurrent: 64)\n   \
                    🟡 http://127.0.0.1:2 (max_concurrent: 64)\n";
    assert_eq!(text, expected);
}

#[test]
fn check_config_says_where_a_bad_file_is_bad() {
    let folder = folder("[config]\nmax_retries = \"many\"\n\n[servers]\nservers = [{ url = 7 }]\n");
    let path = folder.path().join("servers.toml");
    let (output, text) = run(mvllm().arg("check-config").arg("--config").arg(path));
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("❌ Configuration error: "), "{text}");
    for part in ["servers.toml:2:", "max_retries", "servers.toml:5:", "url"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
}

#[test]
fn check_config_takes_a_missing_file_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let (output, text) = run(mvllm().arg("check-config").current_dir(folder.path()));
    assert!(output.status.success());
    assert!(text.contains("Total servers: 0"), "{text}");
}

#[test]
fn a_bad_configuration_ends_the_start_with_a_reason() {
    let folder = folder("servers = 7");
    let (output, text) = run(mvllm().args(["run", "--console"]).current_dir(folder.path()));
    assert!(!output.status.success());
    assert!(text.contains("servers.toml:1:"), "{text}");
}

#[test]
fn a_port_in_use_ends_the_start_with_a_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = folder(&good());
    let (output, text) = run(mvllm()
        .args(["run", "--console", "-h", "127.0.0.1", "--port", port.as_str()])
        .current_dir(folder.path()));
    assert!(!output.status.success());
    assert!(text.contains(&format!("port {port}")) && text.contains("in use"), "{text}");
    assert!(text.contains("--port"), "no advice: {text}");
}

#[test]
fn an_unknown_log_level_is_refused_with_the_known_ones() {
    let (output, text) = run(mvllm().args(["run", "--console", "--log-level", "loud"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("loud") && text.contains("debug") && text.contains("warning"), "{text}");
}

#[test]
fn without_a_command_the_usage_is_shown_and_the_exit_code_is_2() {
    let (output, text) = run(&mut mvllm());
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("Usage") && text.contains("check-config"), "{text}");
}

#[test]
fn help_is_long_only_and_names_the_flags_of_0_1_0() {
    let (output, text) = run(mvllm().args(["run", "--help"]));
    assert!(output.status.success());
    for flag in ["--console", "--host", "--port", "--config", "--reload", "--log-level", "--model"]
    {
        assert!(text.contains(flag), "no {flag} in:\n{text}");
    }
}

/// Starts in a folder, on a free port.
fn start(folder: &TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
    let mut command = mvllm();
    command.arg("run").args(["--port", "0"]).args(arguments).current_dir(folder.path());
    Process::start(command.envs(environment.iter().copied()))
}

#[tokio::test]
async fn h_is_the_host() {
    let process = start(&folder(&good()), &["--console", "-h", "127.0.0.1"], &[]);
    assert!(process.says("listening on http://").await.starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn log_levels_are_taken_in_any_case() {
    for level in ["debug", "INFO", "Success"] {
        let process = start(
            &folder(&good()),
            &["--console", "--host", "127.0.0.1", "--log-level", level],
            &[],
        );
        process.says("listening on").await;
    }
}

#[tokio::test]
async fn the_environment_is_heard_and_flags_are_heard_more() {
    let folder = folder("servers = 7");
    std::fs::write(folder.path().join("other.toml"), good()).unwrap();
    let environment = [("CONFIG_PATH", "other.toml"), ("LOG_TO_CONSOLE", "true")];
    let process = start(&folder, &["--host", "127.0.0.1"], &environment);
    process.says("configuration: other.toml, servers: 2").await;
    process.says("listening on").await;
    std::fs::write(folder.path().join("third.toml"), "[servers]\nservers = []\n").unwrap();
    let process = start(&folder, &["--host", "127.0.0.1", "--config", "third.toml"], &environment);
    process.says("configuration: third.toml, servers: 0").await;
}

#[tokio::test]
async fn the_log_level_of_the_environment_counts_unless_a_flag_says_otherwise() {
    let folder = folder("[servers]\nservers = []\n[config]\nno_such_key = 1\n");
    let environment = [("LOG_LEVEL", "warning")];
    let arguments = ["--console", "--host", "127.0.0.1"];
    let process = start(&folder, &arguments, &environment);
    process.says("no_such_key").await;
    assert!(!process.log().contains("INFO"), "{}", process.log());
    let process =
        start(&folder, &[&arguments[..], &["--log-level", "info"]].concat(), &environment);
    process.says("listening on").await;
}

#[tokio::test]
async fn reload_is_accepted_and_explained() {
    let arguments = ["--console", "--host", "127.0.0.1", "--reload"];
    let process = start(&folder(&good()), &arguments, &[]);
    process.says("--reload").await;
    process.says("listening on").await;
}

#[tokio::test]
async fn a_missing_file_is_a_warning_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let process = start(&folder, &["--console", "--host", "127.0.0.1"], &[]);
    process.says("WARN").await;
    process.says("listening on").await;
}
