"""Runs the parts in a child process, which is started anew where a part has ended it."""

import json
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from ..machine.readers import child_command
from .child import from_json
from .examine import without_paths
from .part import FAILED, Fallback, PartResult

PART_TIMEOUT_S = 120.0  # a GPU that hangs never answers
ENDING_S = 5.0  # of a child that has told everything
Start = Callable[[Sequence[str], IO[bytes]], "subprocess.Popen[bytes]"]


def start_child(names: Sequence[str], errors: IO[bytes]) -> "subprocess.Popen[bytes]":
    """The child, for these parts; in a session of its own: Ctrl-C is for us."""
    command, environment = child_command("selftest.child", *names)
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, env=environment, start_new_session=True
    )


class Runner:
    """`tell_begin`, `tell_result`: called as parts begin and end."""

    def __init__(
        self,
        fallbacks: dict[str, Fallback],
        tell_begin: Callable[[str], None],
        tell_result: Callable[[PartResult], None],
        start: Start = start_child,
        timeout_s: float = PART_TIMEOUT_S,
    ) -> None:
        """`fallbacks`: of each part, in the order in which they run."""
        self.fallbacks, self.start, self.timeout_s = fallbacks, start, timeout_s
        self.tell_begin, self.tell_result = tell_begin, tell_result

    def run(self) -> list[PartResult]:
        """A result for each part, whatever happens to the child."""
        results: list[PartResult] = []
        left = list(self.fallbacks)
        while left:
            done = self._one_child(left)
            results += done
            told = {result.name for result in done}
            left = [name for name in left if name not in told]
        return results

    def _one_child(self, names: Sequence[str]) -> list[PartResult]:
        """What a child found; where it ended too early, the part that it was at failed.

        One that never came to a part fails them all: it wouldn't the next time.
        """
        results: list[PartResult] = []
        current, since = None, time.monotonic()
        with tempfile.TemporaryFile() as errors:
            process = self.start(names, errors)
            try:
                lines = lines_of(process)
                while True:
                    line = lines.get(timeout=max(0.0, since + self.timeout_s - time.monotonic()))
                    if line is None:
                        process.wait(timeout=ENDING_S)
                        why = self._why(process.returncode, errors)
                        break
                    since = time.monotonic()
                    if "begins" in line:
                        current = line["begins"]
                        self.tell_begin(current)
                    else:
                        results.append(from_json(line["result"]))
                        self.tell_result(results[-1])
            except (queue.Empty, subprocess.TimeoutExpired):
                why = f"it didn't end within {self.timeout_s:g} seconds"
            finally:
                process.kill()
                process.wait()
        told = {result.name for result in results}
        missing = [name for name in names if name not in told]
        for name in missing if current is None else missing[:1]:
            seconds = time.monotonic() - since
            found = PartResult(name, FAILED, seconds, why=why, fallback=self.fallbacks[name])
            results.append(found)
            self.tell_result(found)
        return results

    @staticmethod
    def _why(status: int, errors: IO[bytes]) -> str:
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return without_paths(f"it ended the process ({how})" + (f": {said[-1]}" if said else ""))


def lines_of(process: "subprocess.Popen[bytes]") -> "queue.Queue[dict[str, Any] | None]":
    """What the child tells, then None."""
    told: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                told.put(json.loads(line))
            except ValueError:
                continue  # what a library prints
        told.put(None)

    threading.Thread(target=read, name="moshi-selftest-lines", daemon=True).start()
    return told
