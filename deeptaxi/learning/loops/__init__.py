"""The loops: ways to drive environment, replay and updates, all yielding the same stream.

`gymnasium` steps real environments and takes any learner; the `fit` loop is that drive with `fit.FitLearner`, whose
update is the recipe to the letter.
"""
