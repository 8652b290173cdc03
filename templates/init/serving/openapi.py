"""The OpenAPI document."""

import json
from collections.abc import Mapping
from functools import cache

import msgspec

from serving.model import SAMPLE, Request

_LARGEST_EXAMPLE = 100_000  # bytes
_ERROR = {"type": "object", "properties": {"detail": {"type": "string"}, "path": {"type": "string"}}}
_FAILURES = {
    "408": "The body took too long to arrive.",
    "413": "The body is too large.",
    "422": "The request is invalid; `path` names the field.",
    "500": "The model failed, or returned NaN or infinity.",
    "503": "Loading, or too many requests; see Retry-After.",
    "504": "The model took too long.",
}


def _response(description: str, schema: Mapping[str, object]) -> dict[str, object]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


@cache
def document() -> dict[str, object]:
    """The OpenAPI document, with the type of `serving/model.py` and the sample as its example."""
    (body,), schemas = msgspec.json.schema_components([Request], ref_template="#/components/schemas/{name}")
    content: dict[str, object] = {"schema": body}
    if SAMPLE.stat().st_size <= _LARGEST_EXAMPLE:
        content["example"] = json.loads(SAMPLE.read_bytes())
    outputs = {"type": "object", "required": ["outputs"], "properties": {"outputs": {}}}
    failures = {status: _response(text, _ERROR) for status, text in _FAILURES.items()}
    status = {"type": "object", "properties": {"status": {"type": "string"}}}
    predict = {
        "summary": "Run the model",
        "operationId": "predict",
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {"200": _response("The outputs of the model.", outputs), **failures},
    }
    paths: dict[str, object] = {"/predict": {"post": predict}}
    for name, texts in {
        "live": ("The process responds.", "The model hangs."),
        "ready": ("Ready.", "Loading or draining."),
    }.items():
        codes = dict(zip(("200", "503"), texts, strict=False))
        responses = {code: _response(text, status) for code, text in codes.items()}
        paths[f"/health/{name}"] = {"get": {"operationId": name, "responses": responses}}
    paths["/metrics"] = {"get": {"operationId": "metrics", "responses": {"200": {"description": "Prometheus metrics"}}}}
    info = {"title": "Model server", "version": "1"}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": schemas}}
