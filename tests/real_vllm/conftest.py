"""What the tests stand on: two real vLLM servers for all of them, and routers in front of these."""

import os
import signal
import textwrap

import pytest

from clients import anthropic_for, openai_for
from processes import RUNNING
from router import Router
from servers import VllmServer

# Enough to see what a process did last, and little, for there are several of them, and what checks a
# submission may keep the last few pages only. vLLM prints its whole configuration on one line.
LOG_LINES_SHOWN = 20
LOG_COLUMNS_SHOWN = 160

REASON_MAX = 600

# Under this name a test's report carries what the test measured.
FIGURE = "figure"


def pytest_configure():
    if not os.access(os.environ.get("MVLLM_BIN", ""), os.X_OK):
        raise pytest.UsageError("MVLLM_BIN names the binary to test; the script `run` sets it")
    # Whoever ends a test run wants its servers ended as well.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("told to end", returncode=143))
    # The environment may name a proxy for the way to the internet.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"


def pytest_collection_modifyitems(items):
    # The server that the last test ends need not be started again.
    items.sort(key=lambda item: item.get_closest_marker("ends_a_server") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    if report.failed:
        report.sections += [(f"log of {each.name}", excerpt(each)) for each in RUNNING]
    return report


def excerpt(process):
    lines = process.tail(LOG_LINES_SHOWN).splitlines()
    return "\n".join(line[:LOG_COLUMNS_SHOWN] for line in lines)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("measured")
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, text in report.user_properties:
            if name == FIGURE:
                terminalreporter.write_line(f"{report.head_line}: {text}")


def pytest_unconfigure(config):
    """The last that is printed. Who keeps only the end of a long output keeps this: what failed, and
    at what."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    stats = reporter.stats if reporter else {}
    for report in stats.get("failed", []) + stats.get("error", []):
        print(f"{report.outcome} in {report.when}: {report.nodeid}")
        print(textwrap.indent(reason(report), "    "))
    count = {kind: len(stats.get(kind, [])) for kind in ("passed", "failed", "error", "skipped")}
    skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
    print(f"{count['passed']} passed, {count['failed'] + count['error']} failed{skipped}")


def reason(report):
    """Where a test failed, and what it says; of a long comparison the beginning."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return str(report.longrepr)[-REASON_MAX:]
    return f"{os.path.basename(crash.path)}:{crash.lineno}: {crash.message[:REASON_MAX]}"


@pytest.fixture
def note(request):
    """Notes what a test measured, to be shown after all tests."""
    return lambda text: request.node.user_properties.append((FIGURE, text))


@pytest.fixture(scope="session")
def real_servers(tmp_path_factory):
    servers = [VllmServer(name, tmp_path_factory.mktemp(name)) for name in ("vllm-a", "vllm-b")]
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait_until_healthy()
        yield servers
    finally:
        for server in servers:
            server.kill()


@pytest.fixture
def servers(real_servers):
    make_ready(real_servers)
    return real_servers


def make_ready(servers):
    """All are well, whatever earlier tests did to them."""
    for server in servers:
        server.thaw()
        if not server.is_alive:
            server.start()
    for server in servers:
        server.wait_until_healthy()


@pytest.fixture(scope="session")
def common_router(real_servers, tmp_path_factory):
    router = Router(real_servers, tmp_path_factory.mktemp("router"))
    yield router
    router.end()


@pytest.fixture
def router(servers, common_router):
    """The router of all tests that do no harm; and a proof, after each, that it did none."""
    common_router.wait_until_healthy()
    yield common_router
    # What is held against a server is held for longer than this waits.
    common_router.wait_until_healthy()
    common_router.wait_until_idle()


@pytest.fixture
def start_router(tmp_path_factory):
    """Starts routers with a configuration of the test's own."""
    started = []

    def start(servers, **config):
        router = Router(servers, tmp_path_factory.mktemp("router"), **config)
        started.append(router)
        router.wait_until_healthy()
        return router

    yield start
    for router in started:
        router.kill()


@pytest.fixture
def openai_client(router):
    with openai_for(router) as client:
        yield client


@pytest.fixture
def anthropic_client(router):
    with anthropic_for(router) as client:
        yield client
