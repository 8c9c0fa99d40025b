"""Under steady traffic a server is lost and comes back; no client notices either."""

import time

import pytest

from traffic import UNDER_WAY_MAX, Traffic, failures, summary
from waiting import until

# Requests per second.
RATE = 20

# For how long a hung server is believed in: longer than a busy machine lets the other do nothing.
REQUEST_TIMEOUT = 5

# One that is under way when a server comes back, and fails; and the one after it.
CHECKS_MAX = 2


@pytest.mark.ends_a_server
@pytest.mark.timeout(900)
def test_no_client_notices_that_a_server_is_killed_and_started_again(servers, start_router, note):
    router, (victim, survivor) = start_router(servers), servers
    with Traffic(router.url, survivor, rate=RATE) as traffic:
        traffic.wait_until_sent(3 * RATE)
        until(lambda: victim.running > 0, "the victim is at work")
        victim.kill()
        note(f"killed after {traffic.sent} requests")
        traffic.wait_until_sent(15 * RATE)
        outcomes = traffic.outcomes()
    note(f"{RATE} per second: {summary(outcomes)}")
    assert failures(outcomes) == []
    until(lambda: router.states() == ["unhealthy", "healthy"], "the router has taken it out")

    # Little, so that the start is not slowed down; but some, so that none goes astray in it.
    with Traffic(router.url, survivor, rate=2) as little:
        victim.start()
        victim.wait_until_healthy()
        healthy_at = time.monotonic()
        checks = router.checks()[0]
        until(lambda: router.states()[0] == "healthy", "the router believes in it again")
        assert router.checks()[0] - checks <= CHECKS_MAX
        with Traffic(router.url, survivor, rate=RATE) as traffic:
            # Its counters began anew with its process.
            until(lambda: victim.finished > 0, "the server that came back answers requests")
            note(f"in use {time.monotonic() - healthy_at:.2f} s after its /health said 200")
            outcomes = little.outcomes() + traffic.outcomes()
    note(f"during the start and after: {summary(outcomes)}")
    assert failures(outcomes) == []


def test_no_client_notices_that_a_server_hangs_and_wakes_up(servers, start_router, note):
    router, (victim, survivor) = start_router(servers, request_timeout=REQUEST_TIMEOUT), servers
    with Traffic(router.url, survivor, rate=RATE) as traffic:
        traffic.wait_until_sent(RATE)
        until(lambda: victim.running > 0, "the victim is at work")
        victim.freeze()
        until(lambda: router.states() == ["unhealthy", "healthy"], "the router has taken it out")
        # Those that were stuck in it as well.
        traffic.wait_until_answered()
        victim.thaw()
        until(lambda: router.states() == ["healthy", "healthy"], "the router believes in it again")
        # It may finish what was stuck in it. What comes on top of that is new.
        before = victim.finished
        until(
            lambda: victim.finished > before + UNDER_WAY_MAX,
            "the server that woke up answers requests",
            within=10 * UNDER_WAY_MAX / RATE + 30,
        )
        outcomes = traffic.outcomes()
    note(summary(outcomes))
    assert failures(outcomes) == []
