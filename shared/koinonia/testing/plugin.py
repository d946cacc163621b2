"""The pytest plugin: the fixtures of `koinonia.testing`, loaded by the `-p` in pyproject.toml.

It gives every run a directory, whose path xdist's workers are told. Whatever needs a server asks for the `servers`
fixture; a run that needs none starts none.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from koinonia.testing.run import Run

pytest_plugins = [
    "koinonia.testing.servers",
    "koinonia.testing.databases",
    "koinonia.testing.fixtures",
    "koinonia.testing.services",
]


def pytest_configure(config: pytest.Config) -> None:
    """Make the run's directory, or learn it from the process that made it."""
    told: dict[str, Any] = getattr(config, "workerinput", {})
    if told:
        config.stash[Run.KEY] = Run(Path(told["koinonia_directory"]), told["koinonia_pid"])
        return
    directory = Path(tempfile.mkdtemp(prefix="koinonia-tests-"))
    directory.chmod(0o755)  # the PostgreSQL server is another user
    config.stash[Run.KEY] = Run(directory, os.getpid())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist about the run."""
    run = node.config.stash[Run.KEY]
    node.workerinput |= {"koinonia_directory": str(run.directory), "koinonia_pid": run.pid}


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory, unless the keeper of servers will."""
    run = config.stash.get(Run.KEY, None)
    if run is not None and run.pid == os.getpid() and not run.has_keeper:
        shutil.rmtree(run.directory, ignore_errors=True)
