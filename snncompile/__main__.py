"""``python -m snncompile``: the command line, where the script ``snncompile`` is not on the path."""

from __future__ import annotations

import sys

from snncompile.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
