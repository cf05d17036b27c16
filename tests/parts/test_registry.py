"""Registries: what a part declares, what it is given, and what is refused."""

import dataclasses
import re
from typing import Annotated, Union

import pytest

from fedasync_jax.data.partition.registry import PARTITIONS
from fedasync_jax.data.registry import DATASETS, TEXTS
from fedasync_jax.fleet.habits import AVAILABILITIES
from fedasync_jax.fleet.laws import DELAY_LAWS
from fedasync_jax.mixing.rules import RULES
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.models.registry import CLASSIFIERS, LANGUAGE_MODELS
from fedasync_jax.parts.bounds import (
    Bounds,
    Free,
    above,
    at_least,
    check_value,
    find_allowed,
    one_of,
)
from fedasync_jax.parts.registry import Registry, checked
from fedasync_jax.parts.settings import PartSettings
from fedasync_jax.schedule.schedulers import SCHEDULES

REGISTRIES = (
    *(STALENESS_FNS, RULES, DELAY_LAWS, AVAILABILITIES, SCHEDULES, PARTITIONS),
    *(DATASETS, TEXTS, CLASSIFIERS, LANGUAGE_MODELS),
)

Width = Annotated[int, at_least(1)]
OPTIONAL = Union[Annotated[float, above(0)], None]  # noqa: UP007


def wall(width: Width = 2, *, height: Annotated[float, above(0)] = 1.0, colour="red"):
    """Return a wall."""
    return width, height, colour


def fence(width: Width = 2, length: Annotated[float, Free()] = 5.0):
    """Return a fence."""
    return width, length


@pytest.fixture
def registry():
    made = Registry("thing", prefix="{name}_")
    made.register("brick-wall", wall)
    made.register("fence", fence, length="far")
    return made


def fails(line):
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda r: r.kind)
def test_every_setting_has_a_default_that_is_allowed(registry):
    assert registry
    for name, setting in registry.settings().items():
        check_value(name, setting.hint, setting.default)
        assert list(find_allowed(setting.hint)), name
        assert set(setting.parts) <= set(registry)


def test_what_is_annotated_is_a_setting(registry):
    settings = registry.settings()
    assert list(settings) == [
        "brick_wall_width",
        "brick_wall_height",
        "fence_width",
        "far",
    ]
    assert settings["far"].default == 5.0
    assert settings["far"].argument == "length"
    assert settings["brick_wall_height"].parts == ("brick-wall",)


def test_a_part_gets_its_own_settings_and_what_it_names(registry):
    values = {"brick_wall_width": 7, "fence_width": 9, "far": 1.0}
    offered = {"colour": "blue", "owner": "nobody asks"}
    assert registry.make("brick-wall", values, **offered) == (7, 1.0, "blue")
    assert registry.make("fence", values, **offered) == (9, 1.0)
    assert registry.make("fence", {}) == (2, 5.0)


def test_a_prefix_and_defaults_of_the_asker(registry):
    settings = registry.settings("my_", width=4)
    assert {n: s.default for n, s in settings.items()} == {
        "my_width": 4,
        "my_height": 1.0,
        "far": 5.0,
    }
    assert settings["my_width"].parts == ("brick-wall", "fence")
    assert registry.make("fence", {"my_width": 3}, prefix="my_") == (3, 5.0)


def test_a_name_is_taken_once(registry):
    with fails("thing must have a new name, got 'fence' again"):
        registry.register("fence", fence)


def test_a_shared_setting_must_be_the_same():
    def gate(width: Width = 3):
        return width

    registry = Registry("thing")
    registry.register("fence", fence)
    with fails(
        "thing gate must have the default and the bounds of fence for width, or "
        "another name, got 3"
    ):
        registry.register("gate", gate)
    assert list(registry) == ["fence"]


def test_a_setting_without_a_default_is_refused(registry):
    def gate(width: Width):
        return width

    with fails("thing gate must have a default for its setting width, got none"):
        registry.register("gate", gate)
    assert "gate" not in registry


def test_a_part_cannot_take_the_name_of_a_field():
    class Record(PartSettings):
        height: Width = 1

        @classmethod
        def choices(cls):
            return registry.settings("")

    registry = Registry("thing")
    registry.register("brick-wall", wall)
    with fails("height must be the setting of one part, got it in brick-wall as well"):
        dataclasses.dataclass(frozen=True, kw_only=True)(Record)()


def test_an_unknown_name_lists_the_known(registry):
    with fails("thing must be one of brick-wall, fence, got 'wal'"):
        registry.make("wal", {})


def test_names_of_a_registry_may_grow(registry):
    allowed = one_of(registry, ("none",))
    assert not allowed.holds("gate")
    registry.register("gate", lambda: None)
    assert allowed.holds("gate")
    assert str(allowed) == "one of brick-wall, fence, gate, none"


@pytest.mark.parametrize(
    ("hint", "value", "line"),
    [
        (Annotated[int, at_least(1)], 0, "x must be finite and >= 1, got 0"),
        (OPTIONAL, 0.0, "x must be finite and > 0, got 0.0"),
        (Annotated[float, above(0)], None, "x must be finite and > 0, got None"),
        (
            tuple[Annotated[int, Bounds(1, 2)], ...],
            (1, 3),
            "x must be in [1, 2], got 3",
        ),
        (Annotated[str, one_of(("a", "b"))], "c", "x must be one of a, b, got 'c'"),
    ],
)
def test_what_is_not_allowed_is_one_line(hint, value, line):
    with fails(line):
        check_value("x", hint, value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (OPTIONAL, None),
        (tuple[Annotated[int, at_least(1)], ...], ()),
        (Annotated[float, Free()], -1.0),
    ],
)
def test_what_is_allowed(hint, value):
    check_value("x", hint, value)


def test_a_checked_factory_checks_its_settings_by_place_and_by_name():
    door = checked(wall)
    assert door(3, height=2.0) == (3, 2.0, "red")
    with fails("wall: width must be finite and >= 1, got 0"):
        door(0)
    with fails("wall: height must be finite and > 0, got -1.0"):
        door(height=-1.0)
