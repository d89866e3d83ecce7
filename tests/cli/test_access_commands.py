"""The commands against a real `tickcell serve` with TLS, client certificates and tokens."""

from __future__ import annotations

import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from doubles.authority import Authority
from server.serve_process import ServeProcess, complaint
from tickcell.cli import command_line
from tickcell.client import Credentials, Session
from tickcell.server import tokens

CALLERS = """
[callers]
"token:ops" = { role = "operator" }
"token:robot-7" = { owner = "fleet" }
"token:standby" = { owner = "fleet" }
"""


class House:
    """A directory with the files of a server and its callers, and a server that reads them."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        authority = Authority()
        (directory / "ca.crt").write_bytes(authority.certificate)
        authority.server().write(directory / "tls.crt", directory / "tls.key")
        authority.client("robot", ["spiffe://plant/robot-7"]).write(
            directory / "robot.crt", directory / "robot.key"
        )
        (directory / "callers.toml").write_text(CALLERS)
        with (directory / "tokens").open("w") as file:
            for name in ("robot-7", "standby", "stranger", "ops"):
                token = tokens.draw()
                file.write(tokens.line(name, token) + "\n")
                (directory / f"{name}.token").write_text(token)

    def flags(self, *names: str) -> list[str]:
        """Returns flags of `tickcell serve`, each with its file."""
        files = {
            "--tls-certificate": "tls.crt",
            "--tls-key": "tls.key",
            "--tls-client-ca": "ca.crt",
            "--tokens": "tokens",
            "--callers": "callers.toml",
        }
        return [word for name in names for word in (name, str(self.directory / files[name]))]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def server(house: House) -> Iterator[ServeProcess]:
    """On all addresses, with TLS, tokens and a callers file."""
    flags = house.flags("--tls-certificate", "--tls-key", "--tokens", "--callers")
    with ServeProcess("--listen", "[::]:0", "--durability", "none", *flags) as process:
        yield process


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in the house's directory, with some variables in its environment."""
    monkeypatch.chdir(house.directory)
    for name in [name for name in os.environ if name.startswith("TICKCELL_")]:
        monkeypatch.delenv(name)

    def call(*arguments: str, **environment: str) -> Done:
        with pytest.MonkeyPatch.context() as told:
            for name, value in environment.items():
                told.setenv(name, value)
            status = command_line.main(arguments)
        return Done(status, *capsys.readouterr())

    return call


@pytest.fixture
def at(server: ServeProcess) -> list[str]:
    """The flags by which a command reaches the server."""
    return ["--server", f"localhost:{server.address.rpartition(':')[2]}", "--ca", "ca.crt"]


def test_banner_says_who_may_call_and_how_to_try(server: ServeProcess) -> None:
    hint = server.banner[-1]
    assert "  calls  with TLS, from whoever has one of 4 tokens" in server.banner
    assert hint.endswith(" --tls --token-file FILE")


def test_commands_see_the_sessions_of_their_owner_and_operators_all(
    run: Run, at: list[str]
) -> None:
    def as_(token: str, command: str) -> Done:
        return run(*command.split(), *at, "--token-file", f"{token}.token")

    done = as_("robot-7", "replay --fast --session drive --keep --out rows.csv")
    assert done.status == 0, done.err
    for token, shown in {"robot-7": 1, "standby": 1, "ops": 1, "stranger": 0}.items():
        listed = as_(token, "sessions list").out.splitlines()[1:]
        assert len(listed) == shown, token
        assert all(re.fullmatch(r"drive +\d+ .* fleet", line) for line in listed)
    for command in ("show", "reset", "delete"):
        refused = as_("stranger", f"sessions {command} drive")
        assert refused == (1, "", "tickcell: drive: no such session; create it first.\n")
        named = as_("stranger", f"sessions {command} drive --owner fleet")
        assert named.status == 1
        assert "which only operators may; token:stranger is a client." in named.err
    assert "owner              fleet" in as_("ops", "sessions show drive --owner fleet").out
    assert "drive " in as_("ops", "sessions list --owner fleet").out
    assert as_("ops", "sessions reset drive --owner fleet").status == 0
    assert as_("ops", "sessions delete drive --owner fleet").status == 0
    assert len(as_("robot-7", "sessions list").out.splitlines()) == 1


def test_operators_alone_see_how_many_sessions_are_pinned_to_a_version(
    run: Run, at: list[str]
) -> None:
    rows = {
        token: run("models", "list", *at, "--token-file", f"{token}.token").out.splitlines()[1]
        for token in ("ops", "robot-7")
    }
    assert rows["ops"].split()[:5] == ["drive", "1", "ready", "(default)", "0"]
    assert rows["robot-7"].split()[:4] == ["drive", "1", "ready", "-"]


@pytest.mark.parametrize(
    "arguments",
    [["models", "list"], ["models", "show"], ["verify", "--no-keras"], ["agent", "--seconds", "1"]],
    ids=lambda arguments: " ".join(arguments),
)
def test_every_command_that_calls_takes_the_flags(
    arguments: list[str], run: Run, at: list[str]
) -> None:
    done = run(*arguments, *at, "--token-file", "robot-7.token")
    assert done.status == 0, done.err
    without = run(*arguments, *at)
    assert without.status == 1
    assert "tickcell: the caller is not known: it sends no token" in without.err


def test_variables_mirror_the_flags_and_have_the_token_too(
    run: Run, house: House, at: list[str]
) -> None:
    variables = {"TICKCELL_SERVER": at[1], "TICKCELL_CA": at[3]}
    by_file = run("models", "list", **variables, TICKCELL_TOKEN_FILE="ops.token")
    assert by_file.status == 0, by_file.err
    token = (house.directory / "ops.token").read_text().strip()
    by_itself = run("models", "list", **variables, TICKCELL_TOKEN=token)
    assert by_itself.status == 0, by_itself.err
    # What is on the command line goes before what is in the environment.
    flags = ("--token-file", "ops.token")
    stronger = run("models", "list", *flags, **variables, TICKCELL_TOKEN="tickcell_wrong")
    assert stronger.status == 0, stronger.err


def test_trouble_with_tls_is_one_sentence_with_a_way_out(
    run: Run, house: House, at: list[str]
) -> None:
    server = at[:2]
    Authority().server().write(house.directory / "other.crt", house.directory / "other.key")
    said = {
        "it may require TLS (--tls or --ca)": [],
        "is not signed by an authority of --ca": ["--ca", "other.crt"],
        "give that with --server-name": ["--ca", "ca.crt", "--server-name", "other.example"],
        "nothing.token: No such file": [*at[2:], "--token-file", "nothing.token"],
        "key: is missing": [*at[2:], "--certificate", "other.crt"],
    }
    for sentence, flags in said.items():
        done = run("models", "list", *server, *flags)
        assert done.status == 1
        # gRPC says what it met on lines of its own.
        ours = [line for line in done.err.splitlines() if line.startswith("tickcell: ")]
        assert len(ours) == 1
        assert sentence in ours[0]
        assert "Traceback" not in done.err


def test_mutual_tls_by_flags(run: Run, house: House) -> None:
    flags = house.flags("--tls-certificate", "--tls-key", "--tls-client-ca")
    with ServeProcess("--listen", "localhost:0", "--durability", "none", *flags) as process:
        assert "  calls  with TLS, from whoever has a certificate" in process.banner
        at = ("--server", process.address, "--ca", "ca.crt")
        own = ("--certificate", "robot.crt", "--key", "robot.key")
        credentials = Credentials(
            ca=house.directory / "ca.crt",
            certificate=house.directory / "robot.crt",
            key=house.directory / "robot.key",
        )
        Session.create(process.address, "drive", credentials=credentials).detach()
        shown = run("sessions", "show", "drive", *at, *own)
        assert "owner              cert:spiffe://plant/robot-7" in shown.out
        without = run("models", "list", *at)
        assert without.status == 1
        assert "a certificate that it trusts (--certificate and --key)." in without.err


def test_server_says_in_one_sentence_why_it_does_not_start(house: House) -> None:
    at = ("--listen", "localhost:0", "--durability", "none")
    said = complaint(*at, "--tokens", str(house.directory / "callers.toml"))
    assert re.search(r"^--tokens: .*callers\.toml: line 2: expected a name", said)
    said = complaint(*at, *house.flags("--tokens"), "--callers", str(house.directory / "tokens"))
    assert "--callers: " in said
    assert "is not TOML" in said


class TestToken:
    def test_file_is_for_its_caller_alone_and_is_not_written_over(
        self, run: Run, house: House
    ) -> None:
        path = house.directory / "ops.token"
        before = path.read_text()
        again = run("token", "ops", "--out", "ops.token")
        assert again.status == 1
        assert again.err == "tickcell: ops.token: File exists.\n"
        assert path.read_text() == before
        done = run("token", "robot-9", "--out", "robot-9.token")
        path = house.directory / "robot-9.token"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert done.out == tokens.line("robot-9", path.read_text().strip()) + "\n"

    def test_line_and_token_do_not_mix(self, run: Run, house: House) -> None:
        done = run("token", "robot-9")
        assert re.fullmatch(r"robot-9 sha256:[0-9a-f]{64}\n", done.out)
        assert re.fullmatch(r"tickcell: the token, .*: tickcell_[\w-]{43}\n", done.err)

    def test_name_that_cannot_be_one_is_refused(self, run: Run, house: House) -> None:
        done = run("token", "a b")
        assert done.status == 2
        assert "NAME: got 'a b', expected a letter or digit" in done.err
