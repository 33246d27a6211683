from __future__ import annotations

from dataclasses import dataclass

import pytest

from deeptaxi.config import TrainConfig
from deeptaxi.errors import UsageError
from deeptaxi.schema import (
    Check,
    Checked,
    coerce,
    from_mapping,
    leaf_settings,
    nest,
    one_of,
    setting,
    to_mapping,
    value_at,
)


@dataclass(frozen=True)
class Inner(Checked):
    """A section."""

    sizes: tuple[int, ...] = setting((1,), "sizes", None, "--sizes")
    kind: str | None = setting(None, "kind", one_of(("small", "large")))


@dataclass(frozen=True)
class Outer(Checked):
    """Settings with a section."""

    rate: float = setting(0.5, "rate", Check("a value above 0", lambda x: x > 0), "--rate")
    inner: Inner = Inner()


def test_settings_are_read_from_nested_mappings_and_written_to_them():
    read = from_mapping(Outer, {"rate": 2, "inner": {"sizes": [3, 4], "kind": "large"}})
    assert read == Outer(2.0, Inner((3, 4), "large"))
    assert to_mapping(read) == {"rate": 2.0, "inner": {"sizes": [3, 4], "kind": "large"}}
    assert to_mapping(Outer()) == {"rate": 0.5, "inner": {"sizes": [1]}}  # None is left out: TOML has no null
    assert [path for path, _, _ in leaf_settings(Outer)] == [("rate",), ("inner", "sizes"), ("inner", "kind")]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"rate": -1}, r"rate = -1\.0: expected a value above 0"),
        ({"inner": {"kind": "smal"}}, r"\[inner\] kind = smal: expected one of small, large; did you mean 'small'"),
        ({"size": 1}, r"unknown key 'size'; did you mean 'inner\.sizes'"),
        ({"inner": 3}, r"'inner' is a table of settings: write \[inner\]"),
        ({"rate": True}, "'rate' = True: expected a number"),
        ({"rate": float("inf")}, "'rate' = inf: expected a finite number"),
        ({"inner": {"sizes": ["a"]}}, r"'inner\.sizes' = 'a': expected a whole number"),
    ],
)
def test_what_does_not_fit_is_named_as_it_was_written(values, error):
    with pytest.raises(UsageError, match=error):
        from_mapping(Outer, values)


def test_only_whole_numbers_and_lists_are_converted():
    assert (coerce(3, float, "x"), coerce([1], tuple[int, ...], "x"), coerce(None, int | None, "x")) == (
        3.0,
        (1,),
        None,
    )
    with pytest.raises(UsageError, match=r"'x' = 3\.0: expected a whole number"):
        coerce(3.0, int, "x")


def test_a_setting_is_described_and_its_default_passes_its_own_check():
    found = list(leaf_settings(TrainConfig))
    assert (("replay", "capacity"), int) in [(path, hint) for path, _, hint in found]
    assert [path for path, item, _ in found if not item.metadata["help"]] == []
    assert from_mapping(TrainConfig, to_mapping(TrainConfig())) == TrainConfig()


def test_settings_are_nested_by_path_and_looked_up_by_it():
    nested = nest({("seed",): 3, ("replay", "capacity"): 9, ("replay", "start"): None, ("target", "n_step"): 2})
    assert nested == {"seed": 3, "replay": {"capacity": 9}, "target": {"n_step": 2}}
    assert value_at(nested, ("replay", "capacity")) == 9
    assert [value_at(nested, path) for path in (("replay", "start"), ("seed", "a"), ("a",))] == [None] * 3
    assert value_at(TrainConfig(), ("interaction", "environments")) == TrainConfig().interaction.environments
