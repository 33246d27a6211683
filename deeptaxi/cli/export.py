"""``deeptaxi export``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from deeptaxi.artifacts.export.formats import FORMATS
from deeptaxi.cli import options

HELP = f"""Write MODEL, a run folder or a .keras file, in forms that others use: one of them, or all.

\b
{chr(10).join(f"{form.name:<12} {form.summary}" for form in FORMATS.values())}

All take a batch of integer states, and give q_values and the greedy action of each; a state outside 0 … S−1 has no
answer. What is written is read back in a process of its own, without deeptaxi, and compared with the model on all
states before it is kept.
"""


@click.command("export", help=HELP)
@click.argument("model", type=options.PATH)
@click.option("--format", "name", type=click.Choice(list(FORMATS)), help="What to write.")
@click.option("--all", "everything", is_flag=True, help="Write every format that can be written here, into a folder.")
@click.option(
    "--out", type=options.PATH, metavar="PATH", help="File or folder.  [default: by the model's name, in this folder]"
)
@click.option("--env", help="Environment whose names the tables have.  [default: the run's own]")
@options.env_arg_option
@options.trust_option
@options.force_option
@options.json_option
@options.shared
def command(
    model: Path,
    name: str | None,
    everything: bool,
    out: Path | None,
    env: str | None,
    env_args: dict[str, Any],
    trust_env: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write a model in forms that others use."""
    if everything == (name is not None):
        raise click.UsageError(f"say what to write: --format with one of {', '.join(FORMATS)}, or --all")
    from deeptaxi.artifacts.models import find_model

    source = find_model(model)
    path = out or Path(model.resolve().name.removesuffix(".keras") + (FORMATS[name].ending if name else "-exports"))
    check(source, name, path, force)
    environment = environment_of(source, env, env_args, trust_env)
    done = exported(source, environment, name, path, force)
    if as_json:
        documents = [dataclasses.asdict(one) for one in done]
        options.print_json(documents[0] if name else documents)
        return
    from deeptaxi.presentation import exports

    exports.show(done, None if name else path)


def check(source: Any, name: str | None, path: Path, force: bool) -> None:
    """Refuse, before Keras is imported, what cannot be written, or not there.

    Raises:
        UsageError: as `artifacts.export.exporting.export`.
    """
    from deeptaxi.artifacts.export.formats import check_available
    from deeptaxi.artifacts.export.places import check_place

    if path.resolve() == source.path.resolve():
        raise click.UsageError(f"{path} is the model itself; choose another --out")
    if name is not None:
        check_available(name)
    check_place(name, path, force)


def environment_of(source: Any, env: str | None, env_args: dict[str, Any], trust: bool) -> Any:
    """Open the environment that is named, else the run's own; None where none is known, or it cannot be opened.

    Raises:
        UsageError: the one that is named cannot be opened.
    """
    from deeptaxi.cli import models
    from deeptaxi.errors import DeepTaxiError
    from deeptaxi.mdp.environment import open_environment
    from deeptaxi.presentation.console import err

    if env is None and source.environment is None:
        return None
    try:
        place = models.environment_of(source, env, env_args, None)
        return open_environment(place, trust_module=trust or env is not None)
    except DeepTaxiError as error:
        if env is not None:
            raise
        err().print(f"States and actions are named by their numbers: {error}", style="yellow", soft_wrap=True)
        return None


def exported(source: Any, environment: Any, name: str | None, path: Path, force: bool) -> list[Any]:
    """Load the model and write it, showing that something happens."""
    from deeptaxi.artifacts.models import check_fits, load_network
    from deeptaxi.artifacts.tables import labels_of
    from deeptaxi.presentation.console import err

    with err().status("loading the model …"):
        network = load_network(source.path)
        if environment is not None:
            check_fits(network, environment, source.name)
    labels = labels_of(environment) if environment is not None else None
    from deeptaxi.artifacts.export.exporting import export, export_all

    with err().status("writing, and reading back …"):
        if name is None:
            return export_all(network, path, labels, force)
        return [export(network, name, path, labels, force)]
