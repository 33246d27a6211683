"""`train`: from what is asked for to a run.

Its steps are those of the command line, which handles signals in between: plan, claim, carry out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Unpack

from deeptaxi.api.carrying import OnRecord, carry_out
from deeptaxi.api.conduct import EVERY, Conduct, never, refuse_with_resume
from deeptaxi.api.places import Place, name_of
from deeptaxi.api.plans import claimed, plan, resumed
from deeptaxi.api.runs import Run
from deeptaxi.api.settings import Config, Settings, asked, nested
from deeptaxi.storage.logs import LOGS


def train(
    env: Place | None = None,
    *,
    q_table: bool = False,
    preset: str | None = None,
    config: Config | None = None,
    env_args: Mapping[str, Any] | None = None,
    out: str | Path | Literal[True] | None = None,
    logs: str | Path | None = None,
    tensorboard: bool = True,
    force: bool = False,
    trust_env: bool = False,
    on_record: OnRecord | None = None,
    stop: Callable[[], bool] | None = None,
    stop_after: int | None = None,
    checkpoints: bool = True,
    checkpoint_every: float = EVERY,
    resume: str | Path | None = None,
    **settings: Unpack[Settings],
) -> Run:
    """Train a Q-network, and return it with the exact verdict on it.

    It prints nothing, and without `out` writes nothing. Settings come from the preset that fits, then `config`, then
    `settings`: every option of `deeptaxi train` by its name, such as `hidden=(64,)` or `learning_rate=0.01`.

    Args:
        env: a Gymnasium id, `module:Id`, the path of a `.npz`, or a `TransitionTable`.
        q_table: no hidden layer, no bias: the weights are the Q table.
        preset: settings of `listing.presets`; None for the one that fits.
        config: a TOML file, a mapping of the same form, or the `config` of another run.
        env_args: arguments of `gymnasium.make`.
        out: the run folder to write; True for a free name in `models/`.
        logs: the folder for the log of a run that is written; None for `logs`, or where the log of `resume` is.
        tensorboard: whether that log is for TensorBoard as well.
        force: whether a run that is there may be replaced.
        trust_env: whether to import the environment module that only `config` or `resume` names; it is code.
        on_record: called with every record (`deeptaxi.metrics`), warnings included, as it comes.
        stop: asked between updates; once it answers True, the training ends with the best weights so far.
        stop_after: the update to end after, to go on by `resume`; None for the last.
        checkpoints: whether a run that is written keeps what it can be resumed from.
        checkpoint_every: seconds from one checkpoint to the next.
        resume: the run folder of a training to go on with, which says what it is; `updates` may be raised.
        **settings: settings of the training; `deeptaxi.api.settings.Settings` lists them.

    Raises:
        UsageError: there is no such environment or setting, settings exclude each other, `out` is taken, or `resume`
            is another training than what is asked for.
        DeepTaxiError: the training diverged, or the environment failed, before there was anything to keep.
    """
    name, table = name_of(env)
    conduct = Conduct(stop or never, stop_after, checkpoints, checkpoint_every, tensorboard)
    if resume is not None:
        refuse_with_resume(preset=preset, config=config, out=out, force=force)
        values = asked(name, env_args, None, q_table, nested(settings))
        trust, log_folder = trust_env or env is not None, Path(logs) if logs else None
        with resumed(Path(resume), values, trust, log_folder, stop_after, table) as kept:
            return carry_out(kept, on_record, conduct)
    values = asked(name, env_args, config, q_table, nested(settings))
    planned = plan(values, preset, trust_env or env is not None, table)
    with claimed(planned, out, logs or LOGS, force, checkpoints) as kept:
        return carry_out(kept, on_record, conduct)
