"""The API to read: its OpenAPI document as one page, without scripts."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from coordinator.api.openapi import PATH, build_document
from coordinator.api.table import Endpoint
from coordinator.web.pages import HEADERS

_HEAD = f"""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>wgpy: the API</title>
  <link rel="icon" href="/static/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="/static/style.css">
</head>
<body>
<main id="main">
<div class="head"><h1>The API</h1><div class="actions"><a href="{PATH}">OpenAPI 3.1</a></div></div>
"""


class Reference:
    """The page about these routes; made once, when somebody asks."""

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._endpoints = endpoints

    @functools.cached_property
    def _document(self) -> bytes:
        return render(build_document(self._endpoints)).encode()

    async def page(self, _request: Request) -> Response:
        return Response(self._document, 200, HEADERS, "text/html; charset=utf-8")


def render(document: dict[str, Any]) -> str:
    """Every value is escaped: the document is ours, and stays text all the same."""
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    about = "".join(f"<p>{escape(part)}</p>" for part in document["info"]["description"].split("\n\n"))
    parts = [_HEAD, f'<div class="card">{about}</div>']
    for tag in sorted(groups):
        parts += [f"<h2>{escape(tag.capitalize())}</h2>", *groups[tag]]
    parts.append("<h2>Shapes</h2>")
    parts += (_shape(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    parts.append("</main>\n</body>\n</html>\n")
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    facts = [("Needs", operation["description"].removeprefix("Needs ").removesuffix("."))]
    facts += [
        (parameter["name"], f"{parameter['description']} ({parameter['in']})")
        for parameter in operation["parameters"]
    ]
    rows = [_row(escape(name), escape(text)) for name, text in facts]
    body = operation.get("requestBody")
    if body is not None:
        rows.append(_row("Takes", _type(body["content"]["application/json"]["schema"])))
    for status, response in operation["responses"].items():
        shown = [
            _type(content["schema"]) if media == "application/json" else escape(media)
            for media, content in response.get("content", {}).items()
            if media != "application/problem+json"
        ]
        rows.append(_row(status, ", ".join([*shown, escape(response["description"])])))
    title = f"<code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}"
    return _details(operation["operationId"], title, rows)


def _shape(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = []
    for field, kind in schema.get("properties", {}).items():
        said = kind.get("description", "")
        more = f" {escape(said)}" if said else ""
        rows.append(_row(escape(field), _type(kind) + ("" if field in required else ", optional") + more))
    about = escape(schema.get("description", ""))
    return _details(f"shape-{name}", f"<code>{escape(name)}</code> {about}", rows)


def _details(id_: str, title: str, rows: Iterable[str]) -> str:
    table = "\n".join(rows)
    return (
        f'<details class="card" id="{escape(id_)}"><summary>{title}</summary><dl>\n{table}\n</dl></details>'
    )


def _row(name: str, shown: str) -> str:
    return f"<dt>{name}</dt><dd>{shown}</dd>"


def _type(schema: dict[str, Any]) -> str:
    """A JSON Schema in a few words, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#shape-{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_type(kind) for kind in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    return escape(str(schema.get("type", "object" if schema else "JSON")))
