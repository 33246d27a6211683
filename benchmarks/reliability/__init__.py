"""What a run survives, measured: ``python -m benchmarks.reliability``."""
