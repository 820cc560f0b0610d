from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wgpy.protocol.schedule import Schedule


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 20))), st.integers(0, 20))
def test_what_is_due_is_what_a_plain_table_says(changes: list[tuple[int, int | None]], now: int) -> None:
    schedule: Schedule[int] = Schedule()
    table: dict[int, int] = {}
    for key, at in changes:
        schedule.set(key, at)
        if at is None:
            table.pop(key, None)
        else:
            table[key] = at
        assert schedule.next() == min(table.values(), default=None)
    due = schedule.take_due(now)
    assert sorted(due) == sorted(key for key, at in table.items() if at <= now)
    assert [table[key] for key in due] == sorted(table[key] for key in due)
    assert schedule.next() == min((at for at in table.values() if at > now), default=None)


def test_moving_one_key_for_ever_does_not_grow() -> None:
    schedule: Schedule[str] = Schedule()
    for at in range(10_000):
        schedule.set("peer", float(10_000 - at))
    assert len(schedule._heap) < 100
    assert schedule.take_due(1.0) == ["peer"]
