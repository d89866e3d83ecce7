"""Reads what the project's Markdown files and docstrings show: code, links and headings."""

from __future__ import annotations

import ast
import dataclasses
import re
import textwrap
from pathlib import Path

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```", re.M | re.S
)
_INDENTED = re.compile(r"(?:^(?: {4}|\t).*\n?(?:^\s*\n(?= {4}))*)+", re.M)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code in a document."""

    language: str
    code: str
    line: int


@dataclasses.dataclass(frozen=True)
class Document:
    """One Markdown file."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Document:
        return cls(path, path.read_text(encoding="utf-8"))

    @property
    def blocks(self) -> list[Block]:
        """The fenced and indented blocks of code; an indented one has no language."""
        fenced = [
            Block(found["language"], found["code"], self._line(found))
            for found in _FENCE.finditer(self.text)
        ]
        rest = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), self.text)
        return fenced + [
            Block("", found[0], rest.count("\n", 0, found.start()) + 1)
            for found in _INDENTED.finditer(rest)
        ]

    @property
    def spans(self) -> list[str]:
        """The code in running text."""
        return _SPAN.findall(self._prose)

    @property
    def links(self) -> list[str]:
        return _LINK.findall(self._prose)

    @property
    def anchors(self) -> set[str]:
        """What a link may name after `#`: each heading, as GitHub spells it."""
        headings = re.findall(r"^#+ +(.*)$", self._prose, re.M)
        return {
            re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
            for heading in headings
        }

    @property
    def commands(self) -> list[str]:
        """The lines that a person is shown to type, and the code in running text."""
        typed = "\n".join(block.code for block in self.blocks if block.language != "python")
        lines = typed.replace("\\\n", " ").splitlines()
        return [line.strip().removeprefix("$ ") for line in lines] + self.spans

    @property
    def _prose(self) -> str:
        return _FENCE.sub("", self.text)

    def _line(self, found: re.Match[str]) -> int:
        return self.text.count("\n", 0, found.start()) + 1


def read_all(project: Path) -> list[Document]:
    """Returns the documents of a checkout."""
    return [
        Document.read(path)
        for path in sorted(
            [*project.glob("*.md"), *project.glob("docs/**/*.md"), *project.glob("examples/*.md")]
        )
    ]


def in_docstrings(module: Path) -> list[Block]:
    """Returns the Python that a module's docstrings show: indented, after an empty line."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, documented) and (docstring := ast.get_docstring(node)):
            start = node.body[0].lineno
            found += [
                Block(
                    "python",
                    textwrap.dedent(block[0]),
                    start + docstring.count("\n", 0, block.start()),
                )
                for block in _INDENTED.finditer(docstring)
                if docstring[: block.start()].endswith("\n\n") and _is_python(block[0])
            ]
    return found


def _is_python(block: str) -> bool:
    """Whether it is no table, no list and no formula."""
    try:
        return bool(ast.parse(textwrap.dedent(block)).body)
    except SyntaxError:
        return False
