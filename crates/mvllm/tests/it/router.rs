//! The router as a child process.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Answer, ask, bare};
use crate::eventually::{eventually, until};

/// The program under test.
pub(crate) fn mvllm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mvllm"));
    for name in ["CONFIG_PATH", "LOG_LEVEL", "LOG_TO_CONSOLE", "SHOW_MODELS"] {
        command.env_remove(name);
    }
    command
}

/// A child process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts it and collects what it says, on both outputs.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    /// With something else as its standard input.
    pub(crate) fn start_with(command: &mut Command, input: Stdio) -> Self {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::default();
        collect(child.stdout.take().unwrap(), Arc::clone(&log));
        collect(child.stderr.take().unwrap(), Arc::clone(&log));
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line of the log that holds `text`; what stands behind it there.
    pub(crate) async fn says(&self, text: &str) -> String {
        let behind = || {
            let log = self.log();
            let at = log.find(text)?;
            let (line, _) = log[at + text.len()..].split_once('\n')?;
            Some(line.to_owned())
        };
        eventually(&format!("{text:?} in a log"), || std::future::ready(behind())).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end of a process", || std::future::ready(child.try_wait().unwrap())).await
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what process {} said:\n{}---", self.child.id(), self.log());
        }
    }
}

fn collect(output: impl std::io::Read + Send + 'static, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// A router in front of some servers.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    folder: TempDir,
}

/// Checks every second: most tests want a quick router.
const QUICK: &str = "health_check_interval = 1\n";

/// The text of a configuration: `tuning` are lines of `[config]`.
pub(crate) fn configuration(servers: &[SocketAddr], tuning: &str) -> String {
    let mut text = "[servers]\nservers = [\n".to_owned();
    for server in servers {
        writeln!(text, "  {{ url = \"http://{server}\", max_concurrent_requests = 64 }},").unwrap();
    }
    let quick = if tuning.contains("health_check_interval") { "" } else { QUICK };
    writeln!(text, "]\n\n[config]\n{quick}{tuning}").unwrap();
    text
}

impl Router {
    pub(crate) async fn start(servers: &[SocketAddr], tuning: &str) -> Self {
        Self::start_with(&configuration(servers, tuning)).await
    }

    pub(crate) async fn start_with(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers.toml");
        std::fs::write(&path, configuration).unwrap();
        Self::start_in(folder, &path).await
    }

    /// With a configuration that is there already.
    pub(crate) async fn start_in(folder: TempDir, path: &Path) -> Self {
        Self::start_as(&mut mvllm(), folder, path).await
    }

    /// Where no more than `files` files may be open.
    pub(crate) async fn start_with_few_files(configuration: &str, files: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers.toml");
        std::fs::write(&path, configuration).unwrap();
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        shell.arg("-c").arg(script).arg(mvllm().get_program());
        Self::start_as(&mut shell, folder, &path).await
    }

    async fn start_as(command: &mut Command, folder: TempDir, path: &Path) -> Self {
        let process = Process::start(
            command
                .args(["run", "--console", "--host", "127.0.0.1", "--port", "0", "--config"])
                .arg(path)
                .current_dir(folder.path()),
        );
        let addr = process.says("listening on http://").await.trim().parse().unwrap();
        Self { process, addr, folder }
    }

    /// A router whose servers all get requests.
    pub(crate) async fn before(servers: &[SocketAddr], tuning: &str) -> Self {
        let router = Self::start(servers, tuning).await;
        router.routable(servers.len()).await;
        router
    }

    /// Waits until exactly so many servers get requests.
    pub(crate) async fn routable(&self, count: usize) {
        self.until("/readyz", &format!("{count} routable servers"), |report| {
            report["routable_servers"] == count
        })
        .await;
    }

    /// Waits until one of the reports is as wanted.
    pub(crate) async fn until(
        &self,
        path: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(&format!("{what} in {path}"), || async {
            Some(self.report(path).await).filter(&wanted)
        })
        .await
    }

    /// One of the router's own reports.
    pub(crate) async fn report(&self, path: &str) -> Value {
        self.get(path).await.json()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        ask(self.addr, bare("GET", path)).await
    }

    /// Waits until no request of this router is at any server.
    pub(crate) async fn idle(&self) {
        self.until("/load-stats", "an idle fleet", |report| {
            report["summary"]["total_active_load"] == 0
        })
        .await;
    }

    /// What `/health` says of one server.
    pub(crate) async fn health_of(&self, server: SocketAddr) -> Value {
        let report = self.report("/health").await;
        entry(&report, server)
    }

    /// What `/load-stats` says of one server.
    pub(crate) async fn load_of(&self, server: SocketAddr) -> Value {
        let report = self.report("/load-stats").await;
        entry(&report, server)
    }

    /// Waits until `/metrics` has this line.
    pub(crate) async fn counts(&self, line: &str) {
        eventually(&format!("{line} in /metrics"), || async {
            let page = self.get("/metrics").await.text();
            page.lines().any(|found| found == line).then_some(())
        })
        .await;
    }

    /// Waits for a line of the log.
    pub(crate) async fn says(&self, text: &str) {
        until(&format!("{text:?} in the router's log"), || self.process.log().contains(text)).await;
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("servers.toml")
    }

    /// The processor time that it has taken, in hundredths of a second (fields 14 and 15 of
    /// proc_pid_stat(5)).
    pub(crate) fn processor_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).unwrap();
        let (_, behind_the_name) = stat.rsplit_once(')').unwrap();
        let fields: Vec<_> = behind_the_name.split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// The memory that it holds, in bytes.
    pub(crate) fn resident_bytes(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// The most that it ever held.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.memory("VmHWM:")
    }

    /// Of /proc/pid/status.
    fn memory(&self, name: &str) -> usize {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }
}

/// The entry of a server in `/health` or `/load-stats`.
pub(crate) fn entry(report: &Value, server: SocketAddr) -> Value {
    let url = format!("http://{server}");
    let servers = report["servers"].as_array().unwrap();
    servers.iter().find(|entry| entry["url"] == url.as_str()).unwrap().clone()
}
