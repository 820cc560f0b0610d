"""The process of a tunnel by file: `python -m wgpy.quick [--detach] [--verbose] FILE.conf`.

A program of its own, so that what the command line needs is not in memory for months.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from wgpy.agent.detach import detach
from wgpy.daemon import run_trio
from wgpy.errors import WgpyError
from wgpy.quick.tunnel import Say, run_tunnel


def main(arguments: list[str]) -> int:
    """Run a tunnel; returns the exit status."""
    parser = argparse.ArgumentParser(prog="wgpy.quick")
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("path", type=Path)
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING, format="wgpy: %(message)s"
    )
    path = options.path.absolute()
    if options.detach:
        return detach(lambda background: _run(path, background.say, background.ready))
    return _run(path, lambda line: print(line, flush=True), lambda: None)


def _run(path: Path, say: Say, ready: Callable[[], None]) -> int:
    async def run() -> None:
        await run_tunnel(path, say, ready)

    try:
        run_trio(run)
    except WgpyError as error:
        print(f"wgpy: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
