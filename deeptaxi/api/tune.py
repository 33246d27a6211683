"""Search the settings that solve a problem on the most seeds, in the fewest updates: the public function."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import tomli_w

from deeptaxi.api.job_runner import JobRunner
from deeptaxi.api.networks import GivenNetwork, with_network
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.run_options import RunOptions, are_given, never, refuse_with_resume
from deeptaxi.api.settings import Config, Settings, merge_settings
from deeptaxi.api.sweep import free_folder, median
from deeptaxi.config import TrainConfig, merge, to_toml, with_literals, without_literals
from deeptaxi.errors import DeepTaxiError, UsageError, one_line
from deeptaxi.experiments.grid import Job, check_seeds, format_seeds, parse_seeds
from deeptaxi.experiments.results import DONE
from deeptaxi.experiments.search_space import (
    Space,
    default_space,
    nested_values,
    parameters_of,
    propose,
    read_space,
    space_of,
    to_space_mapping,
)
from deeptaxi.experiments.study import (
    INTERRUPTED,
    Outcome,
    PruningCallback,
    ask,
    check_installed,
    describe_storage,
    ended,
    open_study,
    score,
    shortfall_of,
    tell,
)
from deeptaxi.io.atomic import make_folder, remove_if_empty, write_text
from deeptaxi.storage.runs import default_name

if TYPE_CHECKING:
    from rich.console import RenderableType

DATABASE, BEST = "study.db", "best.toml"
STUDY = "deeptaxi"  # the name of the study in the database of a folder
TRIALS, SEEDS = 100, "0-4"
Watch = Callable[[Mapping[str, Any], "TuneResult"], object]


@dataclass(frozen=True, eq=False, repr=False)
class TuneResult(RichRepr):
    """What a search has found so far.

    Attributes:
        folder: its folder; None if its study is in a database elsewhere.
        storage: the database, without its password.
        study: the name of the study.
        definition: what is searched.
        wanted: the number of trials that it is to have.
        trials: what became of each trial that has ended.
        best_toml: the best settings, as a file for `deeptaxi train --config`; None as long as there are none.
        config_file: that file, if there is a folder.
        interrupted: whether it ended before that number.
        seconds: how long it took, in this process.
    """

    folder: Path | None
    storage: str
    study: str
    definition: Mapping[str, Any]
    wanted: int
    trials: tuple[Mapping[str, Any], ...]
    best_toml: str | None = None
    config_file: Path | None = None
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The best trial, or None; the earlier of two that are equal."""
        complete = [trial for trial in self.trials if trial["state"] == "complete"]
        return max(complete, key=lambda trial: trial["score"], default=None)

    @property
    def first(self) -> Mapping[str, Any] | None:
        """The trial of the settings that the search began with, if it was not given up."""
        return next((trial for trial in self.trials if trial["trial"] == 0 and trial["state"] == "complete"), None)

    def count(self, state: str) -> int:
        """Return the number of trials that are ``complete``, ``pruned`` or ``failed``."""
        return sum(trial["state"] == state for trial in self.trials)

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi tune --json` prints."""
        return {
            "folder": None if self.folder is None else str(self.folder),
            "storage": self.storage,
            "study": self.study,
            "environment": self.definition["settings"]["environment"],
            "seeds": self.definition["seeds"],
            "space": self.definition["space"],
            "trials": len(self.trials),
            **{state: self.count(state) for state in ("complete", "pruned", "failed")},
            "interrupted": self.interrupted,
            "seconds": self.seconds,
            "config": None if self.config_file is None else str(self.config_file),
            "best": self.best,
            "first": self.first,
            "all": [dict(trial) for trial in self.trials],
        }

    def __rich__(self) -> RenderableType:
        from deeptaxi.display.tune_table import tune_table

        return tune_table(self.to_dict())


def tune(
    env: str | Path | None = None,
    *,
    trials: int = TRIALS,
    seeds: str | int | Sequence[int] = SEEDS,
    space: str | Path | Mapping[str, Any] | None = None,
    sampler_seed: int = 0,
    q_table: bool = False,
    preset: str | None = None,
    config: Config | None = None,
    env_args: Mapping[str, Any] | None = None,
    network_args: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    storage: str | None = None,
    study: str | None = None,
    resume: str | Path | None = None,
    trust_env: bool = False,
    stop: Callable[[], bool] | None = None,
    watch: Watch | None = None,
    **settings: Unpack[Settings],
) -> TuneResult:
    """Search for the settings that solve an environment on the most seeds; then in the fewest updates, and CPU time.

    Each trial trains an agent for each seed with the settings that Optuna proposes, and is given up where its exact
    value is below the median of others. The first trial has the settings to begin with. What is found is kept after
    each trial: in `study.db` and `best.toml` of a folder, or in a database that several processes and machines share.

    Args:
        env: a Gymnasium id, `module:Class`, `file.py:Class` or the path of a table; it has a transition table.
        trials: how many the study is to have, with those that others have added to it.
        seeds: such as ``"0-4"``, or ``range(5)``.
        space: a TOML file of settings and their ranges, or a mapping of the same form; None for the usual ones.
        sampler_seed: of Optuna's proposals.
        q_table: as for `train`, as are `preset`, `config`, `env_args`, `network_args` and `trust_env`.
        preset: see `q_table`.
        config: see `q_table`.
        env_args: see `q_table`.
        network_args: see `q_table`.
        out: the folder to write; None for a free name in `models/`, or none if there is a `storage`.
        storage: the URL of a database, such as ``"postgresql://host/name"``.
        study: the name of the study in it; one of that name is continued, and need not be described again.
        resume: the folder of a search to continue; its settings apply.
        trust_env: see `q_table`.
        stop: called between updates; once it returns True, the search ends with what it has found.
        watch: called with each trial that has ended, and the result so far.
        **settings: of all trials.

    Raises:
        UsageError: a setting or range is wrong, the environment has no transition table, or `out` is taken.
        DeepTaxiError: the database or the folder cannot be used.
    """
    check_installed()
    check_places(trials, storage, study, out, resume)
    own, value = with_network(settings, network_args)
    definition, named = None, any((env, config, preset, q_table, env_args, own))
    if value is not None:
        raise UsageError("a search names its network: an object of Python has no name in the file of its best settings")
    given = GivenNetwork.of(own, None, trust_env)
    if resume is not None:
        typed = {"env": env, "space": space, **are_given(settings)}
        fixed = {"q_table": q_table, "preset": preset, "config": config}
        refuse_with_resume(**typed, **fixed, env_arg=env_args, network_arg=network_args)
    if resume is None and (named or storage is None):
        if "seed" in settings:
            raise UsageError("a search has several seeds: give --seeds")
        values = merge_settings(None if env is None else str(env), env_args, config, q_table, own)
        values.pop("seed", None)  # of the file of a run
        asked = space_of(space) if isinstance(space, Mapping) else None if space is None else read_space(Path(space))
        trusted = trust_env or env is not None
        definition = define(values, preset, check_seeds(seeds), asked, sampler_seed, trusted, given)
    with ExitStack() as opened:
        folder = None
        if resume is not None:
            folder = Path(resume)
            if not (folder / DATABASE).is_file():
                raise UsageError(f"{folder} is no folder of a search: it has no {DATABASE}")
        elif storage is None and definition is not None:
            folder = opened.enter_context(reserve_folder(definition, out))
        url = f"sqlite:///{folder / DATABASE}" if folder is not None else str(storage)
        found, known, is_new = opened.enter_context(open_study(url, study or STUDY, definition))
        search = Search(found, known, trust_env or env is not None, given, stop or never)
        if is_new:
            found.enqueue_trial(search.first_parameters())
        result = TuneResult(folder, describe_storage(url), found.study_name, search.definition, trials, ())
        return search.run(result, watch or (lambda _trial, _result: None))


def check_places(
    trials: int, storage: str | None, study: str | None, out: str | Path | None, resume: str | Path | None
) -> None:
    """Reject options that exclude each other.

    Raises:
        UsageError: two do.
    """
    if trials < 1:
        raise UsageError(f"trials = {trials}: expected a number of 1 or more")
    if (storage is None) != (study is None):
        raise UsageError("--storage and --study go together: a database, and the name of the study in it")
    if resume is not None and (storage is not None or out is not None):
        raise UsageError("--resume continues the search of a folder: leave out --storage and --out")
    if out is not None and storage is not None:
        raise UsageError("--out is the folder of a study that --storage keeps elsewhere: leave out one of them")


def define(
    values: Mapping[str, Any],
    preset: str | None,
    seeds: Sequence[int],
    space: Space | None,
    sampler_seed: int,
    trust: bool,
    given: GivenNetwork,
) -> dict[str, Any]:
    """Return what is searched, as a study keeps it; the environment is opened once.

    Raises:
        UsageError: settings are wrong, or the environment has no transition table.
    """
    if not values.get("environment", {}).get("id") and preset is None:
        raise UsageError("nothing to train: name an environment, such as Taxi-v4")
    planned = JobRunner(None, Path(), trust=trust, given=given).plan(
        Job("first", "first", seeds[0], values, {}, preset)
    )
    if planned.config.environment.in_memory or planned.config.network.in_memory:
        raise UsageError("a search names its environment and network: an object of Python has no name in a database")
    if planned.environment.table is None:
        raise UsageError(
            f"{planned.config.environment.id} has no transition table, by which a search compares trials: "
            "`deeptaxi discover` may find one"
        )
    return {
        "name": default_name(planned.config).rpartition("-")[0],
        "settings": with_environment_name(values, planned.config),
        "preset": preset,
        "seeds": format_seeds(seeds),
        "space": to_space_mapping(space or default_space(planned.config)),
        "sampler_seed": sampler_seed,
    }


def with_environment_name(values: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Return the settings that the user gave, with the resolved name of the environment, as a file has them."""
    environment = {"id": config.environment.id, "kwargs": dict(config.environment.kwargs)}
    return without_literals(merge(values, {"environment": merge(values.get("environment", {}), environment)}))


@contextmanager
def reserve_folder(definition: Mapping[str, Any], out: str | Path | None) -> Iterator[Path]:
    """Create the folder of a new search, and remove it if nothing is written there.

    Raises:
        UsageError: it is taken.
        DeepTaxiError: it cannot be written to.
    """
    folder = free_folder(f"tune-{definition['name']}") if out is None else Path(out)
    with ExitStack() as undoing:
        for new in reversed(make_folder(folder)):
            undoing.callback(remove_if_empty, new)
        if any(folder.iterdir()):
            is_search = (folder / DATABASE).is_file()
            cure = f"continue it with --resume {shlex.quote(str(folder))}" if is_search else "it is not empty"
            raise UsageError(f"{folder} is taken: {cure}, or choose another --out")
        yield folder


class Search:
    """Asks a study for settings, trains with them, and tells it what became of that.

    Args:
        study: of Optuna.
        definition: what is searched; see `define`.
        trust: whether modules that it names may be imported.
        given: likewise, of a network.
        stop: see `tune`.
    """

    def __init__(
        self, study: Any, definition: Mapping[str, Any], trust: bool, given: GivenNetwork, stop: Callable[[], bool]
    ) -> None:
        self._study, self.definition, self._stop = study, definition, stop
        self._space = space_of(definition["space"])
        self._seeds = parse_seeds(definition["seeds"])
        self._settings = with_literals(definition["settings"])
        self._runner = JobRunner(None, Path(), RunOptions(stop=stop), trust, None, given)

    def _job(self, name: str, seed: int, values: Mapping[str, Any]) -> Job:
        """Return the training of a seed with the values of a trial."""
        settings = merge(self._settings, nested_values(values, self._space) if values else {})
        return Job(
            f"{name}/seed-{seed}", name, seed, merge(settings, {"seed": seed}), values, self.definition["preset"]
        )

    def first_parameters(self) -> dict[str, Any]:
        """Return what the settings to begin with are in the space."""
        return parameters_of(self._runner.plan(self._job("first", self._seeds[0], {})).config, self._space)

    def run(self, result: TuneResult, watch: Watch) -> TuneResult:
        """Run trials until the study has as many as wanted."""
        began = time.monotonic()
        result = replace(result, trials=tuple(ended(self._study)))
        while len(result.trials) < result.wanted and not self._stop():
            trial = ask(self._study, self.definition["sampler_seed"])
            state, value, about = self._try(trial)
            tell(self._study, trial, value, state, about)
            trials = tuple(ended(self._study))  # of others too
            result = replace(result, trials=trials, seconds=time.monotonic() - began)
            if state == INTERRUPTED:
                break
            result = self._keep_best(result)
            watch(next(one for one in trials if one["trial"] == trial.number), result)
        result = self._keep_best(result)
        return replace(result, interrupted=len(result.trials) < result.wanted, seconds=time.monotonic() - began)

    def _try(self, trial: Any) -> tuple[str, float | None, dict[str, Any]]:
        """Train the seeds of a trial; return its state, its score, and what is to be kept of it."""
        values = propose(trial, self._space)
        about: dict[str, Any] = {"settings": values}
        outcomes: list[Outcome] = []
        first = self._job(f"trial-{trial.number}", self._seeds[0], values)
        try:
            config = self._runner.plan(first).config
        except DeepTaxiError as error:  # settings that exclude each other
            return "failed", None, {**about, "reason": one_line(error)}
        pruning = PruningCallback(trial, config.updates)
        self._runner.watchers = (pruning,)
        for seed in self._seeds:
            line = self._runner(self._job(first.point, seed, values))
            if self._stop() and line.get("stopped") == "interrupted":
                return INTERRUPTED, None, about
            outcomes.append(outcome_of(line, pruning.optimal_since))
            if line["status"] != DONE:
                about["reason"] = line["reason"]
            if not pruning.pruned:
                pruning.end_seed(outcomes[-1])
                if len(outcomes) == len(self._seeds):
                    break
            if pruning.pruned:
                return "pruned", None, {**about, **summarize(outcomes)}
        return "complete", score(outcomes, config.updates, config.evaluation.every), {**about, **summarize(outcomes)}

    def _keep_best(self, result: TuneResult) -> TuneResult:
        """Return the result with the best settings, as a file: all of them, so that no preset changes their meaning."""
        best = result.best
        if best is None:
            return result
        config = self._runner.plan(self._job(f"trial-{best['trial']}", self._seeds[0], best["settings"])).config
        values = {key: value for key, value in to_toml(config).items() if key != "seed"}
        found = f"Trial {best['trial']} of study {result.study}: {best['solved']} of {best['seeds']} seeds solved"
        text = f"# {found}.\n\n{tomli_w.dumps(values)}"
        if result.folder is None:
            return replace(result, best_toml=text)
        path = result.folder / BEST
        write_text(path, text)
        return replace(result, best_toml=text, config_file=path)


def outcome_of(line: Mapping[str, Any], optimal_since: int | None) -> Outcome:
    """Return what became of a seed, from the line of its job and the update since which its policy is optimal."""
    exact = line.get("exact")
    if line["status"] != DONE or not exact:
        return Outcome(False, 0, 1.0, 0.0)
    spent = max(0.0, line["cpu_seconds"] - line["compile_seconds"])
    solved = bool(exact["optimal"])
    updates = (optimal_since or line["best_update"]) if solved else line["updates"]
    return Outcome(solved, updates, shortfall_of(exact["value_gap"], exact["optimal_value"]), spent)


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what is shown of the seeds of a trial."""
    return {
        "seeds": len(outcomes),
        "solved": sum(one.solved for one in outcomes),
        "updates": median(one.updates for one in outcomes),
        "shortfall": max(one.shortfall for one in outcomes),
        "cpu_seconds": sum(one.cpu_seconds for one in outcomes),
    }
