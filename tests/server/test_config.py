"""What the server is told is checked when it is told."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import Any

import pytest

from tickcell.server.config import Config, ConfigError, Limits

LIMITS = [field.name for field in dataclasses.fields(Limits)]


def test_defaults_are_within_their_own_bounds() -> None:
    assert Config(durability="none").limits == Limits()
    assert Config(store=pathlib.Path("store")).durability is None


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_limit_below_one_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name}: got {value}"):
        Limits(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("durability", "some"),
        ("numerics", "loose"),
        ("idle_ttl_s", 0.0),
        ("idle_ttl_s", -1.0),
        ("idle_ttl_s", math.nan),
        ("idle_ttl_s", math.inf),
        ("idle_ttl_s", 1e12),
        ("retention_s", -1.0),
        ("retention_s", math.nan),
        ("retention_s", math.inf),
        ("grace_s", -0.5),
        ("grace_s", math.nan),
        ("busy_poll_us", -1.0),
        ("busy_poll_us", math.nan),
        ("busy_poll_us", 1e7),
    ],
)
def test_option_out_of_its_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        Config(**{"durability": "none", name: value})


def test_durable_server_without_a_store_is_refused() -> None:
    with pytest.raises(ConfigError, match="store"):
        Config(durability="power-loss")


def test_store_that_would_not_be_used_is_refused() -> None:
    with pytest.raises(ConfigError, match="store"):
        Config(durability="none", store=pathlib.Path("store"))


def test_configuration_cannot_be_changed() -> None:
    config = Config(durability="none")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.grace_s = 1.0  # type: ignore[misc]
