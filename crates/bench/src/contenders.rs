//! Who is measured: how each is started, and with which settings.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::Tree;

/// A router to measure.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) name: String,
    kind: Kind,
    program: PathBuf,
    pub(crate) version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Direct,
    Mvllm,
    Nginx,
    Haproxy,
    VllmRouter { policy: &'static str },
    Smg,
}

/// A router under way; without processes where there is none.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) contender: Contender,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) tree: Option<Tree>,
}

/// Where the other routers are found.
#[derive(Debug)]
pub(crate) struct Programs {
    /// Names and paths of mvllm's binaries: one, or several to compare.
    pub(crate) mvllm: Vec<(String, PathBuf)>,
    /// The folder of the virtual environments.
    pub(crate) environments: PathBuf,
    pub(crate) quick: bool,
}

impl Programs {
    /// All that are there, and for each that is not, why.
    pub(crate) fn found(&self) -> (Vec<Contender>, Vec<String>) {
        let mut wanted = vec![("no router".to_owned(), Kind::Direct, PathBuf::new(), "")];
        for (name, path) in &self.mvllm {
            wanted.push((name.clone(), Kind::Mvllm, path.clone(), ""));
        }
        wanted.push(("nginx".to_owned(), Kind::Nginx, "/usr/sbin/nginx".into(), "-v"));
        wanted.push(("HAProxy".to_owned(), Kind::Haproxy, "/usr/sbin/haproxy".into(), "-v"));
        if !self.quick {
            let python =
                |name: &str, program: &str| self.environments.join(name).join("bin").join(program);
            for policy in ["round_robin", "cache_aware"] {
                let kind = Kind::VllmRouter { policy };
                let path = python("vllm-router", "vllm-router");
                wanted.push((format!("vllm-router {policy}"), kind, path, ""));
            }
            wanted.push(("smg cache_aware".to_owned(), Kind::Smg, python("smg", "smg"), ""));
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (name, kind, program, ask) in wanted {
            if kind != Kind::Direct && !program.exists() {
                missing.push(format!("{name}: {} is not there", program.display()));
                continue;
            }
            let version = version(kind, &program, ask);
            found.push(Contender { name, kind, program, version });
        }
        (found, missing)
    }
}

impl Contender {
    pub(crate) fn is_direct(&self) -> bool {
        self.kind == Kind::Direct
    }

    /// Starts it in front of `servers`. What it writes goes to files in `folder`.
    pub(crate) fn start(&self, servers: &[SocketAddr], folder: &Path) -> io::Result<Started> {
        let contender = self.clone();
        if self.is_direct() {
            return Ok(Started { contender, addresses: servers.to_vec(), tree: None });
        }
        fs::create_dir_all(folder)?;
        let port = free_port()?;
        let mut command = Command::new(&self.program);
        self.arguments(&mut command, port, servers, folder)?;
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("stdout"))?)
            .stderr(File::create(folder.join("stderr"))?);
        let addresses = vec![SocketAddr::from(([127, 0, 0, 1], port))];
        Ok(Started { contender, addresses, tree: Some(Tree::start(&mut command)?) })
    }

    fn arguments(
        &self,
        command: &mut Command,
        port: u16,
        servers: &[SocketAddr],
        folder: &Path,
    ) -> io::Result<()> {
        let urls = servers.iter().map(|server| format!("http://{server}"));
        match self.kind {
            Kind::Direct => {}
            Kind::Mvllm => {
                fs::write(folder.join("servers.toml"), servers_toml(servers))?;
                // As packaging/mvllm.service has it.
                command.args(["run", "--console", "--config", "servers.toml"]);
                command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
                command.args(["--log-dir", "logs"]);
            }
            Kind::Nginx => {
                fs::write(folder.join("nginx.conf"), nginx_conf(port, servers, folder))?;
                command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "error.log"]);
            }
            Kind::Haproxy => {
                fs::write(folder.join("haproxy.cfg"), haproxy_cfg(port, servers))?;
                command.args(["-f", "haproxy.cfg"]);
            }
            Kind::VllmRouter { policy } => {
                command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
                command.args(["--policy", policy, "--max-concurrent-requests", "100000"]);
                command.args(["--prometheus-port", &free_port()?.to_string()]);
                command.arg("--worker-urls").args(urls);
            }
            Kind::Smg => {
                command.args(["launch", "--host", "127.0.0.1", "--port", &port.to_string()]);
                command.args(["--policy", "cache_aware", "--max-concurrent-requests", "100000"]);
                command.args(["--prometheus-port", &free_port()?.to_string()]);
                command.arg("--worker-urls").args(urls);
            }
        }
        Ok(())
    }
}

fn version(kind: Kind, program: &Path, ask: &str) -> String {
    let package = match kind {
        Kind::Direct => return String::new(),
        Kind::VllmRouter { .. } => "vllm-router",
        Kind::Smg => "smg",
        Kind::Mvllm => return format!("mvllm {}", env!("CARGO_PKG_VERSION")),
        Kind::Nginx | Kind::Haproxy => {
            let output = Command::new(program).arg(ask).output();
            let told = output.map(|it| [it.stdout, it.stderr].concat()).unwrap_or_default();
            let told = String::from_utf8_lossy(&told).into_owned();
            return told.lines().next().unwrap_or_default().to_owned();
        }
    };
    let python = program.with_file_name("python");
    let script = format!("import importlib.metadata as m; print(m.version('{package}'))");
    let output = Command::new(python).args(["-c", &script]).output();
    let version = output.map(|it| it.stdout).unwrap_or_default();
    format!("{package} {}", String::from_utf8_lossy(&version).trim())
}

/// Free when asked for. That somebody else takes it in between shows when the router is waited for.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn servers_toml(servers: &[SocketAddr]) -> String {
    let servers: Vec<String> = servers
        .iter()
        .map(|server| format!("  {{ url = \"http://{server}\", max_concurrent_requests = 64 }},\n"))
        .collect();
    format!("[servers]\nservers = [\n{}]\n", servers.concat())
}

fn nginx_conf(port: u16, servers: &[SocketAddr], folder: &Path) -> String {
    let servers: Vec<String> =
        servers.iter().map(|server| format!("    server {server};\n")).collect();
    // Its workers change to a user who cannot write here, where the master may say so.
    let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
    format!(
        "{user}worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
events {{ worker_connections 40000; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  client_max_body_size 64m;
  client_body_buffer_size 128k;
  upstream servers {{
    least_conn;
{servers}    keepalive 512;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
",
        folder = folder.display(),
        servers = servers.concat(),
    )
}

fn haproxy_cfg(port: u16, servers: &[SocketAddr]) -> String {
    let servers: Vec<String> = servers
        .iter()
        .enumerate()
        .map(|(nth, server)| format!("  server s{nth} {server} check inter 10s\n"))
        .collect();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    // Two sockets a connection, and some for itself.
    let maxconn = limit.map_or(30_000, |files| files.saturating_sub(100) / 2);
    format!(
        "global
  nbthread 1
  maxconn {maxconn}
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option http-no-delay
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend clients
  bind 127.0.0.1:{port} backlog 4096
  default_backend servers
backend servers
  balance leastconn
  option httpchk GET /health
{}",
        servers.concat()
    )
}
