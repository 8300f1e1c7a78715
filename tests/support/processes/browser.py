"""A headless Chromium with a fake microphone, for the tests of the page."""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

OUT = Path(__file__).parents[3] / "out" / "web"  # screenshots, kept as CI output
PATIENCE_MS = 90_000.0  # for what takes a second on an idle machine
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1200, "height": 780}
LEAD_S = 2.0  # until the question begins, in the microphone
ELSEWHERE = "moshi.test"  # this machine, but not localhost: http gives no microphone there
QUIET = [  # no traffic of Chromium's own; the page's is what the tests watch
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]


def missing() -> str:
    """Why no browser test can run here, or ""."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright isn't installed"
    if not Path(CHROMIUM).exists():
        return "there is no chromium (apt-get install chromium)"
    return ""


def speaking(microphone: Path) -> list[str]:
    """Flags of a microphone that plays a wav file once, then silence."""
    return [
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone.resolve()}%noloop",
    ]


class Patient:
    """A playwright browser whose pages wait as long for each step as a busy machine needs.

    Its user allows the microphone; with `permissions=[]` says no when asked.
    """

    def __init__(self, browser) -> None:
        self._browser = browser

    def new_context(self, **options):
        context = self._browser.new_context(**{"permissions": ["microphone"]} | options)
        context.set_default_timeout(PATIENCE_MS)
        return context

    def beside(self, *flags: str, **environment: str):
        """A context manager of another one: playwright can be started only once in a process."""
        return started(self._browser.browser_type, *flags, **environment)

    def new_page(self, **options):
        return self.new_context(**options).new_page()


@contextlib.contextmanager
def started(kind, *flags: str, **environment: str) -> Iterator[Patient]:
    """A headless browser of playwright's `kind`."""
    refusing = ["--deny-permission-prompts", f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"]
    browser = kind.launch(
        executable_path=CHROMIUM,
        args=["--no-sandbox", "--disable-gpu", *QUIET, *refusing, *flags],
        ignore_default_args=["--mute-audio"],
        timeout=PATIENCE_MS,
        env={**os.environ, **environment},
    )
    try:
        yield Patient(browser)
    finally:
        browser.close()


@contextlib.contextmanager
def chromium(*flags: str) -> Iterator[Patient]:
    """A headless Chromium, the only one of this process but for those beside it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, started(playwright.chromium, *flags) as running:
        yield running


def microphone_wav(path: Path, question: Path, lead_s: float, tail_s: float) -> Path:
    """A 48 kHz wav for the fake microphone: silence, the question, silence."""
    import soundfile
    import soxr

    speech, rate = soundfile.read(question, dtype="float32")
    speech = soxr.resample(speech, rate, 48_000)
    silence = [np.zeros(int(48_000 * seconds), np.float32) for seconds in (lead_s, tail_s)]
    soundfile.write(path, np.concatenate([silence[0], speech, silence[1]]), 48_000, "PCM_16")
    return path
