"""`make setup` makes an environment anew that no wheels fit, and says what to do."""

import os
import subprocess
from pathlib import Path

SETUP = Path(__file__).parents[2] / "tools" / "setup.sh"
PYTHON = """#!/bin/sh
[ "$1" = -c ] && exit {fits}
if [ "$2" = venv ]; then
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pyvenv.cfg" "$3/made"
else
    echo "$@" >> {log}
fi
"""


def python(path, log, fits):
    """A Python of a version that fits (0), or doesn't (1)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PYTHON.format(fits=0 if fits else 1, log=log))
    path.chmod(0o755)
    return path


def set_up(tmp_path, **environment):
    """Without uv; PortAudio is there. Returns what is printed and the exit status."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "ldconfig").write_text("#!/bin/sh\necho libportaudio.so.2\n")
    (tools / "ldconfig").chmod(0o755)
    done = subprocess.run(
        ["bash", str(SETUP), str(tmp_path / "venv")],
        env={"PATH": f"{tools}:/usr/bin:/bin", "HOME": os.environ["HOME"]} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stderr, done.returncode


def test_an_environment_of_a_wrong_python_is_made_anew_by_the_advice_that_is_given(tmp_path):
    log = tmp_path / "log"
    old = python(tmp_path / "old", log, fits=False)
    python(tmp_path / "venv" / "bin" / "python", log, fits=False)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    told, status = set_up(tmp_path, PYTHON=str(old))
    assert status == 1 and "set PYTHON=/path/to/python3.12 and try again" in told
    assert not log.exists(), "nothing is installed"
    new = python(tmp_path / "new", log, fits=True)
    told, status = set_up(tmp_path, PYTHON=str(new))
    assert status == 0, told
    assert (tmp_path / "venv" / "made").exists() and "pip install" in log.read_text()


def test_one_that_fits_is_kept(tmp_path):
    log = tmp_path / "log"
    python(tmp_path / "venv" / "bin" / "python", log, fits=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    told, status = set_up(tmp_path)
    assert status == 0, told
    assert not (tmp_path / "venv" / "made").exists()
