//! systemd's socket activation: the socket is there before the router and after it.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::UnixDatagram;

use super::traffic::Traffic;
use crate::client::{Client, bare};
use crate::eventually::within_patience;
use crate::router::{Process, configuration, mvllm};
use crate::sims::{addrs, sims};

/// What systemd does: holds the socket, starts routers, and is told when they are ready.
struct Supervisor {
    socket: TcpListener,
    notices: UnixDatagram,
    folder: TempDir,
}

impl Supervisor {
    fn new(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("servers.toml"), configuration).unwrap();
        let notices = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { socket: TcpListener::bind("127.0.0.1:0").unwrap(), notices, folder }
    }

    /// Starts a router that finds the socket as its descriptor 3.
    fn start(&self) -> Process {
        let mut command = Command::new("sh");
        let script = "export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null";
        let router = mvllm();
        let program: &Path = router.get_program().as_ref();
        command.arg("-c").arg(script).arg(program).args(["run", "--console", "--port", "1"]);
        command.env("LISTEN_FDS", "1").env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        let socket = OwnedFd::from(self.socket.try_clone().unwrap());
        Process::start_with(command.current_dir(self.folder.path()), Stdio::from(socket))
    }

    async fn hears(&self, notice: &str) {
        let mut heard = [0; 256];
        let heard_bytes = within_patience(notice, self.notices.recv(&mut heard)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&heard[..heard_bytes]).trim(), notice);
    }
}

#[tokio::test]
async fn routers_follow_each_other_on_one_socket_under_load_and_no_request_fails() {
    let sims = sims(2);
    let supervisor = Supervisor::new(&configuration(&addrs(&sims), "shutdown_grace = 1"));
    let mut router = supervisor.start();
    supervisor.hears("READY=1").await;
    let mut traffic = Traffic::start(supervisor.socket.local_addr().unwrap(), 8);
    traffic.goes_on(50).await;
    for _ in 0..2 {
        let next = supervisor.start();
        supervisor.hears("READY=1").await;
        router.signal(Signal::TERM);
        supervisor.hears("STOPPING=1").await;
        assert_eq!(router.ended().await.code(), Some(0));
        traffic.goes_on(50).await;
        router = next;
    }
    traffic.stop().await;
}

#[tokio::test]
async fn a_connection_made_while_no_router_runs_is_answered_by_the_next() {
    let supervisor = Supervisor::new(&configuration(&[], "shutdown_grace = 0"));
    let mut router = supervisor.start();
    supervisor.hears("READY=1").await;
    router.signal(Signal::TERM);
    supervisor.hears("STOPPING=1").await;
    assert_eq!(router.ended().await.code(), Some(0));
    let mut client = Client::connect(supervisor.socket.local_addr().unwrap()).await;
    client.send(bare("GET", "/livez")).await;
    let _next = supervisor.start();
    assert_eq!(client.answer().await.status(), 200);
}
