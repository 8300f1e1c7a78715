"""A slow disk: what is read is read by itself; nothing that a GPU computes waits for it."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

import moshi_mlx
from moshi_mlx.hub import NANO
from moshi_mlx.mimi.loading import config_beside, load_mlx_mimi
from tests.support.models.mimi_goldens import ALL, TINY

GOLDEN = Path(__file__).parents[1] / "golden"
NODE = re.compile(r'\[label ="([^"]+)", shape=rectangle\]')


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[str]]]:
    """The operations that each `mx.eval` of the test submits."""
    seen: list[set[str]] = []
    evaluate = mx.eval

    def watched(*trees: object) -> None:
        arrays = [a for _, a in tree_flatten(list(trees)) if isinstance(a, mx.array)]
        text = io.StringIO()
        mx.export_to_dot(text, *arrays)
        seen.append(set(NODE.findall(text.getvalue())))
        evaluate(*trees)

    monkeypatch.setattr(mx, "eval", watched)
    yield seen


def mimi() -> None:
    load_mlx_mimi(TINY, config_beside(TINY), ALL, mx.float32)


LOADS: list[Callable[[], object]] = [
    lambda: moshi_mlx.load_lm(NANO, dtype="bfloat16"),  # cast
    lambda: moshi_mlx.load_lm(GOLDEN / "lm_moshi"),  # PyTorch's layout, cut apart
    lambda: moshi_mlx.load_lm(GOLDEN / "kyutai_q4"),  # stacked
    lambda: moshi_mlx.load_helium(GOLDEN / "helium"),
    mimi,
]


@pytest.mark.parametrize("load", LOADS)
def test_no_operation_is_submitted_with_the_reading_of_its_input(load, evaluations) -> None:
    load()
    reads = [operations for operations in evaluations if "Load" in operations]
    assert reads
    assert all(operations == {"Load"} for operations in reads), reads


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_loading_holds_a_model_once(dtype: str) -> None:
    """Each tensor as read is let go of when the model's own is there; tables twice while joined."""
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    lm = moshi_mlx.load_lm(NANO, dtype=dtype)
    peak = mx.get_peak_memory() - before
    weights = sum(a.nbytes for _, a in tree_flatten(lm.parameters()))
    tables = lm.audio_emb.emb.weight.nbytes + lm.depth.linear_in.weight.nbytes
    assert peak <= weights + 3 * tables
