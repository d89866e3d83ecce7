"""The command: measures one row after the other, and prints each as it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bench import options, results, table
from tickcell.model import Bundle

if TYPE_CHECKING:
    import pathlib

    from bench.row import Effort


def _numbers(_: click.Context, __: click.Parameter, value: str | None) -> list[int]:
    known = sorted({*table.MEASURES, *table.APART})
    if value is None:
        return known
    wanted = [each.strip() for each in value.split(",")]
    for each in wanted:
        if each not in map(str, known):
            raise click.BadParameter(f"{each!r} is none; expected some of 1 to 12, as 1,3.")
    return sorted({int(each) for each in wanted})


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rows", "numbers", callback=_numbers, help="Some rows, as 1,3. [default: all]")
@options.quick
@options.results_directory
def main(numbers: list[int], effort: Effort, directory: pathlib.Path) -> None:
    """Measures what the aims of docs/performance.md are about; takes some minutes."""
    bundle, recorder = Bundle.load(), results.Recorder()
    for number in numbers:
        if number in table.APART:
            recorder.add([table.APART[number]])
        else:
            # Where also LiteRT says what it does; the table follows whole.
            click.echo(f"row {number} ...", err=True)
            recorder.add(table.MEASURES[number](bundle, effort))
    click.echo(recorder.keep(directory))


if __name__ == "__main__":
    main()
