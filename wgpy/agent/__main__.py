"""`python -m wgpy.agent FD`."""

from __future__ import annotations

import sys

from wgpy.agent.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
