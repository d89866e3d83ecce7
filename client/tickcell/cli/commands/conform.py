"""The command `tickcell conform`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click
import numpy as np

from tickcell.cli import quiet_start
from tickcell.cli.commands import connection, options
from tickcell.cli.comparison import loop
from tickcell.client import address as addresses
from tickcell.client import errors
from tickcell.client.address import DEFAULT_ADDRESS
from tickcell.client.credentials import Credentials, Shown
from tickcell.conformance.beginning import CannotBegin, begun
from tickcell.conformance.caller import Caller
from tickcell.conformance.course import Loop
from tickcell.conformance.expectation import Unmet, shown
from tickcell.conformance.run import AREAS, Target, run
from tickcell.model import Bundle

if TYPE_CHECKING:
    from tickcell.client.resources import Model
    from tickcell.conformance.findings import Findings


class _CannotTell(click.ClickException):
    """The server could not be tested."""

    exit_code = 2


@click.command()
@click.argument("address", envvar="TICKCELL_SERVER", default=DEFAULT_ADDRESS)
@options.credentials
@options.model
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path),
    help="The served bundle, to compare with the plain loop.  [default: compare the server with "
    "itself]",
)
@click.option(
    "--area",
    "areas",
    type=click.Choice(AREAS),
    multiple=True,
    help="Test this area; may be repeated.  [default: all]",
)
@click.option("--list", "is_list", is_flag=True, help="List the tests, and run none.")
def conform(
    address: str,
    credentials: Credentials,
    model: str,
    bundle: pathlib.Path | None,
    areas: tuple[str, ...],
    is_list: bool,
) -> int:
    r"""Tests whether a server keeps the contract.

    It steps sessions of its own, with frames drawn within the ranges of the model's sensors, and
    deletes them at the end. Their outputs must be, bit for bit, those of an undisturbed session;
    with --bundle, those of the plain loop in this process.

    It exits with 0 if everything that was tested conforms, 1 if something does not, and 2 if the
    server could not be tested.

    \b
    tickcell conform localhost:50061
    tickcell conform robots.example:443 --tls --token-file token --model drive:1
    """
    if is_list:
        run(None, areas, click.echo)
        return 0
    try:
        return _tested(address, credentials, model, bundle, areas)
    except (click.ClickException, errors.TickcellError) as error:
        said = error.message if isinstance(error, click.ClickException) else str(error)
        raise _CannotTell(said) from error


def _tested(
    address: str,
    credentials: Credentials,
    model: str,
    bundle: pathlib.Path | None,
    areas: tuple[str, ...],
) -> int:
    """Tests a server; returns the exit status."""
    # One server is tested, not several of a store.
    where = addresses.parse(address)
    # Fails with one sentence if the caller is not admitted.
    with connection.link(address, credentials) as link:
        named = connection.model(link, model)
    proxy = [("grpc.enable_http_proxy", 0)] if where.is_local else []
    channel, token = Shown(credentials, (where,)).channel(
        address,
        [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", -1),
            *proxy,
        ],
    )
    with Caller.over(channel, f"Bearer {token}" if token else "") as caller:
        try:
            reference = None if bundle is None else _loop(named, address, bundle)
            course = begun(caller, named.name, named.version, reference)
        except CannotBegin as reason:
            raise _CannotTell(f"{address}: the tests cannot begin: {reason}.") from reason
        except Unmet as unmet:
            sent = shown(caller.sent)
            click.echo(f"failed: an undisturbed session: sent {sent}; {unmet}.")
            return 1
        what = "an undisturbed session" if bundle is None else f"the loop over {bundle}"
        click.echo(f"{named.name} {named.version} at {address}; outputs are compared with {what}.")
        return _status(run(Target(caller, course), areas, click.echo))


def _loop(served: Model, address: str, directory: pathlib.Path) -> Loop:
    """Returns the plain loop over a bundle that is served."""
    quiet_start.litert("server")
    bundle = Bundle.load(directory)
    cell = bundle.cell()
    here = (bundle.fingerprint, cell.numerics_digest)
    if (served.fingerprint, served.numerics_digest) != here:
        raise _CannotTell(
            f"{address} serves {served.fingerprint[:12]} with the numerics "
            f"{served.numerics_digest}, and the bundle is {here[0][:12]} with {here[1]} on this "
            "machine, so their outputs cannot be compared: omit --bundle, or name the bundle that "
            "is served."
        )

    def outputs(frames: np.ndarray) -> np.ndarray:
        return np.stack([loop(cell, each) for each in frames.swapaxes(0, 1)], axis=1)

    return outputs


def _status(findings: Findings) -> int:
    """Prints how a run ended; returns the exit status."""
    counts, left = findings.counts, findings.left
    click.echo(
        f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped; "
        f"{len(left) or 'no'} sessions of the tests are left on the server."
    )
    for session, why in left.items():
        click.echo(f"left: {session}: {why}.")
    if findings.is_interrupted:
        raise click.Abort
    if findings.hindrance:
        raise _CannotTell(f"the tests had to end: {findings.hindrance}.")
    if counts["failed"] or left:
        return 1
    if not counts["passed"]:
        raise _CannotTell("nothing was tested: all tests were skipped.")
    return 0
