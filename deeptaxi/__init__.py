"""Train Keras Q-networks on small environments and measure exactly how good they are.

    import deeptaxi

    run = deeptaxi.train("Taxi-v4", q_table=True)
    print(run.exact)

Every name is imported on first use: `import deeptaxi` alone takes no time and loads neither Keras nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeptaxi.api import explain, listing
    from deeptaxi.api.diagnose import diagnose
    from deeptaxi.api.discover import discover
    from deeptaxi.api.evaluate import evaluate
    from deeptaxi.api.export import export
    from deeptaxi.api.load import load
    from deeptaxi.api.solve import solve
    from deeptaxi.api.train import train
    from deeptaxi.errors import DeepTaxiError
    from deeptaxi.mdp.table import TransitionTable

    __version__: str

__all__ = (
    "DeepTaxiError",
    "TransitionTable",
    "diagnose",
    "discover",
    "evaluate",
    "explain",
    "export",
    "listing",
    "load",
    "solve",
    "train",
)

_MODULES = {
    "DeepTaxiError": "errors",
    "TransitionTable": "mdp.table",
    "diagnose": "api.diagnose",
    "discover": "api.discover",
    "evaluate": "api.evaluate",
    "explain": "api.explain",
    "export": "api.export",
    "listing": "api.listing",
    "load": "api.load",
    "solve": "api.solve",
    "train": "api.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib import metadata

        return metadata.version("deeptaxi")
    if name not in _MODULES:
        from deeptaxi.errors import nearest

        raise AttributeError(f"module 'deeptaxi' has no attribute '{name}'{nearest(name, __all__)}")
    module = importlib.import_module(f"deeptaxi.{_MODULES[name]}")
    value = getattr(module, name, module)  # a module stands for itself
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List all public names, imported or not."""
    return sorted({*globals(), *__all__, "__version__"})
