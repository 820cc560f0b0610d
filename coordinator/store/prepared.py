"""Statements that a crowd of nodes asks for: compiled once, and then run by the driver itself.

To get a statement and its result ready for each run takes SQLAlchemy four times as long as SQLite takes to
run it. What it knows of dialects and types is used all the same, and errors are those that it raises.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError

Convert = Callable[[Any], Any]


class _Form:
    """A statement for one dialect, with parameters of these names."""

    def __init__(self, statement: Any, dialect: Dialect, names: Iterable[str]) -> None:
        columns = names if statement.is_insert else None
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        self.text = str(compiled)
        self._order: Sequence[str] | None = compiled.positiontup  # None: the driver takes names
        self._constants = {name: value for name, value in compiled.params.items() if name not in names}
        writers = (
            (name, bind.type.dialect_impl(dialect).bind_processor(dialect))
            for name, bind in compiled.binds.items()
        )
        self._writers = [(name, convert) for name, convert in writers if convert is not None]
        self._dialect = dialect
        self._columns = tuple(statement.exported_columns)
        fields = [column.key or "" for column in self._columns]  # none: an expression without a name
        make_type: Any = namedtuple
        self._row = make_type("_row", fields, rename=True)
        self._readers: list[tuple[int, Convert]] | None = None

    def arguments(self, values: dict[str, Any]) -> Any:
        """As the driver takes them."""
        values.update(self._constants)
        for name, convert in self._writers:
            values[name] = convert(values[name])
        return values if self._order is None else [values[name] for name in self._order]

    def row(self, found: Sequence[Any], description: Sequence[Any]) -> Any:
        """`description` is the cursor's: what to do with a value may depend on the type that came."""
        if self._readers is None:
            converters = (
                column.type.dialect_impl(self._dialect).result_processor(self._dialect, came[1])
                for column, came in zip(self._columns, description, strict=True)
            )
            self._readers = [(place, each) for place, each in enumerate(converters) if each is not None]
        if self._readers:
            found = [*found]
            for place, convert in self._readers:
                found[place] = convert(found[place])
        return self._row._make(found)


class Prepared:
    """A statement whose parameters have names, the same at each run. A run may raise SQLAlchemyError."""

    __slots__ = ("_forms", "_statement")

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._forms: dict[str, _Form] = {}

    def run(self, connection: Connection, **values: Any) -> None:
        """For what gives no rows."""
        _, cursor = self._execute(connection, values)
        cursor.close()

    def all(self, connection: Connection, **values: Any) -> list[Any]:
        """Its rows, with a field for each column."""
        form, cursor = self._execute(connection, values)
        rows = [form.row(found, cursor.description) for found in cursor.fetchall()]
        cursor.close()
        return rows

    def first(self, connection: Connection, **values: Any) -> Any:
        """Its first row; None when there is none."""
        form, cursor = self._execute(connection, values)
        found = cursor.fetchone()
        row = None if found is None else form.row(found, cursor.description)
        cursor.close()
        return row

    def scalar(self, connection: Connection, **values: Any) -> Any:
        """The first column of its first row; None when there is none."""
        row = self.first(connection, **values)
        return None if row is None else row[0]

    def _execute(self, connection: Connection, values: dict[str, Any]) -> tuple[_Form, Any]:
        dialect = connection.dialect
        form = self._forms.get(dialect.name)
        if form is None:
            form = self._forms[dialect.name] = _Form(self._statement, dialect, values.keys())
        driver: Any = dialect.loaded_dbapi
        cursor = connection.connection.cursor()
        try:
            cursor.execute(form.text, form.arguments(values))
        except driver.Error as error:
            raise DBAPIError.instance(
                form.text, None, error, driver.Error, hide_parameters=True, dialect=dialect
            ) from error
        return form, cursor
