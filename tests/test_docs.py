"""What the documents show exists: links, files, make targets, commands and their flags."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from google.protobuf import json_format, message_factory

import documents
from tickcell.cli import command_line
from tickcell.v1 import model_service_pb2, session_service_pb2

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = documents.read_all(PROJECT)
EACH_DOCUMENT = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(each.path.relative_to(PROJECT)) for each in DOCUMENTS]
)
WORDS = (
    *("frame", "tick", "step", "state", "session", "series", "chunk"),
    *("window", "generation", "recording", "bundle"),
)
# The methods of the wire contract, as grpcurl names them.
METHODS = {
    (service.full_name, method.name): method
    for contract in (model_service_pb2, session_service_pb2)
    for service in contract.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@EACH_DOCUMENT
def test_links_lead_somewhere(document: documents.Document) -> None:
    dead = []
    for link in document.links:
        target, _, anchor = link.partition("#")
        path = (document.path.parent / target).resolve() if target else document.path
        if not re.match(r"https?:", link) and (
            not path.exists() or (anchor and anchor not in documents.Document.read(path).anchors)
        ):
            dead.append(link)
    assert dead == []


@EACH_DOCUMENT
def test_files_that_are_named_exist(document: documents.Document) -> None:
    roots = ("proto", "server", "client", "model", "tests", "bench", "docs", "deploy", "examples")
    named = [span for span in document.spans if re.match(rf"({'|'.join(roots)})/[\w./-]*$", span)]
    assert [name for name in named if not (PROJECT / name).exists()] == []


@EACH_DOCUMENT
def test_make_targets_that_are_named_exist(document: documents.Document) -> None:
    targets = {
        *re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.M)
    }
    named = {
        word
        for command in document.commands
        if command.startswith("make ")
        for word in re.match(r"make((?: [\w.=-]+)*)", command)[1].split()  # type: ignore[index]
        if "=" not in word and not word.startswith("-")
    }
    assert named <= targets


def test_make_help_lists_every_target() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    helped = re.findall(r"^([a-z-]+):.*  ## [A-Z]", makefile, re.M)
    phony = re.search(r"^.PHONY: (.*)$", makefile, re.M)[1].split()  # type: ignore[index]
    assert {*helped, "remade"} == {*phony}


def _parsed(command: str) -> tuple[click.Command | None, list[str], list[str]]:
    """Splits a `tickcell` command line into its command, its names and its flags."""
    try:
        words = shlex.split(command.partition("|")[0].partition(">")[0], comments=True)[1:]
    except ValueError:
        return None, [command], []
    current: click.Command | None = command_line.tickcell
    context = click.Context(command_line.tickcell)
    names: list[str] = []
    for word in words:
        if not isinstance(current, click.Group) or word.startswith("-"):
            break
        names.append(word)
        current = current.get_command(context, word)
    return current, names, [word.partition("=")[0] for word in words if word.startswith("--")]


def _shown(document: documents.Document) -> Iterator[tuple[str, click.Command | None, list[str]]]:
    for command in document.commands:
        if re.match(r"tickcell [a-z<\[-]", command) and not re.search(r"[…[<|]|\.\.\.", command):
            found, names, flags = _parsed(command)
            yield " ".join(["tickcell", *names]), found, flags


@EACH_DOCUMENT
def test_commands_that_are_shown_exist(document: documents.Document) -> None:
    assert [name for name, command, _ in _shown(document) if command is None] == []


@EACH_DOCUMENT
def test_flags_that_are_shown_exist(document: documents.Document) -> None:
    unknown = [
        f"{name} {flag}"
        for name, command, flags in _shown(document)
        if command is not None
        for flag in {*flags} - {"--help"}
        if flag
        not in {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    ]
    assert unknown == []


@EACH_DOCUMENT
def test_calls_by_grpcurl_that_are_shown_are_of_the_contract(document: documents.Document) -> None:
    for command in document.commands:
        if command.startswith("grpcurl "):
            words = shlex.split(command)
            service, _, method = words[-1].partition("/")
            request = METHODS[service, method].input_type
            body = words[words.index("-d") + 1] if "-d" in words else "{}"
            json_format.Parse(body, message_factory.GetMessageClass(request)())


@EACH_DOCUMENT
def test_python_that_is_shown_compiles(document: documents.Document) -> None:
    for block in document.blocks:
        if block.language == "python":
            # Line numbers are those of the document.
            compile("\n" * block.line + block.code, document.path, "exec")


def test_architecture_has_the_table_of_words() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| *\**`?([a-z]+)", text, re.M)
    assert {*WORDS} <= {*rows}
