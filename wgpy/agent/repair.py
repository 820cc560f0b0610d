"""Taking back what killed processes left on the host: agents and tunnels by file alike."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from wgpy.agent.dns.resolvers import repair_names
from wgpy.agent.places import check_network_name
from wgpy.agent.state_file import locked
from wgpy.errors import HostError, WgpyError
from wgpy.host.footprint import clear_left_behind
from wgpy.host.ledger import read_ledger
from wgpy.quick.record import holder_of, running_tunnels


def dead_holders() -> list[str]:
    """Those in the ledger whose process is not there."""
    found = []
    for holder in sorted(read_ledger().holders()):
        with contextlib.suppress(WgpyError), _at_rest(holder):
            found.append(holder)
    return found


def repair() -> list[str]:
    """Take all of it back → what was done, in words. Raises HostError, StateError."""
    done = []
    for holder in dead_holders():
        with _at_rest(holder):
            done += [f"{holder}: {line}" for line in clear_left_behind(holder, lift=True)]
    return done + repair_names()


@contextmanager
def _at_rest(holder: str) -> Iterator[None]:
    """Keep it from being started for as long. Raises HostError when it runs."""
    for name in running_tunnels():
        if holder == holder_of(name):
            raise HostError(f"{name} is up")
    if holder.endswith(".conf"):
        yield
    else:
        with locked(check_network_name(holder)):
            yield
