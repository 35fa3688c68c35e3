"""The OpenAPI document of `/api`, made of the table of pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from qik_core.version import VERSION
from qik_core.web.asked import PARAMS
from qik_core.web.tabs import TabPage

FORMS = {
    "/queues/{queue}": ("verb",),
    "/jobs": ("place", "verb", "job"),
    "/bulk": ("place", "verb", "where", "sure"),
    "/processes": ("verb", "identity", "sure"),
}
_ANSWERS = {
    "200": {
        "description": "What was asked for",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    **{
        code: {
            "description": told,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for code, told in (
            ("400", "A parameter cannot be read"),
            ("401", "No password, no token"),
            ("403", "Not allowed"),
            ("503", "Redis cannot be reached"),
        )
    },
}


def document(pages: Sequence[TabPage], base: str) -> dict[str, Any]:
    """Return the document, for a dashboard under this prefix."""
    problem = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "qik", "version": VERSION},
        "servers": [{"url": f"{base}/api"}],
        "security": [{"bearer": []}],
        "paths": {page.path: dict(_operations(page)) for page in pages},
        "components": {
            "schemas": {"Problem": problem},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operations(page: TabPage) -> Sequence[tuple[str, dict[str, Any]]]:
    path = [_parameter(name, "path") for name in re.findall(r"\{(\w+)\}", page.path)]
    found = []
    if page.show is not None:
        query = [_parameter(name, "query") for name in page.params]
        found.append(
            ("get", {"summary": page.told, "parameters": [*path, *query], "responses": _ANSWERS})
        )
    if page.act is not None:
        fields = {name: _field(name) for name in (*FORMS.get(page.path, ()), *page.fields)}
        body = {
            "content": {"application/json": {"schema": {"type": "object", "properties": fields}}}
        }
        found.append(
            (
                "post",
                {
                    "summary": page.told,
                    "parameters": path,
                    "requestBody": body,
                    "responses": _ANSWERS,
                },
            )
        )
    return found


def _parameter(name: str, place: str) -> dict[str, Any]:
    param, schema = PARAMS[name], _field(name)
    schema.pop("description")
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": param.told,
        "schema": schema,
    }


def _field(name: str) -> dict[str, Any]:
    param = PARAMS[name]
    if param.numbers is not None:
        least, most = param.numbers
        return {"type": "integer", "minimum": least, "maximum": most, "description": param.told}
    text = {"type": "string", "maxLength": param.longest, "description": param.told}
    if name in ("job", "lose"):
        return {"type": "array", "items": text, "description": param.told}
    return text
