"""``deeptaxi export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options

ENDINGS = {"keras": ".keras", "savedmodel": "-savedmodel", "csv": ".csv", "npz": ".npz", "json": ".json"}


@click.command("export")
@click.argument("model", type=options.PATH)
@click.option("--format", "form", type=click.Choice(list(ENDINGS)), required=True, help="What to write.")
@click.option(
    "--out", type=options.PATH, metavar="PATH", help="File or folder.  [default: the model's name, in this folder]"
)
@options.force_option
@options.json_option
@options.shared
def command(model: Path, form: str, out: Path | None, force: bool, as_json: bool) -> None:
    """Write MODEL, a run folder or a .keras file, in a form that others use.

    \b
    keras        the Keras model file
    savedmodel   TensorFlow SavedModel: integer states in, q_values and action out
    csv          the Q table with the greedy policy, a row a state
    npz          the same as NumPy arrays q_values and policy
    json         the same as JSON, with the environment

    What is written is read back and compared with the model on all states before it is kept.
    """
    from deeptaxi.artifacts.files import check_free
    from deeptaxi.artifacts.models import find_model, load_network

    source = find_model(model)
    path = out or Path(model.resolve().name.removesuffix(".keras") + ENDINGS[form])
    if path.resolve() == source.path.resolve():
        raise click.UsageError(f"{path} is the model itself; choose another --out")
    check_free(path, force)  # before Keras is imported; again, more closely, by the export itself
    network = load_network(source.path)

    import dataclasses

    from deeptaxi.artifacts.export import export

    done = export(network, form, path, labels(source), force)
    if as_json:
        options.print_json(dataclasses.asdict(done))
        return
    from deeptaxi.presentation.console import out as console

    line = f"Wrote {done.path} ({done.format}); max difference {done.max_difference:g} over all {done.states:,} states"
    console().print(line, soft_wrap=True)


def labels(source: Any) -> Any:
    """Return the names of the run's own environment; None where it is not known or is code that nobody vouched for."""
    from deeptaxi.artifacts.tables import labels_of
    from deeptaxi.errors import DeepTaxiError
    from deeptaxi.mdp.environment import open_environment

    if source.environment is None:
        return None
    try:
        return labels_of(open_environment(source.environment, trust_module=False))
    except DeepTaxiError:
        return None
