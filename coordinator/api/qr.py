"""A text as a QR code, SVG or PNG. The text comes in the body, so that it stands in no address and no log."""

from __future__ import annotations

import io
from typing import Annotated, Final, Literal

import msgspec
import segno
from starlette.responses import Response

from coordinator.api.call import Call
from coordinator.api.table import Endpoint, Needs

MAX_TEXT: Final = 2300
"""Octets that fit the largest code at the lowest level of correction, with room to spare."""


_MEDIA: Final = {"svg": "image/svg+xml", "png": "image/png"}


class Text(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT // 2)]
    format: Literal["svg", "png"] = "svg"


async def draw_qr(call: Call[Text]) -> Response:
    out = io.BytesIO()
    code = segno.make(call.body.text, error="l", micro=False)
    if call.body.format == "png":
        code.save(out, kind="png", border=4, scale=6)
    else:
        code.save(out, kind="svg", border=2, xmldecl=False)
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(out.getvalue(), 200, headers, _MEDIA[call.body.format])


ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/v1/admin/qr",
        draw_qr,
        Needs.SIGNED_IN,
        "qr.draw",
        "A text as a QR code, SVG or PNG",
        takes=Text,
        media=("image/svg+xml", "image/png"),
    ),
)
