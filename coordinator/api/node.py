"""What nodes ask (docs/wire.md §2 and §4 to §7)."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from coordinator.api.context import context_of
from coordinator.api.edge import (
    RemovedNode,
    answer,
    authorise_node,
    limit_stranger,
    observed_address,
    read_body,
)
from coordinator.api.stream import FrameStream, LastWord
from coordinator.auth import BEARER_AGE, Bearer
from coordinator.errors import Refusal
from coordinator.presence import Report, presence_line, unproven_endpoints, usable_endpoints
from coordinator.ratelimit import source_key
from coordinator.store import admission, clients, forwards, joins, nodes
from coordinator.store.joins import JoinRow, Source
from coordinator.store.nodes import NodeRow
from wgpy.mesh.encoding import MAX_NAME, Fields, encode_json
from wgpy.mesh.forward import Offer
from wgpy.mesh.frames import PresenceFrame, Since
from wgpy.mesh.keyless import CommitAnswer, CommitRequest, OpenRequest, Waiting
from wgpy.mesh.netmap import Network
from wgpy.mesh.receipt import tag_of
from wgpy.mesh.record import Record
from wgpy.mesh.rotation import KeyRequest
from wgpy.mesh.wire import (
    WIRE_VERSION,
    CheckinAnswer,
    CheckinRequest,
    JoinRequest,
    Membership,
    Session,
    SessionRequest,
)

WAITING_POLL = 2
"""Seconds after which a host whose join waits asks again."""


_VERSION: Final = re.compile(r"wgpy/([0-9A-Za-z.+-]{1,32})")
"""What a node sends as its User-Agent."""


def _check_wire(version: int) -> None:
    if version != WIRE_VERSION:
        raise Refusal(
            "wire_version",
            f"this coordinator speaks version {WIRE_VERSION} of the mesh's wire, the node version {version}: "
            f"upgrade {'the coordinator' if version > WIRE_VERSION else 'the node'}",
        )


async def identity(request: Request) -> Response:
    limit_stranger(request)
    return answer(context_of(request).identity.answer.to_json())


async def challenge(request: Request) -> Response:
    limit_stranger(request)
    context = context_of(request)
    return answer(context.sessions.make_challenge(context.rng, context.clock()).to_json())


async def join(request: Request) -> Response:
    limit_stranger(request)
    context, now = context_of(request), context_of(request).clock()
    asked = JoinRequest.from_json(await read_body(request))
    _check_wire(asked.wire)
    context.sessions.check_join(asked, context.identity.hash, context.identity.leaf_hashes_seen(), now)
    wish = admission.JoinWish(
        asked.token, asked.name, asked.machine_key, asked.wireguard_key, asked.capabilities,
        str(observed_address(request) or ""),
    )  # fmt: skip
    write = context.store.write
    return _answer_join(*await write(admission.with_network, admission.join, wish, context.rng, now), now)


def _answer_join(found: NodeRow | JoinRow, network: Network, now: float) -> Response:
    """What it has become, or that it waits."""
    if isinstance(found, JoinRow):
        left = max(1, int(found.expires_at - now))
        return answer(Waiting(found.id, left, WAITING_POLL).to_json(), 202)
    return answer(Membership(network, found.id, found.name, found.addresses).to_json())


async def commit_join(request: Request) -> Response:
    limit_stranger(request)
    context = context_of(request)
    asked = CommitRequest.from_json(await read_body(request))
    _check_wire(asked.wire)
    address = str(observed_address(request) or "")
    source = Source(address, source_key(address))
    made = await context.store.write(
        joins.commit_join, asked.network, asked.commitment, source, context.rng, context.clock()
    )
    return answer(CommitAnswer(made.id, made.nonce).to_json())


async def open_join(request: Request) -> Response:
    limit_stranger(request)
    context, now = context_of(request), context_of(request).clock()
    asked, identity = OpenRequest.from_json(await read_body(request)), context.identity
    _check_wire(asked.wire)
    leaf = context.sessions.check_join(asked, identity.hash, identity.leaf_hashes_seen(), now)
    wish = admission.OpenWish(asked, identity.hash, leaf)
    write = context.store.write
    return _answer_join(*await write(admission.with_network, admission.open_join, wish, now), now)


async def session(request: Request) -> Response:
    limit_stranger(request)
    context, now = context_of(request), context_of(request).clock()
    asked = SessionRequest.from_json(await read_body(request))
    _check_wire(asked.wire)
    context.sessions.check_challenge(asked.challenge, now)
    node = await context.store.read(nodes.find_node, asked.network, asked.node)
    if node is None:
        raise await _unknown(request, asked)
    seen = context.identity.leaf_hashes_seen()
    context.sessions.check_session(asked, node.machine_key, context.identity.hash, seen)
    version = _VERSION.fullmatch(request.headers.get("user-agent", ""))
    if version is not None and version[1] != node.version:
        await context.store.write(nodes.note_version, node.id, version[1])
    text = context.sessions.make_bearer(Bearer(node.network_id, node.id, node.key_epoch), now)
    return answer(Session(text, int(BEARER_AGE)).to_json())


async def _unknown(request: Request, asked: SessionRequest) -> Refusal:
    """A node that was removed while it was away gets the signed frame, if it proves to be that node."""
    context = context_of(request)
    detail = "this coordinator has no such node: if its database was restored or replaced, join again"
    machine_key = await context.store.read(nodes.find_removed, asked.network, asked.node)
    if machine_key is None:
        return Refusal("node_unknown", detail)
    seen = context.identity.leaf_hashes_seen()
    context.sessions.check_session(asked, machine_key, context.identity.hash, seen)
    frame = context.identity.removed_frame(asked.network, asked.node)
    return Refusal("node_unknown", "this node was removed", extra={"removed": frame.to_json()})


async def put_record(request: Request) -> Response:
    node = await authorise_node(request)
    context = context_of(request)
    record = Record.from_json(await read_body(request))
    _check_own(record, node)
    revision = await context.store.write(nodes.put_record, record, context.clock())
    return answer({"revision": revision})


async def change_key(request: Request) -> Response:
    node = await authorise_node(request)
    context, now = context_of(request), context_of(request).clock()
    asked = KeyRequest.from_json(await read_body(request))
    _check_own(asked.record, node)
    context.sessions.check_key(asked, now)
    address = str(observed_address(request) or "")
    revision = await context.store.write(nodes.change_key, asked.record, address, now)
    return answer({"revision": revision})


def _check_own(record: Record, node: NodeRow) -> None:
    """That the node itself signed it. Raises Refusal."""
    if (record.network, record.id) != (node.network_id, node.id):
        raise Refusal("record_mismatch", "the record is not of the node whose session this is")
    if record.machine_key != node.machine_key or not record.verify():
        raise Refusal("record_mismatch", "the record is not signed by this node's machine key")


async def put_offer(request: Request) -> Response:
    node = await authorise_node(request)
    context = context_of(request)
    offer = Offer.from_json(await read_body(request))
    taken = context.store.write(
        forwards.take_offer, node.network_id, node.id, offer, context.rng, now=context.clock()
    )
    return answer({"changed": await taken})


async def put_name(request: Request) -> Response:
    node = await authorise_node(request)
    context = context_of(request)
    wanted = Fields(await read_body(request)).text("name", MAX_NAME)
    name = await context.store.write(
        nodes.rename_node, node.network_id, node.id, unique_from=wanted, now=context.clock()
    )
    return answer({"name": name})


async def check_in(request: Request) -> Response:
    try:
        node = await authorise_node(request)
    except RemovedNode as removed:
        nobody = PresenceFrame(True, {}).to_json()
        return answer({"frame": removed.frame.to_json(), "presence": nobody})
    context = context_of(request)
    asked = CheckinRequest.from_json(await read_body(request))
    tag, now = tag_of(node.id), context.clock()
    proven = [each.address for each in asked.receipts if context.receipts.verify(each, tag, now)]
    endpoints = usable_endpoints(observed_address(request), asked.listen_port, asked.endpoints, proven)
    unproven = unproven_endpoints(asked.endpoints, endpoints)
    report = Report(asked.boot, asked.sequence, endpoints, context.clock())
    bearer = Bearer(node.network_id, node.id, node.key_epoch)
    if asked.clients:
        await context.store.write(
            clients.take_sightings, node.network_id, node.id, asked.clients, context.clock()
        )
    if asked.brief:
        terms = await context.hub.take_report(bearer, report, asked.tunnels, is_alone=True)
        return answer(CheckinAnswer(None, PresenceFrame(False, {}), terms, unproven).to_json())
    frame, presence = await context.hub.check_in(bearer, asked.since, report)
    terms = await context.hub.take_report(bearer, report, asked.tunnels, is_alone=False)
    rest = encode_json([str(endpoint) for endpoint in unproven])
    parts = (frame.strip(), presence_line(presence).strip(), encode_json(terms.to_json()), rest)
    return answer(b'{"frame":%s,"presence":%s,"reports":%s,"unproven":%s}' % parts)


async def watch(request: Request) -> ASGIApp:
    try:
        node = await authorise_node(request)
    except RemovedNode as removed:
        return LastWord(encode_json(removed.frame.to_json()) + b"\n")
    context = context_of(request)
    text = request.query_params.get("since")
    since = None if text is None else Since.parse(text)
    bearer = Bearer(node.network_id, node.id, node.key_epoch)
    return FrameStream(context.hub, context.pump, await context.hub.subscribe(bearer, since))


async def leave(request: Request) -> Response:
    try:
        node = await authorise_node(request)
    except RemovedNode as removed:
        return answer(removed.frame.to_json())
    context = context_of(request)
    address = str(observed_address(request) or "")
    await context.store.write(nodes.leave, node, address, context.clock())
    return answer(context.identity.removed_frame(node.network_id, node.id).to_json())
