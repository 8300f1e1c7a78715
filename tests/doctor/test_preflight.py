"""Before a download: what the doctor knows about one model on any Mac."""

import re
from dataclasses import replace

import pytest

from app.doctor.preflight import preflight
from app.options.model import announce_download
from moshi_mlx import hub
from tests.support.fakes.doctor_machines import (
    LINUX,
    M1_8GB,
    M1_MAX,
    M2_AIR,
    M4_MAX,
    ROSETTA,
    VM_WITHOUT_METAL,
)
from tests.support.models.recipe_models import seven_b


@pytest.mark.parametrize(
    ("model", "facts", "answer", "says"),
    [
        ("kyutai/moshiko-mlx-q4", M4_MAX, "yes", ""),
        ("kyutai/moshika-mlx-q8", M1_MAX, "yes", ""),
        ("kyutai/moshiko-mlx-q4", M2_AIR, "tight", "moshi bench"),
        ("kyutai/moshiko-mlx-q8", M2_AIR, "no", "choose q4"),
        ("kyutai/moshiko-mlx-q4", M1_8GB, "no", "needs 7.5 GB"),
        ("kyutai/moshiko-mlx-bf16", M2_AIR, "no", "memory"),
        ("kyutai/moshiko-mlx-q4", ROSETTA, "no", "Rosetta"),
        ("kyutai/moshiko-mlx-q4", VM_WITHOUT_METAL, "no", "Metal"),
        ("kyutai/moshiko-mlx-q4", LINUX, "no", "CPU"),
        ("kyutai/moshiko-mlx-q4", replace(M4_MAX, disk_free_bytes=10**9), "no", "HF_HOME"),
        ("kyutai/moshiko-mlx-q4", replace(M4_MAX, kyutai_package="0.3.0"), "no", "uninstall"),
        ("kyutai/moshiko-mlx-q4", replace(M4_MAX, chip="Apple M9 Hyper"), None, ""),
        ("nano", M1_8GB, "yes", ""),
        ("nano", LINUX, "yes", ""),
        ("somebody/something", M4_MAX, None, ""),
    ],
)
def test_preflight(model, facts, answer, says):
    found = preflight(model, facts)
    assert found.answer == answer
    assert says in " ".join(found.lines)
    assert found.keeps_up == (answer != "no")
    if answer == "yes":
        assert found.lines == ()


def test_preflight_counts_a_kv_cache_in_8_bit():
    """It halves what a frame reads of the cache (1.57 GB at full context), and its memory."""
    wide, narrow = (preflight("kyutai/moshiko-mlx-q8", M2_AIR, bits) for bits in (16, 8))
    read = [float(re.search(r"reading ([\d.]+) GB", p.lines[-1])[1]) for p in (wide, narrow)]
    assert read[0] - read[1] == pytest.approx(0.73, abs=0.11)
    tight = replace(M1_8GB, mlx=replace(M1_8GB.mlx, working_set_bytes=7_000_000_000))
    assert preflight("kyutai/moshiko-mlx-q4", tight).answer == "no"
    assert "memory" not in " ".join(preflight("kyutai/moshiko-mlx-q4", tight, 8).lines)


def test_a_complete_model_needs_no_disk():
    here = {"kyutai/moshiko-mlx-q4": "complete"}
    facts = replace(M4_MAX, disk_free_bytes=10**9, models=here)
    assert preflight("kyutai/moshiko-mlx-q4", facts).answer == "yes"


def test_preflight_of_a_folder_reads_its_config_and_its_size(tmp_path):
    folder = seven_b(tmp_path / "x", "q8")
    assert preflight(folder, M4_MAX).answer == "yes"
    assert preflight(folder, M2_AIR).answer == "no"
    (folder / "config.json").write_text("{broken")
    assert preflight(folder, M4_MAX).answer is None
    (tmp_path / "model.q8.safetensors").write_bytes(b"")
    assert preflight(tmp_path, M4_MAX).answer is None  # nothing in it


def test_preflight_asks_this_machine_itself_and_is_quick(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert preflight("kyutai/moshiko-mlx-q4").answer in ("yes", "tight", "no", None)


def test_a_download_is_announced_with_what_the_model_will_be_like_here(capsys):
    """That no byte was fetched by then, tests/talk/test_chat_preflight.py sees in the command."""
    sizes = {"model.q8.safetensors": 8_170_000_000}
    download = hub.Download("kyutai/moshiko-mlx-q8", "abc", "cc-by-4.0", sizes, 8_170_000_000)
    announce_download(16, download, M2_AIR)
    said = capsys.readouterr().err
    assert "8.17 GB to download" in said
    assert "q8: no" in said and "choose q4" in said
    announce_download(8, download, M2_AIR)
    other = capsys.readouterr().err
    assert "8.17 GB to download" in other and other != said
