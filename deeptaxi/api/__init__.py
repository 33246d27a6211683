"""The Python API: what the command line stands on, for notebooks and scripts."""
