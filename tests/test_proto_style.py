"""The wire contract keeps its style, and each rule can tell when it does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import proto_contract
import proto_rules
from proto_contract import Contract

Rule = Callable[[Contract], Iterator[str]]

# By rule: what stands in a file, what is planted instead, and what is then said.
FAULTS: dict[str, list[tuple[str, str, str]]] = {
    "package_is_the_path": [
        ("package tickcell.v1;", "package tickcell;", "does not end in a major version"),
    ],
    "text_is_laid_out": [
        ("// SPDX-License-Identifier: Apache-2.0", "//", "no licence"),
        ("package tickcell.v1;", "package tickcell.v1;  ", "trailing space"),
        ("  // Never sent.", "   // Never sent.", "other than 2 spaces"),
        ("  // Never sent.", "  // Never" + " sent" * 20 + ".", "over 80"),
        ("  // Never sent.", "  /* Never sent. */", "block comment"),
        (
            'import "google/protobuf/duration.proto";\nimport "google/protobuf/timestamp.proto";',
            'import "google/protobuf/timestamp.proto";\nimport "google/protobuf/duration.proto";',
            "imports are not sorted",
        ),
    ],
    "parts_are_in_order": [
        (
            "// Keeps sessions and advances them.",
            "// Says nothing.\nenum Early {\n  // Never sent.\n  EARLY_UNSPECIFIED = 0;\n}\n\n"
            "// Keeps sessions and advances them.",
            "services, messages, enums",
        ),
        (
            "// Asks for a page of sessions.",
            "// Asks for nothing.\nmessage PurgeRequest {}\n\n// Asks for a page of sessions.",
            "those of the methods",
        ),
    ],
    "nothing_is_nested": [
        (
            "message DeleteSessionResponse {\n",
            "message DeleteSessionResponse {\n  message Inner {}\n",
            "declared inside",
        ),
    ],
    "services_and_methods_are_named": [
        ("service SessionService", "service Sessions", "end in Service"),
        (
            "rpc TouchSession(TouchSessionRequest)",
            "rpc TouchSession(GetSessionRequest)",
            "takes or gives",
        ),
        (
            "rpc TouchSession(TouchSessionRequest)",
            "rpc Touch(TouchSessionRequest)",
            "a verb and a noun",
        ),
    ],
    "streams_have_a_unary_sibling": [
        ("what StepSession does, without", "without", "names no unary"),
        (
            "rpc StreamSteps(stream StreamStepsRequest)",
            "rpc StreamSteps(StreamStepsRequest)",
            "one way",
        ),
    ],
    "lists_are_paginated": [
        ("string page_token = 2;", "string cursor = 2;", "not paginated"),
        ("repeated Session sessions = 1;", "Session sessions = 1;", "not paginated"),
    ],
    "fields_are_typed": [
        ("int64 next_step = 3;", "uint64 next_step = 3;", "unsigned"),
        ("string request_id = 2;", "int64 request_id = 2;", "an id that"),
        ("Timestamp expire_time", "Timestamp expiry", "end in _time"),
        ("Timestamp create_time", "Timestamp created_time", "imperative"),
        (
            "google.protobuf.Timestamp expire_time = 15;",
            "int64 expire_time = 15;",
            "neither Timestamp",
        ),
        ("int64 next_step = 3;", "optional string next_step = 3;", "optional"),
    ],
    "fields_are_named": [
        ("int64 next_step = 3;", "int64 nextStep = 3;", "lower_snake"),
        ("int64 next_step = 3;", "int64 number_of_steps = 3;", "preposition"),
        ("repeated float frames", "repeated float frame", "plural"),
        ("string model = 5;", "string models = 5;", "plural"),
    ],
    "numbers_are_kept": [
        ("int64 origin_step = 23;", "int64 origin_step = 24;", "missing and not reserved"),
        ("int64 origin_step = 23;", "reserved 23;", "without its name"),
        (
            "  bytes history = 7;",
            "  bytes history = 16;\n  reserved 7 to 15;\n"
            "  reserved 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i';",
            "above 15",
        ),
    ],
    "enums_are_safe": [
        (
            "SESSION_STATE_UNSPECIFIED = 0",
            "SESSION_STATE_OFF = 0",
            "is not SESSION_STATE_UNSPECIFIED",
        ),
        ("SESSION_STATE_ACTIVE = 1", "ACTIVE = 1", "without the prefix"),
        ("SESSION_STATE_ACTIVE = 1", "SESSION_STATE_ACTIVE = 2", "missing and not reserved"),
        ("The list may grow.", "That is all.", "grow or is frozen"),
    ],
    "everything_is_commented": [
        ("  // Never sent.\n", "", "no comment"),
        ("  // Never sent.\n", "  // Never sent\n", "no comment"),
        (
            "ERROR_REASON_UNSPECIFIED = 0;",
            "ERROR_REASON_UNSPECIFIED = 0;  // Zero.",
            "trailing comment",
        ),
        ("Never sent.", "Never sent, TODO.", "task"),
        ("// Creates a session, pinned", "// Create a session, pinned", "begin with a verb"),
        (
            "// Output only. When the session was created, for display.",
            "// When the session was created, for display. Output only.",
            "at the head",
        ),
    ],
    "reasons_say_what_to_do": [
        ("// NOT_FOUND. The session was", "// The session", "not `CODE"),
        ("was deleted. Again: no.", "was deleted.", "not `CODE"),
        ("REASON_INTERNAL", "REASON_" + "INTERNAL" * 8, "longer than 63"),
    ],
}


@pytest.fixture(scope="module")
def contract(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Contract:
    return proto_contract.read(project / "proto", tmp_path_factory.mktemp("contract"))


@pytest.mark.parametrize("rule", proto_rules.RULES, ids=lambda rule: rule.__name__)
def test_wire_contract_keeps(rule: Rule, contract: Contract) -> None:
    assert list(rule(contract)) == []


@pytest.mark.parametrize(
    ("rule", "before", "after", "says"),
    [
        pytest.param(rule, *fault, id=f"{rule.__name__}-{fault[2]}")
        for rule in proto_rules.RULES
        for fault in FAULTS.get(rule.__name__, [])
    ],
)
def test_planted_fault_is_found_by(
    rule: Rule, before: str, after: str, says: str, project: Path, tmp_path: Path
) -> None:
    root = tmp_path / "proto"
    shutil.copytree(
        project / "proto", root, ignore=lambda _, names: [n for n in names if n.endswith(".py")]
    )
    path = next(p for p in sorted(root.rglob("*.proto")) if before in p.read_text(encoding="utf-8"))
    path.write_text(path.read_text(encoding="utf-8").replace(before, after, 1))
    assert says in "\n".join(rule(proto_contract.read(root, tmp_path)))


@pytest.mark.parametrize("name", ["Sessions.proto", "import.proto", "v1.proto", "a__b.proto"])
def test_file_name_that_makes_no_module_is_found(name: str, project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "proto" / "tickcell" / "v1"
    folder.mkdir(parents=True)
    shutil.copy(project / "proto" / "tickcell" / "v1" / "error_reason.proto", folder / name)
    contract = proto_contract.read(tmp_path / "proto", tmp_path)
    assert list(proto_rules.file_names_are_modules(contract)) != []


def test_every_rule_has_a_planted_fault() -> None:
    # A file's name is planted by the test above.
    assert {*FAULTS, "file_names_are_modules"} == {rule.__name__ for rule in proto_rules.RULES}
