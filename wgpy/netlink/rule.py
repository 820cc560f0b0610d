"""Policy routing: RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE (linux/fib_rules.h). Pure."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

from wgpy.netlink.codec import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    Message,
    Request,
    attribute_u32,
    parse_attributes,
    parse_u32,
)

RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
RTM_GETRULE: Final = 34

_FIB_RULE: Final = struct.Struct("=BBBBBxxBI")
_FRA_PRIORITY: Final = 6
_FRA_FWMARK: Final = 10
_FRA_SUPPRESS_PREFIXLEN: Final = 14
_FRA_TABLE: Final = 15
_FRA_FWMASK: Final = 16
_FR_ACT_TO_TBL: Final = 1
_FIB_RULE_INVERT: Final = 0x02
_NO_SUPPRESSION: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that sends packets to a table.

    `mark`: packets with that firewall mark, or with `invert` all others; None is every packet.
    `suppress_prefix_length`: routes of the table no longer than this do not count (0: its default route).
    `priority` None: before the others, the kernel's choice.
    """

    version: int
    table: int
    mark: int | None = None
    invert: bool = False
    suppress_prefix_length: int | None = None
    priority: int | None = None

    def __str__(self) -> str:
        mark = "" if self.mark is None else f" {'not ' if self.invert else ''}fwmark {self.mark:#x}"
        suppress = self.suppress_prefix_length
        tail = "" if suppress is None else f" suppress_prefixlength {suppress}"
        return f"IPv{self.version}{mark} lookup {self.table}{tail}"


def _body(rule: Rule) -> bytes:
    family = socket.AF_INET if rule.version == 4 else socket.AF_INET6
    table = rule.table if rule.table < 256 else 0
    invert = _FIB_RULE_INVERT if rule.invert else 0
    body = _FIB_RULE.pack(family, 0, 0, 0, table, _FR_ACT_TO_TBL, invert)
    body += attribute_u32(_FRA_TABLE, rule.table)
    if rule.mark is not None:
        body += attribute_u32(_FRA_FWMARK, rule.mark) + attribute_u32(_FRA_FWMASK, 0xFFFFFFFF)
    if rule.suppress_prefix_length is not None:
        body += attribute_u32(_FRA_SUPPRESS_PREFIXLEN, rule.suppress_prefix_length)
    if rule.priority is not None:
        body += attribute_u32(_FRA_PRIORITY, rule.priority)
    return body


def add_rule(rule: Rule) -> Request:
    return Request(RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, _body(rule), f"adding the rule {rule}")


def delete_rule(rule: Rule) -> Request:
    """Removes one rule like it; `priority` None matches any."""
    return Request(RTM_DELRULE, NLM_F_ACK, _body(rule), f"removing the rule {rule}")


def get_rules(version: int) -> Request:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return Request(RTM_GETRULE, NLM_F_DUMP, _FIB_RULE.pack(family, 0, 0, 0, 0, 0, 0), "listing rules")


def parse_rule(message: Message) -> Rule | None:
    """What RTM_NEWRULE carries; None when it does not send to a table."""
    family, _, _, _, table, action, flags = _FIB_RULE.unpack_from(message.body)
    if action != _FR_ACT_TO_TBL or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = parse_attributes(message.body[_FIB_RULE.size :])
    suppress = parse_u32(found.get(_FRA_SUPPRESS_PREFIXLEN))
    return Rule(
        version=4 if family == socket.AF_INET else 6,
        table=parse_u32(found.get(_FRA_TABLE)) or table,
        mark=parse_u32(found.get(_FRA_FWMARK)),
        invert=bool(flags & _FIB_RULE_INVERT),
        suppress_prefix_length=None if suppress == _NO_SUPPRESSION else suppress,
        priority=parse_u32(found.get(_FRA_PRIORITY)) or 0,
    )
