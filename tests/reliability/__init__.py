"""What a run survives, measured: ``python -m tests.reliability``. The tests beside it are a short form."""

import deeptaxi.cli.main  # noqa: F401  # before NumPy, whose threads it sets
