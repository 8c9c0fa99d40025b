"""The official anthropic SDK finds behind the router what it finds at a server."""

import anthropic
import pytest

from asks import MODEL, PROMPTS, messages
from clients import PLAIN_MESSAGE, anthropic_for

PLAIN = {"model": MODEL, "max_tokens": 16, **PLAIN_MESSAGE}


@pytest.fixture
def direct_clients(servers):
    clients = [anthropic_for(server) for server in servers]
    yield clients
    for client in clients:
        client.close()


def message_text(client, prompt):
    answer = client.messages.create(messages=messages(prompt), **PLAIN)
    return answer.content[0].text, answer.stop_reason, answer.usage.output_tokens


def streamed_message_text(client, prompt):
    with client.messages.stream(messages=messages(prompt), **PLAIN) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].text == text
    return text, final.stop_reason, final.usage.output_tokens


@pytest.mark.parametrize("ask", [message_text, streamed_message_text])
def test_a_message_gets_the_text_that_every_server_gives(anthropic_client, direct_clients, ask):
    for prompt in PROMPTS:
        expected = {message_text(direct, prompt) for direct in direct_clients}
        assert {ask(anthropic_client, prompt)} == expected


def test_tokens_are_counted_as_a_server_counts_them(anthropic_client, direct_clients):
    def count(client):
        return client.messages.count_tokens(model=MODEL, messages=messages(PROMPTS[1])).input_tokens

    assert count(anthropic_client) == count(direct_clients[0]) > 0


def test_an_unknown_model_is_not_found_and_the_message_names_the_existing_one(anthropic_client):
    with pytest.raises(anthropic.NotFoundError) as raised:
        anthropic_client.messages.create(**{**PLAIN, "model": "claude"}, messages=messages("hello"))
    assert raised.value.body["error"]["type"] == "not_found_error"
    assert f"`{MODEL}`" in raised.value.body["error"]["message"]


def test_a_request_that_vllm_refuses_is_a_bad_request(anthropic_client):
    with pytest.raises(anthropic.BadRequestError, match="cannot be greater than"):
        anthropic_client.messages.create(
            **{**PLAIN, "max_tokens": 100_000}, messages=messages("hello")
        )
