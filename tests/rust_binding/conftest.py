"""Examples of random tests have no deadline of their own here: a busy machine is not a failure."""

from __future__ import annotations

import pytest
from hypothesis import settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        function = getattr(item, "obj", None)
        if item.path.parent.name == "rust_binding" and hasattr(function, "hypothesis"):
            settings(deadline=None)(function)
