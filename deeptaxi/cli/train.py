"""``deeptaxi train``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from deeptaxi.cli import options, signals

Watcher = Callable[[Any], object]  # shows or keeps a record
Observer = Callable[[Any], Iterable[Any]]  # looks at a record, and may answer with records of its own, such as warnings
PRESET_HELP = (
    "Settings of `deeptaxi presets`; without ENV its environment too. `table` derives them from the transition table, "
    "`none` takes the plain defaults.  [default: the one that fits]"
)


class Told(NamedTuple):
    """How much a training tells while it runs."""

    quiet: bool
    tensorboard: bool


@click.command("train", cls=options.SectionedCommand)
@click.argument("env", required=False)
@options.env_arg_option
@click.option(
    "--config", "config_file", type=options.PATH, metavar="FILE", help="TOML file of settings, such as a run's."
)
@click.option("--preset", metavar="NAME", help=PRESET_HELP)
@click.option("--q-table", is_flag=True, help="No hidden layer, no bias: the weights are the Q table.")
@click.option("--out", type=options.PATH, metavar="FOLDER", help="Run folder.  [default: a free name in models/]")
@click.option(
    "--logs", type=options.PATH, metavar="FOLDER", default=Path("logs"), help="Where logs go.  [default: logs]"
)
@click.option("--tensorboard/--no-tensorboard", default=True, help="Log for TensorBoard as well.  [default: yes]")
@click.option("--quiet", is_flag=True, help="Show no progress; errors and the result still.")
@options.force_option
@options.trust_option
@options.json_option
@options.shared
@options.training_options
def command(
    env: str | None,
    env_args: dict[str, Any],
    config_file: Path | None,
    preset: str | None,
    q_table: bool,
    out: Path | None,
    logs: Path,
    tensorboard: bool,
    quiet: bool,
    force: bool,
    trust_env: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Train a Q-network on ENV and keep it, with the exact verdict on it.

    ENV is a Gymnasium id (Taxi-v4), module:Id for an environment of your own, or a .npz transition table.
    Settings come from the preset that fits (`deeptaxi presets`), then --config, then the options below.
    """
    values = user_values(env, env_args, config_file, q_table, given)
    from deeptaxi.artifacts import runs
    from deeptaxi.errors import DeepTaxiError

    environment, configured = prepare(values, preset, trust_env or env is not None)
    run = runs.claim(out or runs.default_folder(configured.config, logs), logs, force)
    try:
        finished, signal_number = train_and_save(configured, environment, run, Told(quiet, tensorboard))
    except BaseException as error:
        run.release()
        point_to_log(error, run.log.parent)
        raise
    report(configured, environment, run, finished, as_json)
    if finished.failure:
        raise DeepTaxiError(f"{finished.failure}; kept in {run.folder} is what was best before that")
    return 128 + signal_number if signal_number else 0


def point_to_log(error: BaseException, log: Path) -> None:
    """Add to an error of ours where the log of the training that failed was left, if it came so far."""
    from deeptaxi.artifacts.logs import FAILED_FILE
    from deeptaxi.errors import DeepTaxiError

    if isinstance(error, DeepTaxiError) and (log / FAILED_FILE).exists():
        error.args = (f"{error}; `deeptaxi diagnose {shlex.quote(str(log))}` looks at its log",)


def user_values(
    env: str | None, env_args: dict[str, Any], config_file: Path | None, q_table: bool, given: dict[str, Any]
) -> dict[str, Any]:
    """Return what the user asked for: the file, and over it the command line.

    Raises:
        UsageError: the options exclude each other, or the file cannot be read.
    """
    from deeptaxi.config import merge, read_toml
    from deeptaxi.errors import UsageError

    if q_table:
        for name in ("hidden", "dueling", "aggregation", "activation"):
            if given[f"network__{name}"]:
                raise UsageError(f"--q-table has neither hidden layers nor a head: leave out --{name}")
    values = read_toml(config_file) if config_file else {}
    if env is not None and values.get("environment", {}).get("id", env) != env:
        values["environment"] = {}
    asked = options.given_settings(given)
    if q_table:
        asked["network"] = {**asked.get("network", {}), "hidden": [], "dueling": False}
    place = {key: value for key, value in (("id", env), ("kwargs", env_args)) if value}
    return merge(values, merge(asked, {"environment": {**asked.get("environment", {}), **place}}))


def prepare(values: dict[str, Any], preset: str | None, trust_module: bool) -> tuple[Any, Any]:
    """Open the environment that is asked for; return it and the configuration of the training.

    Raises:
        UsageError: the settings contradict each other or the environment.
    """
    from deeptaxi.config import EnvironmentConfig, resolve
    from deeptaxi.learning.configure import choose, configure, with_environment
    from deeptaxi.mdp.environment import open_environment
    from deeptaxi.settings import from_mapping

    named = choose(values, preset)
    values = with_environment(values, named)
    resolve({"loop": "compiled", **values}, preset=named)  # wrong settings are told before the environment is opened
    requested: EnvironmentConfig = from_mapping(EnvironmentConfig, values.get("environment", {}), "environment.")
    environment = open_environment(requested, trust_module=trust_module)
    return environment, configure(environment, values, named)


def train_and_save(configured: Any, environment: Any, run: Any, told: Told) -> tuple[Any, int]:
    """Train, show and log the records, save the run; return the last record and the signal that ended it, or 0."""
    from deeptaxi import backend
    from deeptaxi.artifacts import logs, runs
    from deeptaxi.evaluation.diagnosis.live import Watch
    from deeptaxi.presentation.console import err
    from deeptaxi.presentation.progress import TrainingProgress

    console, config = err(told.quiet), configured.config
    with console.status("starting Keras …"):
        backend.start()
        from deeptaxi.learning.training import train
    with (
        signals.stopping_gently() as received,
        logs.Log(run.log.parent, run.folder, event_writers(config) if told.tensorboard else ()) as log,
        TrainingProgress(console) as progress,
    ):
        training = train(config, environment, stop=lambda: bool(received()))
        watchers: list[Watcher] = [log.write, progress.show]
        observers: list[Observer] = [Watch(config, environment.table, agent_mask(config, environment)).observe]
        trained, finished = follow(announced(training, console, configured), watchers, observers)
        runs.save_run(run, trained.network, environment.describe(), config, finished, configured.preset)
        logs.save_visits(run.log.parent, trained.coverage)
    if received():
        err().print(f"Interrupted after update {finished.updates:,}; the best weights are kept.", soft_wrap=True)
        err().print(f"The whole training again: {runs.train_again(run, config)}", soft_wrap=True)
    return finished, received()


def agent_mask(config: Any, environment: Any) -> Any:
    """Return the actions that the agent may take, `[S, A]`; None where all are open to it, or it is not known yet."""
    from deeptaxi.mdp.environment import known_mask

    return known_mask(environment) if config.exploration.action_mask else None


def event_writers(config: Any) -> list[Callable[[Path], Any]]:
    """Return what writes a training's events for TensorBoard into a log folder."""
    from deeptaxi.artifacts.tensorboard import Events

    return [lambda folder: Events(folder, config)]


def announced(training: Generator[Any, None, Any], console: Any, configured: Any) -> Generator[Any, None, Any]:
    """Pass the records of a training on; say which preset it rests on once it has made its first updates."""
    yield next(training)
    record = next(training)
    console.print(f"Preset: {configured.explanation}", soft_wrap=True)
    yield record
    return (yield from training)


def follow(
    training: Generator[Any, None, Any], watchers: Sequence[Watcher], observers: Sequence[Observer]
) -> tuple[Any, Any]:
    """Show the watchers every record, and what the observers have to say of it.

    Returns:
        What the training returns, and its last record.
    """
    record: Any = None
    while True:
        try:
            record = next(training)
        except StopIteration as end:
            return end.value, record
        for told in (record, *(answer for observe in observers for answer in observe(record))):
            for watch in watchers:
                watch(told)


def report(configured: Any, environment: Any, run: Any, finished: Any, as_json: bool) -> None:
    """Print what came out. The run is kept: a reader who has gone is no failure."""
    from deeptaxi.presentation import console, verdict

    summary = summarise(configured, environment, run, finished)
    title = f"{environment.config.id}, {configured.config.network.kind}, seed {configured.config.seed}"
    try:
        if as_json:
            options.print_json(summary)
        else:
            console.print_wide(verdict.training_table(title, summary), console.FACTS)
    except BrokenPipeError:
        signals.stop_printing()


def summarise(configured: Any, environment: Any, run: Any, finished: Any) -> dict[str, Any]:
    """Return what the JSON says of a training."""
    from deeptaxi.artifacts.models import MODEL_FILE
    from deeptaxi.settings import to_mapping

    config = configured.config
    return {
        "run": str(run.folder),
        "model": str(run.folder / MODEL_FILE),
        "log": str(run.log),
        "environment": environment.describe(),
        "preset": configured.preset,
        "loop": config.loop,
        "network": {"kind": config.network.kind, **to_mapping(config.network)},
        "encoding": config.network.encoding,
        "seed": config.seed,
        "updates": finished.updates,
        "best_update": finished.best_update,
        "environment_steps": finished.environment_steps,
        "train_seconds": finished.train_seconds,
        "compile_seconds": finished.compile_seconds,
        "stopped": finished.stopped,
        "weights_digest": finished.weights_digest,
        "exact": finished.exact,
        "exact_unavailable": finished.exact_unavailable,
    }
