"""Train Keras Q-networks on small environments and measure exactly how good they are.

    import deeptaxi

    run = deeptaxi.train("Taxi-v4", q_table=True)
    print(run.exact)

Every name is imported on first use: `import deeptaxi` alone takes no time and loads neither Keras nor NumPy. The names
and where they come from are in `__init__.pyi`, which type checkers read too.
"""

import lazy_loader

_import_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib import metadata

        return metadata.version("deeptaxi")
    if name not in __all__:
        from deeptaxi.errors import nearest

        raise AttributeError(f"module 'deeptaxi' has no attribute '{name}'{nearest(name, __all__)}")
    return _import_name(name)
