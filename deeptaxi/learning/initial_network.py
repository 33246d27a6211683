"""The network that a training begins with, and what its random numbers are seeded by."""

from __future__ import annotations

import keras
import numpy as np

from deeptaxi.config import TrainConfig
from deeptaxi.mdp.describe import encoded_factors
from deeptaxi.mdp.environment import Environment
from deeptaxi.network.build import QNetworkSpec
from deeptaxi.network.own import copy_network


def seeds(config: TrainConfig) -> list[np.random.SeedSequence]:
    """Return the seed sequences of the initial weights and of the loop."""
    return np.random.SeedSequence(config.seed).spawn(2)


def network_spec(config: TrainConfig, environment: Environment) -> QNetworkSpec:
    """Return what builds the network of a configuration that names none of the user's own.

    It learns from scaled rewards, and so predicts Q values divided by `reward_scale`.
    """
    return QNetworkSpec(
        environment.states,
        environment.actions,
        config.network.hidden,
        config.network.dueling,
        config.network.aggregation,
        config.network.activation,
        int(seeds(config)[0].generate_state(1)[0]),
        encoded_factors(environment, config.network),
        config.network.initial_value / config.target.reward_scale,
    )


def initial_network(config: TrainConfig, environment: Environment, network: keras.Model | None = None) -> keras.Model:
    """Build the network with its initial weights; of the user's own `network` (`network.own`), a copy."""
    return network_spec(config, environment).build() if network is None else copy_network(network)
