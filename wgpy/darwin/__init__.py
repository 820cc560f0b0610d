"""macOS: its tunnel device (utun), and what is done to the host there, as commands.

Written from the documented interface and tested by what can be tested elsewhere: it has never run on a Mac
(docs/macos.md). Numbers are those of xnu's headers, for the modules of a Python that was built on Linux lack
them.
"""

from __future__ import annotations

import sys
from typing import Final

IS_DARWIN: Final[bool] = sys.platform == "darwin"
