"""`tickcell serve` starts and says where, or says in one sentence why it does not."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import apsw
import grpc
import pytest

from doubles.looped import looped
from server import small_disk
from server.serve_process import ServeProcess, command, complaint
from tickcell.conformance.caller import Caller, StreamPath
from tickcell.conformance.subject import Subject
from tickcell.model import Bundle
from tickcell.model.bundle import SHIPPED
from tickcell.server import listening
from tickcell.server.store import SqliteStore

ANY_PORT = ("--listen", "localhost:0")
IN_MEMORY = ("--durability", "none")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture
def store(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "store"


@pytest.fixture
def short_path() -> Iterator[pathlib.Path]:
    """A directory whose path is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="tickcell-") as directory:
        yield pathlib.Path(directory)


class TestBanner:
    def test_first_line_says_where_and_the_others_what(
        self, store: pathlib.Path, bundle: Bundle
    ) -> None:
        with ServeProcess(*ANY_PORT, "--store", str(store)) as server:
            first, model, where, oip, hint = server.banner
        version = importlib.metadata.version("tickcell")
        assert first == f"tickcell {version} serving on {server.address}"
        host, _, port = server.address.rpartition(":")
        assert host == "localhost"
        assert int(port) > 0
        assert f"{bundle.card.name} {bundle.card.version}: 10 sensors at 50 Hz" in model
        assert bundle.fingerprint[:12] in model
        assert f"{store}, 0 sessions, durability process-crash" in where
        assert oip == "  oip    served too; a sequence may be idle for 600 s"
        assert hint == f"  try    tickcell replay --server {server.address}"

    @pytest.mark.parametrize(("flag", "line"), [("on", True), ("auto", False), ("off", False)])
    def test_missing_extra_of_the_open_inference_protocol_is_said_if_it_was_asked_for(
        self, tmp_path: pathlib.Path, flag: str, line: bool
    ) -> None:
        # What Python says of a package that is not there.
        missing = "raise ModuleNotFoundError('no tritonclient', name='tritonclient')"
        (tmp_path / "tritonclient.py").write_text(missing, encoding="utf-8")
        arguments = (*ANY_PORT, *IN_MEMORY, "--oip", flag)
        with ServeProcess(*arguments, PYTHONPATH=str(tmp_path)) as server:
            said = [each for each in server.banner if each.startswith("  oip")]
        hint = "run: pip install 'tickcell[triton]'"
        assert said == ([f"  oip    not served: tritonclient is not installed; {hint}"] * line)

    def test_open_inference_protocol_can_be_left_out(self) -> None:
        with ServeProcess(*ANY_PORT, *IN_MEMORY, "--oip", "off") as server:
            assert not [each for each in server.banner if each.startswith("  oip")]
            with grpc.insecure_channel(server.address) as channel:
                live: Any = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
                with pytest.raises(grpc.RpcError) as refused:
                    live(b"")
        error: Any = refused.value
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED

    @pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
    def test_server_on_every_address_names_one_to_call(self, host: str) -> None:
        with ServeProcess("--listen", f"{host}:0", "--insecure", *IN_MEMORY) as server:
            port = server.address.rpartition(":")[2]
            assert server.address == f"{host}:{port}"
            assert server.banner[-1] == f"  try    tickcell replay --server localhost:{port}"

    def test_server_that_keeps_nothing_says_so(self) -> None:
        with ServeProcess(*ANY_PORT, *IN_MEMORY) as server:
            assert "in memory: a restart loses every session" in server.banner[2]

    def test_it_serves_once_the_first_line_is_out(self, bundle: Bundle) -> None:
        with ServeProcess(*ANY_PORT, *IN_MEMORY) as server, Caller(server.address) as caller:
            subject = Subject(caller, looped(bundle, caller))
            with StreamPath(caller) as path:
                subject.advance(path)


class TestSettings:
    def test_variables_mirror_the_flags(
        self, short_path: pathlib.Path, store: pathlib.Path, tmp_path: pathlib.Path, bundle: Bundle
    ) -> None:
        renamed = dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, name="mine"))
        renamed.write(tmp_path / "mine")
        variables = {
            "TICKCELL_LISTEN": f"unix:{short_path / 'socket'}",
            "TICKCELL_STORE": str(store),
            "TICKCELL_BUNDLE": str(tmp_path / "mine"),
            "TICKCELL_DURABILITY": "power-loss",
            "TICKCELL_MAX_WINDOW": "7",
            "TICKCELL_IDLE_TTL": "90",
        }
        with ServeProcess(**variables) as server, Caller(server.address) as caller:
            assert server.address == variables["TICKCELL_LISTEN"]
            assert "mine 1" in server.banner[1]
            assert f"{store}, 0 sessions, durability power-loss" in server.banner[2]
            session = caller.create()
            assert session.window_step_count == 7
            assert session.idle_ttl_duration.seconds == 90

    def test_flag_is_stronger_than_its_variable(self, store: pathlib.Path) -> None:
        with ServeProcess(*ANY_PORT, "--store", str(store), TICKCELL_STORE="/nowhere") as server:
            assert str(store) in server.banner[2]

    def test_every_flag_names_its_variable(self) -> None:
        shown = subprocess.run(command("--help"), capture_output=True, text=True, check=True).stdout
        text = " ".join(shown.split())
        flags = {word for word in text.split() if word.startswith("--") and word != "--help"}
        assert len(flags) >= 16
        for flag in flags:
            variable = "TICKCELL_" + flag.removeprefix("--").replace("-", "_").upper()
            assert f"env var: {variable}" in text, flag

    def test_store_is_by_default_in_the_state_directory(self, tmp_path: pathlib.Path) -> None:
        with ServeProcess(*ANY_PORT, XDG_STATE_HOME=str(tmp_path)) as server:
            assert str(tmp_path / "tickcell") in server.banner[2]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--idle-ttl", "0"), "--idle-ttl: got 0.0"),
            (("--max-window", "0"), "--max-window: got 0"),
            (("--durability", "some"), "'some' is not one of"),
            (("--max-streams", "many"), "'many' is not a valid integer"),
            (("--stroe", "x"), "No such option"),
            (("--durability", "none", "--store", "x"), "takes no store"),
        ],
    )
    def test_bad_option_is_refused_with_what_it_should_be(
        self, arguments: tuple[str, ...], said: str
    ) -> None:
        finished = subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=60, check=False
        )
        assert finished.returncode == 2
        assert finished.stdout == ""
        assert said in finished.stderr
        assert "Traceback" not in finished.stderr


class TestAddress:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0"])
    def test_port_that_is_taken_is_refused(self, host: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"{host}:{taken.getsockname()[1]}"
            said = complaint("--listen", address, "--insecure", *IN_MEMORY)
        assert f"{address} is taken by another process" in said

    @pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
    def test_plain_text_where_other_machines_reach_it_needs_a_word(self, host: str) -> None:
        said = complaint("--listen", f"{host}:0", *IN_MEMORY)
        assert f"other machines can reach {host}:0" in said
        assert "--insecure to allow it" in said

    def test_port_of_another_server_is_refused_and_that_one_goes_on(self) -> None:
        with ServeProcess(*ANY_PORT, *IN_MEMORY) as server:
            assert "is taken" in complaint("--listen", server.address, *IN_MEMORY)
            with Caller(server.address) as caller:
                assert caller.create().next_step == 0

    def test_socket_of_a_living_server_is_refused_and_that_one_goes_on(
        self, short_path: pathlib.Path
    ) -> None:
        address = f"unix:{short_path / 'socket'}"
        with ServeProcess("--listen", address, *IN_MEMORY) as server:
            assert "is in use by a running server" in complaint("--listen", address, *IN_MEMORY)
            with Caller(server.address) as caller:
                assert caller.create().next_step == 0

    def test_socket_file_of_a_dead_server_is_replaced(self, short_path: pathlib.Path) -> None:
        path = short_path / "socket"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        assert path.exists()
        with (
            ServeProcess("--listen", f"unix:{path}", *IN_MEMORY) as server,
            Caller(server.address) as caller,
        ):
            assert caller.create().next_step == 0

    def test_file_that_is_no_socket_is_left_alone(self, short_path: pathlib.Path) -> None:
        path = short_path / "notes"
        path.write_text("mine")
        assert "is not a socket" in complaint("--listen", f"unix:{path}", *IN_MEMORY)
        assert path.read_text() == "mine"

    @pytest.mark.parametrize(
        ("address", "said"),
        [
            ("nowhere.invalid:50061", "the host 'nowhere.invalid' is not known"),
            ("192.0.2.1:50061", "cannot be listened on"),
            ("localhost", "expected HOST:PORT"),
            ("localhost:70000", "expected HOST:PORT"),
            (":50061", "expected HOST:PORT"),
            ("unix:", "expected one of 1 to 107 bytes"),
            (f"unix:/{'x' * 107}", "expected one of 1 to 107 bytes"),
            ("unix:/no/such/directory/socket", "/no/such/directory does not exist"),
        ],
    )
    def test_address_that_cannot_be_is_refused(self, address: str, said: str) -> None:
        with pytest.raises(listening.ListenError, match=said):
            listening.check_free(address)

    def test_refused_address_is_said_in_one_sentence(self) -> None:
        said = complaint("--listen", "nowhere.invalid:50061", *IN_MEMORY)
        assert said.startswith("--listen: the host 'nowhere.invalid' is not known")


class TestBundle:
    @pytest.fixture
    def copy(self, tmp_path: pathlib.Path) -> pathlib.Path:
        """A copy of the shipped bundle, to be spoilt."""
        return pathlib.Path(shutil.copytree(SHIPPED, tmp_path / "copy"))

    def refused(self, bundle: pathlib.Path) -> str:
        return complaint(*ANY_PORT, *IN_MEMORY, "--bundle", str(bundle))

    def test_missing_bundle_is_refused(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "nothing"
        assert self.refused(path) == f"{path}: is not a bundle's directory."

    def test_bundle_with_a_missing_file_is_refused(self, copy: pathlib.Path) -> None:
        (copy / "card.json").unlink()
        assert f"{copy / 'card.json'}: cannot be read" in self.refused(copy)

    def test_bundle_with_a_truncated_file_is_refused(self, copy: pathlib.Path) -> None:
        path = copy / "golden.npz"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert f"{path}: cannot be read" in self.refused(copy)

    def test_bundle_whose_graph_was_tampered_with_is_refused(self, copy: pathlib.Path) -> None:
        path = copy / "step.tflite"
        graph = bytearray(path.read_bytes())
        graph[len(graph) // 2] ^= 1
        path.write_bytes(graph)
        assert "fingerprint" in self.refused(copy)

    def test_bundle_whose_sensors_were_tampered_with_is_refused(self, copy: pathlib.Path) -> None:
        path = copy / "interface.json"
        path.write_text(path.read_text().replace('"max_reading": 78.4532', '"max_reading": 79.0'))
        assert "fingerprint" in self.refused(copy)

    def test_two_bundles_of_one_name_and_version_are_refused(self, copy: pathlib.Path) -> None:
        said = complaint(*ANY_PORT, *IN_MEMORY, "--bundle", str(copy), "--bundle", str(SHIPPED))
        assert "two bundles are called drive 1" in said


class TestStore:
    def refused(self, store: pathlib.Path, *arguments: str, prefix: tuple[str, ...] = ()) -> str:
        return complaint(*ANY_PORT, "--store", str(store), *arguments, prefix=prefix)

    def test_directory_of_something_else_is_refused(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        assert f"{tmp_path}: is not a store's directory" in self.refused(tmp_path)

    def test_newer_store_is_refused(self, store: pathlib.Path) -> None:
        SqliteStore.open(store).close()
        with contextlib.closing(apsw.Connection(str(store / "store.db"))) as connection:
            connection.pragma("user_version", 99)
        assert "schema 99" in self.refused(store)

    def test_store_whose_database_is_gone_is_refused_and_not_begun_anew(
        self, store: pathlib.Path
    ) -> None:
        with ServeProcess(*ANY_PORT, "--store", str(store)) as server:
            server.end()
        (store / "store.db").unlink()
        said = self.refused(store)
        assert f"tickcell store restore --store {store}" in said
        assert not (store / "store.db").exists()

    def test_server_of_another_durability_is_refused(self, store: pathlib.Path) -> None:
        with ServeProcess(*ANY_PORT, "--store", str(store)):
            said = self.refused(store, "--durability", "power-loss")
        assert "has durability process-crash, got power-loss" in said
        assert f"tickcell store durability --store {store} power-loss" in said

    def test_store_that_may_not_be_written_is_refused(self, tmp_path: pathlib.Path) -> None:
        if os.geteuid():
            pytest.skip("acting as another user needs root")
        prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        if subprocess.run([*prefix, sys.executable, "-c", "import apsw"], check=False).returncode:
            pytest.skip("another user cannot run this Python")
        with tempfile.TemporaryDirectory(prefix="tickcell-") as directory:
            path = pathlib.Path(directory)
            path.chmod(0o755)
            assert "cannot be created" in self.refused(path / "store", prefix=prefix)

    def test_store_on_a_full_disk_is_refused(self, tmp_path: pathlib.Path) -> None:
        with small_disk.mounted(tmp_path, 65536):
            small_disk.fill(tmp_path / "logs")
            assert "the disk is full" in self.refused(tmp_path / "store")
