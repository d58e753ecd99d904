"""``python -m feature_alignment`` is the command ``falign``."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
