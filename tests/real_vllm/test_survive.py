"""A server is killed, or hangs, in the middle of streamed answers: another carries them on, and the
clients get what they would have got without the accident."""

import concurrent.futures
import dataclasses
import json
import threading

import httpx
import pytest

from asks import CHAT, COMPLETIONS, MODEL, PROMPTS, chat, completion, messages
from clients import PLAIN, openai_for
from waiting import until

TOKENS = 300

# How many events of a stream there are before the accident: the middle is anywhere behind.
BEGUN = 20

# How often to send all of them, until the victim has one of the longer ones.
TRIES = 5

# Has the router say which server answers.
WHERE = {"X-Mvllm-Explain": "1"}

# For how long a hung server is believed in: longer than a busy machine lets its neighbour do nothing.
REQUEST_TIMEOUT = 5

STREAMED = {"max_tokens": TOKENS, "stream": True, "stream_options": {"include_usage": True}}
GREEDY = [
    (path, ask(prompt, **STREAMED))
    for path, ask in ((CHAT, chat), (COMPLETIONS, completion))
    for prompt in PROMPTS[:4]
]
# Drawn at random, out of one: what is drawn again shows, and what is left out.
SAMPLED = [(path, {**body, "temperature": 1, "top_k": 1}) for path, body in GREEDY]
# Text is held back for strings that never come: if one came, a stream might have no middle.
STOPPED = [(path, {**body, "stop": ["no such text", "nor such"]}) for path, body in GREEDY]


@dataclasses.dataclass
class Streamed:
    """One answer as the client got it."""

    server: str | None = None
    text: str = ""
    finish: str | None = None
    usage: dict | None = None
    ids: set = dataclasses.field(default_factory=set)
    events: int = 0
    done: bool = False

    def take(self, data):
        if data == "[DONE]":
            self.done = True
            return
        event = json.loads(data)
        assert "error" not in event, event
        assert not self.done and "token_ids\":[" not in data, data
        self.events += 1
        self.ids.add((event["id"], event["created"], event["object"], event["model"]))
        for choice in event["choices"]:
            self.text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            self.finish = choice["finish_reason"] or self.finish
        self.usage = event.get("usage") or self.usage

    @property
    def outcome(self):
        usage = self.usage and {
            name: self.usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")
        }
        return self.text, self.finish, usage, self.done, len(self.ids)


def read(url, path, body, streamed):
    with httpx.stream("POST", url + path, json=body, headers=WHERE, timeout=120) as answer:
        answer.raise_for_status()
        streamed.server = answer.headers.get("x-mvllm-server")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                streamed.take(line.removeprefix("data: "))
    return streamed


def undisturbed(server, asks):
    with concurrent.futures.ThreadPoolExecutor(len(asks)) as threads:
        futures = [threads.submit(read, server.url, *ask, Streamed()) for ask in asks]
        return [future.result() for future in futures]


def through_an_accident(router, victim, asks, accident):
    """The answers to `asks` through the router, with an accident of the victim in their middle."""
    for _ in range(TRIES):
        answers = [Streamed() for _ in asks]
        with concurrent.futures.ThreadPoolExecutor(len(asks)) as threads:
            pairs = zip(asks, answers, strict=True)
            futures = [threads.submit(read, router.url, *ask, into) for ask, into in pairs]
            until(lambda: is_due(answers, victim), "the victim is in the middle of a stream")
            there = [each for each in answers if not each.done and each.server == victim.url]
            if there:
                accident()
            answers = [future.result() for future in futures]
        if there:
            return answers, len(there)
    raise AssertionError(f"{victim.name} had no stream with a middle in {TRIES} tries")


def is_due(answers, victim):
    """Some answers end soon, and which server has which is left to the lot."""
    return any(is_amid(each, victim) for each in answers) or all(each.done for each in answers)


def is_amid(stream, victim):
    return stream.server == victim.url and stream.events >= BEGUN and not stream.done


def check(servers, start_router, note, asks, accident, **config):
    victim, survivor = servers
    expected = undisturbed(survivor, asks)
    router = start_router(servers, **config)
    answers, hit = through_an_accident(router, victim, asks, lambda: accident(victim))
    same = [
        answer.outcome == right.outcome for answer, right in zip(answers, expected, strict=True)
    ]
    note(f"{sum(same)} of {len(same)} as undisturbed; {hit} were on the lost server")
    for answer, right in zip(answers, expected, strict=True):
        assert answer.outcome == right.outcome


@pytest.mark.ends_a_server
@pytest.mark.parametrize("asks", [GREEDY, SAMPLED, STOPPED], ids=["greedy", "sampled", "stops"])
def test_streams_survive_that_their_server_is_killed(servers, start_router, note, asks):
    check(servers, start_router, note, asks, lambda victim: victim.kill())


def test_streams_survive_that_their_server_hangs(servers, start_router, note):
    try:
        check(
            servers,
            start_router,
            note,
            GREEDY,
            lambda victim: victim.freeze(),
            request_timeout=REQUEST_TIMEOUT,
        )
    finally:
        servers[0].thaw()


@pytest.mark.ends_a_server
def test_the_sdk_notices_nothing(servers, start_router):
    victim, survivor = servers
    asked = {"model": MODEL, "messages": messages(PROMPTS[0]), "max_tokens": TOKENS, **PLAIN}
    with openai_for(survivor) as direct:
        right = direct.chat.completions.create(**asked).choices[0]
    router = start_router(servers, capacities=[1000, 1])
    texts, begun = [], threading.Event()

    def listen():
        with openai_for(router) as client:
            for chunk in client.chat.completions.create(**asked, stream=True):
                texts.append(chunk.choices[0].delta.content or "")
                if len(texts) > BEGUN:
                    begun.set()
            return chunk.choices[0].finish_reason

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        finish = thread.submit(listen)
        assert begun.wait(60)
        victim.kill()
        assert finish.result() == right.finish_reason
    assert "".join(texts) == right.message.content
