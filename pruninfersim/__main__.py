"""``python -m pruninfersim`` is the program ``pruninfersim``."""

from pruninfersim.cli import main

if __name__ == "__main__":
    main()
