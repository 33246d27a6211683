from __future__ import annotations

import click
from click.testing import CliRunner

from deeptaxi.cli.groups import Group


def test_an_unknown_command_is_refused_with_the_nearest_one() -> None:
    group = Group("tool", commands=[click.Command("train"), click.Command("evaluate")])
    for word, message in (
        ("trian", "no command 'trian'; did you mean 'train'"),
        ("x", "'x'; commands: train, evaluate"),
    ):
        result = CliRunner().invoke(group, [word])
        assert result.exit_code == 2
        assert message in result.stderr
