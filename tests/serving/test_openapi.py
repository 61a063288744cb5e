"""The OpenAPI document says what is served: the same paths, methods, parameters and answers."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.routing import Route
from support.served import Workers, put_copy, small_trained

from pipeline.serving.problems import Code


def test_the_document_is_what_is_served(tmp_path: Path) -> None:
    workers = Workers(tmp_path / "live", n=0)
    workers.folder.make()
    workers.folder.flip(put_copy(workers.folder, small_trained("popular")))
    workers.runner.run(workers._start())
    document = workers.get("/openapi.json").json()
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described == _served(workers.app.routes)
    names = set(re.findall(r"[A-Z][A-Z_]+[A-Z]", str([
        answer["description"] for methods in document["paths"].values() for one in methods.values()
        for answer in one["responses"].values()
    ])))  # fmt: skip
    assert names <= set(Code)
    for path, methods in document["paths"].items():
        operation = methods.get("get")
        if operation is None:
            continue
        in_path = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
        assert in_path == re.findall(r"{(\w+)}", path)
        query = {p["name"]: p for p in operation["parameters"] if p["in"] == "query"}
        refused = workers.get(re.sub(r"{\w+}", "100", path) + "?no_such=1")
        if query:
            assert refused.status_code == 422
            assert str(refused.status_code) in operation["responses"]
            needed = {name for name, parameter in query.items() if parameter["required"]}
            missing = {error["field"] for error in refused.json()["errors"]}
            assert missing == needed | {"no_such"}
            assert all(name in refused.json()["detail"] for name in query)
    for schema in re.findall(r"#/components/schemas/(\w+)", str(document)):
        assert schema in document["components"]["schemas"]
    workers.close()


def _served(routes: list[object]) -> set[tuple[str, str]]:
    found = set()
    for route in routes:
        nested = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if nested:
            found |= _served(nested)
        elif isinstance(route, Route):
            found |= {(route.path, method) for method in (route.methods or ()) if method != "HEAD"}
    return found
