"""Holds the simulated server to a real one.

Sends the same requests to a running vLLM server and to a running simulated one, and compares what a
router or a client can tell apart: status, header fields, the shape of JSON bodies, the sequence of
events in streams, and errors word for word.

The real server is one of the suite's. The simulated one, `mvllm sim`, has the same name and length, or is
named by SIM_URL.

Differences on purpose, not compared here:

- Texts, token ids and token counts: the simulated server has another tokenizer and another model.
- /v1/embeddings, /score, /rerank, /v1/audio/transcriptions, /v1/realtime: a real server has them only
  for models that can do it, the simulated one always.
- The simulated /metrics leaves out what nobody who routes reads (`python_*`, `http_*`, `mm_cache_*`, ...):
  what it has must be in the real one, with the same type and the same label names.
- More than four stop strings: refused by vLLM, taken by the simulated server.
- Several mistakes in one body: vLLM reports them all, the simulated server the first.
- A prompt given as text that is much too long: vLLM stops tokenising at the limit and says "at least".
"""

import contextlib
import os
import re

import httpx
import pytest

from processes import ProcessGroup
from waiting import until

MODEL = "tiny"
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello there"}]
# Repeated with the seed and temperature 0, an answer is the same again: shapes do not depend on luck.
GREEDY = {"temperature": 0, "ignore_eos": True}


def chat(**fields):
    return {"model": MODEL, "messages": HELLO, "max_tokens": 4, **GREEDY, **fields}


def completion(**fields):
    return {"model": MODEL, "prompt": "hello there", "max_tokens": 4, **GREEDY, **fields}


def message(**fields):
    return {"model": MODEL, "messages": HELLO, "max_tokens": 4, "temperature": 0, **fields}


def response(**fields):
    return {"model": MODEL, "input": "hello there", "max_output_tokens": 4, "temperature": 0, **fields}


class Case:
    def __init__(self, method, path, body=None, headers=None, raw=None):
        self.method, self.path, self.body, self.raw = method, path, body, raw
        self.headers = headers or {}


def post(path, body, **headers):
    return Case("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})


def raw(path, content, content_type="application/json"):
    return Case("POST", path, headers={"content-type": content_type}, raw=content)


USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CONTINUED = [*HELLO, {"role": "assistant", "content": "so far"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "there"}]}]

CASES = {
    # What operators ask.
    "health": Case("GET", "/health"),
    "ping": Case("GET", "/ping"),
    "ping by post": Case("POST", "/ping"),
    "version": Case("GET", "/version"),
    "load": Case("GET", "/load"),
    "models": Case("GET", "/v1/models"),
    "event sources": Case("GET", "/kv_event_sources"),
    # Whole answers.
    "chat": post(CHAT, chat()),
    "chat with token ids": post(CHAT, chat(return_token_ids=True)),
    "chat without model": post(CHAT, {"messages": HELLO, "max_tokens": 2}),
    "chat with parts": post(CHAT, chat(messages=PARTS)),
    "chat continued": post(CHAT, chat(messages=CONTINUED, continue_final_message=True, add_generation_prompt=False)),
    "chat with max_completion_tokens": post(CHAT, {**chat(), "max_tokens": None, "max_completion_tokens": 3}),
    "chat twice": post(CHAT, chat(n=2, temperature=1)),
    "chat with request id": post(CHAT, chat(), x_request_id="abc"),
    "chat with rank that is no number": post(CHAT, chat(), x_data_parallel_rank="foo"),
    "chat stopped by a string": post(CHAT, chat(max_tokens=200, stop=["e", "a", "o", "t"])),
    "completion": post("/v1/completions", completion()),
    "completion of default length": post("/v1/completions", {"prompt": "hello", **GREEDY}),
    "completion of token ids": post("/v1/completions", completion(prompt=[5, 6, 7], return_token_ids=True)),
    "completion of several": post("/v1/completions", completion(prompt=["hello there", "b"])),
    "completion of several token ids": post("/v1/completions", completion(prompt=[[5, 6], [7, 8]])),
    "completion with echo": post("/v1/completions", completion(echo=True)),
    "message": post("/v1/messages", message(system="be good")),
    "message stopped by a string": post("/v1/messages", message(max_tokens=200, stop_sequences=list("eaot"))),
    "count tokens": post("/v1/messages/count_tokens", {"model": MODEL, "messages": HELLO}),
    "response": post("/v1/responses", response(instructions="be good")),
    "response to a list": post("/v1/responses", response(input=HELLO)),
    "tokenize": post("/tokenize", {"model": MODEL, "prompt": "hello there"}),
    "tokenize a conversation": post("/tokenize", {"model": MODEL, "messages": HELLO, "return_token_strs": True}),
    "detokenize": post("/detokenize", {"model": MODEL, "tokens": [70, 71]}),
    # Streams.
    "chat stream": post(CHAT, chat(stream=True)),
    "chat stream of one token": post(CHAT, chat(stream=True, max_tokens=1)),
    "chat stream with usage": post(CHAT, chat(**USAGE, return_token_ids=True)),
    "chat stream with usage throughout": post(
        CHAT, chat(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    ),
    "completion stream": post("/v1/completions", completion(stream=True)),
    "completion stream with usage": post("/v1/completions", completion(**USAGE, return_token_ids=True)),
    "message stream": post("/v1/messages", message(stream=True)),
    "response stream": post("/v1/responses", response(stream=True)),
    # Mistakes.
    "unknown path": Case("GET", "/nope"),
    "unknown path below v1": post("/v1/nope", {}),
    "one model": Case("GET", "/v1/models/tiny"),
    "wrong method": Case("POST", "/health"),
    "get on a post path": Case("GET", CHAT),
    "delete on a post path": Case("DELETE", CHAT),
    "render": post(CHAT + "/render", chat()),
    "broken json": raw(CHAT, b"{bad"),
    "broken json for messages": raw("/v1/messages", b"{bad"),
    "no body": raw(CHAT, b""),
    "a list": raw(CHAT, b"[]"),
    "wrong content type": raw(CHAT, b'{"model":"tiny"}', "text/plain"),
    "unknown model": post(CHAT, chat(model="nope")),
    "unknown model in a stream": post(CHAT, chat(model="nope", stream=True)),
    "unknown model for completions": post("/v1/completions", completion(model="nope")),
    "unknown model for messages": post("/v1/messages", message(model="nope")),
    "unknown model for responses": post("/v1/responses", response(model="nope")),
    "unknown model for tokenize": post("/tokenize", {"model": "nope", "prompt": "x"}),
    "model is a number": post(CHAT, chat(model=5)),
    "no messages": post(CHAT, {"model": MODEL}),
    "messages are a string": post(CHAT, chat(messages="x")),
    "empty messages": post(CHAT, chat(messages=[])),
    "empty messages for messages": post("/v1/messages", message(messages=[])),
    "max_tokens is no number": post(CHAT, chat(max_tokens="x")),
    "max_tokens is 0": post(CHAT, chat(max_tokens=0)),
    "max_tokens beyond the model": post(CHAT, chat(max_tokens=100_000)),
    "max_tokens of messages beyond the model": post("/v1/messages", message(max_tokens=100_000)),
    "max_tokens of responses beyond the model": post("/v1/responses", response(max_output_tokens=100_000)),
    "greedy chat twice": post(CHAT, chat(n=2)),
    "chat no times": post(CHAT, chat(n=0)),
    "negative temperature": post(CHAT, chat(temperature=-1)),
    "stream options without stream": post(CHAT, chat(stream_options={"include_usage": True})),
    "both ways to end a prompt": post(CHAT, chat(continue_final_message=True, add_generation_prompt=True)),
    "rank out of range": post(CHAT, chat(), x_data_parallel_rank="5"),
    "prompt beyond the model": post("/v1/completions", completion(prompt=[5] * 9000)),
    "no prompt": post("/v1/completions", {"model": MODEL}),
    "empty prompt": post("/v1/completions", completion(prompt="")),
    "token id out of vocabulary": post("/v1/completions", completion(prompt=[9_999_999])),
    "messages without max_tokens": post("/v1/messages", {"model": MODEL, "messages": HELLO}),
    "response without input": post("/v1/responses", {"model": MODEL}),
    "unknown previous response": post("/v1/responses", response(previous_response_id="resp_x")),
    "unknown response": Case("GET", "/v1/responses/resp_x"),
    "cancel of an unknown response": Case("POST", "/v1/responses/resp_x/cancel"),
    "tokenize nothing": post("/tokenize", {"model": MODEL}),
    "detokenize nothing": post("/detokenize", {"model": MODEL}),
}

# Header fields that a router passes on or acts upon. `date` and lengths differ between any two answers.
HEADERS = ["content-type", "transfer-encoding", "connection", "server", "allow", "vary"]


@pytest.fixture(scope="module")
def servers(real_servers, tmp_path_factory):
    """Clients of the real server and of the simulated one."""
    with contextlib.ExitStack() as stack:
        sim = os.environ.get("SIM_URL") or stack.enter_context(simulated(tmp_path_factory))
        yield [
            stack.enter_context(httpx.Client(base_url=url, timeout=60))
            for url in (real_servers[0].url, sim)
        ]


@contextlib.contextmanager
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sim")
    command = [os.environ["MVLLM_BIN"], "sim", "--port", "0", "--profile", "fast"]
    command += ["--model", MODEL, "--max-model-len", "8192"]
    process = ProcessGroup("sim", command, log=folder / "sim.log", folder=folder)
    try:
        yield until(lambda: address_in(process), "the simulated server says where it listens")
    finally:
        process.kill()


def address_in(process):
    found = re.search(r"on (http://\S+)", process.log.read_text())
    return found and found[1]


def send(client, case):
    if case.raw is not None:
        return client.request(case.method, case.path, content=case.raw, headers=case.headers)
    if case.body is not None:
        return client.request(case.method, case.path, json=case.body, headers=case.headers)
    return client.request(case.method, case.path, headers=case.headers)


def shape(value):
    """Keys and types. Lists are as long as it happens: the shapes in them count once each."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        shapes = []
        for inner in value:
            if shape(inner) not in shapes:
                shapes.append(shape(inner))
        return shapes
    return type(value).__name__


def events(text):
    """Names and shapes of a stream's events, equal neighbours counted once."""
    sequence = []
    assert text.endswith("\n\n")
    for block in text.removesuffix("\n\n").split("\n\n"):
        lines = block.split("\n")
        fields = [line.split(": ", 1)[0] for line in lines]
        name = next((line.removeprefix("event: ") for line in lines if line.startswith("event: ")), None)
        data = next(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
        content = data if data == "[DONE]" else shape(httpx.Response(200, content=data).json())
        event = (fields, name, content)
        if not sequence or sequence[-1] != event:
            sequence.append(event)
    return sequence


def masked(message):
    """Numbers and what follows from them differ, as do container sizes."""
    return re.sub(r"\d+", "#", message)


def error_of(body):
    """The parts of an error that must agree to the letter, and the message."""
    error = body["error"]
    exact = {key: value for key, value in error.items() if key != "message"}
    return {"keys": list(body), "exact": exact, "message": masked(error["message"])}


@pytest.mark.parametrize("name", CASES)
def test_answers_alike(servers, name):
    real, sim = (send(client, CASES[name]) for client in servers)
    assert sim.status_code == real.status_code, sim.text
    for header in HEADERS:
        assert sim.headers.get(header) == real.headers.get(header), header
    assert ("content-length" in sim.headers) == ("content-length" in real.headers)
    content_type = real.headers.get("content-type", "")
    if content_type.startswith("text/event-stream"):
        assert events(sim.text) == events(real.text)
    elif not real.content:
        assert not sim.content
    elif isinstance(real.json(), dict) and "error" in real.json():
        assert error_of(sim.json()) == error_of(real.json())
    elif real.status_code >= 400:
        assert sim.json() == real.json()
    else:
        assert shape(sim.json()) == shape(real.json())
        assert keys_in_order(sim.json()) == keys_in_order(real.json())


def keys_in_order(value):
    """JSON objects have no order, but a stream's reader may have come to rely on one."""
    return list(value) if isinstance(value, dict) else None


@pytest.mark.parametrize("name", ["chat with request id"])
def test_the_request_id_names_the_answer(servers, name):
    for client in servers:
        assert send(client, CASES[name]).json()["id"] == "chatcmpl-abc"


@pytest.mark.parametrize("whole, streamed", [("chat", "chat stream"), ("completion", "completion stream")])
def test_a_stream_says_what_the_whole_answer_says(servers, whole, streamed):
    for client in servers:
        expected = send(client, CASES[whole]).json()["choices"][0]
        expected = expected["message"]["content"] if "message" in expected else expected["text"]
        text = ""
        for block in send(client, CASES[streamed]).text.split("\n\n"):
            data = block.removeprefix("data: ")
            if data.startswith("{"):
                choice = httpx.Response(200, content=data).json()["choices"][0]
                text += choice["delta"]["content"] if "delta" in choice else choice["text"]
        assert text == expected


def test_an_answer_goes_on_from_its_token_ids(servers):
    for client in servers:
        asked = chat(max_tokens=8, return_token_ids=True)
        whole = client.post(CHAT, json=asked).json()
        written = whole["choices"][0]["token_ids"]
        rest = completion(
            prompt=whole["prompt_token_ids"] + written[:3], max_tokens=5, return_token_ids=True
        )
        continued = client.post("/v1/completions", json=rest).json()
        assert continued["choices"][0]["token_ids"] == written[3:]


def test_a_repeated_prompt_is_found_in_the_cache(servers):
    for client in servers:
        asked = chat(messages=[{"role": "user", "content": "hello there " * 500}])
        client.post(CHAT, json=asked)
        usage = client.post(CHAT, json=asked).json()["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        assert 0.8 * usage["prompt_tokens"] < cached < usage["prompt_tokens"]


def families(page):
    """Of each metric: its type and the label names of its series."""
    types, labels = {}, {}
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            types[name] = kind
        elif not line.startswith("#"):
            series = re.match(r"([a-zA-Z_:0-9]+)(?:\{(.*)\})? ", line)
            names = re.findall(r'([a-z_]+)="', series[2] or "")
            labels.setdefault(series[1], set()).add(tuple(names))
    return types, labels


def test_metrics_have_the_names_types_and_labels_of_the_real_ones(servers):
    (real_types, real_labels), (sim_types, sim_labels) = (
        families(client.get("/metrics").text) for client in servers
    )
    assert sim_types.items() <= real_types.items()
    # Its labels are a configuration: one that is not simulated has fewer options.
    config = "vllm:cache_config_info"
    assert set(*sim_labels.pop(config)) <= set(*real_labels.pop(config))
    assert sim_labels.items() <= real_labels.items()


def test_histograms_have_the_bounds_of_the_real_ones(servers):
    def bounds(page):
        found = {}
        for name, bound in re.findall(r'^(vllm:\w+_bucket)\{.*le="([^"]+)"', page, re.M):
            found.setdefault(name, []).append(bound)
        return found

    real, sim = (bounds(client.get("/metrics").text) for client in servers)
    assert sim and sim.items() <= real.items()


def test_metrics_are_of_the_same_type(servers):
    real, sim = (client.get("/metrics").headers["content-type"] for client in servers)
    assert sim == real
