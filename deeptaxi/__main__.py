"""``python -m deeptaxi``, and the command ``deeptaxi``."""

from __future__ import annotations

from typing import NoReturn

from deeptaxi import search_path


def main() -> NoReturn:
    """Run the command line; what it is made of does not come from the current folder."""
    search_path.leave_current_folder()
    from deeptaxi.cli.main import main

    main()


if __name__ == "__main__":
    main()
