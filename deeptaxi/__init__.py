"""Train Keras Q-networks on environments with one-hot states, and prove how good they are."""
