"""``deeptaxi export``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options
from deeptaxi.storage.formats import FORMATS, MODEL_ENDINGS

FAILED = 1  # exit code
HELP = f"""Export MODEL, a run folder or a model file, to one format or to all.

\b
{chr(10).join(f"{form.name:<12} {form.summary}" for form in FORMATS.values())}

All take a batch of integer states and return q_values and the greedy action of each; a state outside 0 … S−1 has no
answer. Each export is read back in a separate process, without deeptaxi, and compared with the model on all states
before it is kept. A model made elsewhere is exported as the Q table that it computes, and needs --env; a policy only to
csv, npz or json.
"""


def model_name(model: Path) -> str:
    """Return the name of a model without the ending of its file."""
    path = model.resolve()
    return path.stem if any(path.suffix.lower() in endings for endings in MODEL_ENDINGS.values()) else path.name


@click.command("export", help=HELP)
@click.argument("model", type=options.PATH)
@click.option("--format", "name", type=click.Choice(list(FORMATS)), help="Format to write.")
@click.option("--all", "everything", is_flag=True, help="Write every available format, into a folder.")
@click.option(
    "--out", type=options.PATH, metavar="PATH", help="File or folder.  [default: by the model's name, in this folder]"
)
@click.option("--env", help="Environment whose state and action names the tables use.  [default: the run's own]")
@options.env_arg_option
@options.trust_option
@options.force_option
@options.json_option
@options.shared_options
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
) -> int:
    """Write a model in forms that others use."""
    if everything == (name is not None):
        raise click.UsageError(f"choose a format: --format with one of {', '.join(FORMATS)}, or --all")
    from deeptaxi.api.environments import EnvSpec
    from deeptaxi.api.export import ALL, prepare

    path = out or Path(model_name(model) + (FORMATS[name].ending if name else "-exports"))
    prepared = prepare(model, name or ALL, path, force, EnvSpec(env, env_args, trust=trust_env))
    if prepared.note is not None:
        from deeptaxi.display.console import err

        err().print(prepared.note, style="yellow", soft_wrap=True)
    done = prepared.write()
    if as_json:
        documents = [dataclasses.asdict(one) for one in done]
        options.print_json(documents[0] if name else documents)
    else:
        from deeptaxi.display import tables

        tables.show(done, None if name else path)
    return FAILED if any(one.failed for one in done) else 0
