"""How people get it: nothing that we tell them to run installs what isn't ours."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from app.machine import verdict
from moshi_mlx.config.presets import raw_preset
from moshi_mlx.config.reading import parse_config

ROOT = Path(__file__).parents[2]
TOLD = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "app").rglob("*.py"),
    *(ROOT / "moshi_mlx").rglob("*.py"),
    *(ROOT / "quantize").rglob("*.py"),
]
INSTALLS = re.compile(
    r"(?:pip3?|pipx|uvx?|conda|brew)[^\n`]*?\b(?:install|run|--from|inject)\b([^\n`]*)"
)
OWNED_REPOSITORIES = ("kyutai-labs/", "ml-explore/", "astral-sh/", "huggingface/")


@pytest.mark.parametrize("path", TOLD, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_command_installs_what_is_not_ours(path):
    text = path.read_text(encoding="utf-8")
    for found in INSTALLS.finditer(text):
        assert "moshi-local" not in found[1] and "git+" not in found[0], found[0]
    for link in re.finditer(r"github\.com/([\w.-]+/)", text):
        assert link[1] in OWNED_REPOSITORIES, link[0]


def test_the_readme_installs_from_the_clone():
    text = (ROOT / "README.md").read_text()
    assert "uv tool install ." in text and "moshi doctor" in text


def test_the_readme_says_what_the_doctor_knows():
    """Memory and disk of each recipe."""
    text, config = (ROOT / "README.md").read_text(), parse_config(raw_preset("moshi-7b"))
    (memory,) = re.findall(r"\| memory, free \|(.*)\|", text)
    (disk,) = re.findall(r"\| disk \|(.*)\|", text)
    for recipe, bits in (("q4", "4-bit model"), ("q6", "6 bits"), ("q8", "8"), ("bf16", "bf16")):
        need_gb = verdict.memory_need_bytes(config, recipe) / 1e9
        assert re.search(
            rf"{need_gb:.1f}".removesuffix(".0") + rf"( GB)? for (the )?{bits}", memory
        )
    for recipe, bits in (("q4", "4-bit model"), ("q8", "8 bits"), ("bf16", "bf16")):
        size_gb = verdict.download_bytes(config, recipe) / 1e9
        assert re.search(rf"{size_gb:.1f}( GB)? for (the )?{bits}", disk)
    assert "macOS 14" in text and "Apple silicon" in text and "headphones" in text


def test_one_script_whose_name_nobody_else_has():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert list(project["scripts"]) == ["moshi"]


def test_tested_versions_are_those_that_the_project_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {
        re.split(r"[<>=;\[ ]", entry)[0].lower() for entry in project["project"]["dependencies"]
    }
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = [line.split("==")[0].lower() for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines[1:])
    assert tested == sorted(tested) and names - {"numpy"} <= set(tested)
    optional = project["project"]["optional-dependencies"]
    extras = {re.split(r"[<>=;\[ ]", one)[0] for entry in optional.values() for one in entry}
    assert extras - {"pywebrtc-audio", "sphn"} <= set(tested)


def commands_of(workflow):
    text = (ROOT / ".github" / "workflows" / workflow).read_text()
    jobs = yaml.safe_load(text)["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_the_workflow_runs_what_the_makefile_has():
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M))
    made = [c.split()[1] for c in commands_of("tests.yml") if c.startswith("make ")]
    assert made == ["setup", "lint", "test", "demo"] and set(made) <= targets


def test_the_workflow_keeps_what_tells_of_the_machine():
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    steps = [step for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
    (kept,) = [step["with"]["path"].split() for step in steps if "upload" in step.get("uses", "")]
    assert kept == ["bench.json", "selftest.json", "doctor.json"]
    written = " ".join(command for command in commands_of("tests.yml") if "app.cli" in command)
    assert all(f" {file}" in written for file in kept)


@pytest.mark.parametrize("name", ["bench", "selftest", "doctor"])
def test_a_command_of_the_workflow_runs_here(name, tmp_path):
    (command,) = [c for c in commands_of("tests.yml") if f"app.cli {name}" in c]
    words = command.replace(" || true", "").split(" > ")[0].split()
    shorter = {"200": "5", f"{name}.json": str(tmp_path / f"{name}.json")}
    options = [shorter.get(word, word) for word in words[1:]]
    if name == "selftest":
        options.append("norms")  # one part is enough
    done = subprocess.run([sys.executable, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    assert name == "doctor" or (tmp_path / f"{name}.json").exists()
