"""Standard error keeps what matters."""

from __future__ import annotations

import os

import pytest

from tickcell.model.remarks import without_remarks


def test_remarks_are_kept_from_standard_error_and_nothing_else(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with without_remarks():
        os.write(2, b"INFO: all is well\nERROR: it is not\n")
    os.write(2, b"INFO: later\n")
    assert capfd.readouterr().err == "ERROR: it is not\nINFO: later\n"


def test_an_exception_loses_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with without_remarks():
            os.write(2, b"why it failed\n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capfd.readouterr().err == "why it failed\n"
