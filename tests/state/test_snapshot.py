"""A conversation's snapshot: it goes on as if never interrupted, or is refused in one line."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import moshi_mlx
from moshi_mlx.errors import MoshiError
from moshi_mlx.generator import LmGenerator
from moshi_mlx.lm.model import Lm
from moshi_mlx.lm.sampling import samplers
from moshi_mlx.tensor_files.header import read_header
from tests.support.models.lm_goldens import GOLDEN, GREEDY, conditions, guidance, model
from tests.support.models.lm_goldens import tensors as tensors_of
from tests.support.models.loaded import nano
from tests.support.talks.lm_talks import said, steps, user_codes

ROOT = Path(__file__).parents[2]
PERSONA = GOLDEN / "persona"
AFTER = 14  # frames: more than the context of each of the goldens' models but one


def assert_same(one: LmGenerator, other: LmGenerator, user: np.ndarray) -> None:
    np.testing.assert_array_equal(said(steps(one, user)), said(steps(other, user)))


def check_goes_on(lm: Lm, before: int, tmp_path: Path, **options: Any) -> None:
    """The uninterrupted conversation against those of a snapshot, kept and read from a file."""
    user, path = user_codes(lm, before + AFTER), tmp_path / "talk.safetensors"
    generator, twin = (lm.generator(**options) for _ in range(2))
    for both in (generator, twin):
        steps(both, user[:before])
    state = generator.snapshot()
    state.save(path)
    want = said(steps(twin, user[before:]))
    np.testing.assert_array_equal(said(steps(generator, user[before:])), want)
    for source in (state, path):
        resumed = lm.resume(source)
        assert (resumed.seed, resumed.steps) == (generator.seed, before)
        np.testing.assert_array_equal(said(steps(resumed, user[before:])), want)


@pytest.mark.parametrize("options", [GREEDY, {"text_temperature": 0.9, "audio_top_k": 7}])
@pytest.mark.parametrize("before", [0, 1, 7, 10, 24])
def test_it_goes_on_below_and_above_the_context(before: int, options: dict, tmp_path: Path) -> None:
    lm = model("lm_moshi")
    assert lm.config.transformer.context == 10
    check_goes_on(lm, before, tmp_path, seed=7, **options)


@pytest.mark.parametrize("before", [5, 24])
def test_with_keys_and_values_in_8_bit(before: int, tmp_path: Path) -> None:
    check_goes_on(nano().lm, before, tmp_path, seed=1, kv_bits=8)


@pytest.mark.parametrize("name", ["lm_tts", "lm_stt", "cfg_hibiki", "cfg_tts"])
def test_with_conditions_guidance_and_without_a_depth_transformer(
    name: str, tmp_path: Path
) -> None:
    options = {"conditions": conditions(name, "voice")} if name == "lm_tts" else {}
    if name.startswith("cfg"):
        options = {**guidance(name), "cfg_coef": 2.0, "masked_until": 3}
    for before in (4, 15):
        check_goes_on(model(name), before, tmp_path, seed=3, **options)


@pytest.mark.parametrize("mode", ["merged", "beside"])
def test_with_an_adapter_and_only_with_it(mode, tmp_path: Path) -> None:
    base, lora = PERSONA / "base", PERSONA / "lora" / "lora.safetensors"
    lm = moshi_mlx.load_lm(base, dtype="float32", lora=lora, lora_mode=mode)
    check_goes_on(lm, 30, tmp_path, seed=2)
    with pytest.raises(MoshiError, match="another model, or another adapter") as caught:
        moshi_mlx.load_lm(base, dtype="float32").resume(tmp_path / "talk.safetensors")
    assert "\n" not in str(caught.value)


def test_samplers_of_ones_own_are_given_again() -> None:
    lm, user = model("lm_moshi"), user_codes(model("lm_moshi"), 20)
    draws = samplers(lm.config.sampling)
    generator = lm.generator(seed=4, draws=draws)
    steps(generator, user[:10])
    state = generator.snapshot()
    with pytest.raises(MoshiError, match="resume it with draws="):
        lm.resume(state)
    resumed = lm.resume(state, draws=draws)
    np.testing.assert_array_equal(
        said(steps(resumed, user[10:])), said(steps(generator, user[10:]))
    )


@pytest.mark.parametrize("guided", [False, True])
def test_a_conversation_leaves_a_batch_and_enters_another(guided: bool) -> None:
    name = "cfg_hibiki" if guided else "lm_moshi"
    lm, options = model(name), {}
    if guided:
        options = {**guidance(name), "cfg_coef": 2.0}
    user = user_codes(lm, 38)
    alone = said(steps(lm.generator(seed=11, **GREEDY, **options), user))
    batch = lm.generator(batch=3, seed=[1, 11, 2], **GREEDY, **options)
    for codes in user[:15]:
        batch.step(np.stack([codes * 0, codes, codes * 0 + 1]))
    state = batch.snapshot(1)
    np.testing.assert_array_equal(said(steps(lm.resume(state), user[15:])), alone[15:])
    other = lm.generator(batch=2, seed=5, **GREEDY, **options)
    for codes in user[:3]:
        other.step(np.stack([codes, codes]))
    other.leave(0)
    other.resume(0, state)
    found = [other.step(np.stack([codes, codes * 0]))[0] for codes in user[15:]]
    np.testing.assert_array_equal(said([s for s in found if s is not None]), alone[15:])
    assert len(found) == 23 and other.steps == [38, 26]
    batch.leave(2)
    for call in (lambda: batch.snapshot(2), lambda: batch.resume(1, state)):
        with pytest.raises(MoshiError, match=r"slot 2 is empty|slot 1 holds a conversation"):
            call()


def test_a_warm_up_after_resuming_changes_nothing() -> None:
    lm = moshi_mlx.load_lm(PERSONA / "base", dtype="float32")
    user = user_codes(lm, 40)
    generator = lm.generator(seed=1, text_temperature=0.0)
    steps(generator, user[:15])
    resumed = lm.resume(generator.snapshot())
    lm.functions.of(samplers(resumed.sampling)).warm.clear()
    resumed.warm_up()
    np.testing.assert_array_equal(
        said(steps(resumed, user[15:])), said(steps(generator, user[15:]))
    )


PROCESS = """
import sys
import moshi_mlx
from tests.support.talks.lm_talks import said, steps, user_codes
lm = moshi_mlx.load_lm(sys.argv[1], dtype="float32")
print(said(steps(lm.resume(sys.argv[2]), user_codes(lm, 40)[20:])).tolist())
"""


def test_another_process_goes_on(tmp_path: Path) -> None:
    lm, user = model("lm_moshi"), user_codes(model("lm_moshi"), 40)
    generator = lm.generator(seed=6)
    steps(generator, user[:20])
    generator.snapshot().save(tmp_path / "x")
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, str(GOLDEN / "lm_moshi"), str(tmp_path / "x")],
        **{"capture_output": True, "text": True, "cwd": ROOT, "check": True},
    )
    np.testing.assert_array_equal(json.loads(done.stdout), said(steps(generator, user[20:])))


def test_only_live_slots_are_written(tmp_path: Path) -> None:
    lm = nano().lm
    generator = lm.generator(seed=0)
    steps(generator, user_codes(lm, 3))
    state = generator.snapshot()
    state.save(tmp_path / "x")
    context = lm.config.transformer.context or 0
    assert state.nbytes == lm.new_buffers().nbytes() * 3 // context
    assert state.nbytes < (tmp_path / "x").stat().st_size < state.nbytes + 20_000


# ---- what is refused


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    lm = model("lm_moshi")
    generator = lm.generator(seed=6)
    steps(generator, user_codes(lm, 14))
    path = tmp_path_factory.mktemp("state") / "talk.safetensors"
    generator.snapshot().save(path)
    return path


def changed(saved: Path, target: Path, facts: dict | None = None, **tensors) -> Path:
    """The file with other facts or tensors (None: left out)."""
    arrays, metadata = tensors_of(saved), read_header(saved).metadata
    said = {**json.loads(metadata["moshi-local"]), **(facts or {})}
    for name, change in tensors.items():
        name = name.replace("_", ".")
        arrays[name] = change(arrays[name]) if name in arrays else change(None)
    kept = {name: array for name, array in arrays.items() if array is not None}
    mx.save_safetensors(str(target), kept, {"moshi-local": json.dumps(said)})
    return target


def with_facts(facts: bytes) -> bytes:
    """A file without tensors."""
    header = b'{"__metadata__":{"moshi-local":"' + facts + b'"}}'
    return struct.pack("<Q", len(header)) + header


def put(value):
    """The line with a token that there isn't, everywhere."""
    return lambda line: mx.full(line.shape, value, mx.int32)


@pytest.mark.parametrize(
    ("facts", "tensors", "message"),
    [
        ({"version": 99}, {}, "written by another version"),
        ({"kind": "prompt"}, {}, "is a prompt; give it to prompt_from"),
        ({"kind": "session"}, {}, "a talk with its sound; give it to moshi.resume"),
        ({"kind": ["x"]}, {}, "is no prompt or snapshot"),
        (
            {"dtype": "bfloat16"},
            {},
            'in float32: load it with dtype="bfloat16"',
        ),
        ({"dtype": "float99"}, {}, "its dtype is none"),
        ({"model": "0" * 64}, {}, "another model, or another adapter"),
        ({"kv_bits": 8}, {}, "this model can't have its kv_bits"),
        ({"kv_bits": 4}, {}, "kv_bits is out of range"),
        ({"kv_bits": "16"}, {}, "kv_bits is not one"),
        ({"step": -1}, {}, "step is out of range"),
        ({"step": 2**31}, {}, "step is out of range"),
        ({"step": True}, {}, "step is not one"),
        ({"slots": 3}, {}, "slots is out of range"),
        ({"slots": 10**9, "step": 10**9}, {}, "slots is out of range"),
        ({"seed": 2**32}, {}, "seed is out of range"),
        ({"pinned": 10}, {}, "pinned is out of range"),
        ({"given": 1}, {}, "lacks given"),
        ({"given": 10**9}, {}, "given is out of range"),
        ({"prompt_frames": 99}, {}, "prompt_frames is out of range"),
        ({"sampling": {"temperature": 1}}, {}, "sampling is none"),
        ({"sampling": {"text_temperature": float("nan")}}, {}, "sampling is none"),
        ({"guidance": {"coef": float("inf"), "no_text": True, "masked_until": 1}}, {}, "guidance"),
        ({"guidance": 3}, {}, "guidance"),
        ({"own_draws": 1}, {}, "own_draws is not one"),
        ({}, {"line": put(10**6)}, "tokens that there are none of"),
        ({}, {"line": put(-3)}, "tokens that there are none of"),
        ({}, {"line": put(-2)}, "tokens that it goes on with are missing"),
        ({}, {"line": put(40)}, "can't be decoded"),
        ({}, {"line": lambda a: a[:-1]}, "line has another shape"),
        ({}, {"line": lambda a: a.astype(mx.float32)}, "line has another shape or type"),
        ({}, {"slots_0_0": lambda a: a[..., :1]}, "slots.0.0 has another shape"),
        ({}, {"slots_0_0": lambda a: a.astype(mx.bfloat16)}, "slots.0.0 has another shape or type"),
        ({}, {"slots_0_0": lambda a: a * mx.inf}, "NaN or infinity"),
        ({}, {"slots_1_0": lambda a: None}, "lacks slots.1.0"),
        ({}, {"slots_9_0": lambda a: mx.zeros(1)}, "no use for"),
    ],
)
def test_what_cannot_be_is_one_line(saved, tmp_path, facts, tensors, message) -> None:
    lm = model("lm_moshi")
    assert lm.config.card == 40
    path = changed(saved, tmp_path / "bad.safetensors", facts, **tensors)
    with pytest.raises(MoshiError, match=message) as caught:
        lm.resume(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty file; choose another"),
        (b"RIFF" + bytes(40), "is a sound file; choose another"),
        (b"PK\x03\x04" + b"x" * 100, "can't be gone on from"),
        (struct.pack("<Q", 2) + b"{}", "is no prompt or snapshot"),
        (
            struct.pack("<Q", 38) + b'{"__metadata__":{"moshi-local":"no"}} ',
            "can't be read as JSON",
        ),
        (struct.pack("<Q", 38) + b'{"__metadata__":{"moshi-local":"[]"}} ', "one JSON object"),
    ],
)
def test_other_files_are_one_line(tmp_path, content, message) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(MoshiError, match=message) as caught:
        model("lm_moshi").resume(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_cut_short_or_of_weights_is_one_line(saved, tmp_path) -> None:
    lm, path = model("lm_moshi"), tmp_path / "cut"
    with pytest.raises(MoshiError, match="there is no file"):
        lm.resume(tmp_path / "none")
    path.write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(MoshiError, match="is cut short"):
        lm.resume(path)
    with pytest.raises(MoshiError, match="weights; load its folder"):
        lm.resume(GOLDEN / "lm_moshi" / "model.safetensors")
    with pytest.raises(MoshiError, match="is a folder; give a file"):
        lm.resume(GOLDEN)


def test_a_full_disk_and_a_missing_folder_are_one_line(tmp_path) -> None:
    state = model("lm_moshi").generator(seed=0).snapshot()
    for path in (tmp_path / "none" / "x", Path("/dev/full")):
        with pytest.raises(MoshiError, match="can't be written"):
            state.save(path)
    assert list(tmp_path.iterdir()) == []


def test_another_models_snapshot_is_refused(saved) -> None:
    with pytest.raises(MoshiError, match="made with another model") as caught:
        moshi_mlx.load_lm(PERSONA / "base", dtype="float32").resume(saved)
    assert "\n" not in str(caught.value)
    half = moshi_mlx.load_lm(GOLDEN / "lm_moshi", dtype="bfloat16")
    with pytest.raises(MoshiError, match='load it with dtype="float32"'):
        half.resume(saved)


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_random_damage_is_one_line_or_harmless(saved, tmp_path, data) -> None:
    """Bytes of the header or of the tensors; what is still read can be gone on from."""
    damaged, lm = bytearray(saved.read_bytes()), model("lm_moshi")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, 2500) | st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged").write_bytes(damaged)
    try:
        resumed = lm.resume(tmp_path / "damaged")
    except MoshiError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
    else:
        steps(resumed, user_codes(lm, 3))
