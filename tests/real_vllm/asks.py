"""Bodies of requests that have one right answer, and that answer as a server gives it.

The servers have the same random weights, so a greedy answer is the same on all of them.
"""

import httpx

MODEL = "tiny"
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = "/v1/messages"

# The model says its end of sequence when it likes; these requests go on for as long as they ask.
GREEDY = {"temperature": 0, "ignore_eos": True}

# As long as the model's context allows: 40 s at the least (in_vllm/unhurried.py), unless ended.
ENDLESS = 8000

# Prompts of different lengths and languages, so that no two have the same answer.
PROMPTS = [
    "hello there",
    "import os\nimport sys\n\n\ndef main():\n    ",
    "What is the capital of France? Answer in one word.",
    "für élise, naïve café — 你好，世界 🦀",
    "class Router:\n    def __init__(self, servers):\n        self.servers = " + "[1, 2, 3], " * 40,
]


def messages(prompt):
    return [{"role": "user", "content": prompt}]


def chat(prompt=PROMPTS[0], **fields):
    return {"model": MODEL, "messages": messages(prompt), "max_tokens": 16, **GREEDY, **fields}


def completion(prompt=PROMPTS[0], **fields):
    return {"model": MODEL, "prompt": prompt, "max_tokens": 16, **GREEDY, **fields}


def message(prompt=PROMPTS[0], **fields):
    asked = {"model": MODEL, "messages": messages(prompt), "max_tokens": 16, "temperature": 0}
    return {**asked, **fields}


def text_of(answer):
    """The text of a whole chat or completion answer."""
    choice = answer["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def direct_text(server, path, body):
    """The text that `server` gives when asked without the router."""
    answer = httpx.post(server.url + path, json=body, timeout=60)
    answer.raise_for_status()
    return text_of(answer.json())
