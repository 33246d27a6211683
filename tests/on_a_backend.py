"""What every Keras backend is held to, in one process, which imports the backend once.

`python -m tests.on_a_backend FILE` runs the cases on `KERAS_BACKEND`, in the current folder. To FILE it writes a line of
JSON a case, its name and null or the traceback. `test_other_backends` reads it.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deeptaxi import backend
from deeptaxi.learning.choice import COMPILING
from deeptaxi.sections import OPTIMIZERS
from tests.cli.conftest import LAKE, QUICK, run

BRIEF = ["--updates", "4", "--environments", "4", "--batch-size", "8"]
CASES: dict[str, Callable[[], None]] = {}
COMPILED: set[str] = set()  # the cases that need a backend that compiles


def case(function: Callable[[], None]) -> Callable[[], None]:
    """Add a case, by the name of the function."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


def compiled_case(function: Callable[[], None]) -> Callable[[], None]:
    """Add a case of the backends that compile."""
    COMPILED.add(function.__name__.replace("_", "-"))
    return case(function)


def names(name: str) -> list[str]:
    """Return the cases of a backend."""
    return [item for item in CASES if name in COMPILING or item not in COMPILED]


def typed(*words: object, codes: tuple[int, ...] = (0,)) -> Any:
    """Type a command with `--json`; return what it tells."""
    result = run(*words, "--json")
    assert result.exit_code in codes, f"{words}: {result.output}"
    lines = [
        line for line in result.stderr.splitlines() if not line.startswith(("Preset: ", "Resumed ", "It goes on "))
    ]
    assert all(" updates, " in line for line in lines), result.stderr  # progress, no chatter
    return json.loads(result.stdout)


def optimal(out: str, *options: str) -> dict[str, Any]:
    """Train on a lake until the optimum is found; return what the command tells."""
    summary: dict[str, Any] = typed("train", *LAKE, "--q-table", *QUICK, *options, "--out", out)
    assert summary["exact"]["optimal"]
    return summary


@case
def gymnasium_finds_the_optimum() -> None:
    optimal("lake", "--loop", "gymnasium")  # the cases below look at this run


@case
def fit_finds_the_optimum() -> None:
    optimal("fit", "--loop", "fit", "--updates", "200")


@case
def variants_find_the_optimum() -> None:
    words = ["--loop", "gymnasium", "--prioritised", "--n-step", "2", "--double", "--clip-norm", "9"]
    optimal("variants", *words)


@case
def the_default_loop_finds_the_optimum() -> None:
    assert optimal("default")["loop"] == ("compiled" if backend.name() in COMPILING else "gymnasium")


@case
def dueling_factored_masked_runs_train() -> None:
    typed("train", "Taxi-v4", "--loop", "gymnasium", "--encoding", "factored", "--action-mask", *BRIEF, "--out", "taxi")


@case
def blackjack_trains_without_a_table() -> None:
    typed("train", "Blackjack-v1", *BRIEF, "--out", "blackjack")
    typed("evaluate", "blackjack", "--episodes", "10")


@case
def a_stopped_run_resumes_to_the_same_weights() -> None:
    words = ["train", *LAKE, "--loop", "gymnasium", "--prioritised", *BRIEF, "--loss", "huber"]
    whole = typed(*words, "--out", "whole")["weights_digest"]
    typed(*words, "--stop-after", "2", "--out", "halves")
    assert typed("train", "--resume", "halves")["weights_digest"] == whole


@case
def commands_read_a_run() -> None:
    assert typed("evaluate", "lake", "--episodes", "10")["exact"]["optimal"]
    typed("diagnose", "lake", codes=(0, 3))
    typed("watch", "lake")
    for form, out in (("plain", "plain.keras"), ("keras", "whole.keras"), ("npz", "q.npz")):
        typed("export", "lake", "--format", form, "--out", out)
    assert typed("evaluate", "whole.keras", *LAKE_AGAIN)["exact"]["optimal"]


LAKE_AGAIN = ["--env", *LAKE, "--episodes", "10"]


@case
def an_update_is_explained() -> None:
    for words in (["--env", *LAKE], ["lake"]):
        found = typed("explain", "update", *words, "--state", "14", "--compare")
        assert found["comparison"]["weight_difference"] <= 1e-6
        assert found["loss"]["scale"] == 1 / (4 * found["batch_size"])


@case
def gradients_are_explained() -> None:
    for aggregation in ("mean", "max"):
        found = typed("explain", "gradients", "--aggregation", aggregation)
        np.testing.assert_allclose(found["dE_dA"]["autodiff"], found["dE_dA"]["nested"], atol=1e-12)


@case
def updates_are_those_of_the_recipe() -> None:
    from deeptaxi.learning.learner import Learner
    from tests.learning.helpers import Literal
    from tests.learning.test_weights import MASKED, WEIGHTED, assert_alike, learnt_by

    for name in (f"all-{MASKED}-{WEIGHTED}", "q-table-sgd", "factored", "max"):
        assert_alike(learnt_by(Learner, name, 8), learnt_by(Literal, name, 8))


@case
def every_optimizer_updates() -> None:
    from deeptaxi.config import merge, resolve
    from deeptaxi.learning.learner import Learner
    from tests.learning.test_weights import SMALL, batches_of, flat, start_of

    (batch, allowed), *_ = batches_of("plain", 1)
    for name in OPTIMIZERS:
        settings = merge(SMALL, {"optimizer": {"name": name}})
        learner = Learner(start_of("plain"), start_of("plain"), resolve(settings), copies=2)
        before = flat(learner.online)
        result = learner.update(batch, allowed)
        assert np.isfinite(result.loss)
        assert np.isfinite(flat(learner.online)).all()
        assert (flat(learner.online) != before).any(), name


@case
def pure_functions_take_any_mixture_of_arrays() -> None:
    from tests.learning import test_mixtures

    test_mixtures.check_mixtures()


@case
def pure_functions_compile() -> None:
    from tests.learning import test_sum_tree, test_targets

    test_sum_tree.check_compiled()
    test_targets.check_compiled()


@compiled_case
def programs_compile() -> None:
    from tests import test_program, test_xla

    test_program.check_compiled()
    test_xla.check_compiled()


@compiled_case
def the_first_compiled_updates_are_those_by_hand() -> None:
    from tests.learning.loops import test_compiled

    test_compiled.check_tape(test_compiled.new_tape())


@compiled_case
def a_compiled_training_is_the_same_however_it_is_cut() -> None:
    from tests.learning import test_compiled

    Path("pieces").mkdir()
    test_compiled.check_pieces(Path("pieces"))


@case
def tensorflow_is_not_imported() -> None:
    assert sys.modules.get("tensorflow") is None


def attempt(function: Callable[[], None]) -> str | None:
    """Run a case, warnings as errors; return the traceback if it failed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Keras' variables predate the copy keyword of NumPy 2; the conversion is right all the same.
            warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
            function()
    except Exception:  # whatever it is, the next case is run
        return traceback.format_exc()
    return None


def main(path: Path) -> None:
    """Run the cases; write what became of each."""
    backend.start()
    with path.open("w", encoding="utf-8") as file:
        for name in names(backend.name()):
            print(json.dumps([name, attempt(CASES[name])]), file=file, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
