"""A steady flow of short requests through the router."""

import concurrent.futures
import dataclasses
import itertools
import threading
import time

import httpx

from asks import CHAT, PROMPTS, chat, direct_text, text_of
from waiting import until

# So many requests may be under way at once, more than two servers work on at a time. On a machine too
# slow for the rate, the traffic is what the servers can do: it must not bury them.
UNDER_WAY_MAX = 48


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    took: float
    failure: str | None


class Traffic:
    """Sends a short request every 1/rate seconds, whatever becomes of the earlier ones, as long as
    no more than UNDER_WAY_MAX of them are under way.

    Right answers are learnt from `teacher` beforehand; an answer that differs is a failure.
    """

    def __init__(self, url, teacher, *, rate, max_tokens=8):
        self._bodies = [chat(prompt, max_tokens=max_tokens) for prompt in PROMPTS]
        self._answers = [direct_text(teacher, CHAT, body) for body in self._bodies]
        self._client = httpx.Client(base_url=url, timeout=60, limits=httpx.Limits())
        self._rate = rate
        self._sent = []
        self._ended = threading.Event()
        self._room = threading.Semaphore(UNDER_WAY_MAX)
        self._pool = concurrent.futures.ThreadPoolExecutor(UNDER_WAY_MAX)
        self._sender = threading.Thread(target=self._send_all, daemon=True)

    def __enter__(self):
        self._sender.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._sender.join()
        self._pool.shutdown()
        self._client.close()

    @property
    def sent(self):
        return len(self._sent)

    def wait_until_sent(self, count):
        # Ten times slower than they should come, a machine is broken rather than busy.
        within = 10 * count / self._rate + 30
        until(lambda: self.sent >= count, f"{count} requests have been sent", within=within)

    def wait_until_answered(self):
        """Whatever has been sent up to now, whichever way it ended."""
        sent = self._sent.copy()
        until(lambda: all(future.done() for future in sent), "all requests so far have ended")

    def outcomes(self):
        """Of all requests, once each of them has one. No more are sent."""
        self._ended.set()
        self._sender.join()
        return [future.result() for future in self._sent]

    def _send_all(self):
        due = time.monotonic()
        for number in itertools.count():
            if self._ended.wait(max(due - time.monotonic(), 0)):
                return
            self._room.acquire()
            # What could not be sent in time is not made up for.
            due = max(due + 1 / self._rate, time.monotonic())
            self._sent.append(self._pool.submit(self._ask, number % len(self._bodies)))

    def _ask(self, which):
        begun = time.monotonic()
        try:
            failure = self._failure_of(which)
        finally:
            self._room.release()
        return Outcome(time.monotonic() - begun, failure)

    def _failure_of(self, which):
        try:
            answer = self._client.post(CHAT, json=self._bodies[which])
        except httpx.HTTPError as error:
            return repr(error)
        if answer.status_code != 200:
            return f"{answer.status_code} {answer.text}"
        text = text_of(answer.json())
        if text != self._answers[which]:
            return f"expected {self._answers[which]!r}, got {text!r}"
        return None


def failures(outcomes):
    return [outcome.failure for outcome in outcomes if outcome.failure]


def summary(outcomes):
    """For people who read the output of a test."""
    took = sorted(outcome.took for outcome in outcomes)
    return (
        f"{len(took)} requests, {len(failures(outcomes))} failed, "
        f"median {took[len(took) // 2]:.2f} s, longest {took[-1]:.2f} s"
    )
