"""How the cells of a text are separated, judged by its first lines."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.layout import Layout
from tickcell.model.recording.table import listed, not_named
from tickcell.model.recording.text import Lines

# A space stands for runs of spaces and tabs. The more usual comes first.
_DELIMITERS = (",", ";", "\t", "|", " ")
_WORDS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar", " ": "spaces"}
_TERMINATOR = ";"


@dataclasses.dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells of a text are separated, and what its columns are called.

    Attributes:
      delimiter: between cells; a space stands for runs of spaces and tabs.
      names: of the columns.
      has_header: whether the first line holds the names.
      terminator: what ends a row, beside the end of its line; "" where nothing does.
    """

    delimiter: str
    names: tuple[str, ...]
    has_header: bool
    terminator: str = ""

    def rows(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Splits lines into cells; a blank line has none."""
        if self.terminator:
            lines = (part for line in lines for part in line.rstrip().split(self.terminator))
        if self.delimiter == " ":
            return (_spaced(line) for line in lines)
        return csv.reader(lines, delimiter=self.delimiter)


def judge(lines: Lines, wanted: Sequence[str], layout: Layout) -> Dialect:
    """Judges the dialect of a text, and takes the lines that are no rows.

    Args:
      lines: of the text.
      wanted: the columns that must be there.
      layout: what is known beforehand.

    Raises:
      RecordingError: the text has no line, or the wanted columns are not found in it.
    """
    source, first, comment = lines.source, lines.first(), lines.last_comment
    delimiters = (layout.delimiter,) if layout.delimiter else _DELIMITERS
    if first.lstrip("\ufeff").lower().startswith("sep="):
        delimiters = (layout.delimiter or first.strip("\ufeff\r\n")[4:5],)
        next(iter(lines))
        first = lines.first()
    sample = [line for line in lines.sample() if line.strip()]
    if layout.columns:
        found = _by_columns(sample, delimiters, wanted, layout, source)
    else:
        named = _by_names(first, sample, delimiters, wanted)
        if named is None and comment:
            named = _by_names(comment, sample, delimiters, wanted)
            named = named and dataclasses.replace(named, has_header=False)
        if named is None:
            raise _not_found(first, sample, delimiters, wanted, source)
        found = named
    if found.has_header:
        next(iter(lines))
    return found


def name_of(delimiter: str) -> str:
    """Returns what to call a delimiter."""
    return _WORDS.get(delimiter, repr(delimiter))


def _by_names(
    header: str, sample: Sequence[str], delimiters: Sequence[str], wanted: Sequence[str]
) -> Dialect | None:
    """Returns the dialect under which a line names all that is wanted, or None.

    Under several (there may be one column only) it is the one whose rows are as wide.
    """
    found = []
    for delimiter in delimiters:
        names = _names(header, delimiter)
        if set(wanted) <= set(names):
            fitting = sum(fits(_cells(line, delimiter), len(names)) for line in sample)
            found.append((fitting, len(names) > 1, Dialect(delimiter, tuple(names), True)))
    if not found:
        return None
    return max(found, key=lambda one: one[:2])[2]


def _by_columns(
    sample: Sequence[str],
    delimiters: Sequence[str],
    wanted: Sequence[str],
    layout: Layout,
    source: str,
) -> Dialect:
    """Returns the dialect under which most lines have as many cells as there are names."""
    names = layout.columns
    if missing := [name for name in wanted if name not in names]:
        raise RecordingError(
            f"{source}: --columns does not name {listed(missing)}; it names {listed(names)}."
        )
    ended = [line for line in sample if line.rstrip().endswith(_TERMINATOR)]
    found = []
    for delimiter in delimiters:
        # Where a mark ends nearly every row, and parts nothing within it.
        is_terminated = delimiter != _TERMINATOR and 2 * len(ended) > len(sample)
        terminator = _TERMINATOR if is_terminated else ""
        dialect = Dialect(delimiter, names, False, terminator)
        rows = [cells for cells in dialect.rows(sample) if cells]
        fitting = sum(fits(cells, len(names)) for cells in rows)
        numeric = sum(map(_is_numeric, (cell for cells in rows for cell in cells)))
        found.append((fitting, numeric, rows, dialect))
    fitting, _, rows, dialect = max(found, key=lambda one: one[:2])
    if 2 * fitting <= len(sample):
        widths = ", ".join(
            f"{len(_cells(sample[0], delimiter))} by {name_of(delimiter)}"
            for delimiter in delimiters
        )
        raise RecordingError(
            f"{source}: row 1: --columns names {len(names)} columns; the row has {widths}."
        )
    places = [names.index(name) for name in wanted if names.index(name) < len(rows[0])]
    has_header = not any(_is_numeric(rows[0][place]) for place in places)
    return dataclasses.replace(dialect, has_header=has_header)


def _not_found(
    first: str,
    sample: Sequence[str],
    delimiters: Sequence[str],
    wanted: Sequence[str],
    source: str,
) -> RecordingError:
    """Returns the error for a first line that does not name what is wanted."""
    if any(_by_names(line, (), delimiters, wanted) for line in sample):
        return RecordingError(
            f"{source}: row 1: does not name the columns, but a later row does; remove what is "
            "before that, or begin it with #."
        )
    # The one under which most of it is there, and that parts it into most cells.
    delimiter = max(
        delimiters,
        key=lambda one: (
            len(set(wanted) & set(_names(first, one))),
            all(map(_is_numeric, _cells(first, one))),
            len(_names(first, one)),
        ),
    )
    cells = _names(first, delimiter)
    if all(map(_is_numeric, cells)):
        return RecordingError(
            f"{source}: row 1: has {len(cells)} numbers, separated by {name_of(delimiter)}, and no "
            "names; name the columns in order with --columns, such as --columns t,x,y."
        )
    missing = [name for name in wanted if name not in cells]
    return not_named(f"{source}: row 1", "column", missing, cells)


def _names(header: str, delimiter: str) -> list[str]:
    """Returns the names in a line; those that are empty at its end are none."""
    # What some spreadsheets put at the head of a file is no part of a name.
    cells = _cells(header.lstrip("\ufeff"), delimiter)
    names = [cell.strip().removeprefix("\ufeff").strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return _spaced(line)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _spaced(line: str) -> list[str]:
    if '"' not in line:
        return line.split()
    line = " ".join(line.split("\t")).strip()
    return next(csv.reader([line], delimiter=" ", skipinitialspace=True), [])


def fits(cells: Sequence[str], count: int) -> bool:
    """Says whether a row has so many cells, beside empty ones at its end."""
    return len(cells) >= count and not any(cell.strip() for cell in cells[count:])


def _is_numeric(cell: str) -> bool:
    """Says whether a cell may be a reading: a number, with either decimal mark, or nothing."""
    if not cell.strip():
        return True
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True
