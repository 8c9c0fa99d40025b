"""What passes through the router is not changed by it: seen on the line between it and vLLM."""

import re

import httpx
import pytest

import wire
from asks import CHAT, MODEL, chat
from tap import Tap

# RFC 9110, section 7.6.1: these speak of one connection only. `host` names the server on each.
OF_THE_CONNECTION = {"connection", "transfer-encoding", "keep-alive", "host"}

HEADERS = [
    ("User-Agent", "some-sdk/1.0 (test)"),
    ("Accept", "*/*"),
    ("Authorization", "Bearer sk-secret"),
    ("X-Request-Id", "tapped"),
    ("X-Odd", 'a;b="c, d"'),
    ("X-Twice", "one"),
    ("X-Twice", "two"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]

# Escapes, repetitions and an empty value: whoever parses and writes it anew changes some of it.
QUERY = "?b=%2F%20+x&a=1&a=2&empty=&flag&utf=%C3%A9"


@pytest.fixture
def tapped(servers, start_router):
    """A router before one server that adds nothing of its own, and the tap between the two."""
    with Tap(servers[0].port) as tap:
        yield start_router(servers[:1], urls=[tap.url], continue_streams='"off"'), tap


@pytest.fixture
def tapped_as_shipped(servers, start_router):
    """The same with a router of no special configuration."""
    with Tap(servers[0].port) as tap:
        yield start_router(servers[:1], urls=[tap.url]), tap


def exchange(tapped, body):
    """What the client sent and got, and what the server got and sent."""
    router, tap = tapped
    sent = wire.request(CHAT + QUERY, body, HEADERS)
    got = answer(router.url, sent)
    talk = tap.about(b"tapped")
    return [wire.parse(bytes(part)) for part in (sent, got, talk.from_router, talk.from_server)]


def answer(url, sent):
    with wire.connect(url) as connection:
        connection.sendall(sent)
        return b"".join(wire.receive(connection))


def travelling(message):
    return sorted(pair for pair in message.headers if pair[0] not in OF_THE_CONNECTION)


def with_request_id(answer):
    """The one thing that the router adds."""
    return sorted([*travelling(answer), ("x-request-id", "tapped")])


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_reaches_the_server_as_the_client_sent_it(tapped, stream):
    sent, _, received, _ = exchange(tapped, chat(stream=stream))
    assert received.start_line == sent.start_line
    assert received.body == sent.body
    assert travelling(received) == travelling(sent)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_reaches_the_client_byte_for_byte(tapped, stream):
    _, got, _, given = exchange(tapped, chat(stream=stream, max_tokens=100))
    assert got.start_line == given.start_line
    assert got.body == given.body
    assert travelling(got) == with_request_id(given)


def test_token_ids_that_only_the_router_asks_for_are_unseen_by_the_client(
    tapped_as_shipped, servers
):
    sent, got, received, given = exchange(tapped_as_shipped, chat(stream=True, max_tokens=100))
    assert received.body == b'{"return_token_ids":true,' + sent.body[1:]
    assert b'"token_ids":[' in given.body
    request = wire.request(CHAT + QUERY, chat(stream=True, max_tokens=100), HEADERS)
    direct = wire.parse(answer(servers[0].url, request))
    assert undated(got.body) == undated(direct.body)


def undated(body):
    return re.sub(rb'"created":\d+', b'"created":0', body)


def test_a_clients_error_reaches_it_byte_for_byte(tapped):
    _, got, _, given = exchange(tapped, chat(max_tokens="many"))
    assert got.start_line == given.start_line == "HTTP/1.1 400 Bad Request"
    assert got.body == given.body
    assert travelling(got) == with_request_id(given)


def test_the_request_id_names_the_answer(router):
    answer = router.post(CHAT, chat(), headers={"X-Request-Id": "mine"})
    assert answer.json()["id"] == "chatcmpl-mine"


def test_a_request_without_an_id_gets_one_that_names_the_answer(router):
    answer = router.post(CHAT, chat())
    assert answer.json()["id"] == "chatcmpl-" + answer.headers["x-request-id"]


def test_vllm_sees_the_query_string(router, servers):
    """In the words of its access log."""
    query = "?trace=%2Fa%20b&trace=c"
    assert router.post(CHAT + query, chat()).status_code == 200
    logs = [server.log.read_text() for server in servers]
    assert [f'"POST {CHAT}{query} HTTP/1.1" 200' in log for log in logs].count(True) == 1


def test_tokenize_and_detokenize_answer_as_a_server_does(router, servers):
    tokens = same_answer(
        router, servers[0], "/tokenize", {"model": MODEL, "prompt": "hello there"}
    )["tokens"]
    text = same_answer(router, servers[0], "/detokenize", {"model": MODEL, "tokens": tokens})
    assert "hello there" in text["prompt"]


def same_answer(router, server, path, body):
    routed, direct = router.post(path, body), httpx.post(server.url + path, json=body)
    assert (routed.status_code, routed.json()) == (direct.status_code, direct.json())
    assert routed.status_code == 200
    return routed.json()
