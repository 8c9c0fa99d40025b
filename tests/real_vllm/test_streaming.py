"""Streams pass through the router as they come."""

import json

import pytest

import wire
from asks import CHAT, COMPLETIONS, ENDLESS, MESSAGES, chat, completion, message

LONG = 200

STREAMS = {
    "chat": (CHAT, chat(max_tokens=LONG, stream=True)),
    "completion": (COMPLETIONS, completion(max_tokens=LONG, stream=True)),
    "message": (MESSAGES, message(max_tokens=LONG, stream=True)),
}


def reads_of(url, path, body):
    """What a client of `url` reads, one entry per read of its socket."""
    with wire.connect(url) as connection:
        connection.sendall(wire.request(path, body))
        return wire.receive(connection)


def test_the_first_chunk_is_there_while_the_server_still_works(router, servers, note):
    before = tokens_written(servers)
    with router.stream(CHAT, chat(max_tokens=ENDLESS, stream=True)) as stream:
        # Kept: when an iterator of httpx is dropped, it closes its stream.
        lines = stream.iter_lines()
        first = next(lines)
        written = tokens_written(servers) - before
        running = [server.running for server in servers]
    note(f"with the first chunk here, the server had written {written:.0f} of {ENDLESS} tokens")
    assert first.startswith("data: ")
    assert sorted(running) == [0, 1]
    assert written < ENDLESS / 2


def tokens_written(servers):
    return sum(server.written for server in servers)


def test_chunks_are_read_one_by_one(router, servers, note):
    path, body = STREAMS["chat"]
    direct = len(reads_of(servers[0].url, path, body))
    routed = len(reads_of(router.url, path, body))
    note(f"{LONG} tokens came in {routed} reads through the router, in {direct} directly")
    # A router that collects the answer gives it in one or two. How many more there are depends on
    # the machine: a busy server puts several tokens into one chunk, a busy client reads several.
    assert routed > 5


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_says_what_that_of_a_server_says(router, servers, name):
    """Event by event, apart from identity and time, and from how tokens are spread over events,
    which no two runs of vLLM agree on."""
    path, body = STREAMS[name]
    routed, direct = (
        wire.parse(b"".join(reads_of(url, path, body))) for url in (router.url, servers[1].url)
    )
    assert routed.start_line == direct.start_line
    assert routed.header("content-type") == direct.header("content-type")
    assert script_of(routed.body) == script_of(direct.body)


def script_of(stream):
    """The events of a stream, their texts run together where events differ in nothing else."""
    script = []
    for block in stream.decode().removesuffix("\n\n").split("\n\n"):
        *names, data = block.split("\n")
        text, rest = without_text(data.removeprefix("data: "))
        if text and script and script[-1][1:] == (names, rest):
            text = script.pop()[0] + text
        script.append((text, names, rest))
    return script


def without_text(data):
    """The text of an event, and all the rest of it as far as it is the same in every run."""
    if data == "[DONE]":
        return "", data
    event = json.loads(data)
    event.pop("id", None)
    event.pop("created", None)
    event.get("message", {}).pop("id", None)
    for choice in event.get("choices", []):
        if "text" in choice:
            return choice.pop("text"), event
        return choice["delta"].pop("content", ""), event
    return event.get("delta", {}).pop("text", ""), event
