"""The wheel: built, installed into a clean environment, every module imported, commands run there.

The clean environment borrows this one's dependencies (no network), but nothing of the checkout.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from app.cli import COMMANDS
from tests.support.extras import OPTIONAL

ROOT = Path(__file__).parent.parent
# Each first without the extras, as one that is None in `sys.modules` can't be imported.
IMPORT_ALL = """
import importlib, json, pkgutil, sys, moshi_mlx
names = ["moshi_mlx", *(m.name for m in pkgutil.walk_packages(moshi_mlx.__path__, "moshi_mlx."))]
extras, files, needing = sys.argv[1:], {}, []
sys.modules.update(dict.fromkeys(extras))
for name in names:
    if "__main__" not in name:
        try:
            files[name] = importlib.import_module(name).__file__
        except ImportError:
            needing.append(name)
for name in extras:
    del sys.modules[name]
files |= {name: importlib.import_module(name).__file__ for name in needing}
print(json.dumps({"files": files, "needing": needing}))
"""
# The program once for each command, in a process of its own that has all imports behind it.
HELP = """
import os, sys
from moshi_mlx.app.cli import COMMANDS, main, module_of
for command in COMMANDS:
    module_of(command)
for command in COMMANDS:
    if not os.fork():
        try:
            status = main([command, "--help"])
        except SystemExit as end:
            status = end.code
        sys.stdout.flush()
        os._exit(status or 0)  # to take all modules down in order costs more than all else
    if os.wait()[1]:
        sys.exit(f"{command} ended with an error")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("setuptools", reason="building needs setuptools (make setup installs it)")
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    for name in ("moshi_mlx", "app", "quantize"):  # a copy: builds leave folders behind
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder)]
    with (folder / "log").open("w") as log:
        subprocess.run([*pip, *options, str(copy)], check=True, timeout=200, stdout=log, stderr=log)
    (built,) = folder.glob("*.whl")
    return built


class Clean:
    """An environment that holds the wheel and, borrowed from this one, its dependencies."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python")]
        options = ["install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
        subprocess.run([*pip, *options, str(wheel)], check=True, timeout=200)

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def run(
        self, command: str, *arguments: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        # A path entry, unlike a site folder, brings no .pth files: not the editable checkout.
        borrowed = {"PYTHONPATH": sysconfig.get_paths()["purelib"], "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [str(self.bin / command), *arguments],
            **{"cwd": cwd or self.folder, "env": os.environ | borrowed, "timeout": 200},
            **{"capture_output": True, "text": True},
        )


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory) -> Clean:
    return Clean(tmp_path_factory.mktemp("clean") / "venv", wheel)


def test_building_warns_of_no_folder(wheel: Path) -> None:
    """A page of warnings was the first thing that `make setup` said."""
    assert "absent from" not in (wheel.parent / "log").read_text()


def test_the_wheel_installs_one_name_and_holds_all_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"moshi_mlx"}
    places = {"moshi_mlx": "moshi_mlx", "app": "moshi_mlx/app", "quantize": "moshi_mlx/quantize"}
    for folder, place in places.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{place}/{path.relative_to(ROOT / folder)}" in names
    assert any(name.endswith("LICENSE") for name in names)


def test_every_module_imports_from_the_wheel_and_all_but_two_without_the_extras(
    clean: Clean,
) -> None:
    done = clean.run("python", "-c", IMPORT_ALL, *OPTIONAL)
    assert done.returncode == 0, done.stderr
    files, needing = json.loads(done.stdout).values()
    assert {"moshi_mlx.app.cli", "moshi_mlx.quantize.cli", "moshi_mlx.mimi.model"} <= set(files)
    assert all(file.startswith(str(clean.folder)) for file in files.values())
    certificates = "moshi_mlx.app.web.certificates"
    assert set(needing) == {f"{certificates}.{name}" for name in ("authority", "self_made")}


def test_the_script_lists_the_commands(clean: Clean) -> None:
    done = clean.run("moshi", "--help")
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)
    assert re.fullmatch(r"moshi-local \d+\.\d+\.\d+\n", clean.run("moshi", "--version").stdout)


@pytest.mark.parametrize(
    ("module", "usage"), [("moshi_mlx", "moshi COMMAND"), ("moshi_mlx.quantize", "moshi quantize")]
)
def test_modules_are_commands_too(clean: Clean, module: str, usage: str) -> None:
    done = clean.run("python", "-m", module, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {usage}")


def test_every_command_has_its_help(clean: Clean) -> None:
    done = clean.run("python", "-c", HELP)
    assert done.returncode == 0 and not done.stderr, done.stderr
    told = re.findall(r"^usage: moshi ([\w-]+)", done.stdout, re.M)
    assert told == list(COMMANDS)


def test_the_doctor_and_the_selftest_find_mlx_from_within_a_checkout(clean: Clean) -> None:
    """Where people are who have just installed it: a folder with a moshi_mlx of its own."""
    done = clean.run("moshi", "selftest", "norms", "--json", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["ok"] and document["machine"]["backend"] is not None


def test_moshi_file_answers_with_the_model_in_the_wheel(clean: Clean) -> None:
    question = ROOT / "moshi_mlx" / "nano" / "samples" / "four_plus_three.wav"
    done = clean.run("moshi", "file", str(question), "out.wav", "--model", "nano", "--tail", "0")
    assert done.returncode == 0, done.stderr
    assert (clean.folder / "out.wav").stat().st_size > 10_000
    assert (clean.folder / "out.jsonl").is_file()


def test_kyutais_own_package_in_the_same_environment_is_told(clean: Clean) -> None:
    (theirs,) = [p for p in clean.folder.glob("lib/python*/site-packages") if p.is_dir()]
    info = theirs / "moshi_mlx-0.3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moshi_mlx\nVersion: 0.3.0\n")
    try:
        done = clean.run("moshi", "--help")
    finally:
        (info / "METADATA").unlink()
        info.rmdir()
    assert done.returncode == 1
    assert done.stderr.startswith("error: Kyutai's own moshi_mlx 0.3.0 is installed here")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("left", [None, "__version__ = '0.3.0'\n"])
def test_what_kyutais_package_leaves_of_ours_is_told(clean: Clean, left: str | None) -> None:
    """Theirs overwrites `__init__.py`; removing it takes the file away."""
    (ours,) = clean.folder.glob("lib/python*/site-packages/moshi_mlx/__init__.py")
    text = ours.read_text()
    try:
        ours.unlink() if left is None else ours.write_text(left)
        done = clean.run("moshi", "--help")
    finally:
        ours.write_text(text)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: moshi_mlx here isn't that of moshi-local")
    assert "uv tool install" in done.stderr


def test_importing_is_fast_and_brings_in_nothing_heavy() -> None:
    """The time is the least of several in one process: a loaded machine must not fail it."""
    code = (
        "import sys, time\n"
        "best = 9.0\n"
        "for _ in range(5):\n"
        "    for name in [n for n in sys.modules if n.split('.')[0] == 'moshi_mlx']:\n"
        "        del sys.modules[name]\n"
        "    start = time.perf_counter()\n"
        "    import moshi_mlx\n"
        "    best = min(best, time.perf_counter() - start)\n"
        "print(best, *sorted({n.split('.')[0] for n in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        **{"capture_output": True, "text": True, "check": True, "cwd": ROOT},
    )
    seconds, *modules = done.stdout.split()
    assert float(seconds) < 0.5
    heavy = {"transformers", "mlx_lm", "sounddevice", "torch", "huggingface_hub", "socket", "ssl"}
    assert not heavy & set(modules)


def test_loading_a_model_needs_neither_transformers_nor_sounddevice_nor_the_network() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import moshi_mlx; moshi_mlx.load('nano', codec='mlx')\n"
        "print(*sorted({n.split('.')[0] for n in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        **{"capture_output": True, "text": True, "check": True, "cwd": ROOT},
    )
    assert not {"transformers", "sounddevice", "torch", "mlx_lm"} & set(done.stdout.split())


def test_setup_replaces_an_environment_of_a_wrong_python_and_says_what_it_needs(tmp_path) -> None:
    """No package is installed here: the Python that it is given doesn't fit either."""
    (tmp_path / "tools").mkdir()
    setup = tmp_path / "tools" / "setup.sh"
    setup.write_text((ROOT / "tools" / "setup.sh").read_text())
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(old)
    (venv / "pyvenv.cfg").write_text("version = 3.9\n")
    command = ["bash", str(setup), str(venv)]
    run = lambda: subprocess.run(  # noqa: E731
        command, env=os.environ | {"PYTHON": str(old)}, capture_output=True, text=True
    )
    for _ in range(2):
        done = run()
        assert done.returncode == 1 and "set PYTHON=" in done.stderr
        assert not venv.exists(), "the next try begins anew"
    venv.mkdir()
    (venv / "mine").write_text("no environment at all")
    run()
    assert (venv / "mine").exists()
