"""moshi quantize as a process of its own: stopped in the middle, and how much memory it takes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.cli import main
from benchmarks import quantize as benchmark
from tests.support.models.quantize_models import RAW_CONFIG, write_model

ROOT = Path(__file__).parents[2]
# Slow enough to be met in the middle, whatever the machine.
SLOWLY = """
import sys, time
from quantize.checkpoint import convert
honest = convert._write
def slowly(writer, *rest):
    honest(writer, *rest)
    writer._file.flush()
    time.sleep(0.02)
convert._write = slowly
from app.cli import main
sys.exit(main(["quantize", *sys.argv[1:]]))
"""


def slowly(*args):
    command = [sys.executable, "-c", SLOWLY, *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_no_target_and_the_next_one_is_whole(tmp_path, how):
    write_model(tmp_path / "source", RAW_CONFIG | {"num_layers": 4})
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert main(["quantize", str(tmp_path / "source"), str(whole)]) == 0
    process = slowly(tmp_path / "source", out)
    weights = tmp_path / ".out.partial" / "model.q4.safetensors"
    size = (whole / weights.name).stat().st_size
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if weights.exists() and weights.stat().st_size > size / 3:
            break
        time.sleep(0.005)
    process.send_signal(how)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    if how == signal.SIGINT:
        assert "interrupted: the same command goes on from here" in said
    assert not out.exists() and 0 < weights.stat().st_size < size
    assert main(["quantize", str(tmp_path / "source"), str(out)]) == 0
    for name in (weights.name, "config.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["out", "source", "whole"]


MEASURE = """
import json, sys
from pathlib import Path
from benchmarks import quantize as b
source, target, before = Path(sys.argv[1]), Path(sys.argv[2]), b.anonymous_bytes()
found = b.measured(source, target, "q4")
print(json.dumps(found | {"before": before}))
"""


@pytest.mark.skipif(not benchmark.STATUS.exists(), reason="RssAnon is Linux's")
def test_memory_does_not_grow_with_the_source(tmp_path):
    """Two sources, 35 and 160 MB: the larger may take a few more blocks, not its size."""
    peaks = []
    for name, layers in (("small", 2), ("large", 10)):
        raw = RAW_CONFIG | {"dim": 1024, "num_layers": layers, "hidden_scale": 1.5}
        benchmark.write_random(tmp_path / name, raw | {"num_heads": 8})
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path / name), str(tmp_path / f"{name}-out")],
            **{"cwd": ROOT, "check": True, "capture_output": True, "text": True},
        )
        found = json.loads(done.stdout.splitlines()[-1])
        peaks.append(found["peak_anonymous_bytes"] - found["before"])
        size = found["source_bytes"]
    assert size > 140e6
    assert peaks[1] < size / 1.5 and peaks[1] - peaks[0] < size / 4
