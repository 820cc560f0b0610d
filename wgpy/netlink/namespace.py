"""Other network namespaces: making a socket in one, where it stays; hearing from one without holding it."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from wgpy.netlink.codec import NLM_F_ACK, Request, attribute, attribute_u32

_CLONE_NEWNET: Final = 0x40000000

_RTM_NEWNSID: Final = 88
_NETNSA_NSID: Final = 1
_NETNSA_FD: Final = 3
_ANY: Final = struct.pack("=i", -1)

T = TypeVar("T")


def enter_to_make(namespace: int, make: Callable[[], T]) -> T:
    """What `make` returns in the namespace of that descriptor. Raises OSError; it takes CAP_SYS_ADMIN.

    A thread of its own enters, and ends there: no other thread ever sees the namespace.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            # os.setns is Python 3.12's.
            if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            result.append(make())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=enter, name="wgpy-netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def number_namespace(namespace: int) -> Request:
    """Give the namespace of that descriptor a number in ours: what happens there can then be told here.

    EEXIST: it has one. linux/net_namespace.h.
    """
    body = bytes(4) + attribute_u32(_NETNSA_FD, namespace) + attribute(_NETNSA_NSID, _ANY)
    return Request(_RTM_NEWNSID, NLM_F_ACK, body, "numbering a network namespace")
