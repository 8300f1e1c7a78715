"""What aiohttp has to say about requests: bugs of ours with their traceback, a few a minute; the
rubbish that is sent to any open port, not at all.
"""

import logging
import time

from aiohttp.http_exceptions import HttpProcessingError

from .limits import Bucket


class FewTracebacks(logging.Filter):
    """At most five at once, and five a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._allowed = Bucket(per_s=5 / 60, burst=5)

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | ConnectionError):
            return False
        return self._allowed.take(1, time.monotonic())


def request_log() -> logging.Logger:
    """A logger of one server; what passes goes where Python's logging goes, stderr by default."""
    log = logging.Logger("moshi.web")
    log.parent = logging.getLogger()
    log.addFilter(FewTracebacks())
    return log
