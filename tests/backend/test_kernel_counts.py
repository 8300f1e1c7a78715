"""Kernels of a frame at the layers, codebooks and vocabularies of Kyutai's models.

As benchmarks/kernels.py, batch.py and dsm.py count them beside those of Kyutai's `moshi_mlx`
(0.3.0 from PyPI): 1,530 of a talk in float32, 1,480 in 4 bit; 483 listening, 2,914 speaking.
"""

from collections.abc import Callable
from typing import Any

import pytest

from app.machine.random_model import random_lm
from benchmarks.graph import COPY
from benchmarks.shapes import listening_config, raw_config, speaking_config
from benchmarks.step_graph import Frame, frame_of, spoken
from moshi_mlx.config.reading import parse_config
from moshi_mlx.lm.model import Lm

GREEDY: dict[str, Any] = {"text_temperature": 0.0, "audio_temperature": 0.0}


def lm_of(raw: dict, recipe: str = "fp32") -> Lm:
    return random_lm(parse_config(raw), recipe, "float32")


# frame -> kernels, and nodes of the graph with its views, at most
FRAMES: dict[str, tuple[Callable[[], Frame], int, int]] = {
    "talk": (lambda: frame_of(lm_of(raw_config(64, 4))), 805, 1277),
    "talk in 4 bit": (lambda: frame_of(lm_of(raw_config(128, 4), "q4")), 967, 1518),
    "four talks": (lambda: frame_of(lm_of(raw_config(64, 4)), batch=4), 806, 1670),
    "listening": (lambda: frame_of(lm_of(listening_config(64, 4)), **GREEDY), 178, 286),
    "speaking": (lambda: spoken(lm_of(speaking_config(64, 4)), **GREEDY), 1525, 2383),
}


@pytest.mark.parametrize("name", FRAMES)
def test_kernels_of_a_frame_at_full_layer_counts(name: str) -> None:
    make, most, most_nodes = FRAMES[name]
    found, looks = make().counts()
    kernels = sum(found.values())
    print(name, kernels, "kernels,", looks, "views")
    assert COPY not in found and "Load" not in found
    assert kernels <= most and kernels + looks <= most_nodes


def test_four_talks_cost_hardly_more_kernels_than_one() -> None:
    lm = lm_of(raw_config(64, 4))
    one, four = (sum(frame_of(lm, batch=n).counts()[0].values()) for n in (None, 4))
    assert four <= 1.05 * one
