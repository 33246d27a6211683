from __future__ import annotations

import click
import pytest

from deeptaxi.cli.options import (
    PATH,
    Sizes,
    TransitionType,
    given_settings,
    keyword_arguments,
    option_type,
    sentence,
)


@pytest.mark.parametrize(
    ("text", "transition"),
    [
        ("0,1,-1,4", (0, 1, -1.0, 4, False)),
        ("62, 2, 0.5, 63, terminated", (62, 2, 0.5, 63, True)),
        ("0,0,1,0,0", (0, 0, 1.0, 0, False)),
    ],
)
def test_a_transition_is_parsed(text: str, transition: tuple[object, ...]) -> None:
    assert TransitionType()(text) == transition
    assert TransitionType()(transition) == transition


@pytest.mark.parametrize("text", ["", "0,1,-1", "0,1,-1,4,5", "0,1,-1,4,0,0", "a,1,1,1", "0.5,1,1,1", "0,1,inf,4"])
def test_another_transition_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected"):
        TransitionType()(text)


def test_layer_sizes_are_separated_by_commas() -> None:
    assert Sizes()("128,64") == [128, 64]
    assert Sizes()([8]) == [8]
    with pytest.raises(click.BadParameter, match="expected whole numbers such as 128,64, received '8,'"):
        Sizes()("8,")


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(click.BadParameter, match="expected a path, received nothing"):
        PATH("")


def test_arguments_of_an_environment_are_parsed_by_name() -> None:
    parse = lambda *values: keyword_arguments(None, None, values)  # type: ignore[arg-type]  # noqa: E731
    assert parse("map_name=8x8", "is_slippery=false", "size=3") == {"map_name": "8x8", "is_slippery": False, "size": 3}
    for values, message in (
        (("size",), "expected KEY=VALUE, received 'size'"),
        (("1=2",), "expected KEY=VALUE, received '1='"),
        (("size=1", "size=1"), "size is given twice"),
    ):
        with pytest.raises(click.BadParameter, match=message):
            parse(*values)


def test_settings_are_nested_by_their_path_and_those_not_given_are_left_out() -> None:
    given = {"updates": 5, "network__hidden": [4], "network__dueling": False, "discount": None}
    assert given_settings(given) == {"updates": 5, "network": {"hidden": [4], "dueling": False}}


def test_the_type_of_an_option_follows_from_that_of_its_setting() -> None:
    assert isinstance(option_type(str, ("a", "b")), click.Choice)
    assert isinstance(option_type(tuple[int, ...], ()), Sizes)
    assert option_type(float | None, ()) is float
    assert sentence("number of updates") == "Number of updates."
