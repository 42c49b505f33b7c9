"""Two tenants: nothing of the one can be seen, changed or told apart by the other, on any route (API1:2023)."""

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.security.conftest import A_KEY, B_KEY, Caller, ask, cold_routes, hot_paths
from tests.support.raw import Response
from tests.support.running import Running
from tests.support.sockets import Socket

CANARY = "canary of tenant a"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ITEM = {"type": "message", "role": "user", "content": CANARY}
BODY = {"items": [{**ITEM, "content": "of b"}], "metadata": {"owner": "b"}}
"""Good for every cold route that reads one."""

PUBLIC = {"model"}
"""Parameters of paths that are nobody's."""


@dataclass
class Belongings:
    """What tenant A has: ids by the parameter of a path that could name them."""

    responses: list[str] = field(default_factory=list)
    conversations: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [*self.responses, *self.conversations, *self.items]


@pytest.fixture(scope="module")
def owned(shared: Running) -> Iterator[Belongings]:
    has = Belongings()
    for body in (
        {"input": CANARY},
        {"input": CANARY, "stream": True},
        {"model": "sim/lorem?chunks=400&gap=50", "input": CANARY, "background": True, "stream": False},
    ):
        answer = ask(shared, "POST", "/v1/responses", A_KEY, body)
        assert answer.status == 200, answer.body
        has.responses += re.findall(rb"resp_[0-9a-f]{48}", answer.body)[:1]
        has.items += re.findall(rb"msg_[0-9a-f]+", answer.body)[:1]
    has.responses = [one.decode() for one in has.responses]  # type: ignore[attr-defined]
    has.items = [one.decode() for one in has.items]  # type: ignore[attr-defined]
    made = ask(shared, "POST", "/v1/conversations", A_KEY, {"items": [ITEM], "metadata": {"secret": CANARY}})
    has.conversations.append(made.json["id"])
    listed = ask(shared, "GET", f"/v1/conversations/{made.json['id']}/items", A_KEY)
    has.items.append(listed.json["data"][0]["id"])
    assert (len(has.responses), len(has.items)) == (3, 3)
    # Tenant B has things of its own: one that has never stored anything is unknown, and finds nothing for that reason.
    assert ask(shared, "POST", "/v1/responses", B_KEY, {"input": "of b"}).status == 200
    assert ask(shared, "POST", "/v1/conversations", B_KEY, BODY).status == 200
    yield has
    ask(shared, "POST", f"/v1/responses/{has.responses[2]}/cancel", A_KEY)


def like(name: str) -> str:
    """An id of the same form that nobody has."""
    prefix, _, digits = name.partition("_")
    return f"{prefix}_{secrets.token_hex(len(digits) // 2)}"


def essence(answer: Response, name: str) -> tuple[Any, ...]:
    """Everything that an answer says, apart from the id that was asked for and what differs by nature."""
    fields = sorted(
        (key, value) for key, value in answer.headers if key not in (b"date", b"x-request-id", b"openai-processing-ms")
    )
    body = re.sub(rb"req_[0-9a-f]+", b"REQ", answer.body.replace(name.encode(), b"ID"))
    return answer.status, fields, body


def fingerprint(gateway: Running, has: Belongings) -> list[bytes]:
    """All of A's belongings as A reads them."""
    found = []
    for name in has.responses[:2]:
        found.append(ask(gateway, "GET", f"/v1/responses/{name}", A_KEY).body)
        found.append(ask(gateway, "GET", f"/v1/responses/{name}/input_items", A_KEY).body)
        found.append(ask(gateway, "GET", f"/v1/responses/{name}?stream=true", A_KEY).body)
    for name in has.conversations:
        found.append(ask(gateway, "GET", f"/v1/conversations/{name}", A_KEY).body)
        found.append(ask(gateway, "GET", f"/v1/conversations/{name}/items", A_KEY).body)
    assert all(CANARY.encode() in one for one in found[:1])
    return found


@pytest.mark.security("SEC-API1-OBJECT", "SEC-API1-PREDICATE")
def test_on_every_route_a_foreign_id_is_answered_like_one_that_nobody_has(shared: Running, owned: Belongings) -> None:
    before = fingerprint(shared, owned)
    parameters = {"id": [*owned.responses, *owned.conversations], "item_id": owned.items}
    asked = 0
    bravo = Caller(shared, B_KEY)
    for path, _ in cold_routes(shared):
        names = re.findall(r"{(\w+)(?::\w+)?}", path)
        if set(names) <= PUBLIC or path.startswith("/admin/"):
            continue
        assert set(names) <= set(parameters), f"{path}: say here which ids of tenant A could stand there"
        for own in parameters[names[0]]:
            inner = owned.items if "item_id" in names else [""]
            for item in inner:
                for method in METHODS:
                    body = BODY if method in ("POST", "PUT", "PATCH") else None
                    theirs = path.replace("{id}", own).replace("{item_id}", item)
                    stranger, strange_item = like(own), like(item) if item else ""
                    nobodys = path.replace("{id}", stranger).replace("{item_id}", strange_item)
                    for query in ("", "?stream=true", f"?after={owned.items[0]}"):
                        if query and method != "GET":
                            continue
                        foreign = bravo.ask(method, theirs + query, body)
                        unknown = bravo.ask(method, nobodys + query, body)
                        assert foreign.status in (404, 405), (method, theirs, foreign.body)
                        assert CANARY.encode() not in foreign.body
                        assert _leveled(foreign, own, item) == _leveled(unknown, stranger, strange_item), theirs
                        asked += 1
    bravo.close()
    assert asked > 150
    assert fingerprint(shared, owned) == before
    running = ask(shared, "GET", f"/v1/responses/{owned.responses[2]}", A_KEY).json
    assert running["status"] in ("queued", "in_progress"), "somebody has cancelled it"


def _leveled(answer: Response, name: str, item: str) -> tuple[Any, ...]:
    status, fields, body = essence(answer, name)
    fields = [(key, value) for key, value in fields if key != b"content-length"]
    return status, fields, body.replace(item.encode(), b"ITEM") if item else body


def _references(has: Belongings) -> list[tuple[str, Any]]:
    """Bodies that name something which is kept, and what they name."""
    found: list[tuple[str, Any]] = []
    for name in has.responses:
        found.append((name, {"input": "x", "previous_response_id": name}))
    for name in has.conversations:
        found.append((name, {"input": "x", "conversation": name}))
        found.append((name, {"input": "x", "conversation": {"id": name}}))
    for name in has.items:
        found.append((name, {"input": [{"type": "item_reference", "id": name}]}))
        found.append((name, {"input": [{"id": name}]}))
    return found


@pytest.mark.security("SEC-API1-REFERENCE")
@pytest.mark.parametrize("stream", [False, True])
def test_nothing_foreign_can_be_named_in_a_body(shared: Running, owned: Belongings, stream: bool) -> None:
    for path in ("/v1/responses", "/v1/responses/input_tokens", "/v1/responses/compact"):
        for name, body in _references(owned):
            sent = {**body, "model": "sim/echo", **({"stream": stream} if path == "/v1/responses" else {})}
            other = like(name)
            foreign = ask(shared, "POST", path, B_KEY, sent)
            unknown = ask(shared, "POST", path, B_KEY, json.loads(json.dumps(sent).replace(name, other)))
            assert foreign.status in (400, 404), (path, sent, foreign.body)
            assert CANARY.encode() not in foreign.body
            assert essence(foreign, name) == essence(unknown, other), (path, sent)


@pytest.mark.security("SEC-API1-REFERENCE")
def test_nor_over_a_websocket(shared: Running, owned: Belongings) -> None:
    with Socket(shared, headers={"authorization": f"Bearer {B_KEY}"}) as client:
        for name, body in _references(owned):
            other = like(name)
            foreign = client.error(**body)
            unknown = client.error(**json.loads(json.dumps(body).replace(name, other)))
            assert foreign["status"] in (400, 404)
            for error in (foreign, unknown):
                del error["headers"]
            assert json.dumps(foreign).replace(name, "ID") == json.dumps(unknown).replace(other, "ID")


@pytest.mark.security("SEC-API1-IDEMPOTENCY")
def test_an_idempotency_key_is_the_tenants_own(shared: Running, owned: Belongings) -> None:
    """The same name and body: each tenant has an answer of its own, and no conflict tells of the other's."""
    answers = {}
    for body in ({"input": CANARY}, {"input": "another"}):
        for key in (A_KEY, B_KEY) if body["input"] == CANARY else (B_KEY,):
            used = ask(shared, "POST", "/v1/responses", key, body, "Idempotency-Key: shared-name")
            answers[key, body["input"]] = used
    assert answers[A_KEY, CANARY].json["id"] != answers[B_KEY, CANARY].json["id"]
    for key in (A_KEY, B_KEY):  # asked again, each gets its own answer again
        again = ask(shared, "POST", "/v1/responses", key, {"input": CANARY}, "Idempotency-Key: shared-name")
        assert again.body == answers[key, CANARY].body
    assert answers[B_KEY, "another"].status == 422
    fresh = ask(shared, "POST", "/v1/responses", A_KEY, {"input": CANARY}, "Idempotency-Key: of-a")
    assert fresh.status == 200
    other = ask(shared, "POST", "/v1/responses", B_KEY, {"input": "x"}, "Idempotency-Key: of-a")
    assert other.status == 200, other.body


@pytest.mark.security("SEC-API1-OBJECT")
def test_no_list_or_report_shows_what_another_tenant_has(shared: Running, owned: Belongings) -> None:
    for path, methods in cold_routes(shared):
        if "GET" in methods and "{" not in path:
            seen = ask(shared, "GET", path, B_KEY).body.decode()
            for canary in (CANARY, A_KEY, "tenant-a", *owned.ids):
                assert canary not in seen, path
    for path in hot_paths(shared):
        assert CANARY.encode() not in ask(shared, "POST", path, B_KEY, {"model": "sim/echo", "input": "x"}).body
