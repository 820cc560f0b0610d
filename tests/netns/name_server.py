"""A name server for the hosts of a lab: `python name_server.py ADDRESS [NAME=ADDRESS[,ADDRESS …] …]`.

It writes a line for each question; names that were not given do not exist.
"""

from __future__ import annotations

import sys
import time

from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSServer


class Fixed(BaseResolver):  # type: ignore[misc]
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def resolve(self, request: DNSRecord, handler: object) -> DNSRecord:
        name, kind = str(request.q.qname).rstrip(".").lower(), QTYPE[request.q.qtype]
        print(f"asked {name} {kind}", flush=True)
        reply = request.reply()
        if name not in self.names:
            reply.header.rcode = RCODE.NXDOMAIN
        elif kind == "A":
            many = self.names[name].split(",")
            for address in many:
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=1))
        return reply


def main(address: str, *names: str) -> None:
    resolver = Fixed(dict(each.split("=", 1) for each in names))
    for tcp in (False, True):
        DNSServer(resolver, address=address, port=53, tcp=tcp, logger=_Silent()).start_thread()
    print("serving", flush=True)
    while True:
        time.sleep(3600)


class _Silent:
    def __getattr__(self, name: str) -> object:
        return lambda *_: None


if __name__ == "__main__":
    main(*sys.argv[1:])
