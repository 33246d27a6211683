"""Many trainings: the grid of their settings, the folder of their results, and the processes that run them."""
