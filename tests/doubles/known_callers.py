"""The files by which a server knows its callers, in a directory of the test's own."""

from __future__ import annotations

import pathlib
from typing import Any

from tickcell.server import tokens


class KnownCallers:
    """A file of tokens and a callers file.

    Attributes:
      tokens: the file of tokens.
      callers: the callers file.
      options: the server's, by which it reads them.
    """

    def __init__(self, directory: pathlib.Path, callers: str = "") -> None:
        self.tokens, self.callers = directory / "tokens", directory / "callers.toml"
        self.tokens.write_text("")
        self.callers.write_text(callers)
        self.options: dict[str, Any] = {"tokens": self.tokens, "callers": self.callers}

    def draw(self, name: str) -> str:
        """Draws a token, and adds it to the file."""
        token = tokens.draw()
        with self.tokens.open("a") as file:
            file.write(tokens.line(name, token) + "\n")
        return token

    def forget(self, token: str) -> None:
        """Takes a token out of the file."""
        gone = tokens.line("", token).strip()
        lines = self.tokens.read_text().splitlines()
        self.tokens.write_text("".join(f"{line}\n" for line in lines if not line.endswith(gone)))
