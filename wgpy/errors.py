"""Errors of wgpy. Two kinds, never mixed: our user's mistake raises; a stranger's is counted and dropped.

Every message says what was expected, what came, and what to do next, in one line.
"""

from __future__ import annotations


class WgpyError(Exception):
    """Something our user can act on. A command prints it as one line and exits with `exit_code`."""

    exit_code = 1


class ConfigError(WgpyError):
    """A configuration (file, option, token, address) that cannot be used.

    `source` names where it came from ("home.conf"), `line` the line in it, counted from 1.
    """

    exit_code = 2

    def __init__(self, message: str, *, source: str | None = None, line: int | None = None) -> None:
        self.source = source
        self.line = line
        place = "" if source is None else f"{source}: " if line is None else f"{source}:{line}: "
        super().__init__(place + message)


class HostError(WgpyError):
    """The host refuses what we need: permission, a missing device, a name in use."""


class InterfaceGone(HostError):
    """Someone deleted the interface while it was set up: whoever waits for its end has it."""


class StateError(WgpyError):
    """A state file that cannot be read as what it should be. It is kept as it was found."""


class CoordinatorError(WgpyError):
    """The coordinator cannot be reached, is not the one we trust, or refused what we asked.

    `code` is the machine-readable reason of a refusal ("token_used"), `status` the HTTP status, if one came.
    """

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None) -> None:
        self.code = code
        self.status = status
        super().__init__(message)


class InvalidMessage(Exception):
    """Bytes from a stranger that are not a valid message. Counted and dropped, never shown to a user.

    The only exception that a function whose name ends in `_untrusted` may raise.
    """


def sole_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a nursery raised, without the group around it: an error for our user if there is one and nothing
    but its like, else the group itself.
    """
    expected, unexpected = group.split((WgpyError, KeyboardInterrupt))
    if expected is None or unexpected is not None:
        return group
    error: BaseException = expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
