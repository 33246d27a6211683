from __future__ import annotations

from contextlib import closing

import numpy as np

from deeptaxi.mdp.unfinished_episodes import Episode, play_again
from deeptaxi.mdp.workers import open_copies
from tests.mdp.wanderer import NAME
from tests.problems import opened

ALL = np.ones(3, np.int32)


def test_an_unfinished_episode_is_played_again_to_the_same_end():
    environment = opened(NAME)
    with (
        closing(open_copies(environment, 3, True, None)) as one,
        closing(open_copies(environment, 3, True, None)) as two,
    ):
        one.begin([1, 2, 3])
        steps = [one.step_and_reset(ALL) for _ in range(14)]  # each has had an episode of nine steps at most
        saved = one.save()
        assert all(0 <= len(episode.actions) < 9 for episode, _ in saved)
        two.begin([1, 2, 3])
        replayed = two.replay([episode for episode, _ in saved])
        last = steps[-1].states if steps[-1].begun is None else steps[-1].begun
        assert [found.state for found in replayed] == last.tolist()
        assert [found.generators for found in replayed] == [generators for _, generators in saved]
        for _ in range(14):
            np.testing.assert_array_equal(one.step_and_reset(ALL).states, two.step_and_reset(ALL).states)


def test_an_episode_that_ends_before_its_last_action_is_not_restored():
    environment = opened(NAME)
    with closing(open_copies(environment, 1, True, None)) as copies:
        states, _ = copies.begin([1])
        episode = Episode()
        for _ in range(30):
            episode.add(1)
        assert play_again(copies.envs[0], episode, int(states[0]), 3) is None
        state, shown = copies.restart(0, copies.save()[0].generators)
        assert (0 < state < 12, shown["action_mask"].shape) == (True, (2,))
        assert len(copies.save()[0].episode.actions) == 0
