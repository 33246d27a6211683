"""``python -m deeptaxi``."""

from deeptaxi.cli.main import main

if __name__ == "__main__":
    main()
