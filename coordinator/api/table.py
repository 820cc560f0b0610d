"""What the API's routes are made of. The same declarations parse and authorise a request, and write the
OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection

from coordinator.rights import Right
from wgpy.mesh.encoding import JsonObject


class Needs(Enum):
    """What opens a route. The rights are on the network that the path names, else on the coordinator."""

    NOTHING = "nothing; limited by address"
    NODE = "the bearer of a node's session"
    SIGNED_IN = "an API key or a browser's session"
    READ = "the right to read"
    OWN = "the right to bring in own devices"
    ENROL = "the right to enrol"
    ADMIN = "the right to administer"

    @property
    def right(self) -> Right | None:
        return Right.__members__.get(self.name)


@dataclass(frozen=True, slots=True)
class Subject:
    """The thing that a route is about: what the audit log shows before and after, and what an ETag is of.

    `read` takes the connection, the network's id ("" outside of networks) and a name or id, and gives what
    the API shows without what moves by itself, with its `id`; None when there is no such thing. `parameter`
    is the part of the path that names it, "" where it is made. `made` finds the id in what a change returned.
    """

    read: Callable[[Connection, str, str], JsonObject | None]
    parameter: str = ""
    made: Callable[[Any], str] = attrgetter("id")


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter behind the question mark. `kind` str or int."""

    name: str
    what: str
    kind: type = str


PAGE = (
    Query("limit", "how many at most: 1 to 1000, 100 unless told", int),
    Query("after", "the `next` of the page before"),
)

DRY_RUN = Query("dry_run", "1: change nothing, and tell what would change on which nodes", int)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route. `handler` takes a Call and gives what `gives` says, or a Response of its own.

    `codes` are the refusals of its own, beside those that come with the declaration. `action` is its name in
    the audit log and in OpenAPI; with `raw` the handler gets the bare request and
    sees to everything itself.
    """

    method: str
    path: str
    handler: Callable[[Any], Awaitable[Any]]
    needs: Needs
    action: str
    summary: str
    takes: type | None = None
    gives: type | None = None
    status: int = 200
    query: tuple[Query, ...] = ()
    subject: Subject | None = None
    codes: tuple[str, ...] = ()
    media: tuple[str, ...] = ("application/json",)
    raw: bool = False
    previews: bool = False
    """Whether `?dry_run=1` tells what it would change, and changes nothing."""

    @property
    def creates(self) -> bool:
        """Whether an Idempotency-Key is of use."""
        return self.method == "POST" and self.status == 201 and self.needs.right is not None

    @property
    def edits(self) -> bool:
        """Whether If-Match is asked for: two who edit one thing shall not overwrite each other."""
        return self.method in ("PATCH", "PUT") and self.subject is not None
