"""Processes of a test run, each together with all that it starts."""

import contextlib
import os
import signal
import subprocess

# What is running, for reports on failed tests.
RUNNING = []


class ProcessGroup:
    """A program in a process group of its own, so that signals reach its children as well."""

    def __init__(self, name, command, *, log, folder, env=None):
        self.name, self.log = name, log
        with open(log, "ab") as output:
            self._leader = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._guard = guard(self._leader.pid)
        RUNNING.append(self)

    @property
    def group(self):
        return self._leader.pid

    @property
    def is_alive(self):
        return self._leader.poll() is None

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.group, number)

    def end(self, within):
        """Asks the program to end, and returns its exit status; one that does not is killed."""
        self._leader.terminate()
        try:
            return self._leader.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} was told to end and has not within {within} s"
            ) from None
        finally:
            self.kill()

    def kill(self):
        """Leaves nothing of the group. A stopped process is killed as well as a running one."""
        self.signal(signal.SIGKILL)
        self._leader.wait()
        self._guard.kill()
        self._guard.communicate()
        if self in RUNNING:
            RUNNING.remove(self)

    def tail(self, lines):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def guard(group):
    """A process that kills the group when this one is gone, however it went.

    Its standard input is a pipe of which only this process has the other end.
    """
    return subprocess.Popen(
        ["bash", "-c", 'read -r; kill -KILL -- "-$1"', "guard", str(group)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
