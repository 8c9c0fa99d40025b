"""HTTP/2 without TLS, spoken from the first byte on (prior knowledge)."""

import json

import httpx
import pytest

from asks import CHAT, PROMPTS, chat, direct_text, text_of
from http2 import Http2Connection


@pytest.fixture
def client(router):
    with httpx.Client(base_url=router.url, http1=False, http2=True, timeout=60) as client:
        yield client


def test_a_chat_over_http_2_gets_the_same_text(client, servers):
    answer = client.post(CHAT, json=chat())
    assert answer.http_version == "HTTP/2"
    assert text_of(answer.json()) == direct_text(servers[0], CHAT, chat())


def test_a_stream_over_http_2_comes_to_its_end(client):
    with client.stream("POST", CHAT, json=chat(stream=True)) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert stream.http_version == "HTTP/2"
    assert len(lines) > 2
    assert lines[-1] == "data: [DONE]"


def test_requests_side_by_side_on_one_connection_each_get_their_own_answer(router, servers):
    asked = PROMPTS * 3
    with Http2Connection(router.url) as connection:
        streams = [connection.post(CHAT, chat(prompt)) for prompt in asked]
        answers = [json.loads(connection.body(stream)) for stream in streams]
    for prompt, answer in zip(asked, answers, strict=True):
        assert text_of(answer) == direct_text(servers[0], CHAT, chat(prompt))


def test_an_unknown_path_over_http_2_is_refused_without_breaking_the_connection(client):
    assert client.get("/nothing").status_code == 404
    assert client.get("/health").status_code == 200
