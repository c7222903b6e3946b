#!/usr/bin/env python
"""Writes docs/api.schema.json: what every endpoint takes and returns, as JSON Schema.

    python scripts/api_schema.py

It follows the dataclasses of `space.answers`; a test holds the endpoints' answers against it.
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from space import answers  # noqa: E402
from space.claims import AGREES, CANNOT_TELL, CONTRADICTS  # noqa: E402

PATH = ROOT / "docs" / "api.schema.json"
_FILE = {
    "description": "an uploaded file, a URL or a data URL, as gradio's clients send it",
    "type": "object",
    "anyOf": [{"required": ["path"]}, {"required": ["url"]}],
}
_TOP_K = {"type": "integer", "minimum": 1, "default": 5}
_TEXT = {"type": ["string", "null"], "default": None}
_MODEL = {
    "type": "object",
    "properties": {"source": {"type": "string"}, "revision": {"type": "string"}},
    "required": ["source", "revision"],
    "additionalProperties": False,
}


def schema() -> dict[str, Any]:
    """The whole document."""
    named = TypeAdapter(answers.Recognition).json_schema(mode="serialization")
    parts = named.pop("$defs")
    for name, part in parts.items():
        part.pop("description", None)  # which only some versions of pydantic take from the class
        if part.get("type") == "object":
            described = {"description": inspect.cleandoc(getattr(answers, name).__doc__)}
            parts[name] = described | part | {"additionalProperties": False}
    answer = {name: what for name, what in named["properties"].items() if name != "error"}
    told = {"model": _MODEL, "elapsed_ms": {"type": "number", "minimum": 0}}
    parts["Answer"] = _closed(answer, "what /predict says of a car")
    answer_of = {"$ref": "#/$defs/Answer"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Marque's endpoints",
        "$defs": parts
        | {
            "predict": _closed(answer | told),
            "predict_all": _closed({"cars": {"type": "array", "items": answer_of}, **told}),
            "predict_batch": _closed(
                {
                    "answers": {
                        "type": "array",
                        "items": _closed({"name": {"type": "string"}, **named["properties"]}),
                    },
                    **told,
                }
            ),
            "check": _closed(
                {
                    "result": {"enum": [AGREES, CONTRADICTS, CANNOT_TELL]},
                    "reason": {"type": "string"},
                    "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
                    "recognition": answer_of,
                    "model": _MODEL,
                }
            ),
        },
        "endpoints": {
            "/predict": _endpoint({"image": _FILE, "top_k": _TOP_K, "catalogue": _TEXT}, "predict"),
            "/predict_all": _endpoint({"image": _FILE, "top_k": _TOP_K}, "predict_all"),
            "/predict_batch": _endpoint(
                {
                    "images": {"type": "array", "items": _FILE},
                    "top_k": _TOP_K,
                    "catalogue": _TEXT,
                },
                "predict_batch",
            ),
            "/check": _endpoint({"image": _FILE, "text": {"type": "string"}}, "check"),
            "/explain": {
                "input": _closed({"image": _FILE, "label": _TEXT, "against": _TEXT}),
                "output": {"description": "a PNG picture", "type": "string"},
            },
        },
    }


def _closed(properties: dict[str, Any], description: str | None = None) -> dict[str, Any]:
    """An object of these properties and no others."""
    told = {"description": description} if description else {}
    return told | {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _endpoint(takes: dict[str, Any], returns: str) -> dict[str, Any]:
    arguments = _closed(takes)
    arguments["required"] = [name for name, what in takes.items() if "default" not in what]
    return {"input": arguments, "output": {"$ref": f"#/$defs/{returns}"}}


if __name__ == "__main__":
    PATH.write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")
