"""The files of tokens and callers, and what owners may take."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.world import World
from tickcell.server import errors, owners, tokens
from tickcell.server.caller import Caller
from tickcell.server.files import FileError
from tickcell.server.owners import OwnerLimits, Owners
from tickcell.server.quotas import Quotas
from tickcell.server.rules import StepRequest
from tickcell.server.store import Counts, Key
from tickcell.server.tokens import Tokens

FILE = b"""
refused = ["token:old"]

[callers]
"cert:spiffe://plant/robot-7" = { owner = "robot-7" }
"cert:CN=ops" = { role = "operator" }
"token:legacy" = { owner = "" }

[limits]
max_sessions = 100

[owners.robot-7]
max_ticks_per_s = 0.5

[owners."cert:CN=ops"]
max_sessions = 0
"""


class TestCallersFile:
    def test_caller_has_the_owner_and_role_that_it_is_given(self) -> None:
        read = Owners.parse(FILE)
        robot = "cert:spiffe://plant/robot-7"
        assert read.caller(robot) == Caller("robot-7", robot, "client")
        assert read.caller("cert:CN=ops") == Caller("cert:CN=ops", "cert:CN=ops", "operator")
        assert read.caller("token:legacy").owner == ""

    @pytest.mark.parametrize("read", [Owners(), Owners.parse(b""), Owners.parse(FILE)])
    def test_caller_that_is_not_named_is_a_client_of_its_own(self, read: Owners) -> None:
        assert read.caller("token:new") == Caller("token:new", "token:new", "client")

    def test_caller_that_is_refused_is_unknown(self) -> None:
        with pytest.raises(errors.CallerUnknown, match="token:old is refused"):
            Owners.parse(FILE).caller("token:old")

    def test_limits_are_the_owners_or_else_those_of_all(self) -> None:
        read = Owners.parse(FILE)
        assert read.limits("anybody") == OwnerLimits(100, None)
        assert read.limits("robot-7") == OwnerLimits(100, 0.5)
        assert read.limits("cert:CN=ops") == OwnerLimits(0, None)
        assert (read.have_rates, Owners().have_rates) == (True, False)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"\xff", "is not UTF-8"),
            (b"callers", "is not TOML: "),
            (b"caller = 1", "caller: is not known, expected callers, limits, owners, refused"),
            (b"callers = 1", "callers: got 1, expected a table"),
            (b"refused = 'token:a'", "refused: got 'token:a', expected a list"),
            (b"refused = ['a']", "refused: got 'a', expected a name that begins with cert: or"),
            (b"[callers]\na = {}", "callers: got 'a', expected a name that begins with cert: or"),
            (b"[callers]\n'token:a' = 'b'", "callers.'token:a': got 'b', expected a table"),
            (b"[callers]\n'token:a' = { roll = 'x' }", "callers.'token:a'.roll: is not known"),
            (
                b"[callers]\n'token:a' = { role = 'admin' }",
                "callers.'token:a'.role: got 'admin', expected one of client, operator",
            ),
            (b"[callers]\n'token:a' = { owner = 7 }", "callers.'token:a'.owner: got 7, expected"),
            (
                b"[callers]\n'token:a' = { owner = \"a\\u0000\" }",
                "owner: got 'a.x00'",
            ),
            (b"[limits]\nmax_sessions = -1", "limits.max_sessions: got -1, expected a whole"),
            (b"[limits]\nmax_sessions = true", "limits.max_sessions: got True"),
            (b"[limits]\nmax_sessions = 1.5", "limits.max_sessions: got 1.5"),
            (b"[limits]\nmax_ticks_per_s = 0", "limits.max_ticks_per_s: got 0, expected a number"),
            (b"[limits]\nmax_ticks_per_s = nan", "limits.max_ticks_per_s: got nan"),
            (b"[owners.a]\nmax_session = 1", "owners.'a'.max_session: is not known"),
            (b"[owners]\na = 1", "owners.'a': got 1, expected a table"),
        ],
    )
    def test_file_that_is_wrong_says_where_and_what_is_expected(
        self, content: bytes, said: str
    ) -> None:
        with pytest.raises(FileError, match=said.replace("'", ".").replace("(", ".")):
            Owners.parse(content)

    def test_owner_may_be_as_long_as_255_bytes(self) -> None:
        assert owners.is_owner("é" * 127)
        assert not owners.is_owner("é" * 128)


class TestTokens:
    def test_token_is_known_by_its_line_alone(self) -> None:
        first, second = tokens.draw(), tokens.draw()
        assert first != second
        line = tokens.line("robot-7", first)
        assert first not in line
        read = Tokens.parse(f"# robots\n\n{line}  # of 2026\n".encode())
        assert read.name_of(first) == "robot-7"
        assert [read.name_of(wrong) for wrong in (second, "", "robot-7", line)] == [None] * 4

    def test_two_tokens_may_have_one_name(self) -> None:
        drawn = [tokens.draw(), tokens.draw()]
        text = "\n".join(tokens.line("robot-7", token) for token in drawn)
        read = Tokens.parse(text.encode())
        assert [read.name_of(token) for token in drawn] == ["robot-7", "robot-7"]
        assert len(read) == 2

    @pytest.mark.parametrize(
        "text",
        ["robot-7", "robot-7 sha256:12", "sha256:" + 64 * "0", "a b sha256:" + 64 * "0", "\xff"],
    )
    def test_line_that_is_wrong_is_named_and_not_shown(self, text: str) -> None:
        sound = tokens.line("robot-7", tokens.draw())
        with pytest.raises(FileError, match=r"line 2: expected a name|is not UTF-8") as caught:
            Tokens.parse(f"{sound}\n{text}".encode("latin-1"))
        assert "robot" not in str(caught.value)

    def test_token_of_two_names_is_nobodys(self) -> None:
        token = tokens.draw()
        text = "\n".join(tokens.line(name, token) for name in ("a", "b"))
        with pytest.raises(FileError, match="line 2: repeats the token of another name"):
            Tokens.parse(text.encode())


def request(owner: str, steps: int) -> StepRequest:
    return StepRequest(Key(owner, "s"), 1, 0, steps, bytes(4 * max(0, min(steps, 10_000))))


class TestRates:
    """Ticks a second, by a clock of the test's own."""

    def quotas(self, **limits: float) -> Quotas:
        self.now_s = 1000.0
        table = {owner: OwnerLimits(None, rate) for owner, rate in limits.items()}
        return Quotas(Owners(limits=table), lambda: self.now_s)

    def retry_s(self, quotas: Quotas, owner: str, steps: int = 1) -> float:
        """Returns after how long a request is to be sent again; 0.0 if it is taken."""
        try:
            quotas.take(request(owner, steps))
        except errors.OwnerRateExceeded as error:
            return error.retry_s or math.nan
        return 0.0

    @given(
        rate=st.floats(0.1, 10_000),
        requests=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 500)), max_size=60),
    )
    def test_no_more_is_taken_than_the_rate_a_burst_and_one_request(
        self, rate: float, requests: list[tuple[float, int]]
    ) -> None:
        quotas = self.quotas(ann=rate)
        taken = 0
        for pause_s, steps in requests:
            self.now_s += pause_s
            allowed = rate * (self.now_s - 1000.0 + 1.0)
            if not self.retry_s(quotas, "ann", steps):
                assert taken <= allowed + 1e-6
                taken += steps

    @given(rate=st.floats(0.1, 10_000), steps=st.lists(st.integers(1, 500), min_size=1))
    def test_what_is_sent_again_when_it_was_told_to_is_taken(
        self, rate: float, steps: list[int]
    ) -> None:
        quotas = self.quotas(ann=rate)
        for count in steps:
            retry_s = self.retry_s(quotas, "ann", count)
            if retry_s:
                self.now_s += retry_s
                assert self.retry_s(quotas, "ann", count) == 0.0

    def test_owner_at_its_rate_is_never_refused(self) -> None:
        quotas = self.quotas(ann=50.0)
        for _ in range(1000):
            assert self.retry_s(quotas, "ann") == 0.0
            self.now_s += 0.02

    def test_owners_do_not_take_from_each_other(self) -> None:
        quotas = self.quotas(ann=1.0, bob=1.0)
        while not self.retry_s(quotas, "ann"):
            pass
        assert self.retry_s(quotas, "bob") == 0.0
        assert self.retry_s(quotas, "carl") == 0.0

    @pytest.mark.parametrize("claimed", [-(2**31), 0, 2**31 - 1])
    def test_request_is_charged_for_what_it_brings_and_not_for_what_it_claims(
        self, claimed: int
    ) -> None:
        quotas = self.quotas(ann=1.0)
        quotas.take(StepRequest(Key("ann", "s"), 1, 0, claimed, bytes(4)))
        self.now_s += 0.001
        assert self.retry_s(quotas, "ann") == 0.0

    def test_owners_who_are_even_are_forgotten(self) -> None:
        quotas = Quotas(Owners(default=OwnerLimits(None, 100.0)), lambda: self.now_s)
        self.now_s = 0.0
        for index in range(10_000):
            quotas.take(request(f"owner-{index}", 1))
            self.now_s += 0.01
        assert quotas.remembered_count <= 1024


class TestSessionsOfAnOwner:
    """Counted in the store, whichever server creates or ends them."""

    def world(self, most: int) -> World:
        world = World()
        world.quotas.follow(Owners(limits={"": OwnerLimits(most), "ann": OwnerLimits(0)}))
        return world

    def test_only_those_that_live_count(self) -> None:
        world = self.world(2)
        first = world.create("a")
        world.create("b")
        with pytest.raises(errors.OwnerSessionsFull) as caught:
            world.create("c")
        assert caught.value.retry_s == 2.0
        world.sessions.delete("a", first.life.generation)
        world.create("c")
        with pytest.raises(errors.OwnerSessionsFull):
            world.create("a")
        assert world.store.counts("") == Counts(2, 1)

    def test_those_of_another_server_count(self) -> None:
        world = self.world(1)
        world.create("a", server=world.other)
        with pytest.raises(errors.OwnerSessionsFull):
            world.create("b")

    def test_request_that_is_sent_again_returns_its_session(self) -> None:
        world = self.world(1)
        request_id = "6f1ed002-ab5c-4a4f-9d2c-1c0e6b2f7a31"
        first = world.create("a", request_id=request_id)
        again = world.create("a", request_id=request_id)
        assert again.life.generation == first.life.generation

    def test_one_that_expired_leaves_its_room_once_it_is_swept(self) -> None:
        world = self.world(1)
        world.create("a", idle_ttl_ns=10**9)
        world.clock.advance(2.0)
        world.sweep()
        world.create("b")
