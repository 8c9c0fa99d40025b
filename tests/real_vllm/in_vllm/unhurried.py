"""The worker of the test servers: vLLM's own, but no step of it is faster than a GPU's with a real model.

The tiny model needs 2 ms for a step, and a request for 8000 tokens is over after 16 s. Tests have such
requests under way while they do something else, and that must not turn into a race: here they take
ITL_MIN * 8000 = 40 s at the least. `serve` names this class in --worker-cls.
"""

import time

from vllm.v1.worker.cpu_worker import CPUWorker

# Seconds.
ITL_MIN = 0.005


class UnhurriedWorker(CPUWorker):
    def execute_model(self, scheduler_output):
        begun = time.monotonic()
        output = super().execute_model(scheduler_output)
        time.sleep(max(begun + ITL_MIN - time.monotonic(), 0))
        return output
