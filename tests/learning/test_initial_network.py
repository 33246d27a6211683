from __future__ import annotations

from pathlib import Path

import numpy as np

from deeptaxi.learning.initial_network import initial_network, network_spec, seeds
from deeptaxi.network.tabulate import tabulate
from tests.learning.helpers import opened_problem
from tests.problems import chain


def test_the_initial_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    networks = {"network": {"hidden": [4], "dueling": True}}
    found = []
    for seed in (0, 0, 1):
        config, environment = opened_problem(chain(), tmp_path, seed=seed, **networks)
        found.append(tabulate(initial_network(config, environment)))
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_the_initial_q_values_are_in_units_of_the_reward_scale(tmp_path: Path) -> None:
    settings = {"network": {"hidden": [], "dueling": False, "initial_value": 3.0}, "target": {"reward_scale": 2.0}}
    config, environment = opened_problem(chain(), tmp_path, **settings)
    assert network_spec(config, environment).initial_value == 1.5
    assert set(tabulate(initial_network(config, environment)).ravel().tolist()) == {1.5}


def test_a_network_of_the_user_is_copied(tmp_path: Path) -> None:
    config, environment = opened_problem(chain(), tmp_path)
    own = network_spec(config, environment).build()
    copy = initial_network(config, environment, own)
    copy.set_weights([weight + 1 for weight in copy.get_weights()])
    assert not tabulate(own).any()
    assert tabulate(copy).all()


def test_the_weights_and_the_loop_have_seeds_of_their_own(tmp_path: Path) -> None:
    config, _ = opened_problem(chain(), tmp_path)
    first, second = (sequence.generate_state(4).tolist() for sequence in seeds(config))
    assert first != second
    assert [sequence.generate_state(4).tolist() for sequence in seeds(config)] == [first, second]
