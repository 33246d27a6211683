"""The Python API behind `import deeptaxi`; the command line is built on it.

It prints nothing, handles no signals, and writes only where the caller says. `status` reports long-running steps to
callers that want to display them.
"""
