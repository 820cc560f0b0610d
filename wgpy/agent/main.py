"""The agent's process: from the options of `wgpy up` to the end of the node. `python -m wgpy.agent FD`.

It is a program of its own, so that what the command line needs (click) is not in memory for months.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable

import trio

from wgpy.agent.agent import Agent
from wgpy.agent.control import open_control_socket, serve_control
from wgpy.agent.detach import detach
from wgpy.agent.dns.resolvers import repair_names
from wgpy.agent.follow import Removed
from wgpy.agent.groups import single_error
from wgpy.agent.join import Say, find_joined, join
from wgpy.agent.keyless import Place, find_member, join_keyless
from wgpy.agent.notify import notify
from wgpy.agent.operations import Operations
from wgpy.agent.options import REMOVED_EXIT_CODE, UpOptions, take_over
from wgpy.agent.preview import preview_start
from wgpy.agent.progress import show_progress
from wgpy.agent.state_file import State, delete_state, load_state, locked
from wgpy.device import Device, open_device
from wgpy.errors import ConfigError, HostError, WgpyError
from wgpy.uapi.listener import UapiListener
from wgpy.uapi.server import serve_uapi

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run a node; returns the exit status."""
    try:
        if len(arguments) != 1 or not arguments[0].isdigit():
            raise ConfigError("the agent is started by `wgpy up`")
        options = take_over(int(arguments[0]))
    except WgpyError as error:
        return _tell(error)
    level = logging.DEBUG if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="wgpy: %(message)s")
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write("wgpy")  # what `ps` and `top` call us
    if options.detach:
        return detach(lambda background: _run(options, background.say, background.ready))
    return _run(options, _say, lambda: None)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever read may have gone; the tunnels stay
        print(line, flush=True)


def _tell(error: WgpyError) -> int:
    print(f"wgpy: {error}", file=sys.stderr, flush=True)
    return error.exit_code


def _run(options: UpOptions, say: Say, ready: Callable[[], None]) -> int:
    try:
        with single_error(Removed, WgpyError):
            return trio.run(_main, options, say, ready)
    except WgpyError as error:
        return _tell(error)
    except KeyboardInterrupt:
        return 130


async def _main(options: UpOptions, say: Say, ready: Callable[[], None]) -> int:
    """Until a signal, `wgpy down`, a removal or a failure."""
    status = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at_signal, signals, nursery.cancel_scope)
            await trio.to_thread.run_sync(_clear_left_behind)
            state = await _find_state(options, say)
            if options.dry_run:
                say("\n".join(preview_start(with_choices(state, options))))
                return 0
            with locked(state.name):
                status = await _run_node(state, options, say, ready)
            nursery.cancel_scope.cancel()
    return status


async def _cancel_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


def _clear_left_behind() -> None:
    """A killed agent may have left the host's resolver with a responder that is gone, and the coordinator has
    a name, too.
    """
    try:
        for line in repair_names():
            logger.warning("%s", line)
    except HostError as error:
        logger.warning("%s", error)


async def _find_state(options: UpOptions, say: Say) -> State:
    """The membership to start, joined now if need be."""
    if options.coordinator is not None and options.network is not None:
        return await _find_keyless(Place(options.coordinator, options.network, options.pin), options, say)
    if options.token is None:
        assert options.name is not None
        return load_state(options.name)
    if (state := find_joined(options.token)) is not None:
        say(f"this host joined {state.name} by this token before; starting it")
        return state
    return _say_joined(await join(options.token, options, say), say)


async def _find_keyless(place: Place, options: UpOptions, say: Say) -> State:
    if (state := find_member(place)) is not None:
        say(f"this host joined {state.name} before; starting it")
        return state
    return _say_joined(await join_keyless(place, options, say), say)


def _say_joined(state: State, say: Say) -> State:
    say(f"joined {state.name} as {state.node_name}, {' and '.join(own_addresses(state))}")
    return state


def with_choices(state: State, options: UpOptions) -> State:
    """The state with the local choices of this start, which are kept for the next one."""
    return dataclasses.replace(
        state,
        interface=options.interface or state.interface,
        listen_port=state.listen_port if options.listen_port is None else options.listen_port,
        port_chosen=state.port_chosen if options.listen_port is None else options.listen_port != 0,
        endpoints=tuple(map(str, options.endpoints)) or state.endpoints,
        choices=state.choices.changed(dict(options.choices)),
    )


async def _run_node(state: State, options: UpOptions, say: Say, ready: Callable[[], None]) -> int:
    """With the network's lock held: one life of a node."""
    state = with_choices(load_state(state.name), options)
    with contextlib.ExitStack() as stack:
        device = open_device(state.interface, mtu=state.network.mtu, highest_timestamp=state.timestamp)
        agent = Agent(state, stack.enter_context(device))
        control = stack.enter_context(open_control_socket(state.name))
        agent.start()
        own = " and ".join(own_addresses(state))
        say(f"{state.name} is up: {device.name}, {own}, port {device.listen_port}")
        notify("READY=1")
        try:
            with single_error(Removed, WgpyError):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(serve_control, control, Operations(agent).table())
                    nursery.start_soon(_serve_uapi, agent, device)
                    nursery.start_soon(show_progress, agent, say, ready)
                    await agent.run()
                    nursery.cancel_scope.cancel()
        except Removed:
            if not agent.is_leaving:
                delete_state(state.name)
                say(f"{state.name}: its coordinator removed this node; the network is forgotten here")
                return REMOVED_EXIT_CODE
        if agent.is_leaving:
            delete_state(state.name)
    return 0


async def _serve_uapi(agent: Agent, device: Device) -> None:
    """Let `wg show` see us, if it can be had: the mesh does not need it. Its removal asks us to end."""
    try:
        listener = UapiListener.open(device.name)
    except HostError as error:
        logger.warning("wg(8) will not see %s: %s", device.name, error)
        return
    await serve_uapi(listener, device)
    agent.stop()


def own_addresses(state: State) -> list[str]:
    return [str(prefix.network_address) for prefix in state.addresses]
