"""One word for one thing: the table of words in docs/architecture.md, and its rivals.

Style is edited, not linted. What is checked here are other names for the things of the table:
in documents, in the comments of the contract, and in the strings and comments of the code,
which are its docstrings, help, errors and logs.
"""

from __future__ import annotations

import dataclasses
import io
import re
import tokenize
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Rival:
    """Another name for the thing of a word.

    Attributes:
      word: of the table.
      pattern: of the rival, a regular expression; a space may be a line break.
      example: a sentence that has it.
      places: only files whose paths match are searched, by a regular expression.
    """

    word: str
    pattern: str
    example: str
    places: str = ""

    def found(self, text: str) -> list[str]:
        """Returns what a text has of it."""
        pattern = rf"\b(?:{self.pattern})\b".replace(" ", r"[\s#/]+")
        return [each[0] for each in re.finditer(pattern, text, re.IGNORECASE)]


# Outside of the Open Inference Protocol and of training, where a sequence is another thing.
_SERVING = r"^(proto/|server/(?!.*/oip/)|client/tickcell/client/)"

RIVALS = [
    Rival("frame", "feature vectors?|sensor vectors?", "A feature vector per tick."),
    Rival("step", "time[- ]?steps?", "It advances one time step."),
    Rival("worker", "worker process(?:es)?|slaves?", "Each worker process has a core."),
    Rival("caller", "principals?", "The principal of the call."),
    Rival("owner", "tenants?", "Sessions of another tenant."),
    Rival("operator", "superusers?|admins?", "An admin sees all owners."),
    Rival("session", "conversations?|stateful streams?", "A conversation is kept for a day."),
    Rival("session", "sequences?", "The sequence has expired.", _SERVING),
    Rival("series", "batch (?:elements?|entries|entry)", "The state of a batch element."),
    Rival("chunk", "batch(?:es)? of frames|mini-?batch(?:es)?", "It sends a batch of frames."),
    Rival("window", "ring buffers?|sliding windows?|replay buffers?", "A ring buffer of outputs."),
    Rival("history", "hash chains?|running hash(?:es)?", "The hash chain of its frames."),
    Rival("head", "cached records?|record caches?", "It begins from a cached record."),
    Rival("output", "predictions?|inference results?", "The prediction for this frame."),
    Rival("masked", "padded frames?|padding frames?", "A padded frame changes nothing."),
    Rival("tombstone", "gravestones?|dead records?", "A gravestone is kept for an hour."),
    Rival("round", "micro-?batch(?:es)?|dynamic batch(?:es|ing)?", "Requests form a micro-batch."),
    Rival("slice", "time[- ]?slices?|quantum|quanta", "It runs for a time slice."),
    Rival("generation", "incarnations?|fencing tokens?|session versions?", "A late incarnation."),
    Rival("recording", "trajectory|trajectories", "It replays a trajectory."),
    Rival("bundle", "artefacts?|artifacts?|model packages?", "The server loads the artifact."),
    Rival("repository", "model registry|model registries|model stores?", "From a model registry."),
    Rival("peer", "siblings?|sibling servers?", "A sibling took the step."),
]


@dataclasses.dataclass(frozen=True)
class Exemption:
    """A passage that may have a rival, and why."""

    path: str
    passage: str
    reason: str


EXEMPT = [
    Exemption("docs/triton.md", "ragged or dynamic batches", "Triton's own terms"),
    Exemption("server/", "sequence of the Open Inference", "a sequence of that protocol"),
    Exemption("server/", "a sequence of that protocol", "the same"),
    Exemption("server/", "served too; a sequence may be idle", "the same"),
    Exemption("proto/", "sequences of the Open Inference Protocol", "the same"),
    Exemption("proto/", "ended by its sequence's last step", "the same"),
    Exemption(
        "model/tickcell/drive/vehicle.py",
        "one time step of explicit Euler",
        "a step of the simulation, not of a cell",
    ),
]


def _texts() -> dict[str, str]:
    """Returns what people read of each file: documents whole, of code strings and comments."""
    documents = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    documents += [*PROJECT.glob("docs/*.md"), *PROJECT.glob("examples/**/*.md")]
    contract = [*PROJECT.glob("proto/**/*.proto")]
    roots = ("proto", "model", "server", "client", "examples")
    code = [path for root in roots for path in PROJECT.glob(f"{root}/**/*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in documents if _is_ours(path)}
    texts |= {path: _comments(path.read_text(encoding="utf-8")) for path in contract}
    texts |= {path: _prose(path.read_text(encoding="utf-8")) for path in code if _is_ours(path)}
    return {path.relative_to(PROJECT).as_posix(): text for path, text in texts.items()}


def _is_ours(path: Path) -> bool:
    return "_pb2" not in path.name and "node_modules" not in path.parts


def _comments(proto: str) -> str:
    return "\n".join(re.findall(r"//.*", proto))


def _prose(source: str) -> str:
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", None)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join(token.string for token in tokens if token.type in kinds)


def _table() -> set[str]:
    text = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("\n## Words\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([a-z]+) \|", table, re.MULTILINE)
    # A row may define a second word within, in italics.
    return {*rows, *re.findall(r"\*([a-z]+)\*", table)}


def _rivals_in(path: str, text: str) -> list[str]:
    """Returns each rival that a file has outside of exempt passages, and the word for it."""
    for exemption in EXEMPT:
        if path.startswith(exemption.path):
            text = re.sub(_spaced(exemption.passage), "", text)
    return [
        f"{path}: {found!r}: say {rival.word}"
        for rival in RIVALS
        if re.search(rival.places, path)
        for found in rival.found(text)
    ]


def _spaced(passage: str) -> str:
    """Returns the expression for a passage that may be wrapped, in a comment too."""
    return r"[\s#/\"']+".join(map(re.escape, passage.split()))


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return _texts()


def test_every_rival_is_of_a_word_of_the_table() -> None:
    assert {rival.word for rival in RIVALS} <= _table()


def test_no_text_has_a_rival_of_a_word_of_the_table(texts: dict[str, str]) -> None:
    assert [found for path, text in texts.items() for found in _rivals_in(path, text)] == []


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: f"{rival.word}-{rival.pattern[:12]}")
def test_planted_rival_is_found(rival: Rival) -> None:
    path = "server/tickcell/server/planted.py"
    assert _rivals_in(path, _prose(f'"""{rival.example}"""\n'))
    assert _rivals_in(path, _prose(f"# {rival.example.replace(' ', chr(10) + '# ')}\n"))
    if not rival.places:
        assert _rivals_in("docs/planted.md", rival.example)


def test_sequence_is_the_word_of_the_open_inference_protocol() -> None:
    text = '"""The sequence has expired."""\n'
    assert _rivals_in("server/tickcell/server/lives.py", _prose(text))
    assert _rivals_in("server/tickcell/server/oip/sequences.py", _prose(text)) == []


def test_every_exemption_is_needed(texts: dict[str, str]) -> None:
    unused = [
        exemption
        for exemption in EXEMPT
        if not any(
            path.startswith(exemption.path) and re.search(_spaced(exemption.passage), text)
            for path, text in texts.items()
        )
    ]
    assert unused == []
