"""The UDP port of a node: chosen here, else the network's, else any."""

from __future__ import annotations

import logging

from wgpy.agent.state_file import State
from wgpy.device import Device

logger = logging.getLogger(__name__)


def come_up(device: Device, state: State) -> None:
    """On the port of last time, which NATs and peers know, at first on the network's; on any, when somebody
    has taken it.
    """
    port = state.listen_port or state.network.listen_port
    try:
        device.set_listen_port(port)
        device.bring_up()
    except OSError as error:
        logger.warning("cannot listen on port %d: %s", port, error.strerror)
        device.set_listen_port(0)
        device.bring_up()


def follow_network(device: Device, state: State, before: int) -> bool:
    """Take the port that an admin gave the nodes, unless one was chosen here → whether it changed."""
    wanted = state.network.listen_port
    if wanted in (0, before, device.listen_port) or state.port_chosen:
        return False
    try:
        device.set_listen_port(wanted)
    except OSError as error:
        logger.warning("cannot listen on the network's port %d: %s", wanted, error.strerror)
        return False
    return True
