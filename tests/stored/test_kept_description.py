"""`/openapi.json` says what the routes of stored responses, streams and conversations answer: each real answer is held
against it."""

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from tests.support.running import Running

MESSAGE = {"type": "message", "role": "user", "content": "hi"}
STREAM = "text/event-stream"


class Described:
    """A client that looks up each answer in the description."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.document = client.get("/openapi.json").json()
        self.seen: set[tuple[str, str]] = set()

    def ask(self, method: str, path: str, status: int = 200, *, json: Any = None, **names: str) -> Any:
        """The answer to `method` at `path`, whose placeholders have the `names`; a query may follow."""
        template = path.partition("?")[0]
        answer = self.client.request(method, path.format(**names), json=json)
        assert answer.status_code == status, answer.text
        kind = answer.headers["content-type"].partition(";")[0]
        described = self.document["paths"][template][method.lower()]["responses"][str(status)]
        schema = described["content"][kind]["schema"]
        content = answer.text if kind == STREAM else answer.json()
        jsonschema.Draft202012Validator({**schema, "components": self.document["components"]}).validate(content)
        self.seen.add((method.lower(), template))
        return content


@pytest.fixture
def described(keeping: Running) -> Iterator[Described]:
    with httpx.Client(base_url=keeping.origin, timeout=20, trust_env=False) as client:
        yield Described(client)


def test_every_answer_is_as_it_is_described(described: Described) -> None:
    ask, client = described.ask, described.client
    one, items, item = (
        "/v1/conversations/{id}",
        "/v1/conversations/{id}/items",
        "/v1/conversations/{id}/items/{item_id}",
    )
    response, stream = "/v1/responses/{id}", "/v1/streams/{id}"

    given = client.post("/v1/responses", json={"model": "lab/echo", "input": "hi"}).json()["id"]
    assert ask("GET", response, id=given)["id"] == given
    assert "response.completed" in ask("GET", response + "?stream=true", id=given)
    assert "response.completed" in ask("GET", stream, id=given)
    assert len(ask("GET", response + "/input_items", id=given)["data"]) == 1
    ask("POST", response + "/cancel", 400, id=given)
    slow = {"model": "lab/lorem?chunks=200&gap=20", "input": "hi", "background": True}
    other = client.post("/v1/responses", json=slow).json()["id"]
    assert ask("GET", response, id=other)["status"] in ("queued", "in_progress")
    assert ask("POST", response + "/cancel", id=other)["status"] == "cancelled"
    assert ask("DELETE", response, id=given)["deleted"] is True
    ask("DELETE", response, 404, id=given)
    assert ask("DELETE", stream, id=other)["deleted"] is True
    ask("GET", stream, 404, id=other)

    made = ask("POST", "/v1/conversations", json={"metadata": {"a": "b"}})["id"]
    ask("POST", "/v1/conversations", 400, json={"metadata": 5})
    assert ask("GET", one, id=made)["metadata"] == {"a": "b"}
    assert ask("POST", one, json={"metadata": {"c": "d"}}, id=made)["metadata"] == {"c": "d"}
    added = ask("POST", items, json={"items": [MESSAGE]}, id=made)["data"][0]["id"]
    assert ask("GET", items, id=made)["first_id"] == added
    ask("GET", items + "?limit=0", 400, id=made)
    assert ask("GET", item, id=made, item_id=added)["content"] == [{"type": "input_text", "text": "hi"}]
    assert ask("DELETE", item, id=made, item_id=added)["id"] == made
    assert ask("GET", items, id=made)["data"] == []
    assert ask("DELETE", one, id=made)["object"] == "conversation.deleted"
    ask("GET", one, 404, id=made)

    stored = {
        (method, path)
        for path, operations in described.document["paths"].items()
        for method in operations
        if path.startswith((one, stream, response)) or path == "/v1/conversations"
    }
    assert described.seen == stored
