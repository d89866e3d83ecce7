"""What the tests require of a server: the points of the session contract."""

from __future__ import annotations

# As docs/architecture.md has them, each by its beginning.
POINTS = {
    1: "Create",
    2: "Step",
    3: "Each step is new or already applied",
    4: "All or nothing",
    5: "Acknowledged means stored",
    6: "Streams",
    7: "Lives",
    8: "Expiry",
    9: "A missing model never stops the server",
    10: "Errors",
    11: "State is a value",
}

# How a test names its point, for pytest.
MARKER = "contract(point): the point that the test checks"


def named(point: int | str) -> str:
    """Returns the name of a point: one of those above by its number, another by its place."""
    if isinstance(point, str):
        return point
    return f'point {point} of the session contract, "{POINTS[point]}"'
