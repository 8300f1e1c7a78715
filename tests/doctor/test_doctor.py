"""The doctor on any Mac: what its lines say, what leaves the machine, and that it never fails."""

import json
import time
from dataclasses import replace

import pytest
from rich.console import Console

from app import cli
from app.commands import doctor
from app.doctor.checks import OK, PROBLEM, WARNING, Finding, check
from app.doctor.report import as_json, conclusion, show, speed_line
from app.doctor.speed import TIMEOUT_S, Speed, time_parts
from app.machine import verdict
from app.machine.facts import GATHER_TIMEOUT_S, Audio
from moshi_mlx.codec.rust import FRAMES_MAX, talk_bytes
from tests.support.fakes.commands import parsed
from tests.support.fakes.doctor_machines import (
    AIRPODS,
    ALL,
    CUDA,
    LINUX,
    M1_8GB,
    M2_AIR,
    M4_MAX,
    NO_MICROPHONE,
    NO_NETWORK,
    ROSETTA,
    VM_WITHOUT_METAL,
)

FAST = Speed(layer_ms=0.35, slice_ms=0.6, rest_ms=1.0, codec_ms=6.0, frames=120)


def levels(facts) -> dict[str, str]:
    return {line.title: line.level for line in check(facts)}


def line_of(facts, title: str) -> Finding:
    return next(line for line in check(facts) if line.title == title)


def test_a_healthy_mac_has_only_ok_lines():
    assert set(levels(M4_MAX).values()) == {OK}
    assert "Ready" in conclusion(check(M4_MAX))


@pytest.mark.parametrize(
    ("facts", "title", "level", "says"),
    [
        (replace(M2_AIR, os_version="13.6"), "machine", PROBLEM, "macOS 14"),
        (replace(M2_AIR, os_version="14.7"), "machine", WARNING, "before macOS 15"),
        (ROSETTA, "python", PROBLEM, "Rosetta"),
        (replace(M2_AIR, python="3.10.4"), "python", PROBLEM, "3.11"),
        (replace(M2_AIR, python="3.15.0"), "python", PROBLEM, "3.14"),
        (ROSETTA, "mlx", PROBLEM, "pip install mlx"),
        (VM_WITHOUT_METAL, "mlx", PROBLEM, "virtual machines"),
        (VM_WITHOUT_METAL, "machine", WARNING, "outside"),
        (LINUX, "mlx", WARNING, "CPU"),
        (CUDA, "mlx", OK, ""),
        (CUDA, "machine", OK, ""),
        (M1_8GB, "memory", PROBLEM, "nano"),
        (M2_AIR, "memory", OK, ""),
        (replace(M2_AIR, memory_free_bytes=2 * 10**9), "memory", WARNING, "close"),
        (replace(M2_AIR, memory_bytes=None, mlx=LINUX.mlx), "memory", WARNING, "16 GB"),
        (replace(M2_AIR, memory_pressure="critical"), "other programs", WARNING, "close"),
        (replace(M2_AIR, swap_used_bytes=9 * 2**30), "other programs", WARNING, "restart"),
        (replace(M2_AIR, disk_free_bytes=10**9), "disk", PROBLEM, "HF_HOME"),
        (replace(M2_AIR, kyutai_package="0.3.0"), "packages", PROBLEM, "pip uninstall moshi_mlx"),
        (NO_MICROPHONE, "microphone", PROBLEM, "connect"),
        (replace(M2_AIR, microphone="denied"), "microphone", PROBLEM, "Privacy"),
        (replace(M2_AIR, microphone="not asked"), "microphone", WARNING, "allow"),
        (replace(M2_AIR, audio=AIRPODS), "microphone", WARNING, "Bluetooth"),
        (replace(M2_AIR, audio=AIRPODS), "speaker", OK, ""),
        (replace(M2_AIR, audio=Audio(why="no sound device")), "speaker", PROBLEM, "connect"),
        (NO_NETWORK, "network", WARNING, "complete models"),
        (replace(M2_AIR, offline=True), "network", WARNING, "unset"),
        (replace(M2_AIR, models={"a/b": "partial"}), "models", WARNING, "goes on"),
        (replace(M2_AIR, models={"a/b": "complete"}), "models", OK, ""),
    ],
)
def test_each_trouble_has_its_line_and_its_remedy(facts, title, level, says):
    line = line_of(facts, title)
    assert line.level == level
    assert says in line.advice


def test_headphones_and_open_speakers_are_told_apart():
    assert "headphones" in line_of(replace(M2_AIR, audio=AIRPODS), "speaker").text
    assert "echo cancellation" in line_of(M2_AIR, "speaker").text


def test_memory_says_what_each_recipe_needs():
    text = line_of(M2_AIR, "memory").text
    assert "q4 7.5 GB fits" in text and "bf16 18.0 GB no" in text and "rustymimi" not in text
    text = line_of(replace(M2_AIR, rustymimi=True), "memory").text
    assert verdict.RUSTYMIMI_BYTES == talk_bytes(FRAMES_MAX) == talk_bytes(10**6)
    assert text.endswith("; 1.8 GB more after four minutes of talk with the codec rustymimi")


@pytest.mark.parametrize("name", ALL)
def test_the_screen_fits_one_terminal_on_every_machine(name):
    lines = [*check(ALL[name]), speed_line(FAST)]
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(lines, console)
    text = console.export_text()
    assert len(text.splitlines()) <= 40
    for line in lines:
        assert line.title in text


def test_speed_of_a_fast_mac_is_yes_with_headroom():
    verdicts = {v.recipe: v for v in FAST.verdicts}
    assert verdicts["q4"].answer == "yes" and verdicts["q4"].headroom_ms > 30
    assert FAST.bandwidth_gb_s == pytest.approx(128.45e6 / 0.35 / 1e6, rel=0.01)
    line = speed_line(FAST)
    assert line.level == OK and line.text.startswith("q4: yes, about ")


def test_more_bytes_make_a_slower_frame():
    times = [FAST.frame_ms(recipe) for recipe in ("q4", "q6", "q8", "bf16")]
    assert times == sorted(times) and len(set(times)) == 4
    assert FAST.frame_ms("q4", 0) < FAST.frame_ms("q4")


def test_parts_are_timed_by_differences():
    """Layers of 0.5 ms and slices of 0.25 beside 2 ms of the rest come out as they went in."""
    speed = time_parts(
        False,
        lm_ms=lambda layers, slices, *_: (2 + layers / 2 + slices / 4, 10),
        codec_ms=lambda _: (5.0, 10),
        pace=lambda frame_ms, *_: frame_ms / 5,
    )
    assert (speed.layer_ms, speed.slice_ms, speed.rest_ms) == (0.5, 0.25, 2.0)
    assert speed.lm_ms == 32 * 0.5 + 8 * 0.25 + 2.0
    assert speed.paced_ratio == pytest.approx((speed.lm_ms + 5.0) / 5)


@pytest.mark.parametrize(("gpu", "dtype"), [(False, "float32"), (True, "bfloat16")])
def test_parts_are_timed_as_their_device_runs_them(gpu, dtype):
    """In bf16 with a compiled codec on a GPU; a CPU would emulate the one, and call a compiler."""
    asked = []

    def lm_ms(layers, slices, of, pool):
        asked.append(of)
        return (3.0 + layers / 100, 2)

    def codec_ms(compiled):
        asked.append(compiled)
        return (4.0, 2)

    def pace(frame_ms, of, pool):
        asked.append(of)
        return 1.0

    time_parts(gpu, lm_ms, codec_ms, pace)
    assert asked == [dtype, dtype, dtype, gpu, dtype]


def test_a_hopeless_machine_is_told_after_one_model():
    asked = []
    speed = time_parts(False, lm_ms=lambda *a: asked.append(a) or (400.0, 2))
    assert len(asked) == 1
    assert speed.layer_ms + speed.slice_ms + speed.rest_ms == pytest.approx(400.0)
    assert {v.answer for v in speed.verdicts} == {"no"}


# --- what leaves the machine -------------------------------------------------------------------

PERSONAL = replace(
    M2_AIR,
    audio=replace(AIRPODS, why="/Users/ada/lib/libportaudio.dylib: not found"),
    big_processes=(("Lovelace Notes", 2**31),),
    memory_pressure="warning",
    models={"kyutai/moshiko-mlx-q4": "complete"},
)


def test_the_json_for_bug_reports_names_nobody():
    lines = [*check(PERSONAL), speed_line(FAST)]
    text = json.dumps(as_json(PERSONAL, lines, FAST))
    for secret in ("Ada", "ada", "Lovelace", "Users", "Notes", "portaudio", "AirPods"):
        assert secret not in text
    assert "kyutai/moshiko-mlx-q4" in text  # public


def test_the_real_report_holds_no_name_and_no_path(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "secret-cache"))
    monkeypatch.setenv("USER", "ada_lovelace")
    status = cli.main(["doctor", "--json", "--quick", "--offline"])
    out = capsys.readouterr().out
    report = json.loads(out)
    assert report["schema"] == "moshi-doctor" and report["schema_version"] == 1
    assert status == (1 if report["worst"] == PROBLEM else 0)
    import getpass
    import socket
    from pathlib import Path

    secrets = [str(Path.home()), str(Path.cwd()), str(tmp_path), f'"{socket.gethostname()}"']
    assert [secret for secret in secrets if secret in out] == []
    assert "ada_lovelace" not in out and f'"{getpass.getuser()}"' not in out


# --- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "within_s", [200.0, pytest.param(TIMEOUT_S + GATHER_TIMEOUT_S, marks=pytest.mark.long)]
)
def test_doctor_works_with_no_model_no_audio_and_no_network_in_time(
    capsys, monkeypatch, tmp_path, within_s
):
    """The bar: under 10 s on an idle machine, whatever is missing."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    assert cli.main(["doctor"]) in (0, 1)  # what else is wrong here isn't this test's
    assert time.monotonic() - start < within_s
    out = capsys.readouterr().out
    assert "speed" in out and "microphone" in out


@pytest.mark.parametrize("name", ALL)
def test_doctor_runs_on_every_machine(name, capsys):
    facts = ALL[name]
    status = doctor.run(parsed(doctor), lambda *_, **__: facts, measure=lambda: FAST)
    said = capsys.readouterr().out
    assert "memory" in said and status == (1 if "to solve before" in said else 0)


@pytest.mark.parametrize(("facts", "status"), [(M4_MAX, 0), (VM_WITHOUT_METAL, 1)])
def test_the_status_says_whether_there_is_a_problem_to_solve(facts, status, capsys):
    for options in ((), ("--json",)):
        args = parsed(doctor, "--quick", *options)
        assert doctor.run(args, lambda *_, **__: facts) == status


def test_no_speed_test_where_mlx_does_not_start_or_memory_is_short():
    def measure():
        pytest.fail("must not be measured")

    assert doctor.test_speed(VM_WITHOUT_METAL, measure)[0] is None
    speed, why = doctor.test_speed(replace(M2_AIR, memory_free_bytes=10**9), measure)
    assert speed is None and "1.0 GB" in why


def test_a_speed_test_that_dies_is_a_warning():
    speed, why = doctor.test_speed(M2_AIR, lambda: None)
    line = speed_line(speed, why)
    assert line.level == WARNING and "moshi bench" in line.advice


def test_json_to_a_file_and_to_an_unwritable_place(tmp_path, capsys):
    target = tmp_path / "report.json"
    args = parsed(doctor, "--quick", "--json", str(target))
    assert doctor.run(args, gather=lambda *_, **__: M2_AIR) == 0
    assert json.loads(target.read_text())["machine"]["chip"] == "Apple M2"
    assert cli.main(["doctor", "--quick", "--json", str(tmp_path / "no" / "r.json")]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and len(error.splitlines()) == 1 and "written" in error
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
