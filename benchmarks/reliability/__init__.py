"""What a run survives, measured: ``python -m benchmarks.reliability``."""

import deeptaxi.cli.main  # noqa: F401  # before NumPy, whose threads it sets
