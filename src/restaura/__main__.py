# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of the zipapp and of `python3 -m restaura`."""

import sys

from restaura.cli import main

if __name__ == "__main__":
    sys.exit(main())
