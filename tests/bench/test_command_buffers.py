"""Limits of Metal's command buffers: in the environment before MLX is there, and in the report."""

import ctypes
import subprocess
import sys

import pytest

from app.commands.before_mlx import prepare
from moshi_mlx.backend.command_buffers import CommandBuffers
from moshi_mlx.errors import UsageError
from tests.support.processes.bench_process import ROOT, assert_one_line

OPERATIONS, MEGABYTES = "MLX_MAX_OPS_PER_BUFFER", "MLX_MAX_MB_PER_BUFFER"


@pytest.mark.parametrize(
    "argv", [["bench", "--command-buffers", "1000,400"], ["bench", "--command-buffers=1000, 400"]]
)
def test_the_option_is_what_mlx_will_read(argv: list[str]) -> None:
    environment = {OPERATIONS: "7"}
    prepare(argv, environment)
    assert environment == {OPERATIONS: "1000", MEGABYTES: "400"}
    assert CommandBuffers.of_environment(environment) == CommandBuffers(1000, 400)


@pytest.mark.parametrize("argv", [[], ["chat", "--command-buffers", "1,2"], ["bench"]])
def test_nothing_is_asked_of_mlx_without_it(argv: list[str]) -> None:
    environment: dict[str, str] = {}
    prepare(argv, environment)
    assert environment == {} and CommandBuffers.of_environment(environment) == CommandBuffers()


def test_mlx_is_not_there_yet() -> None:
    """It reads its limits when it is imported: the command's module would be too late."""
    code = (
        "import sys; from app import cli; from app.commands.before_mlx import prepare; "
        "prepare(['bench', '--command-buffers', '1000,400']); print('mlx.core' in sys.modules)"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == "False"


@pytest.mark.parametrize("value", ["1000", "0,400", "1000,-4", "many,400", "1,2,3", "1e9,1", "",
                                   "99999999,1"])  # fmt: skip
def test_what_is_no_limit_is_one_line(value: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UsageError, match="OPERATIONS,MEGABYTES"):
        CommandBuffers.parse(value)
    argv = ["bench", f"--command-buffers={value}"]
    assert_one_line(argv, "OPERATIONS,MEGABYTES", capsys, status=2)


@pytest.mark.parametrize(
    ("value", "read"),
    [("1000", 1000), (" 12 ", 12), ("-4", -4), ("7x", 7), ("many", 0), ("", 0), ("٣", 0)],
)
def test_the_environment_is_read_as_mlx_reads_it(value: str, read: int) -> None:
    """With C's atoi (`env::get_var`, mlx/utils.cpp): what is no number closes every buffer."""
    libc = ctypes.CDLL(None)
    assert libc.atoi(value.encode()) == read
    found = CommandBuffers.of_environment({OPERATIONS: value})
    assert found == CommandBuffers(operations=read)


def test_how_it_is_said() -> None:
    assert str(CommandBuffers(1000, 400)) == "command buffers of up to 1000 operations, 400 MB"
    assert str(CommandBuffers(megabytes=400)) == "command buffers of up to 400 MB"
    assert "as MLX has them" in str(CommandBuffers())
