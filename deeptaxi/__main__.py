"""Entry point of ``python -m deeptaxi`` and of the ``deeptaxi`` command."""

from __future__ import annotations

from typing import NoReturn

from deeptaxi import search_path


def main() -> NoReturn:
    """Run the command line without importing modules from the current folder."""
    search_path.leave_current_folder()
    from deeptaxi.cli.main import main

    main()


if __name__ == "__main__":
    main()
