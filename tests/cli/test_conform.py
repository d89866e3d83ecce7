"""The tests, tested: `tickcell conform` passes right servers, and names what others do wrong."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from doubles.authority import Authority
from doubles.counting_cell import CountingCell
from doubles.faulty_parts import CELL_FAULTS, CellFault, FaultyCell, ForgetfulStore
from doubles.faulty_relay import RELAY_FAULTS, FaultyRelay, RelayFault
from doubles.in_process_server import InProcessServer, served
from server.serve_process import ServeProcess
from tickcell.conformance import contract
from tickcell.conformance.caller import CODES, Caller
from tickcell.conformance.run import AREAS
from tickcell.model.bundle import SHIPPED
from tickcell.server import tokens
from tickcell.server.catalogue import ServedModel
from tickcell.server.config import Limits
from tickcell.v1 import error_reason_pb2
from tickcell.v1 import session_service_pb2 as pb

PATIENCE_S = 120.0
QUIET = ("--durability", "none")

# A directory in which pytest would do as it is told.
TRAPS = {
    "conftest.py": "raise SystemExit('the conftest.py of the directory was run')",
    "pytest.ini": "[pytest]\naddopts = --no-such-option\n",
}


class Done(NamedTuple):
    """How a run ended, and what it wrote."""

    status: int
    out: str
    err: str


@pytest.fixture
def trapped(tmp_path: pathlib.Path) -> pathlib.Path:
    for name, text in TRAPS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def conform(*arguments: str, cwd: pathlib.Path | None = None, **environment: str) -> Done:
    """Runs the command as somebody who has a server would."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tickcell.cli", "conform", *arguments]


def areas(*names: str) -> list[str]:
    return [word for name in names for word in ("--area", name)]


def left(caller: Caller) -> list[str]:
    page = caller.call(caller.sessions.ListSessions, pb.ListSessionsRequest())
    return [session.id for session in page.sessions]


@pytest.fixture(scope="module")
def plain() -> Iterator[ServeProcess]:
    with ServeProcess("--listen", "localhost:0", *QUIET) as process:
        yield process


def test_real_server_keeps_all_of_the_contract(plain: ServeProcess, trapped: pathlib.Path) -> None:
    done = conform(plain.address, cwd=trapped, PYTEST_ADDOPTS="--no-such-option")
    assert done.status == 0, done.out + done.err
    assert done.err == ""
    first, *by_area, last = done.out.splitlines()
    assert first == (
        f"drive 1 at {plain.address}; outputs are compared with an undisturbed session."
    )
    assert all(re.fullmatch(r"\w+ +\d+ passed", line) for line in by_area), done.out
    assert {line.split()[0] for line in by_area} == {*AREAS}
    assert re.fullmatch(
        r"\d+ passed, 0 failed, 0 skipped; no sessions of the tests are left on the server\.", last
    )
    assert {path.name for path in trapped.iterdir()} == {*TRAPS}
    with Caller(plain.address) as caller:
        assert left(caller) == []


def test_outputs_are_held_to_the_loop_over_a_bundle(plain: ServeProcess) -> None:
    done = conform(plain.address, "--bundle", str(SHIPPED), *areas("steps"))
    assert done.status == 0, done.out + done.err
    assert f"outputs are compared with the loop over {SHIPPED}." in done.out


def test_server_with_tls_and_tokens_keeps_it_too(tmp_path: pathlib.Path) -> None:
    authority, token = Authority(), tokens.draw()
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    authority.server().write(tmp_path / "tls.crt", tmp_path / "tls.key")
    (tmp_path / "tokens").write_text(tokens.line("auditor", token) + "\n")
    (tmp_path / "token").write_text(token)
    flags = ["--tls-certificate", "tls.crt", "--tls-key", "tls.key", "--tokens", "tokens"]
    paths = [word if word.startswith("--") else str(tmp_path / word) for word in flags]
    with ServeProcess("--listen", "localhost:0", *QUIET, *paths) as server:
        trusted = (server.address, "--ca", str(tmp_path / "ca.crt"))
        done = conform(
            *trusted, "--token-file", str(tmp_path / "token"), "--model", "drive:1",
            *areas("models", "streams"),
        )  # fmt: skip
        assert done.status == 0, done.out + done.err
        stranger = conform(*trusted)
    assert stranger.status == 2
    assert stranger.out == ""
    (sentence,) = stranger.err.splitlines()
    assert "token" in sentence


def test_model_of_any_sensors_can_be_served() -> None:
    with InProcessServer([served(CountingCell(3))]) as server:
        done = conform(server.address, *areas("create", "refusals", "steps", "streams"))
        with Caller(server.address) as caller:
            assert left(caller) == []
    assert done.status == 0, done.out + done.err


def test_what_the_server_does_not_allow_is_skipped_by_name() -> None:
    limits = Limits(max_window=16, max_message_bytes=100_000)
    with InProcessServer([served(CountingCell())], limits=limits) as server:
        done = conform(server.address, *areas("create"))
    assert done.status == 0, done.out + done.err
    skipped = [line.strip() for line in done.out.splitlines() if "skipped: " in line]
    assert any("labels beyond their bounds are refused [huge key]" in line for line in skipped)
    assert all("needs a longer message than the server allows: " in line for line in skipped)


def test_protocol_that_is_not_served_is_skipped_by_name() -> None:
    with ServeProcess("--listen", "localhost:0", *QUIET, "--oip", "off") as server:
        alone = conform(server.address, *areas("sequences"))
        beside = conform(server.address, *areas("models", "sequences"))
    skipped = (
        r"skipped: \d+ tests: needs the Open Inference Protocol; the server does not serve it\."
    )
    for done, status in ((alone, 2), (beside, 0)):
        assert done.status == status, done.out + done.err
        assert re.search(skipped, done.out)
    assert alone.err == "tickcell: nothing was tested: all tests were skipped.\n"


def notices(model: ServedModel, records: ForgetfulStore | None, *arguments: str) -> None:
    with InProcessServer([model], records) as server:
        done = conform(server.address, *areas("steps"), *arguments)
    assert done.status == 1, done.out + done.err
    assert "failed: " in done.out


@pytest.mark.parametrize("fault", CELL_FAULTS)
def test_cell_is_found_out_of_which_a_step_is(fault: CellFault) -> None:
    notices(served(FaultyCell(CountingCell(), fault)), None)


def test_step_that_was_acknowledged_and_not_stored_is_found_out() -> None:
    notices(served(CountingCell()), ForgetfulStore())


# By fault: the area that is to find it, and a sentence of it.
FAILURES: dict[RelayFault, tuple[str, str]] = {
    "applies a step twice": (
        "steps",
        r"failed: steps one by one have the loop's outputs \[unary\]: sent StepSessionRequest of "
        r'session: "subject-\S+" generation: \d+ first_step: \d+ step_count: 1, 1 readings; got '
        r"the refusal STEP_CONFLICT, .*; expected an answer; see the promise, that outputs are "
        r"those of the plain loop\.",
    ),
    "has a short window": (
        "steps",
        r"failed: every step of the window can be repeated \[stream\]: sent StreamStepsRequest of "
        r"session: .* first_step: 4 step_count: 1, 1 readings; got the refusal STEP_STALE, .*; "
        r"expected an answer; see point 3 of the session contract, "
        r'"Each step is new or already applied"\.',
    ),
    "says a wrong reason": (
        "refusals",
        r"failed: step behind a gap is refused with the expected index \[stream-1\]: sent .*; got "
        r"the refusal STEP_STALE, .*; expected the refusal STEP_GAP; see point 3 of the session "
        r'contract, "Each step is new or already applied"\.',
    ),
}


@pytest.mark.parametrize("fault", RELAY_FAULTS)
def test_failure_says_what_was_sent_got_and_expected_of_a_server_that(fault: RelayFault) -> None:
    area, sentence = FAILURES[fault]
    with (
        InProcessServer([served(CountingCell())]) as server,
        FaultyRelay(server.address, fault) as relay,
    ):
        done = conform(relay.address, *areas(area))
        with Caller(server.address) as caller:
            assert left(caller) == []
    assert done.status == 1, done.out + done.err
    failures = [line.strip() for line in done.out.splitlines() if "failed: " in line]
    assert any(re.fullmatch(sentence, line) for line in failures), "\n".join(failures)


def test_full_server_ends_the_run_with_a_sentence() -> None:
    limits = Limits(max_sessions=2)
    with (
        InProcessServer([served(CountingCell())], limits=limits) as server,
        Caller(server.address) as caller,
    ):
        caller.create(session="of-another")
        done = conform(server.address, *areas("steps"))
        assert left(caller) == ["of-another"]
    assert done.status == 2
    (sentence,) = done.err.splitlines()
    assert "the refusal SESSIONS_FULL" in sentence


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_that_is_stopped_leaves_nothing(plain: ServeProcess, number: signal.Signals) -> None:
    with subprocess.Popen(
        command(plain.address), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        # The first area is through, and another is running.
        begun = [process.stdout.readline(), process.stdout.readline()]
        process.send_signal(number)
        rest, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, log
    assert begun[1].startswith("create ")
    assert "streams " not in rest
    assert rest.endswith("; no sessions of the tests are left on the server.\n")
    assert log == ""
    with Caller(plain.address) as caller:
        assert left(caller) == []


def test_server_that_is_not_there_cannot_be_told() -> None:
    done = conform("localhost:1")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "tickcell: localhost:1: no server answers; start one with: tickcell serve\n"
    )


def test_bundle_that_is_not_served_is_refused() -> None:
    with InProcessServer([served(CountingCell())]) as server:
        done = conform(server.address, "--bundle", str(SHIPPED))
    assert (done.status, done.out) == (2, "")
    assert "omit --bundle" in done.err


def test_list_needs_no_server() -> None:
    done = conform("localhost:1", "--list")
    assert done.status == 0
    assert "steps      duplicate is answered with the stored outputs [unary]" in done.out
    assert {line.split()[0] for line in done.out.splitlines()} == {*AREAS}


def test_points_of_the_contract_are_called_as_the_architecture_has_them(
    project: pathlib.Path,
) -> None:
    text = (project / "docs/architecture.md").read_text(encoding="utf-8")
    listed = text.partition("## The session contract")[2].partition("\n## ")[0]
    plain = re.sub(r"[*_]", "", listed)
    begun = dict(re.findall(r"^(\d+)\. (.*)$", plain, re.MULTILINE))
    assert {int(number) for number in begun} == {*contract.POINTS}
    for number, name in contract.POINTS.items():
        assert begun[str(number)].startswith(name)


def test_every_area_names_its_point(project: pathlib.Path) -> None:
    for area in AREAS:
        module = project / f"client/tickcell/conformance/test_{area}.py"
        assert "\npytestmark = pytest.mark.contract(" in module.read_text(encoding="utf-8")


def test_table_of_reasons_is_that_of_the_contract() -> None:
    reasons = {
        name.removeprefix("ERROR_REASON_")
        for name in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118
    }
    assert {*CODES} == reasons - {"UNSPECIFIED"}
