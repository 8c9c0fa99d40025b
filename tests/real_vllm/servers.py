"""Real vLLM servers, and what they say of themselves."""

import contextlib
import os
import pathlib
import re
import signal
import socket

import httpx

from asks import CHAT, ENDLESS, MODEL, chat
from processes import ProcessGroup
from waiting import until

HERE = pathlib.Path(__file__).parent

# `serve` starts them with `--max-num-seqs 16`: what comes on top of that waits.
SEATS = 16

# What routers and tests ask all the time would push everything else out of the log's last lines.
QUIET = ["--disable-access-log-for-endpoints", "/health,/metrics,/v1/models"]

# Three Python processes that import torch, one after the other: 20 s, unless other work is going on.
START_LIMIT = 600


class VllmServer:
    """One vLLM server: always at the same address, whichever process is behind it."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = None
        # Connections are not kept: vLLM closes idle ones after 5 s, perhaps just as one is used.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(base_url=self.url, timeout=60, limits=limits)

    def start(self):
        self._process = ProcessGroup(
            self.name,
            ["bash", str(HERE / "serve"), str(self.port), MODEL, *QUIET],
            log=self.log,
            folder=self.folder,
            env={"TMPDIR": str(self.folder)},
        )

    @property
    def log(self):
        return self.folder / "vllm.log"

    @property
    def is_alive(self):
        return self._process is not None and self._process.is_alive

    @property
    def is_healthy(self):
        with contextlib.suppress(httpx.TransportError):
            return self._client.get("/health").status_code == 200
        return False

    def wait_until_healthy(self):
        def healthy_or_gone():
            return self.is_healthy or not self.is_alive

        until(healthy_or_gone, f"{self.name} answers /health with 200", within=START_LIMIT)
        assert self.is_alive, f"{self.name} ended:\n{self._process.tail(40)}"

    def kill(self):
        """SIGKILL, to the API server, the engine core and the worker at once."""
        if self._process is None:
            return
        shared = shared_memory_of(self._process.group)
        self._process.kill()
        # Nobody is left to remove it.
        for path in shared:
            path.unlink(missing_ok=True)

    def freeze(self):
        """SIGSTOP to all its processes: connections open, and stay silent."""
        self._process.signal(signal.SIGSTOP)

    def thaw(self):
        if self.is_alive:
            self._process.signal(signal.SIGCONT)

    def metric(self, name):
        """The sum of a metric over its labels."""
        page = self._client.get("/metrics").text
        series = re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", page, re.MULTILINE)
        assert series, f"{self.name} has no metric {name}"
        return sum(map(float, series))

    @property
    def running(self):
        return self.metric("vllm:num_requests_running")

    @property
    def waiting(self):
        return self.metric("vllm:num_requests_waiting")

    @property
    def is_idle(self):
        return self.running == 0 and self.waiting == 0

    def wait_until_idle(self):
        until(lambda: self.is_idle, f"{self.name} is idle")

    @property
    def written(self):
        """How many tokens it has made, of whatever became of them."""
        return self.metric("vllm:generation_tokens_total")

    @property
    def finished(self):
        """How many requests it has answered to the end since it was started: none of those whose
        client left."""
        return self.metric("vllm:request_success_total")


@contextlib.contextmanager
def occupied(server, requests):
    """Keeps an idle server at work on so many streams, past the router; those above SEATS queue."""
    with contextlib.ExitStack() as streams:
        client = streams.enter_context(httpx.Client(base_url=server.url, timeout=60))
        server.wait_until_idle()
        body = chat(max_tokens=ENDLESS, stream=True)
        for _ in range(requests):
            streams.enter_context(client.stream("POST", CHAT, json=body))
        until(
            lambda: server.running + server.waiting == requests,
            f"{server.name} has {requests} requests",
        )
        yield


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def shared_memory_of(group):
    """The files in /dev/shm that processes of the group have mapped."""
    found = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        # A process may end between any two of these steps.
        with contextlib.suppress(OSError):
            if os.getpgid(int(process.name)) == group:
                maps = (process / "maps").read_text()
                found.update(re.findall(r"/dev/shm/\S+$", maps, re.MULTILINE))
    return [pathlib.Path(path) for path in found]
