"""The rule and the loops: targets, replay, learner, and the drivers that train."""
