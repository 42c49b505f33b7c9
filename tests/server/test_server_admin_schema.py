"""The admin API keeps its own description, whatever is sent to it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.running import SIM_ONLY, Running
from tidegate.server.admin.openapi import document
from tidegate.server.admin.table import PREFIX, TABLE

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 8
CALM = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

schema = schemathesis.openapi.from_dict(document(PREFIX, TABLE))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(SIM_ONLY.replace("port = 0\n", f'port = 0\ndata_dir = "{tmp_path_factory.mktemp("data")}"\n')) as one:
        yield one


@pytest.fixture(scope="module")
def real(gateway: Running) -> dict[str, str]:
    """What is there, by the name that paths have for it."""
    headers = {"authorization": f"Bearer {gateway.announcement.admin_key}"}
    made = httpx.post(f"{gateway.origin}{PREFIX}/keys", json={"name": "there"}, headers=headers, trust_env=False)
    return {"organization": "default", "project": "default", "id": made.json()["id"]}


def test_no_answer_breaks_the_description(gateway: Running, real: dict[str, str]) -> None:
    """In one test, so that it can tell at its end whether the examples reached anything."""
    headers = {"authorization": f"Bearer {gateway.announcement.admin_key}"}
    seen: dict[str, set[int]] = {}

    def send(operation: Any, mode: schemathesis.GenerationMode) -> None:
        @CALM
        @given(case=operation.as_strategy(generation_mode=mode))
        def send_examples(case: "schemathesis.Case[Any]") -> None:
            if mode is schemathesis.GenerationMode.POSITIVE:
                for name in case.path_parameters or {}:
                    if name in real:  # most names would lead nowhere
                        case.path_parameters[name] = real[name]
            answer = case.call_and_validate(base_url=gateway.origin, headers=headers, checks=CHECKS)
            seen.setdefault(f"{case.method} {case.path.removeprefix(PREFIX)}", set()).add(answer.status_code)

        send_examples()

    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]
        send(operation, schemathesis.GenerationMode.POSITIVE)
        if operation.body or operation.query:  # else nothing in it could be wrong
            send(operation, schemathesis.GenerationMode.NEGATIVE)
    assert set(seen) == {f"{entry.method} {entry.path}" for entry in TABLE}
    for entry in TABLE:
        reached = seen[f"{entry.method} {entry.path}"]
        # What is always there cannot be deleted, and most ids name no admin.
        expected = (
            {409} if entry.method == "DELETE" else {404} if entry.path == "/admins/{id}/revoke" else {entry.status}
        )
        assert reached & expected, (entry.path, reached)
    assert 400 in seen["POST /keys"]
