"""A plugin of the test servers: they look for lost wake-ups every 50 ms, rather than every 5 s.

The engine core and the worker of vLLM talk through shared memory, and wake each other with a message
over ZeroMQ once the other has been idle for a second. Now and then, on a machine with more work than
processors, the message is lost. vLLM 0.32 knows: the sleeper looks for itself every
SHM_READER_RECHECK_INTERVAL_MS = 5000 (vllm/distributed/device_communicators/shm_broadcast.py). An idle
server then takes 5 s to answer, or several times that, whoever asks. That says nothing of the router,
and a test cannot tell it from a router that holds a request back. (With every other message dropped on
purpose: 8 of 12 requests to an idle server took 3.5-17 s; with this plugin all 12 less than 0.4 s.)

vLLM calls `look_often` in each of its processes: `serve` puts this directory on PYTHONPATH, and what
lies beside this file makes it a plugin (https://docs.vllm.ai/en/latest/design/plugin_system.html).
"""

RECHECK_MS = 50


def look_often():
    from vllm.distributed.device_communicators import shm_broadcast

    # If it has another name one day, setting it would do nothing.
    assert shm_broadcast.SHM_READER_RECHECK_INTERVAL_MS >= RECHECK_MS
    shm_broadcast.SHM_READER_RECHECK_INTERVAL_MS = RECHECK_MS
