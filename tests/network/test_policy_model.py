from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from deeptaxi.network.plain import plain_network
from deeptaxi.network.policy_model import agent, check_agent, q_network_of
from deeptaxi.network.tabulate import tabulate
from tests.network.test_plain import KINDS, MASK, S, shaken


@pytest.mark.parametrize("plain", [False, True])
def test_an_agent_answers_valid_states_and_rejects_others(plain: bool, tmp_path: Path) -> None:
    network = shaken(masked=True, **KINDS["factored"])
    expected = tabulate(network)
    made = agent(plain_network(network) if plain else network, S)
    made.save(tmp_path / "agent.keras")
    loaded = keras.saving.load_model(tmp_path / "agent.keras", safe_mode=True)
    for model in (made, loaded):
        reply = {name: keras.ops.convert_to_numpy(found) for name, found in model(np.arange(-2, S + 2)).items()}
        assert np.isnan(reply["q_values"][[0, 1, -2, -1]]).all()
        assert reply["action"][[0, 1, -2, -1]].tolist() == [-1] * 4
        np.testing.assert_allclose(reply["q_values"][2:-2], expected, atol=0 if not plain else 1e-4)
        assert np.array_equal(reply["action"][2:-2], expected.argmax(axis=1))
        assert MASK[np.arange(S), reply["action"][2:-2]].all()


def test_the_network_within_an_agent_is_found_again() -> None:
    network = shaken(**KINDS["dueling"])
    assert q_network_of(agent(network, S)) is network
    assert q_network_of(network) is network


def test_an_agent_is_for_its_own_number_of_states() -> None:
    network = plain_network(shaken(**KINDS["dueling"]))
    made = agent(network, S)
    check_agent(made, network, S)
    for other in (S - 1, S + 1, 1):
        with pytest.raises(ValueError, match=f"another number of states than {other}"):
            check_agent(made, network, other)
