"""One browser and one server for all tests of the page: starting them costs more than a talk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from moshi_mlx.hub import NANO
from tests.support.processes import browser
from tests.support.processes.web_process import WebProcess, moshi_web

Motion = Literal["reduce", "no-preference"]


@pytest.fixture(scope="package")
def chromium(tmp_path_factory) -> Iterator[browser.Patient]:
    wav = tmp_path_factory.mktemp("mic") / "question.wav"
    browser.microphone_wav(wav, NANO / "samples" / "four_plus_three.wav", browser.LEAD_S, 8.0)
    with browser.chromium(*browser.speaking(wav)) as running:
        yield running


@pytest.fixture(scope="package")
def talks(tmp_path_factory) -> Path:
    """Where the server keeps talks."""
    return tmp_path_factory.mktemp("kept") / "talks"


@pytest.fixture(scope="package")
def server(talks) -> Iterator[WebProcess]:
    with moshi_web("--save-to", str(talks)) as running:
        yield running


@pytest.fixture
def new_page(chromium):
    """Pages that are closed at the test's end, so that the line is free for the next one."""
    made = []

    def make(size: dict[str, int], motion: Motion = "reduce", **options):
        """Pictures at full rate cost this machine more than the talk: not in every test."""
        made.append(chromium.new_page(viewport=size, reduced_motion=motion, **options))
        return made[-1]

    yield make
    for page in made:
        page.context.close()
