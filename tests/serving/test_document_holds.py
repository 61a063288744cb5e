"""schemathesis: requests made from the OpenAPI document, valid and not, are answered as the document says.

Nothing of ours is repeated here: a route that is added is tried because the document has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from support.served import Workers, put_copy, small_trained

from pipeline.serving.keys import KeyFile

schemathesis = pytest.importorskip("schemathesis")
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
# So many requests an operation, of each sort: all of them take some seconds.
EXAMPLES = 8
# Of classes, of pydantic's types, and of its sentences: nobody who sends a request knows them.
IN_OUR_WORDS = re.compile(r"Input should|Value error|constrained-|Strict(Int|Str)|list\[|function-|tagged-union")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = Workers(tmp_path_factory.mktemp("served") / "live", n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, small_trained("item-knn")))
    made.runner.run(made._start())
    made.key = KeyFile(made.folder.keys_path).add(("read", "write", "admin", "metrics"))
    yield made
    made.close()


def ask(workers: Workers, case: schemathesis.Case) -> httpx.Response:
    """Send it as it is, through the application and no socket."""
    prepared = case.as_transport_kwargs(base_url="http://localhost")
    prepared.pop("cookies", None)
    headers = {**dict(prepared.pop("headers")), "Authorization": f"Bearer {workers.key}"}
    body = {"content": prepared.pop("data")} if "data" in prepared else {}
    return workers.ask(prepared.pop("method"), prepared.pop("url"), headers=headers, **body, **prepared)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_answers_are_those_of_the_document(workers: Workers, mode: GenerationMode) -> None:
    document = workers.get("/openapi.json", headers={"Authorization": f"Bearer {workers.key}"}).json()
    tried = 0
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = result.ok()
        tried += 1
        if mode == GenerationMode.NEGATIVE and not takes_anything(document, operation):
            continue  # nothing can be wrong with it

        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def answered(case: schemathesis.Case) -> None:
            answer = ask(workers, case)
            assert answer.status_code < 500 or answer.status_code == 503, answer.text
            case.validate_response(answer, checks=CHECKS)
            if answer.status_code == 422:
                assert not IN_OUR_WORDS.search(answer.json()["detail"]), answer.text

        answered()
    assert tried == sum(len(operations) for operations in document["paths"].values())


def takes_anything(document: dict, operation: schemathesis.schemas.APIOperation) -> bool:
    stated = document["paths"][operation.path][operation.method]
    # Any text is a path's parameter.
    return "requestBody" in stated or any(parameter["in"] == "query" for parameter in stated.get("parameters", ()))
