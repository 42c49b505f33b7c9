"""The admin API keeps its own description, whatever is sent to it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
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


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_breaks_the_description(
    case: "schemathesis.Case[Any]", gateway: Running, real: dict[str, str]
) -> None:
    headers = {"authorization": f"Bearer {gateway.announcement.admin_key}"}
    if case.meta is not None and case.meta.generation.mode.is_positive:
        for name in case.path_parameters or {}:
            if name in real:  # most names would lead nowhere
                case.path_parameters[name] = real[name]
    case.call_and_validate(base_url=gateway.origin, headers=headers, checks=CHECKS)


def test_the_examples_were_not_all_refused(gateway: Running) -> None:
    headers = {"authorization": f"Bearer {gateway.announcement.admin_key}"}
    with httpx.Client(base_url=gateway.origin + PREFIX, headers=headers, trust_env=False) as client:
        entries = client.get("/audit", params={"limit": 100}).json()
        while entries["has_more"]:
            more = client.get("/audit", params={"limit": 100, "after": entries["last_id"]}).json()
            entries = {**more, "data": entries["data"] + more["data"]}
    assert {entry["action"] for entry in entries["data"]} >= {
        "organization.create",
        "organization.change",
        "project.create",
        "project.change",
        "key.create",
        "key.change",
        "key.rotate",
        "key.revoke",
        "admin.create",
    }
