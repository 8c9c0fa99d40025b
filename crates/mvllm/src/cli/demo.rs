//! `mvllm demo`: simulated servers and the router in front of them; needs nothing but this binary.

use std::io::{self, BufRead, BufReader};
use std::num::NonZeroU8;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use clap::Args;

use super::run::drive;
use super::sim::ANNOUNCEMENT;
use super::{complain, say};
use crate::app::App;
use crate::config::{Report, load};
use crate::handover::Entrance;
use crate::listen::{ListenError, listen};
use crate::screen::Screen;
use crate::telemetry::logs::{self, Destinations, LogLevel};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// How many simulated servers.
    #[arg(long, short = 'n', default_value = "3")]
    servers: NonZeroU8,
    /// Port of the router.
    #[arg(long, short, default_value_t = 8888)]
    port: u16,
    /// trace, debug, info, warning, error or critical, in any case.
    #[arg(long, env = "LOG_LEVEL", default_value = "INFO")]
    log_level: LogLevel,
}

#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot start the simulated servers: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Config(Report),
}

pub(super) fn demo(args: &DemoArgs) -> ExitCode {
    match prepare(args) {
        Ok((app, stage)) => {
            let outcome = drive(app);
            drop(stage);
            outcome
        }
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What the demo put up and takes down again.
struct Stage {
    servers: Vec<SimulatedServer>,
    folder: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Left to the system's own cleaning, should it fail.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A process of its own, so that it can be killed for the fun of it.
struct SimulatedServer {
    process: Child,
    url: String,
}

impl Drop for SimulatedServer {
    fn drop(&mut self) {
        // Also ends by itself when its standard input closes with this process.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn prepare(args: &DemoArgs) -> Result<(App, Stage), DemoError> {
    let listener = listen("127.0.0.1", args.port)?;
    let folder = std::env::temp_dir().join(format!("mvllm-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut stage = Stage { servers: Vec::new(), folder };
    for _ in 0..args.servers.get() {
        stage.servers.push(SimulatedServer::start()?);
    }
    let path: Arc<Path> = stage.folder.join("servers.toml").into();
    std::fs::write(&path, configuration(&stage.servers))?;
    let loaded = load(&path).map_err(DemoError::Config)?;
    let address = listener.local_addr()?;
    say(&introduction(&stage.servers, &format!("http://{address}"), &path));
    let logging = logs::start(args.log_level, Destinations { console: true, folder: None });
    Ok((
        App::new(
            Entrance::opened(listener),
            path,
            loaded,
            logging.events,
            Screen::Lines,
            fastrand::u64(..),
        ),
        stage,
    ))
}

impl SimulatedServer {
    fn start() -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["sim", "--port", "0", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the router, which lets them finish first.
            .process_group(0)
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().strip_prefix(ANNOUNCEMENT).map(str::to_owned);
        let mut server = Self { process, url: String::new() };
        let address = address.ok_or_else(|| io::Error::other("one of them did not start"))?;
        server.url = format!("http://{address}");
        Ok(server)
    }
}

fn configuration(servers: &[SimulatedServer]) -> String {
    let entries: Vec<_> = servers
        .iter()
        .map(|server| format!("    {{ url = \"{}\", max_concurrent_requests = 8 }},\n", server.url))
        .collect();
    format!(
        "[servers]\nservers = [\n{}]\n\n[config]\nhealth_check_interval = 2\n",
        entries.concat()
    )
}

fn introduction(servers: &[SimulatedServer], router: &str, config: &Path) -> String {
    let list: Vec<_> = servers
        .iter()
        .map(|server| format!("    {}   process {}", server.url, server.process.id()))
        .collect();
    let victim = servers.first().map_or(0, |server| server.process.id());
    format!(
        "mvllm demo: simulated vLLM servers, and the router in front of them.

  servers
{}
  router
    {router}
  configuration
    {}   (edit it: it is applied at once)

Try, in another terminal:
  curl {router}/v1/models
  curl -N {router}/v1/chat/completions -H 'content-type: application/json' \\
       -d '{{\"model\":\"sim\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'
  mvllm top --url {router}      the fullscreen monitor
  curl {router}/load-stats
  kill -9 {victim}      a server dies; requests go on, and the log below says what happened

Ctrl-C ends it all.
",
        list.join("\n"),
        config.display(),
    )
}
