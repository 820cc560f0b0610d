"""What every handler works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from coordinator.addresses import RandomSource
from coordinator.auth import SessionKeys
from coordinator.hub import Hub
from coordinator.identity import CoordinatorIdentity
from coordinator.metrics import Metrics
from coordinator.passwords import Passwords
from coordinator.providers import Providers
from coordinator.pump import Pump
from coordinator.ratelimit import RateLimit, Sample
from coordinator.store.store import Store
from wgpy.mesh.receipt import ReceiptKey


@dataclass(frozen=True, slots=True)
class Context:
    """One coordinator process, behind its HTTP face. `clock` gives Unix time in seconds."""

    store: Store
    hub: Hub
    identity: CoordinatorIdentity
    sessions: SessionKeys
    rng: RandomSource
    clock: Callable[[], float]
    receipts: ReceiptKey
    """By which nodes prove where they are."""
    relay_port: int | None = None
    """UDP port, on this host, of the relay that `serve` runs."""
    pump: Pump = field(init=False)
    providers: Providers = field(init=False)
    limit: RateLimit = field(default_factory=RateLimit)
    page_limit: RateLimit = field(default_factory=RateLimit.for_page)
    passwords: Passwords = field(default_factory=Passwords)
    metrics: Metrics = field(default_factory=Metrics)
    sign_ins: tuple[RateLimit, RateLimit] = field(default_factory=RateLimit.for_sign_in)
    failed_sign_ins: Sample = field(default_factory=Sample.of_failed_sign_ins)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pump", Pump(self.hub))
        object.__setattr__(self, "providers", Providers(self.clock))


def context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context
