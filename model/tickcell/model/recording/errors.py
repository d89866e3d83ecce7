"""What is wrong with a recording."""

from __future__ import annotations


class RecordingError(ValueError):
    """A recording cannot be read; the message names the file and the place in it."""


def ended(error: Exception) -> str:
    """Returns what another library says, as the end of a sentence."""
    return f"{str(error).rstrip('. ')}."
