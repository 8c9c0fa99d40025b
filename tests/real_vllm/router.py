"""The router under test: a process of its own, with a configuration made for the test."""

import datetime
import itertools
import os
import pathlib
import re

import httpx

from processes import ProcessGroup
from waiting import until

# Between two looks of the router at a server; the unit of how soon it learns that one is back.
HEALTH_INTERVAL = 2

DEFAULTS = {"health_check_interval": HEALTH_INTERVAL}

# The router looks at every server's load twice a second.
FRESH = datetime.timedelta(seconds=2)

# An idle router has nothing to finish: this is for a machine that has too much else to do.
END_LIMIT = 30

NUMBERS = itertools.count(1)


class Router:
    """`mvllm run` in front of `servers`."""

    def __init__(self, servers, folder, *, capacities=None, urls=None, **config):
        self.servers = servers
        self.name = f"router {next(NUMBERS)}"
        urls = urls or [server.url for server in servers]
        toml = servers_toml(urls, capacities or [16] * len(urls), {**DEFAULTS, **config})
        (folder / "servers.toml").write_text(toml)
        self._process = ProcessGroup(
            self.name,
            [binary(), "run", "--console", "--host", "127.0.0.1", "--port", "0"]
            + ["--config", str(folder / "servers.toml")],
            log=folder / "mvllm.log",
            folder=folder,
        )
        try:
            self.url = until(self._address, f"{self.name} says where it listens")
        except BaseException:
            self.kill()
            raise
        self._client = httpx.Client(base_url=self.url, timeout=60)

    def _address(self):
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", self.log_text)
        assert found or self._process.is_alive, f"{self.name} ended:\n{self.log_text}"
        return found and found[1]

    @property
    def log_text(self):
        return self._process.log.read_text()

    def end(self):
        status = self._process.end(within=END_LIMIT)
        assert status == 0, f"{self.name} ended with status {status}"

    def kill(self):
        self._process.kill()

    def get(self, path):
        answer = self._client.get(path)
        answer.raise_for_status()
        return answer.json()

    def post(self, path, body, **options):
        return self._client.post(path, json=body, **options)

    def stream(self, path, body):
        return self._client.stream("POST", path, json=body)

    def states(self):
        """The health of each server, in the router's word."""
        return [server["health_status"] for server in self.get("/health")["servers"]]

    def checks(self):
        """How many times it has looked at the health of each server."""
        return [server["total_checks"] for server in self.get("/health")["servers"]]

    def loads(self):
        """How many requests it believes each server to have."""
        return [server["current_load"] for server in self.get("/load-stats")["servers"]]

    def sees(self, loads):
        """Whether it believes just this, and has heard from every server just now. (One that it has
        not heard from for 5 s it avoids, whatever the load of the others.)"""
        servers = self.get("/load-stats")["servers"]
        oldest = min(datetime.datetime.fromisoformat(each["last_updated"]) for each in servers)
        is_fresh = datetime.datetime.now() - oldest < FRESH
        return is_fresh and [each["current_load"] for each in servers] == loads

    def wait_until_sees(self, loads):
        until(lambda: self.sees(loads), f"{self.name} sees the loads {loads}")

    def wait_until_healthy(self):
        until(
            lambda: set(self.states()) == {"healthy"},
            f"all servers are healthy for {self.name}",
        )

    def wait_until_idle(self):
        """Nothing is under way, by the servers' word and by the router's."""
        for server in self.servers:
            server.wait_until_idle()
        until(lambda: not any(self.loads()), f"{self.name} has nothing under way")


def binary():
    return str(pathlib.Path(os.environ["MVLLM_BIN"]).resolve())


def servers_toml(urls, capacities, config):
    lines = []
    for url, capacity in zip(urls, capacities, strict=True):
        lines += [
            "[[servers.servers]]",
            f'url = "{url}"',
            f"max_concurrent_requests = {capacity}",
            "",
        ]
    lines += ["[config]", *(f"{key} = {value}" for key, value in config.items())]
    return "\n".join(lines) + "\n"
