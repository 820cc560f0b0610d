"""What of an engine can be chosen, as options of a command.

They are handed on as environment variables, which the process that makes the engine reads and checks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

_OPTIONS: Final = (
    ("--engine", "WGPY_ENGINE", "native|portable", "What moves packets. Default: native, on Linux."),
    ("--disable-offloads", "WGPY_DISABLE_OFFLOADS", "LIST", "Do without these: vnet,tso,uso,gso,gro or all."),
    ("--memory", "WGPY_MEMORY", "MIB|small", "What packets may take: 64, or small, for routers."),
)

_Command = TypeVar("_Command", bound=Callable[..., Any])


def engine_options(command: _Command) -> _Command:
    """Give a command --engine, --disable-offloads and --memory."""
    for flag, variable, metavar, text in reversed(_OPTIONS):
        option = click.option(
            flag,
            metavar=metavar,
            expose_value=False,
            callback=_hand_on(variable),
            help=f"{text} [{variable}]",
        )
        command = option(command)
    return command


def _hand_on(variable: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def hand_on(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            os.environ[variable] = value

    return hand_on
