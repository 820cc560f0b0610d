"""Every test that takes `bench` runs on each engine there is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.conformance.bench import Bench, MemoryBench
from tests.simulation.conftest import needs_native


@pytest.fixture(
    params=[
        "memory",
        pytest.param("host", marks=pytest.mark.root),
        pytest.param("host with offload", marks=pytest.mark.root),
        pytest.param("native", marks=pytest.mark.root),
        pytest.param("native with offload", marks=pytest.mark.root),
    ]
)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield MemoryBench()
        return
    from tests.conformance.host_bench import HostBench, private_network  # noqa: PLC0415  (Linux only)
    from wgpy.engine.portable_io import PortableDeviceEngine  # noqa: PLC0415

    offload = str(request.param).endswith("with offload")
    with private_network():
        if str(request.param).startswith("native"):
            from tests.conformance.native_bench import NativeHostBench  # noqa: PLC0415
            from wgpy.engine.native import OFFLOADS, NativeDeviceEngine, Settings  # noqa: PLC0415

            host: HostBench = NativeHostBench(
                NativeDeviceEngine(Settings(without=frozenset() if offload else frozenset(OFFLOADS)))
            )
        else:
            host = HostBench(PortableDeviceEngine(offload=offload))
        async with trio.open_nursery() as nursery:
            await nursery.start(host.device_engine.run)
            yield host
            host.stop()


@pytest.fixture(params=["portable", pytest.param("native", marks=needs_native)])
def memory(request: pytest.FixtureRequest) -> MemoryBench:
    """For what needs a clock that the test sets, or to see what a socket does not show."""
    if request.param == "portable":
        return MemoryBench()
    from tests.conformance.native_bench import NativeMemoryBench  # noqa: PLC0415  (Linux only)

    return NativeMemoryBench()
