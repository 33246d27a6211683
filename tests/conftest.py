"""What all tests share. Keras is imported once, as the command line does it: quietly and single-threaded."""

from __future__ import annotations

from deeptaxi import backend

backend.start()
