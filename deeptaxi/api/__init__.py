"""The floor of Python functions: what `import deeptaxi` offers, and what the command line stands on.

It is quiet: it prints nothing, handles no signals, and writes only where it is told to. `stages` tells whoever wants
to show it what takes a while.
"""
