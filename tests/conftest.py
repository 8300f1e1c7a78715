"""Nothing that a test starts reads or writes preferences, keys, index and state of who runs it."""

import os
import sys
from collections.abc import Iterator

import pytest

OWN = ("XDG_CONFIG_HOME", "XDG_STATE_HOME")
# Before anybody imports numpy: its matrices are small here, and threads that wait for a core spin.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Two hundred commands are started: none compiles the program anew, in an environment that would.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(autouse=True, scope="session")
def own_config_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For this process and all that it starts."""
    before = {name: os.environ.get(name) for name in OWN}
    for name in OWN:
        os.environ[name] = str(tmp_path_factory.mktemp(name.lower()))
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
