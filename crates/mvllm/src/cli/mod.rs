//! The command line, with the names and the defaults of 0.1.0.

mod admission;
mod check_config;
mod demo;
mod entrance;
mod explain;
mod health;
mod live;
mod run;
mod shell;
mod sim;
mod simulate;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::telemetry::logs::LogLevel;

/// One OpenAI-compatible endpoint for a fleet of vLLM servers.
#[derive(Debug, Parser)]
#[command(name = "mvllm", version, disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the router.
    Run(RunArgs),
    /// Read the configuration and say what is wrong with it.
    CheckConfig(CheckConfigArgs),
    /// Watch a router that runs elsewhere in the fullscreen monitor.
    Top(top::TopArgs),
    /// Say where a request would go, and why.
    Explain(explain::ExplainArgs),
    /// Send a server no new requests.
    Cordon(admission::AdmissionArgs),
    /// Send a server no new requests, and see it finish those that it has.
    Drain(admission::DrainArgs),
    /// Send a server requests again.
    Uncordon(admission::AdmissionArgs),
    /// Run simulated vLLM servers and the router in front of them, to try things out.
    Demo(demo::DemoArgs),
    /// Run simulated vLLM servers alone.
    Sim(sim::SimArgs),
    /// Compare policies and fleets on a workload, in virtual time.
    Simulate(simulate::SimulateArgs),
    /// Say by the exit status whether a router is alive.
    Health(health::HealthArgs),
    /// Print completions for a shell.
    Completions(shell::CompletionsArgs),
    /// Print the man page.
    Man,
    /// Say which version this is.
    Version,
}

/// `-h` is the host, as it was in 0.1.0; help is `--help`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
struct RunArgs {
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Log lines on the console instead of the fullscreen monitor.
    #[arg(long, short, env = "LOG_TO_CONSOLE", value_parser = parse_switch, num_args = 0..=1,
          default_missing_value = "true", default_value = "false", require_equals = true)]
    console: bool,
    /// Address to listen on.
    #[arg(long, short = 'h', default_value = "0.0.0.0")]
    host: String,
    /// Port to listen on.
    #[arg(long, short, default_value_t = 8888)]
    port: u16,
    /// Take the listening socket over from the mvllm that runs, which then finishes its requests and
    /// ends: a restart without a lost request. Where none runs, this is a start as any other.
    #[arg(long)]
    takeover: bool,
    /// The configuration file. It is watched, and applied when it changes.
    #[arg(long, env = "CONFIG_PATH", default_value = "servers.toml")]
    config: PathBuf,
    /// Accepted for 0.1.0's sake: the configuration is always reloaded when it changes.
    #[arg(long)]
    reload: bool,
    /// trace, debug, info, warning, error or critical, in any case.
    #[arg(long, env = "LOG_LEVEL", default_value = "INFO")]
    log_level: LogLevel,
    /// Folder for the log files; `none` for no files.
    #[arg(long, env = "LOG_DIR", default_value = "logs")]
    log_dir: PathBuf,
    /// Show the models of each server in the monitor.
    #[arg(long, short, env = "SHOW_MODELS", value_parser = parse_switch, num_args = 0..=1,
          default_missing_value = "true", default_value = "false", require_equals = true)]
    model: bool,
}

#[derive(Debug, Args)]
struct CheckConfigArgs {
    /// The configuration file.
    #[arg(long, env = "CONFIG_PATH", default_value = "servers.toml")]
    config: PathBuf,
    /// Ask every server: reachability, vLLM's version, models, metrics, keep-alive. The exit status
    /// tells whether all is well.
    #[arg(long)]
    live: bool,
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::CheckConfig(args) => check_config::check_config(&args),
        Command::Top(args) => top::top(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Cordon(args) => admission::order("cordon", &args),
        Command::Drain(args) => admission::drain(&args),
        Command::Uncordon(args) => admission::order("uncordon", &args),
        Command::Health(args) => health::health(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man => shell::man(),
        Command::Demo(args) => demo::demo(&args),
        Command::Sim(args) => sim::sim(&args),
        Command::Simulate(args) => simulate::simulate(&args),
        Command::Version => {
            say(&format!(
                "vLLM Router v{}\nReal-time load balancing for vLLM servers",
                env!("CARGO_PKG_VERSION")
            ));
            ExitCode::SUCCESS
        }
    }
}

/// The words that 0.1.0 understood in its environment.
fn parse_switch(text: &str) -> Result<bool, NoSwitch> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err(NoSwitch),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("expected true or false")]
struct NoSwitch;

/// Prints to standard output, which may be a pipe that nobody reads any more.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints to standard error.
fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
