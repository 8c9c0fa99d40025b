"""Waiting for something to become true."""

import time

# How often to look.
STEP = 0.02

# A look that takes longer counts as this. On a machine with more work than processors a vLLM server
# may not get to answer for seconds: that time says nothing of the router.
LOOK_MAX = 0.25

# For what will happen soon. Where a test is about how long something takes, it names its own limit.
SOON = 30


def until(condition, what, within=SOON):
    """Waits for `condition()` to be true and returns its value; fails if that takes too long."""
    waited = 0
    while True:
        begun = time.monotonic()
        value = condition()
        if value:
            return value
        if waited > within:
            raise AssertionError(f"not within {within} s: {what} (last seen: {value!r})")
        time.sleep(STEP)
        waited += min(time.monotonic() - begun, LOOK_MAX)
