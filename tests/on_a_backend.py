"""What every Keras backend is held to, in one process, which imports the backend once.

`python -m tests.on_a_backend FILE` runs the cases on `KERAS_BACKEND`, in the current folder. To FILE it writes a line
of JSON a case: its name, null or the traceback, and the CPU seconds it took. `test_other_backends` reads it.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deeptaxi.backend import keras_backend
from tests.cli.conftest import LAKE, QUICK, run

BRIEF = ["--updates", "4", "--environments", "64", "--batch-size", "8"]  # which fill the replay buffer in a few steps
CASES: dict[str, Callable[[], None]] = {}
NAMES: dict[str, list[str]] = {"jax": [], "torch": []}  # of the cases of a backend


def case(*backends: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Add a case, by the name of the function.

    What is compiled costs JAX seconds a case, and is much the same on TensorFlow; PyTorch runs it as it is.
    """

    def add(function: Callable[[], None]) -> Callable[[], None]:
        name = function.__name__.replace("_", "-")
        CASES[name] = function
        for item in backends:
            NAMES[item].append(name)
        return function

    return add


def typed(*words: object, codes: tuple[int, ...] = (0,)) -> Any:
    """Type a command with `--json`; return what it tells."""
    result = run(*words, "--json")
    assert result.exit_code in codes, f"{words}: {result.output}"
    for line in result.stderr.splitlines():  # progress and what a short training cannot learn, no chatter
        assert " updates, " in line or line.startswith(("Preset: ", "Resumed ", "Resume with: ", "Warning: ")), (
            result.stderr
        )
    return json.loads(result.stdout)


def optimal(out: str, *options: str) -> dict[str, Any]:
    """Train on a lake until the optimum is found; return what the command tells."""
    summary: dict[str, Any] = typed("train", *LAKE, "--q-table", *QUICK, *options, "--out", out)
    assert summary["exact"]["optimal"]
    return summary


@case("jax", "torch")
def gymnasium_finds_the_optimum() -> None:
    optimal("lake", "--loop", "gymnasium", "--updates", "100", "--eval-every", "25")  # looked at by cases below


@case("jax", "torch")
def fit_finds_the_optimum() -> None:
    optimal("fit", "--loop", "fit", "--updates", "100", "--eval-every", "25")


@case("jax", "torch")
def variants_find_the_optimum() -> None:
    words = ["--loop", "gymnasium", "--prioritized", "--n-step", "2", "--double", "--clip-norm", "9"]
    optimal("variants", *words, "--updates", "100", "--eval-every", "25")


@case("jax", "torch")
def networks_of_ones_own_are_fitted_as_keras_fits_them() -> None:
    import deeptaxi
    from tests.network import own_models

    settings = {"updates": 4, "eval_every": 4, "environments": 2, "batch_size": 8, "replay_start": 16, "seed": 3}
    sgd: dict[str, Any] = {**settings, "optimizer": "sgd", "learning_rate": 0.1}
    for build in (own_models.penalized, own_models.normalized):
        ours, oracle = (
            deeptaxi.train("FrozenLake-v1", network=build, loop=loop, **sgd) for loop in ("gymnasium", "fit")
        )
        for one, other in zip(ours.network.get_weights(), oracle.network.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    assert float(np.abs(ours.network.get_layer(index=2).get_weights()[2]).max()) > 0  # the moving mean has moved
    kept = {"network": own_models.regularized, **settings}
    deeptaxi.train("FrozenLake-v1", out="own", stop_after=2, **kept)
    resumed = deeptaxi.train(resume="own", network=own_models.regularized)
    assert resumed.weights_digest == deeptaxi.train("FrozenLake-v1", **kept).weights_digest


@case("jax")
def the_compiled_loop_is_the_default_and_finds_the_optimum() -> None:
    assert optimal("default")["loop"] == "compiled"


@case("torch")
def dueling_factored_masked_runs_train() -> None:
    typed("train", "Taxi-v4", "--loop", "gymnasium", "--encoding", "factored", "--action-mask", *BRIEF, "--out", "taxi")


@case("torch")
def blackjack_trains_without_a_table() -> None:
    typed("train", "Blackjack-v1", *BRIEF, "--out", "blackjack")
    typed("evaluate", "blackjack", "--episodes", "10")


@case("torch")
def a_stopped_run_resumes_to_the_same_weights() -> None:
    words = ["train", *LAKE, "--loop", "gymnasium", "--prioritized", *BRIEF, "--loss", "huber"]
    whole = typed(*words, "--out", "whole")["weights_digest"]
    typed(*words, "--stop-after", "2", "--out", "halves")
    assert typed("train", "--resume", "halves")["weights_digest"] == whole


@case("jax", "torch")
def commands_read_a_run() -> None:
    assert typed("evaluate", "lake", "--episodes", "10")["exact"]["optimal"]
    typed("diagnose", "lake", codes=(0, 3))
    typed("watch", "lake")
    for form, out in (("plain", "plain.keras"), ("keras", "whole.keras"), ("npz", "q.npz")):
        typed("export", "lake", "--format", form, "--out", out)
    assert typed("evaluate", "whole.keras", "--env", *LAKE, "--episodes", "10")["exact"]["optimal"]


@case("jax", "torch")
def an_update_is_explained() -> None:
    found = typed("explain", "update", "lake", "--state", "14", "--compare")
    assert found["comparison"]["weight_difference"] <= 1e-6
    assert found["loss"]["scale"] == 1 / (4 * found["batch_size"])


@case("jax", "torch")
def gradients_are_explained() -> None:
    for aggregation in ("mean", "max"):
        found = typed("explain", "gradients", "--aggregation", aggregation)
        np.testing.assert_allclose(found["dE_dA"]["autodiff"], found["dE_dA"]["nested"], atol=1e-12)


@case("torch")
def updates_are_those_of_the_recipe() -> None:
    from tests.learning.compiled.test_update_weights import MASKED, WEIGHTED, assert_alike, compiled, learned_by
    from tests.learning.helpers import Literal

    for name in (f"all-{MASKED}-{WEIGHTED}", "q-table-sgd", "factored", "max"):
        assert_alike(compiled(name, 8), learned_by(Literal, name, 8))


@case("jax", "torch")
def every_optimizer_updates() -> None:
    from tests.learning.compiled.test_model_update import OPTIONS, check_optimizer

    compiles = keras_backend.name() == "jax"  # which takes longer than the updates: some of them will do there
    for optimizer in OPTIONS[::4] if compiles else OPTIONS:
        check_optimizer(optimizer)


@case("torch")
def pure_functions_take_any_mixture_of_arrays() -> None:
    from tests import test_recipe_mixed_arrays

    test_recipe_mixed_arrays.check_mixtures()


@case("jax", "torch")
def pure_functions_compile() -> None:
    from tests import test_recipe
    from tests.learning import test_sum_tree

    test_sum_tree.check_compiled()
    test_recipe.check_compiled()


@case("jax", "torch")
def models_by_hand_are_fitted_by_the_recipe() -> None:
    from tests import test_layers

    test_layers.check_models(Path())


@case("jax")
def programs_compile() -> None:
    from tests.backend import test_keras_backend, test_program, test_xla

    test_program.check_compiled()
    test_xla.check_compiled()
    with keras_backend.float64():  # as JAX_ENABLE_X64 does
        test_xla.check_arrays()
    test_keras_backend.check_shared()


@case("jax")
def the_first_compiled_updates_are_those_by_hand() -> None:
    from tests.learning.compiled import test_loop

    test_loop.check_tape(test_loop.new_tape())


@case("jax")
def a_compiled_training_is_the_same_however_it_is_cut() -> None:
    from tests.learning.compiled import test_loop_host

    Path("pieces").mkdir()
    test_loop_host.check_pieces(Path("pieces"))


@case("jax")
def groups_are_one_vectorized_program() -> None:
    from tests.api import test_train_vectorized
    from tests.backend import test_vectorized

    test_vectorized.check_calls()
    test_vectorized.check_different_calls()
    Path("groups").mkdir()
    test_train_vectorized.check_agents(Path("groups"))
    test_train_vectorized.check_networks()
    test_train_vectorized.check_failures(Path("groups"))
    test_train_vectorized.check_refusals()


@case("jax", "torch")
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
    keras_backend.start()
    with path.open("w", encoding="utf-8") as file:
        for name in NAMES[keras_backend.name()]:
            begin = time.process_time()
            failure = attempt(CASES[name])
            print(json.dumps([name, failure, time.process_time() - begin]), file=file, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
