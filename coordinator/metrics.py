"""What the coordinator counts about itself, for Prometheus.

Labels have values of ours alone (names of routes, statuses, codes of refusals), never of those who ask: their
number is bounded by the source. Each application counts in a registry of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_1_0_0

_SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Bounds of the histograms."""


@dataclass(frozen=True, slots=True)
class Census:
    """What is in memory at this moment."""

    networks: int
    node_streams: int
    admin_streams: int


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "wgpy_coordinator_requests",
            "Requests that were answered, by route and status",
            ("action", "status"),
            registry=self._registry,
        )
        self._refused = Counter(
            "wgpy_coordinator_refusals", "Requests refused, by code", ("code",), registry=self._registry
        )
        self._seconds = Histogram(
            "wgpy_coordinator_request_seconds",
            "Time from a request's headers to its answer; of streams, to their beginning",
            ("action",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._transactions = Histogram(
            "wgpy_coordinator_transaction_seconds",
            "Time that reading and writing took in the database, without waiting for a connection",
            ("kind",),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def count_request(self, action: str, status: int, seconds: float) -> None:
        self._requests.labels(action, str(status)).inc()
        self._seconds.labels(action).observe(seconds)

    def count_refusal(self, code: str) -> None:
        self._refused.labels(code).inc()

    def count_transaction(self, kind: str, seconds: float) -> None:
        """`kind` is read or write. Called in the threads that the database's work is done in."""
        self._transactions.labels(kind).observe(seconds)

    def watch(self, census: Callable[[], Census]) -> None:
        """Ask for a census at each scrape."""
        self._registry.register(_CensusTaker(census))

    def render(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _CensusTaker(Collector):
    def __init__(self, census: Callable[[], Census]) -> None:
        self._census = census

    def collect(self) -> Iterator[Metric]:
        found = self._census()
        yield GaugeMetricFamily(
            "wgpy_coordinator_networks_open", "Networks held in memory, because somebody uses them",
            value=found.networks,
        )  # fmt: skip
        streams = GaugeMetricFamily(
            "wgpy_coordinator_streams", "Streams that are open, by who follows them", labels=("kind",)
        )
        streams.add_metric(("node",), found.node_streams)
        streams.add_metric(("admin",), found.admin_streams)
        yield streams
