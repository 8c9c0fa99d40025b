"""The official openai SDK finds behind the router what it finds at a server."""

import concurrent.futures

import openai
import pytest

from asks import CHAT, COMPLETIONS, MODEL, PROMPTS, chat, completion, direct_text, messages
from clients import PLAIN


def chat_text(client, prompt, max_tokens=16):
    answer = client.chat.completions.create(
        model=MODEL, messages=messages(prompt), max_tokens=max_tokens, **PLAIN
    )
    return answer.choices[0].message.content


def streamed_chat_text(client, prompt):
    stream = client.chat.completions.create(
        model=MODEL, messages=messages(prompt), max_tokens=16, stream=True, **PLAIN
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def completion_text(client, prompt):
    answer = client.completions.create(model=MODEL, prompt=prompt, max_tokens=16, **PLAIN)
    return answer.choices[0].text


def streamed_completion_text(client, prompt):
    stream = client.completions.create(
        model=MODEL, prompt=prompt, max_tokens=16, stream=True, **PLAIN
    )
    return "".join(chunk.choices[0].text for chunk in stream)


@pytest.mark.parametrize("ask", [chat_text, streamed_chat_text])
def test_a_chat_gets_the_text_that_every_server_gives(openai_client, servers, ask):
    for prompt in PROMPTS:
        expected = {direct_text(server, CHAT, chat(prompt)) for server in servers}
        assert {ask(openai_client, prompt)} == expected


@pytest.mark.parametrize("ask", [completion_text, streamed_completion_text])
def test_a_completion_gets_the_text_that_every_server_gives(openai_client, servers, ask):
    for prompt in PROMPTS:
        expected = {direct_text(server, COMPLETIONS, completion(prompt)) for server in servers}
        assert {ask(openai_client, prompt)} == expected


def test_a_stream_ends_with_its_finish_reason_and_the_usage_asked_for(openai_client):
    stream = openai_client.chat.completions.create(
        model=MODEL,
        messages=messages("hello there"),
        max_tokens=16,
        stream=True,
        stream_options={"include_usage": True},
        **PLAIN,
    )
    *_, last_choice, usage = stream
    assert last_choice.choices[0].finish_reason == "length"
    assert usage.usage.completion_tokens == 16


def test_requests_side_by_side_each_get_their_own_answer(openai_client, servers):
    asked = [(prompt, length) for prompt in PROMPTS for length in range(1, 9)]
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as clients:
        answers = list(clients.map(lambda ask: chat_text(openai_client, *ask), asked))
    for prompt, length in asked:
        expected = direct_text(servers[0], CHAT, chat(prompt, max_tokens=length))
        assert answers.pop(0) == expected


def test_a_response_is_created_whole_and_as_a_stream(openai_client):
    asked = {"model": MODEL, "input": "hello there", "max_output_tokens": 16, "temperature": 0}
    whole = openai_client.responses.create(**asked)
    events = list(openai_client.responses.create(**asked, stream=True))
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert whole.output_text
    assert events[-1].response.output_text == whole.output_text


def test_the_models_are_those_of_the_servers(openai_client):
    assert [model.id for model in openai_client.models.list()] == [MODEL]


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_not_found_and_the_message_names_the_existing_one(
    openai_client, stream
):
    with pytest.raises(openai.NotFoundError) as raised:
        openai_client.chat.completions.create(
            model="gpt-4o", messages=messages("hello"), stream=stream
        )
    assert "gpt-4o" in raised.value.message
    assert f"`{MODEL}`" in raised.value.message


def test_a_request_that_vllm_refuses_is_a_bad_request(openai_client):
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        openai_client.chat.completions.create(
            model=MODEL, messages=messages("hello"), max_tokens=100_000
        )
