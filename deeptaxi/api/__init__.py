"""The Python API behind `import deeptaxi`; the command line is built on it.

It prints nothing, handles no signals, and writes only where the caller says. `status` reports long-running steps to
callers that want to display them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["explain", "listing"])
