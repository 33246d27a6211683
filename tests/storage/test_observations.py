"""Models whose observations were numbered as they were first seen: kept, opened again, and used."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.environments import EnvSpec
from deeptaxi.api.load import load_comparable, load_source
from deeptaxi.api.run_data import UnseenObservationWarning
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation.episodes import play
from deeptaxi.learning.gymnasium_loop import FULL
from deeptaxi.storage.model_card import describe_episodes
from deeptaxi.storage.models import find_model
from tests.boards import MOVES, Picture, Wander
from tests.problems import registered

SETTINGS = {"updates": 60, "environments": 4, "batch_size": 16, "replay_start": 50, "eval_every": 20}
UNMET = np.full((3, 3), 7, np.uint8)


@pytest.fixture(scope="module")
def wander():
    with registered("Wander-v0", Wander) as name:
        yield name


@pytest.fixture(scope="module")
def kept(wander, tmp_path_factory):
    """A run whose nine observations were numbered as training saw them, in a folder."""
    folder = tmp_path_factory.mktemp("kept")
    return deeptaxi.train(wander, out=folder / "run", logs=folder / "logs", tensorboard=False, **SETTINGS)


def pictures():
    env = Picture(3)
    for cell in np.ndindex(3, 3):
        env.cell = cell
        yield env.picture()


def test_it_trains_a_q_table_of_what_it_meets(kept):
    codec = kept.environment.numbering
    assert kept.environment.states == 100_000
    assert kept.config.network.kind == "q-table"
    assert len(codec.numbering) == 9
    assert codec.encode(next(pictures())) == 0  # where every episode starts
    assert kept.coverage.visits[9:].sum() == 0
    assert kept.episodes["steps_in_shared_state"] == 0
    described = kept.environment.describe()["observation"]["numbering"]
    assert described == {"seen": 9, "combinations": "more than 10^20", "complete": False, "digest": codec.digest}


def test_the_same_seed_gives_the_same_numbers_and_weights_and_another_gives_others(kept, wander):
    again, other = deeptaxi.train(wander, **SETTINGS), deeptaxi.train(wander, seed=5, **SETTINGS)
    assert again.weights_digest == kept.weights_digest
    assert again.environment.numbering.digest == kept.environment.numbering.digest
    assert other.environment.numbering.digest != kept.environment.numbering.digest


def test_a_kept_run_knows_its_observations(kept):
    run = deeptaxi.load(kept.folder)
    assert run.environment.numbering.digest == kept.environment.numbering.digest
    assert [run.act(picture) for picture in pictures()] == [kept.act(picture) for picture in pictures()]
    assert [run.act(picture) for picture in pictures()] == [
        int(kept.policy[kept.environment.codec.encode(picture)]) for picture in pictures()
    ]
    assert deeptaxi.evaluate(kept.folder, episodes=20).episodes == deeptaxi.evaluate(kept, episodes=20).episodes
    assert run.q_values.shape == (100_000, 4)
    card = (kept.folder / "card.md").read_text()
    assert "Its states are numbered as training saw them: 9 observations of more than 10^20 combinations" in card
    assert json.loads((kept.folder / "card.json").read_text())["environment"]["observation"]["numbering"]["seen"] == 9


def test_an_observation_that_was_never_met_gets_the_action_of_all_others_with_a_warning(kept):
    run = deeptaxi.load(kept.folder)
    with pytest.warns(
        UnseenObservationWarning, match=r"array\(\[\[7, 7, 7\].* has no number of its own: the action is that of"
    ):
        assert run.act(UNMET) == run.policy[99_999]
    assert len(run.environment.numbering.numbering) == 9
    with pytest.raises(UsageError, match=r"the observation array\(.* expected an array of integers of shape \(3, 3\)"):
        run.act(np.full((3, 3), 0.5))


def test_a_resumed_training_goes_on_with_its_numbers(kept, wander, tmp_path):
    part = tmp_path / "part"
    deeptaxi.train(wander, out=part, logs=tmp_path / "logs", stop_after=25, **SETTINGS)
    rest = deeptaxi.train(resume=part)
    assert rest.weights_digest == kept.weights_digest
    assert rest.environment.numbering.digest == kept.environment.numbering.digest
    assert rest.history.warnings == ()
    assert deeptaxi.load(part).environment.numbering.digest == kept.environment.numbering.digest


def test_it_is_trained_again_from_its_own_configuration_and_saved_later(kept, tmp_path):
    again = deeptaxi.train(config=kept.folder / "config.toml")
    assert again.weights_digest == kept.weights_digest
    folder = again.save(tmp_path / "later", logs=tmp_path / "logs")
    assert deeptaxi.load(folder).environment.numbering.digest == kept.environment.numbering.digest


def test_a_pickled_run_keeps_its_numbers(kept):
    again = pickle.loads(pickle.dumps(kept))  # noqa: S301  # our own
    assert [again.act(picture) for picture in pictures()] == [kept.act(picture) for picture in pictures()]


def test_diagnose_report_export_and_watch_use_its_numbers(kept, tmp_path):
    assert "policy-unknown" not in [finding.name for finding in deeptaxi.diagnose(kept.folder, episodes=5).findings]
    run = deeptaxi.load(kept.folder)
    assert run.report(tmp_path / "report.html").bytes > 10_000
    deeptaxi.export(kept.folder, "csv", tmp_path / "q.csv")
    lines = (tmp_path / "q.csv").read_text().splitlines()
    assert lines[1].startswith('0,"(255, 0, 0, 0, 0, 0, 0, 0, 0)",')
    assert lines[10].startswith('9,"state 9, not seen",')
    assert lines[100_000].startswith("99999,all other observations,")
    steps = list(run.play(episodes=1))
    assert steps[0].state == 0


def test_more_observations_than_there_is_room_for_share_the_last_state(wander, tmp_path):
    run = deeptaxi.train(wander, state_capacity=4, out=tmp_path / "run", logs=tmp_path / "logs", **SETTINGS)
    assert run.environment.states == 4
    assert len(run.environment.numbering.numbering) == 3
    assert run.coverage.visits[3].sum() > 0
    full = [warning for warning in run.history.warnings if warning.finding == FULL]
    assert [warning.text for warning in full] == [
        f"{FULL}: 3 observations are numbered, and all others share one state from here on: --state-capacity 40 has "
        "room for more"
    ]
    rightward = play(run.environment, np.full(4, 2), 5, 0)  # to the third picture of the first row
    assert rightward.steps == 100
    assert 50 < rightward.steps_in_shared_state < 100
    assert describe_episodes(rightward.to_dict()).endswith(
        f"in {rightward.steps_in_shared_state} of 100 steps the observation has no number of its own, and the policy "
        "takes the action of all such observations"
    )
    whole = run.weights_digest
    part = tmp_path / "part"
    deeptaxi.train(wander, state_capacity=4, out=part, logs=tmp_path / "logs", stop_after=30, **SETTINGS)
    assert deeptaxi.train(resume=part).weights_digest == whole


class Fenced(Wander):
    """Tells which ways lead out of the picture."""

    def told(self):
        inside = [all(0 <= at + by < 3 for at, by in zip(self.cell, way, strict=True)) for way in MOVES]
        return {"action_mask": np.array(inside, np.int8)}

    def reset(self, **arguments):
        return super().reset(**arguments)[0], self.told()

    def step(self, action):
        *answer, _ = super().step(action)
        return *answer, self.told()


def test_the_state_of_all_others_has_no_mask_as_theirs_differ():
    with registered("Fenced-v0", Fenced) as name:
        run = deeptaxi.train(name, state_capacity=4, action_mask=True, **SETTINGS)
    masked = np.isneginf(run.q_values)
    assert masked[0].tolist() == [False, True, False, True]
    assert run.coverage.visits[3].sum() > 0
    assert not masked[3].any()


def test_a_numbering_that_is_not_the_runs_is_refused(kept, wander, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(kept.folder, run)
    arrays = dict(np.load(run / "observations.npz"))
    for changed, said in (
        ({**arrays, "observations": arrays["observations"][::-1]}, "is not the one that the run was"),
        ({"observations": arrays["observations"]}, "has no array 'complete'"),
        ({**arrays, "complete": np.array([1])}, "'complete' is not true or false"),
        ({**arrays, "observations": np.array([object()])}, "pickled objects, which are never loaded"),
    ):
        with (run / "observations.npz").open("wb") as file:
            np.savez(file, allow_pickle=True, **changed)
        with pytest.raises(DeepTaxiError, match=said):
            deeptaxi.load(run)
    (run / "observations.npz").unlink()
    with pytest.raises(DeepTaxiError, match="npz is missing, without which"):
        deeptaxi.load(run)


def test_a_model_that_does_not_say_its_numbers_is_refused(kept, wander, tmp_path):
    bare = shutil.copy(kept.folder / "model.keras", tmp_path / "bare.keras")
    for model in (bare, kept.network, kept.q_values):
        with pytest.raises(UsageError, match=r"does not say how the observations of Wander-v0 are numbered.* run fold"):
            deeptaxi.evaluate(model, wander)


def test_runs_that_saw_other_observations_are_not_compared(kept, wander, tmp_path):
    other = deeptaxi.train(wander, seed=5, out=tmp_path / "other", logs=tmp_path / "logs", **SETTINGS)
    with pytest.raises(UsageError, match="have seen other observations, or in another order"):
        load_comparable([kept.folder, other.folder], EnvSpec())
    limited = deeptaxi.train(
        wander, seed=5, out=tmp_path / "limited", logs=tmp_path / "logs", **(SETTINGS | {"state_capacity": 4})
    )
    with pytest.raises(UsageError, match="have seen other observations, or in another order"):
        load_comparable([kept.folder, limited.folder], EnvSpec())


def test_a_discovered_run_is_exact_and_knows_its_observations(tmp_path):
    with registered("Picture-v0", Picture) as name:
        run = deeptaxi.train(
            name, out=tmp_path / "run", logs=tmp_path / "logs", q_table=True, updates=2_000, eval_every=100
        )
        assert run.optimal
        assert run.environment.states == 9
        again = deeptaxi.load(tmp_path / "run")
        assert again.optimal
        assert [again.act(picture) for picture in pictures()] == [run.act(picture) for picture in pictures()]
        with pytest.raises(UsageError, match="expected one of the 9 of its discovered table"):
            again.act(UNMET)
        unknown = load_source(find_model(tmp_path / "run"), EnvSpec(name, discover=False).open())
        assert unknown.exact is None  # as if its table had not been found in time
        assert [unknown.act(picture) for picture in pictures()] == [run.act(picture) for picture in pictures()]
        longer = deeptaxi.evaluate(run, time_limit=7, episodes=1)
        assert longer.exact["optimal"]
        assert "Its states are the 9 observations of its discovered table" in (tmp_path / "run" / "card.md").read_text()
