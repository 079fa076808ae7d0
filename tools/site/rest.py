"""The reference of the HTTP API, from the service's own OpenAPI document."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from app.main import create_app
from app.settings import Settings

Json = Mapping[str, Any]

_SCHEMAS = "schemas.md"
_COMMON = ("401", "403", "408", "413", "422", "429", "503", "507")
"""Answers that nearly every call has; they are told once."""


def pages() -> dict[str, str]:
    """Markdown by path: an overview, a page for each tag, one for the schemas."""
    document = create_app(Settings(broker_url="redis://nowhere")).openapi()
    found = {"api/index.md": _overview(document)}
    for tag in document["tags"]:
        found[f"api/{tag['name']}.md"] = _tag(document, tag)
    found[f"api/{_SCHEMAS}"] = _schemas(document["components"]["schemas"])
    return found


def _operations(document: Json, tag: str | None = None) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag is None or tag in operation.get("tags", ()):
                yield method.upper(), path, operation


def _anchor(method: str, path: str) -> str:
    letters = "".join(letter if letter.isalnum() else "-" for letter in path)
    return f"{method.lower()}{letters.rstrip('-')}"


def _overview(document: Json) -> str:
    lines = [
        "---\ndescription: Every call of the HTTP API.\n---\n",
        "# HTTP API\n",
        "Made from the service's own OpenAPI document, which it serves at `/openapi.json`.",
        'At `/docs` it serves Swagger UI, where every example works when "Execute" is pressed.\n',
        "Where the service asks for API keys, send yours as `Authorization: Bearer sct_…`.",
        "Errors are `application/problem+json` (RFC 9457): see [Problem](schemas.md#problem).\n",
    ]  # fmt: skip
    for tag in document["tags"]:
        name = tag["name"]
        lines += [f"## [{name.capitalize()}]({name}.md)\n", f"{tag['description']}\n"]
        lines += ["| Call | What it does |", "|---|---|"]
        for method, path, operation in _operations(document, name):
            call = f"[`{method} {path}`]({name}.md#{_anchor(method, path)})"
            lines.append(f"| {call} | {_cell(operation['summary'])} |")
        lines.append("")
    lines += ["## Answers that every call may have\n", "| Status | Meaning |", "|---|---|"]
    lines += [f"| {status} | {_cell(text)} |" for status, text in _common(document).items()]
    return "\n".join(lines) + "\n"


def _common(document: Json) -> dict[str, str]:
    texts: dict[str, str] = {}
    for _, _, operation in _operations(document):
        for status in _COMMON:
            if status in operation["responses"]:
                texts.setdefault(status, operation["responses"][status]["description"])
    return dict(sorted(texts.items()))


def _tag(document: Json, tag: Json) -> str:
    lines = [f"# {tag['name'].capitalize()}\n", f"{tag['description']}\n"]
    for method, path, operation in _operations(document, tag["name"]):
        lines += [f"## {operation['summary']} {{ #{_anchor(method, path)} }}\n"]
        lines += [f"```http\n{method} {path}\n```\n"]
        if "description" in operation:
            lines += [f"{operation['description']}\n"]
        lines += _parameters(operation) + _body(operation) + _answers(operation)
    return "\n".join(lines) + "\n"


def _parameters(operation: Json) -> list[str]:
    found = operation.get("parameters", [])
    if not found:
        return []
    lines = ["| Parameter | In | Type | Meaning |", "|---|---|---|---|"]
    for one in found:
        name = f"`{one['name']}`" + (" (required)" if one.get("required") else "")
        said = one.get("description") or one["schema"].get("description", "")
        lines.append(f"| {name} | {one['in']} | {_type(one['schema'])} | {_cell(said)} |")
    return [*lines, ""]


def _body(operation: Json) -> list[str]:
    lines = []
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content.get("schema", {})
        lines.append(f"**Body**: `{media}`, {_type(schema)}\n")
        if "properties" in schema:
            lines += _properties(schema)
        for example in content.get("examples", {}).values():
            value = json.dumps(example["value"], indent=2, ensure_ascii=False)
            code = "\n".join(f"    {line}" for line in f"```json\n{value}\n```".splitlines())
            lines.append(f'??? example "{example["summary"]}"\n\n{code}\n')
    return lines


def _answers(operation: Json) -> list[str]:
    lines = ["| Answer | Type | Meaning |", "|---|---|---|"]
    others = []
    for status, answer in sorted(operation["responses"].items()):
        if status in _COMMON:
            others.append(status)
            continue
        types = [
            f"`{media}` {_type(content['schema'])}" if content.get("schema") else f"`{media}`"
            for media, content in answer.get("content", {}).items()
        ]
        lines.append(f"| {status} | {'<br>'.join(types)} | {_cell(answer['description'])} |")
    if others:
        common = "index.md#answers-that-every-call-may-have"
        problem = f"[Problem]({_SCHEMAS}#problem)"
        lines.append(f"| {', '.join(others)} | {problem} | [as of every call]({common}) |")
    return [*lines, ""]


def _schemas(schemas: Json) -> str:
    lines = ["# Schemas\n", "What the API takes and gives, by name.\n"]
    for name, schema in sorted(schemas.items()):
        lines += [f"## {name} {{ #{name.lower()} }}\n"]
        if "description" in schema:
            lines += [f"{schema['description']}\n"]
        if "properties" in schema:
            lines += _properties(schema)
        elif schema:
            lines += [f"{_type(schema)}\n"]
    return "\n".join(lines) + "\n"


def _properties(schema: Json) -> list[str]:
    lines = ["| Field | Type | Default | Meaning |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else ""
        if "default" in field:
            default = f"`{_cell(json.dumps(field['default'], ensure_ascii=False))}`"
        meaning = _cell(field.get("description", ""))
        lines.append(f"| `{name}` | {_type(field)} | {default} | {meaning} |")
    return [*lines, ""]


def _type(schema: Json) -> str:
    """A schema in a few words, with links to those that have a name."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}]({_SCHEMAS}#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[several])))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    if kind == "array":
        items = schema.get("items") or {}
        return f"list of {_type(items)}" if items else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("format", kind)) + _range(schema)


def _range(schema: Json) -> str:
    words = {
        "minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<",
        "minLength": "length ≥", "maxLength": "length ≤",
    }  # fmt: skip
    said = [f"{word} {schema[name]:g}" for name, word in words.items() if name in schema]
    return f" ({', '.join(said)})" if said else ""


def _cell(text: str) -> str:
    """Fits into a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
