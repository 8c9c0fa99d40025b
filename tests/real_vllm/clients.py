"""The official SDKs as clients of whatever has a url: the router, or a server directly."""

import anthropic
import openai

from asks import ENDLESS, MODEL, PROMPTS, messages

# The SDKs know nothing of vLLM's own fields.
PLAIN = {"temperature": 0, "extra_body": {"ignore_eos": True}}
PLAIN_MESSAGE = {"extra_body": {"temperature": 0}}


def openai_for(target):
    # No retries: they would hide failures.
    return openai.OpenAI(base_url=f"{target.url}/v1", api_key="none", max_retries=0, timeout=60)


def anthropic_for(target):
    return anthropic.Anthropic(base_url=target.url, api_key="none", max_retries=0, timeout=60)


def openai_texts(target, prompt=PROMPTS[0], max_tokens=ENDLESS):
    """The texts of a streamed chat, as they come."""
    with openai_for(target) as client:
        stream = client.chat.completions.create(
            model=MODEL, messages=messages(prompt), max_tokens=max_tokens, stream=True, **PLAIN
        )
        for chunk in stream:
            yield chunk.choices[0].delta.content or ""


def anthropic_texts(target, prompt=PROMPTS[0], max_tokens=ENDLESS):
    """The texts of a streamed message, as they come."""
    with anthropic_for(target) as client:
        stream = client.messages.stream(
            model=MODEL, messages=messages(prompt), max_tokens=max_tokens, **PLAIN_MESSAGE
        )
        with stream as opened:
            yield from opened.text_stream
