"""Out of a nursery come groups; a person is told of one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, groups in groups opened."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


@contextmanager
def single_error(*kinds: type[Exception]) -> Iterator[None]:
    """Let the first error of one of these kinds out of a group by itself, and groups without one as they are.

    The kinds are in order of weight: what ends the agent for good comes before what it could have survived.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        found = list(leaves(group))
        if all(isinstance(error, Exception) for error in found):
            for kind in kinds:
                for error in found:
                    if isinstance(error, kind):
                        raise error from None
        raise
