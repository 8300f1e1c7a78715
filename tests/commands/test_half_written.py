"""A process that is ended at once, whatever it is in, leaves no file half written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import sys, time
from pathlib import Path
from app.commands.signals import Signals
from moshi_mlx.output.whole_file import whole_files

def hang():
    while True:
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            pass

sys.path.insert(0, sys.argv[1])
with Signals(), whole_files(Path(sys.argv[1], "out.wav")) as (temporary,):
    temporary.write_text("half")
    print("begun", flush=True)
    LAST
"""


@pytest.mark.parametrize("where", ["in an import", "in a loop that nothing ends"])
def test_nothing_is_left(tmp_path, where):
    (tmp_path / "slow_to_load.py").write_text("import time\ntime.sleep(600)\n")
    last = "import slow_to_load" if "import" in where else "hang()"
    code = CODE.replace("LAST", last)
    command = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert command.stdout is not None and command.stdout.readline() == "begun\n"
    assert any(name.startswith(".moshi-") for name in os.listdir(tmp_path))
    command.send_signal(signal.SIGTERM)
    assert command.wait(60) == 128 + signal.SIGTERM
    assert sorted(set(os.listdir(tmp_path)) - {"__pycache__"}) == ["slow_to_load.py"]
