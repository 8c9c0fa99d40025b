"""vLLM's refusals reach the client as vLLM gave them, and count against no server."""

import httpx
import pytest

from asks import CHAT, COMPLETIONS, MESSAGES, MODEL, chat, completion, message
from waiting import until

SOUND = b"RIFF\x24\x00\x00\x00WAVEfmt "


def json_post(path, body):
    return ("POST", path, {"json": body})


def raw_post(path, content):
    return ("POST", path, {"content": content, "headers": {"Content-Type": "application/json"}})


MISTAKES = {
    "broken json": raw_post(CHAT, b'{"model": "tiny", "messages": ['),
    "broken json for messages": raw_post(MESSAGES, b"{broken"),
    "no body": raw_post(CHAT, b""),
    "a list": raw_post(CHAT, b"[]"),
    "a field of the wrong type": json_post(CHAT, chat(max_tokens="many")),
    "a value out of range": json_post(CHAT, chat(temperature=-1)),
    "a missing field": json_post(CHAT, {"model": MODEL}),
    "no messages": json_post(CHAT, chat(messages=[])),
    "a prompt that is too long": json_post(COMPLETIONS, completion([5] * 9000)),
    "a chat that is too long": json_post(CHAT, chat("hello there " * 9000)),
    "a stream that is too long": json_post(CHAT, chat("hello there " * 9000, stream=True)),
    "too many tokens asked for": json_post(CHAT, chat(max_tokens=100_000)),
    "too many for a message": json_post(MESSAGES, message(max_tokens=100_000)),
}

UNSUPPORTED = {
    "embeddings": json_post("/v1/embeddings", {"model": MODEL, "input": "hello"}),
    "score": json_post("/v1/score", {"model": MODEL, "text_1": "a", "text_2": "b"}),
    "rerank": json_post("/v1/rerank", {"model": MODEL, "query": "a", "documents": ["b"]}),
    "classify": json_post("/classify", {"model": MODEL, "input": "hello"}),
    "pooling": json_post("/pooling", {"model": MODEL, "input": "hello"}),
    "speech": json_post("/v1/audio/speech", {"model": MODEL, "input": "hello"}),
    "transcription": (
        "POST",
        "/v1/audio/transcriptions",
        {"data": {"model": MODEL}, "files": {"file": ("sound.wav", SOUND, "audio/wav")}},
    ),
    "a path that nobody has": json_post("/v1/nothing/here", {}),
    "a method that the path lacks": ("DELETE", CHAT, {}),
}


def ask(url, request):
    method, path, content = request
    return httpx.request(method, url + path, timeout=60, **content)


def assert_the_same(routed, direct):
    assert routed.status_code == direct.status_code
    assert routed.content == direct.content
    for name in ("content-type", "allow"):
        assert routed.headers.get(name) == direct.headers.get(name)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_in_the_servers_words(router, servers, name):
    routed, direct = ask(router.url, MISTAKES[name]), ask(servers[0].url, MISTAKES[name])
    assert routed.status_code in (400, 422)
    assert_the_same(routed, direct)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_a_server_does_not_support_gets_its_own_answer(router, servers, name):
    routed, direct = ask(router.url, UNSUPPORTED[name]), ask(servers[0].url, UNSUPPORTED[name])
    assert routed.status_code in (404, 405)
    assert_the_same(routed, direct)


def test_a_long_prompt_that_fits_is_answered(router):
    answer = router.post(CHAT, chat("hello there " * 1500, max_tokens=1))
    assert answer.status_code == 200
    assert answer.json()["usage"]["prompt_tokens"] > 3000


def test_clients_mistakes_count_against_no_server(router):
    """Many more than the failures in a row that eject; judged after the next round of checks."""
    for request in [*MISTAKES.values(), *UNSUPPORTED.values()] * 2:
        assert ask(router.url, request).status_code in (400, 404, 405, 422)
    begun = router.checks()
    until(lambda: min(router.checks()) > max(begun), "both servers have been checked anew")
    until(lambda: failures(router) == [0, 0], "no failures are held against anyone")
    assert router.states() == ["healthy", "healthy"]


def failures(router):
    return [server["consecutive_failures"] for server in router.get("/health")["servers"]]
