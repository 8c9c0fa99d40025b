"""A server is killed, or hangs, with requests on it in all states: what becomes of them is decided
by how far they have come."""

import concurrent.futures
import contextlib
import dataclasses

import anthropic
import httpx
import openai
import pytest

from asks import CHAT, ENDLESS, PROMPTS, chat, text_of
from clients import anthropic_texts, openai_texts
from conftest import make_ready
from router import Router
from servers import SEATS, occupied
from traffic import Traffic, failures, summary
from waiting import until

# The router chooses by load over capacity: with these it chooses the first server even when that has
# a queue, once the second has a few requests.
CAPACITIES = [1000, SEATS]
FEW = 4

# For how long a hung server is believed in: longer than a busy machine lets its neighbour do nothing.
REQUEST_TIMEOUT = 5


def plain_texts(target):
    """A streamed chat as it is on the wire."""
    with httpx.Client(base_url=target.url, timeout=60) as client:
        body = chat(max_tokens=ENDLESS, stream=True)
        with client.stream("POST", CHAT, json=body) as stream:
            yield from stream.iter_text()


def whole(target, prompt=PROMPTS[1]):
    answer = httpx.post(target.url + CHAT, json=chat(prompt), timeout=60)
    return text_of(answer.raise_for_status().json())


# Clients whose streams have begun when the server is lost, and others whose requests wait in it.
BEGUN = {"openai": openai_texts, "anthropic": anthropic_texts, "plain": plain_texts}
WAITING = {
    "a whole answer": whole,
    "a long prompt": lambda target: whole(target, "hello there " * 1500),
    "an openai stream": lambda target: "".join(openai_texts(target, PROMPTS[1], 16)),
    "an anthropic stream": lambda target: "".join(anthropic_texts(target, PROMPTS[1], 16)),
}


@dataclasses.dataclass
class Stream:
    """All that a client got, and how it ended for it."""

    text: str
    error: Exception | None


@dataclasses.dataclass
class Aftermath:
    """What clients saw: by name the Stream of each in BEGUN, the answer to each in WAITING (or its
    exception) and the right one; and the outcomes of requests that came while it happened."""

    begun: dict
    waiting: dict
    expected: dict
    others: list


@pytest.fixture(
    scope="module",
    params=["hung", pytest.param("killed", marks=pytest.mark.ends_a_server)],
)
def aftermath(request, real_servers, tmp_path_factory):
    make_ready(real_servers)
    victim, _ = real_servers
    if request.param == "hung":
        disaster, config = victim.freeze, {"request_timeout": REQUEST_TIMEOUT}
    else:
        disaster, config = victim.kill, {}
    folder = tmp_path_factory.mktemp("router")
    # Carrying streams on is for test_survive.py.
    config["continue_streams"] = '"off"'
    router = Router(real_servers, folder, capacities=CAPACITIES, **config)
    try:
        router.wait_until_healthy()
        yield lose(*real_servers, router, disaster)
    finally:
        router.kill()
        victim.thaw()


def lose(victim, survivor, router, disaster):
    """Puts requests in all states on `victim`, lets it be lost, and tells what became of them."""
    expected = {name: ask(survivor) for name, ask in WAITING.items()}
    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(concurrent.futures.ThreadPoolExecutor())
        traffic = Traffic(router.url, survivor, rate=5)
        stack.enter_context(occupied(victim, SEATS - len(BEGUN)))
        stack.enter_context(occupied(survivor, FEW))
        streams, firsts = {}, {}
        for seat, (name, texts) in enumerate(BEGUN.items(), start=SEATS - len(BEGUN)):
            router.wait_until_sees([seat, FEW])
            streams[name] = texts(router)
            firsts[name] = next(streams[name])
        router.wait_until_sees([SEATS, FEW])
        until(lambda: victim.running == SEATS, "every seat of it is taken")
        waiting = {name: threads.submit(ask, router) for name, ask in WAITING.items()}
        until(lambda: victim.waiting == len(WAITING), "the others wait in its queue")

        stack.enter_context(traffic)
        disaster()
        begun = {name: read_to_the_end(firsts[name], streams[name]) for name in BEGUN}
        until(lambda: router.states()[0] == "unhealthy", "the router has taken the victim out")
        traffic.wait_until_sent(traffic.sent + 10)
        waiting = {name: future.exception() or future.result() for name, future in waiting.items()}
        return Aftermath(begun, waiting, expected, traffic.outcomes())


def read_to_the_end(first, stream):
    texts = [first]
    try:
        texts += stream
    except Exception as error:
        return Stream("".join(texts), error)
    return Stream("".join(texts), None)


@pytest.mark.parametrize(
    ("client", "error"), [("openai", openai.APIError), ("anthropic", anthropic.APIError)]
)
def test_a_stream_that_had_begun_is_an_error_for_the_sdk(aftermath, client, error, note):
    stream = aftermath.begun[client]
    note(f"after {len(stream.text)} characters: {stream.error!r}")
    assert isinstance(stream.error, error), repr(stream.error)


def test_a_stream_that_had_begun_was_right_as_far_as_it_went(aftermath, real_servers):
    right = "".join(openai_texts(real_servers[1], max_tokens=64))
    for client in ("openai", "anthropic"):
        got = aftermath.begun[client].text[: len(right)]
        assert got and right.startswith(got)


def test_a_stream_that_had_begun_has_no_end_on_the_wire(aftermath):
    stream = aftermath.begun["plain"]
    assert isinstance(stream.error, httpx.RemoteProtocolError), repr(stream.error)
    *_, last = stream.text.split("\n\n")[:-1]
    assert last.startswith('data: {"error":')
    assert "[DONE]" not in stream.text
    assert '"finish_reason":"' not in stream.text


@pytest.mark.parametrize("name", WAITING)
def test_a_request_that_had_not_begun_is_answered_by_the_other_server(aftermath, name):
    assert aftermath.waiting[name] == aftermath.expected[name]


def test_requests_of_others_are_answered(aftermath, note):
    note(summary(aftermath.others))
    assert failures(aftermath.others) == []
