"""The admin API over a socket: who may do what, what is taken and shown, and where it listens."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from tests.support.running import SIM_ONLY, Running
from tidegate.access.keytext import PATTERN
from tidegate.access.objects import ROLES
from tidegate.server.admin.call import Call, Entry
from tidegate.server.admin.router import make_router
from tidegate.server.admin.table import PREFIX, TABLE
from tidegate.server.app import ADMIN, PUBLIC, Application

CLIENT_KEY = "key-configured-0123456789abcdef012345"
PATHS = {"organization": "default", "project": "default", "id": "key_0000000000000000"}
ID = {"/keys": "key_0000000000000000", "/admins": "adm_0000000000000000"}

each_route = pytest.mark.parametrize("entry", TABLE, ids=lambda entry: f"{entry.method} {entry.path}")
writing = [entry for entry in TABLE if entry.body is not None]
each_writing_route = pytest.mark.parametrize("entry", writing, ids=lambda entry: f"{entry.method} {entry.path}")


def url(entry: Entry) -> str:
    """A path of the route, that leads to nothing where it names a key or an admin."""
    start = entry.path[: entry.path.find("/", 1)] if entry.path.count("/") > 1 else entry.path
    return PREFIX + entry.path.format(**{**PATHS, "id": ID.get(start, "")})


class Callers:
    """A client for each role, for the holder of a virtual key, and for nobody."""

    def __init__(self, gateway: Running) -> None:
        self.gateway = gateway
        first = gateway.announcement.admin_key
        assert first is not None
        self.keys = {"owner": first}
        owner = self._client(first)
        for role in ("admin", "viewer"):
            answer = owner.post(f"{PREFIX}/admins", json={"name": role, "role": role})
            self.keys[role] = answer.json()["key"]
        made = owner.post(f"{PREFIX}/keys", json={"name": "client"}).json()
        self.key_id = made["id"]
        self.keys["key"] = made["key"]
        self._clients = {name: self._client(key) for name, key in self.keys.items()}
        self._clients["nobody"] = httpx.Client(base_url=gateway.origin, trust_env=False)
        owner.close()

    def _client(self, key: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.gateway.origin, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=20
        )

    def __getitem__(self, name: str) -> httpx.Client:
        return self._clients[name]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    toml = SIM_ONLY.replace("port = 0\n", f'port = 0\ndata_dir = "{tmp_path_factory.mktemp("data")}"\n')
    with Running(f'{toml}[[keys]]\nname = "configured"\nsecret = "{CLIENT_KEY}"\nproject = "harbour"\n') as running:
        yield running


@pytest.fixture(scope="module")
def callers(gateway: Running) -> Iterator[Callers]:
    found = Callers(gateway)
    yield found
    found.close()


def error(answer: httpx.Response) -> Any:
    body = answer.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


# --- who may do what ---------------------------------------------------------------------------------------------


@pytest.mark.security("SEC-API5-ROLES")
def test_every_route_of_the_gateway_says_who_may_use_it(gateway: Running) -> None:
    app = gateway.server.config.app
    assert isinstance(app, Application)
    routes = list(app.cold.routes)  # type: ignore[attr-defined]
    listed = {(one.method, one.path) for one in app.cold_routes}
    found: set[tuple[str, str]] = set()
    for route in routes:
        if isinstance(route, Mount):
            assert route.path == ADMIN == PREFIX
            continue
        assert isinstance(route, Route), route
        found |= {(method, route.path) for method in (route.methods or set()) - {"HEAD"}}
    assert found == listed
    inner = make_router(lambda: app.gateway).routes
    assert {
        (method, route.path)
        for route in inner
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    } == {(entry.method, entry.path) for entry in TABLE}
    assert all(isinstance(route, Route) for route in inner)
    public = {one.path for one in app.cold_routes if one.endpoint is PUBLIC}
    hot = {path.decode() for path in app.hot}
    assert public - hot == {"/", "/healthz", "/readyz", "/metrics", "/openapi.json"}


@pytest.mark.security("SEC-API5-ROUTE")
def test_every_route_that_is_not_public_asks_for_a_key(gateway: Running, callers: Callers) -> None:
    app = gateway.server.config.app
    assert isinstance(app, Application)
    for one in app.cold_routes:
        path = re.sub(r"{\w+(?::path)?}", "x", one.path)
        if one.endpoint is not PUBLIC:
            assert callers["nobody"].request(one.method, path).status_code == 401, path
    for hot in app.hot:
        assert callers["nobody"].post(hot.decode(), content=b"{").status_code == 401


@pytest.mark.security("SEC-API5-ROLES")
def test_no_role_may_more_than_it_is_said_to() -> None:
    """Written down a second time, so that nobody opens a route by changing one word."""
    for_owners = {
        ("POST", "/organizations"),
        ("PATCH", "/organizations/{organization}"),
        ("DELETE", "/organizations/{organization}"),
        ("GET", "/admins"),
        ("POST", "/admins"),
        ("POST", "/admins/{id}/revoke"),
        ("GET", "/audit"),
    }
    for_keys = {("GET", "/me"), ("GET", "/budgets"), ("GET", "/usage"), ("GET", "/usage/entries")}
    assert {(one.method, one.path) for one in TABLE if one.needs == "owner"} == for_owners
    assert {(one.method, one.path) for one in TABLE if one.needs == "key"} == for_keys
    assert {one.method for one in TABLE if one.needs == "viewer"} == {"GET"}


@pytest.mark.security("SEC-API5-ROLES")
@each_route
def test_a_route_is_open_from_its_role_on(callers: Callers, entry: Entry) -> None:
    order = ("nobody", "key", *ROLES)
    for name in order:
        answer = callers[name].request(entry.method, url(entry), content=b"{not JSON")
        if name == "nobody":
            assert (answer.status_code, error(answer)["code"]) == (401, "invalid_api_key")
        elif order.index(name) < order.index(entry.needs):
            assert (answer.status_code, error(answer)["code"]) == (403, "role_not_sufficient")
            assert entry.needs in error(answer)["message"]
        else:
            # It is let in, and the body is looked at only now.
            assert (answer.status_code, error(answer)["code"]) in ((400, "invalid_json"), (400, "unexpected_body"))


@pytest.mark.parametrize("key", ["wrong", "tga-" + "a" * 65, CLIENT_KEY[:-1]])
def test_whoever_is_not_known_is_refused(gateway: Running, key: str) -> None:
    answer = httpx.get(f"{gateway.origin}{PREFIX}/me", headers={"authorization": f"Bearer {key}"}, trust_env=False)
    assert (answer.status_code, error(answer)["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_everybody_learns_who_he_is(callers: Callers) -> None:
    for role in ROLES:
        me = callers[role].get(f"{PREFIX}/me").json()
        assert (me["type"], me["role"]) == ("admin", role)
    me = callers["key"].get(f"{PREFIX}/me").json()
    assert (me["type"], me["role"], me["id"], me["project"]) == ("key", None, callers.key_id, "default")
    configured = httpx.get(
        f"{callers.gateway.origin}{PREFIX}/me", headers={"x-api-key": CLIENT_KEY}, trust_env=False
    ).json()
    assert (configured["id"], configured["organization"], configured["project"]) == ("configured", "default", "harbour")


# --- what is taken and shown -------------------------------------------------------------------------------------

FORBIDDEN = {
    "id": "key_0000000000000001",
    "object": "key",
    "status": "active",
    "created_by": "adm_1",
    "created_at": 1,
    "revoked_at": None,
    "digest": "00",
    "pepper": "x",
    "last4": "aaaa",
    "key": "tg-x",
    "secret": "x",
    "scopes": [],
    "earlier": [],
    "changed": 1,
    "admin": True,
    "number": 1,
}
ELSEWHERE = {
    "role": "owner",
    "organization": "acme",
    "project": "web",
    "end_user_limits": {},
    "limits": {},
    "budget": 1,
}


@pytest.mark.security("SEC-API3-ASSIGNMENT")
@each_writing_route
def test_what_is_not_the_callers_to_set_is_refused_by_name(callers: Callers, entry: Entry) -> None:
    assert entry.body is not None
    taken = set(entry.body.__struct_fields__)
    assert not taken & set(FORBIDDEN)
    start = {"name": "mass"} if "name" in taken and entry.method == "POST" else {}
    start |= {"role": "viewer"} if "role" in taken else {}
    for name, value in {**FORBIDDEN, **ELSEWHERE}.items():
        if name in taken:
            continue
        answer = callers["owner"].request(entry.method, url(entry), json={**start, name: value})
        assert (answer.status_code, error(answer)["code"], error(answer)["param"]) == (400, "unknown_parameter", name)
    listed = callers["owner"].get(f"{PREFIX}/keys", params={"revoked": "true"}).text
    assert "mass" not in listed


@pytest.mark.security("SEC-API5-ROLES")
def test_a_key_stays_in_its_project_and_an_admin_in_his_role() -> None:
    takes = {(entry.method, entry.path): set(entry.body.__struct_fields__) for entry in writing if entry.body}
    assert not takes["PATCH", "/keys/{id}"] & {"organization", "project", "role", "id"}
    assert [path for path, fields in takes.items() if "role" in fields] == [("POST", "/admins")]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/keys", {}, "name"),
        ("/keys", {"name": ""}, "name"),
        ("/keys", {"name": "a\nb"}, "name"),
        ("/keys", {"name": "x" * 65}, "name"),
        ("/keys", {"name": 3}, "name"),
        ("/keys", {"name": "k", "limits": {"requests": {"minute": -1}}}, "limits.requests.minute"),
        ("/keys", {"name": "k", "limits": {"requests": {"hour": 1}}}, "limits.requests.hour"),
        ("/keys", {"name": "k", "endpoints": ["chat", "chats"]}, "endpoints[...]"),
        ("/keys", {"name": "k", "addresses": ["::1", "300.1.1.1"]}, "addresses[1]"),
        ("/keys", {"name": "k", "expires_at": 90}, "expires_at"),
        ("/keys", {"name": "k", "metadata": {"a": 1}}, "metadata"),
        ("/keys", {"name": "k", "profile": "other"}, "profile"),
        ("/keys", {"name": "k", "project": "../x"}, "project"),
        ("/organizations", {"name": "a/b"}, "name"),
        ("/organizations", {"name": "-a"}, "name"),
        ("/admins", {"name": "a", "role": "root"}, "role"),
        ("/admins", {"name": "a"}, "role"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(callers: Callers, path: str, body: Any, param: str) -> None:
    answer = callers["owner"].post(PREFIX + path, json=body)
    assert answer.status_code == 400, answer.text
    assert (error(answer)["param"] or "").startswith(param.partition("[...]")[0])
    assert "documents for it" not in error(answer)["message"]


@pytest.mark.parametrize("at", [1, 1_900_000_000_000])
def test_a_time_that_is_none_is_refused_in_words(callers: Callers, at: int) -> None:
    answer = callers["owner"].post(f"{PREFIX}/keys", json={"name": "k", "expires_at": at})
    assert error(answer)["param"] == "expires_at"
    assert error(answer)["message"] == "Invalid 'expires_at': expected a time in seconds since 1970, in the future."


def test_a_key_of_an_unknown_organization_blames_the_organization(callers: Callers) -> None:
    answer = callers["owner"].post(f"{PREFIX}/keys", json={"name": "k", "organization": "nope"})
    assert (answer.status_code, error(answer)["param"]) == (404, "organization")
    assert error(answer)["message"] == "There is no organization 'nope'."
    answer = callers["owner"].post(f"{PREFIX}/keys", json={"name": "k", "project": "nope"})
    assert (answer.status_code, error(answer)["param"]) == (404, "project")


@pytest.mark.parametrize(
    ("query", "param", "message"),
    [
        ("organization=nope", "organization", "There is no organization 'nope'."),
        ("project=nope", "project", "There is no project 'nope'."),
        (
            "organization=default&project=nope",
            "project",
            "There is no project 'nope' in the organization 'default'.",
        ),
    ],
)
def test_the_keys_of_nobody_are_no_empty_list(callers: Callers, query: str, param: str, message: str) -> None:
    answer = callers["owner"].get(f"{PREFIX}/keys?{query}")
    assert (answer.status_code, error(answer)["param"], error(answer)["message"]) == (404, param, message)


def test_an_organization_without_keys_has_an_empty_list_and_a_deleted_one_its_revoked_keys(callers: Callers) -> None:
    owner = callers["owner"]
    assert owner.post(f"{PREFIX}/organizations", json={"name": "brief"}).status_code == 201
    assert owner.post(f"{PREFIX}/organizations/brief/projects", json={"name": "p"}).status_code == 201
    assert owner.get(f"{PREFIX}/keys?organization=brief&project=p").json()["data"] == []
    made = owner.post(f"{PREFIX}/keys", json={"name": "k", "organization": "brief", "project": "p"}).json()
    assert owner.post(f"{PREFIX}/keys/{made['id']}/revoke").status_code == 200
    assert owner.delete(f"{PREFIX}/organizations/brief/projects/p").status_code == 200
    assert owner.delete(f"{PREFIX}/organizations/brief").status_code == 200
    found = owner.get(f"{PREFIX}/keys?organization=brief&revoked=true").json()["data"]
    assert [one["id"] for one in found] == [made["id"]]
    assert owner.get(f"{PREFIX}/keys?organization=brief").status_code == 404


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("order=asc", "order"),
        ("organization=a%00b", "organization"),
        ("after=key_0000000000000000", "after"),
        ("after=%00", "after"),
    ],
)
def test_a_query_is_checked_like_a_body(callers: Callers, query: str, param: str) -> None:
    answer = callers["viewer"].get(f"{PREFIX}/keys?{query}")
    assert answer.status_code == (404 if param == "after" else 400), answer.text
    assert error(answer)["param"] == param


def test_a_parameter_that_a_report_does_not_know_is_refused(callers: Callers) -> None:
    """One that was passed over would give another answer than was asked for."""
    for query, param in (("limit=5", "limit"), ("group_by=model", "group_by"), ("after=x", "after")):
        answer = callers["viewer"].get(f"{PREFIX}/usage/entries?{query}")
        assert (answer.status_code, error(answer)["code"], error(answer)["param"]) == (400, "unknown_parameter", param)
    assert callers["viewer"].get(f"{PREFIX}/usage?limit=5&group_by=model").status_code == 200
    answer = callers["viewer"].get(f"{PREFIX}/usage?goup_by=model")
    assert "Did you mean 'group_by'?" in error(answer)["message"]


@pytest.mark.parametrize(
    ("body", "param", "near"),
    [
        ({"name": "k", "limts": {}}, "limts", "limits"),
        ({"name": "k", "limits": {"requests": {"minutes": 1}}}, "limits.requests.minutes", "limits.requests.minute"),
        ({"name": "k", "limits": {"costs": {"day": 1}}}, "limits.costs", "limits.cost"),
        ({"name": "k", "zzz": 1}, "zzz", ""),
    ],
)
def test_a_member_that_there_is_not_gets_the_nearest_name(callers: Callers, body: Any, param: str, near: str) -> None:
    answer = callers["owner"].post(f"{PREFIX}/keys", json=body)
    assert (answer.status_code, error(answer)["param"]) == (400, param)
    hint = f" Did you mean '{near}'?" if near else ""
    assert error(answer)["message"] == f"Unknown parameter: '{param}'.{hint}"


@pytest.mark.security("SEC-API3-ASSIGNMENT")
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"name": "twice", "name": "other"}', "name"),
        ('{"name": "twice", "models": ["sim/*"], "models": []}', "models"),
        ('{"name": "twice", "limits": {"cost": {"day": 1}, "cost": {}}}', "cost"),
        ('{"name": "twice", "\\u006eame": "other"}', "name"),
    ],
)
def test_a_member_that_stands_twice_is_refused(callers: Callers, body: str, param: str) -> None:
    """Readers differ on which of them counts."""
    answer = callers["owner"].post(f"{PREFIX}/keys", content=body)
    assert (answer.status_code, error(answer)["code"], error(answer)["param"]) == (400, "repeated_member", param)


def test_whole_numbers_are_shown_as_such(callers: Callers) -> None:
    limits = {"requests": {"minute": 600}, "cost": {"month": 12.5, "day": 1e3}}
    answer = callers["owner"].post(f"{PREFIX}/keys", json={"name": "whole", "limits": limits})
    assert '"requests":{"minute":600}' in answer.text
    assert '"cost":{"day":1000,"month":12.5}' in answer.text
    found = callers["owner"].get(f"{PREFIX}/budgets?id={answer.json()['id']}").text
    assert '"limit":600,"used":0,' in found
    assert '"limit":12.5,' in found


def test_a_managed_key_is_told_by_its_name_beside_its_id(callers: Callers) -> None:
    made = callers["owner"].post(f"{PREFIX}/keys", json={"name": "told", "limits": {"requests": {"day": 0}}}).json()
    [budget] = callers["owner"].get(f"{PREFIX}/budgets?id={made['id']}").json()["data"]
    assert (budget["id"], budget["name"]) == (made["id"], "told")
    refused = callers["owner"].post(
        "/v1/chat/completions",
        json={"model": "sim/echo", "messages": [{"role": "user", "content": "hi"}]},
        headers={"authorization": f"Bearer {made['key']}"},
    )
    assert f"The limit of key 'told' ({made['id']}) lets no request pass" in error(refused)["message"]


@pytest.mark.parametrize("path", [PREFIX, f"{PREFIX}/", f"{PREFIX}/nothing"])
def test_a_path_that_there_is_not_names_the_list_of_those_that_there_are(callers: Callers, path: str) -> None:
    answer = callers["owner"].get(path)
    assert (answer.status_code, error(answer)["code"]) == (404, "unknown_path")
    assert f"GET {PREFIX}/openapi.json lists what there is." in error(answer)["message"]


@pytest.mark.parametrize(
    "path", ["/keys/key_%00", "/keys/x", "/organizations/%00", "/organizations/a%0Ab", "/keys/%F0"]
)
def test_a_path_that_names_nothing_is_404(callers: Callers, path: str) -> None:
    answer = callers["owner"].patch(PREFIX + path, json={})
    assert answer.status_code == 404
    assert error(answer)["code"] in ("not_found", "unknown_path")


def test_another_method_is_405_and_names_all_there_are(callers: Callers) -> None:
    answer = callers["owner"].put(f"{PREFIX}/keys/{callers.key_id}", json={})
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PATCH"}
    assert callers["owner"].head(f"{PREFIX}/keys/{callers.key_id}").content == b""


@pytest.mark.security("SEC-API2-SHOWN")
def test_only_the_answer_that_makes_a_text_shows_it(callers: Callers) -> None:
    owner = callers["owner"]
    made = owner.post(f"{PREFIX}/keys", json={"name": "shown"})
    assert made.headers["cache-control"] == "no-store"
    rotated = owner.post(f"{PREFIX}/keys/{made.json()['id']}/rotate", json={"overlap_seconds": 60})
    assert re.fullmatch(PATTERN, made.json()["key"])
    texts = [*callers.keys.values(), made.json()["key"], rotated.json()["key"]]
    pages = [owner.get(url(entry)).text for entry in TABLE if entry.method == "GET"]
    pages.append(owner.get(f"{PREFIX}/keys/{made.json()['id']}").text)
    pages.append(owner.patch(f"{PREFIX}/keys/{made.json()['id']}", json={"name": "renamed"}).text)
    pages.append(owner.post(f"{PREFIX}/keys/{made.json()['id']}/revoke").text)
    for page in (*pages, callers.gateway._log.getvalue()):
        assert not any(text in page for text in texts)
        assert not re.search(PATTERN, page)


def test_what_refers_to_something_that_is_not_there_is_404(callers: Callers) -> None:
    answer = callers["admin"].post(f"{PREFIX}/keys", json={"name": "lost", "project": "nowhere"})
    assert (answer.status_code, error(answer)["param"]) == (404, "project")
    answer = callers["admin"].post(f"{PREFIX}/organizations/nowhere/projects", json={"name": "x"})
    assert (answer.status_code, error(answer)["param"]) == (404, "organization")


def test_a_project_of_configured_keys_is_not_deleted(callers: Callers) -> None:
    callers["owner"].post(f"{PREFIX}/organizations/default/projects", json={"name": "harbour"})
    answer = callers["owner"].delete(f"{PREFIX}/organizations/default/projects/harbour")
    assert (answer.status_code, error(answer)["code"]) == (409, "project_in_use")
    assert "configuration file" in error(answer)["message"]


@pytest.mark.security("SEC-AUDIT-TRAIL")
def test_the_audit_log_names_the_admin_and_the_request(callers: Callers) -> None:
    made = callers["admin"].post(f"{PREFIX}/keys", json={"name": "audited"})
    [entry, *_] = callers["owner"].get(f"{PREFIX}/audit").json()["data"]
    assert (entry["action"], entry["target"], entry["actor_name"]) == ("key.create", made.json()["id"], "admin")
    assert entry["request_id"] == made.headers["x-request-id"]


@pytest.mark.security("SEC-AUDIT-TRAIL")
def test_every_route_that_changes_something_leaves_one_entry(callers: Callers) -> None:
    owner = callers["owner"]
    changed: set[tuple[str, str]] = set()

    def change(method: str, path: str, action: str, body: Any = None, **names: str) -> Any:
        newest = owner.get(f"{PREFIX}/audit", params={"limit": 1}).json()["last_id"]
        answer = owner.request(method, PREFIX + path.format(**names), json=body)
        assert answer.status_code in (200, 201), answer.text
        [entry, before] = owner.get(f"{PREFIX}/audit", params={"limit": 2}).json()["data"]
        assert (before["id"], entry["action"], entry["actor_name"]) == (newest, action, "first")
        assert entry["before"] != entry["after"]
        changed.add((method, path))
        return answer.json()

    names = {"organization": "traced", "project": "steps"}
    organization, project = "/organizations/{organization}", "/organizations/{organization}/projects/{project}"
    change("POST", "/organizations", "organization.create", {"name": "traced"})
    change("PATCH", organization, "organization.change", {"limits": {"streams": 1}}, **names)
    change("POST", f"{organization}/projects", "project.create", {"name": "steps"}, **names)
    change("PATCH", project, "project.change", {"limits": {"streams": 1}}, **names)
    key = change("POST", "/keys", "key.create", {"name": "k", **names})["id"]
    change("PATCH", "/keys/{id}", "key.change", {"models": ["a"]}, id=key)
    change("POST", "/keys/{id}/rotate", "key.rotate", {}, id=key)
    change("POST", "/keys/{id}/revoke", "key.revoke", {}, id=key)
    change("DELETE", project, "project.delete", **names)
    change("DELETE", organization, "organization.delete", **names)
    admin = change("POST", "/admins", "admin.create", {"name": "traced", "role": "viewer"})["id"]
    change("POST", "/admins/{id}/revoke", "admin.revoke", {}, id=admin)
    assert changed == {(entry.method, entry.path) for entry in TABLE if entry.method != "GET"}


def test_the_description_covers_the_table(callers: Callers) -> None:
    found = callers["viewer"].get(f"{PREFIX}/openapi.json").json()
    described = {(method.upper(), path) for path, item in found["paths"].items() for method in item}
    assert described == {(entry.method, PREFIX + entry.path) for entry in TABLE}
    for name, schema in found["components"]["schemas"].items():
        if name.startswith("New") or name.endswith(("Change", "Rotation")):
            assert schema["additionalProperties"] is False, name


def test_a_route_may_answer_with_more_than_json(callers: Callers) -> None:
    async def export(call: Call) -> Response:
        return PlainTextResponse(
            f"{call.request.query_params['by']},{type(call.caller).__name__}", media_type="text/csv"
        )

    app: Any = callers.gateway.server.config.app
    [mount] = [route for route in app.cold.routes if isinstance(route, Mount)]
    admin: Any = mount.app
    table = (Entry("GET", "/export", "viewer", export, "Export", str, reads_query=True),)
    whole = admin._router
    admin._router = make_router(lambda: app.gateway, table)
    try:
        answer = callers["viewer"].get(f"{PREFIX}/export?by=key")
        assert (answer.text, answer.headers["content-type"]) == ("key,AdminRow", "text/csv; charset=utf-8")
        assert answer.headers["cache-control"] == "no-store"
        assert callers["key"].get(f"{PREFIX}/export?by=key").status_code == 403
        assert callers["nobody"].get(f"{PREFIX}/export?by=key").status_code == 401
    finally:
        admin._router = whole


# --- where it listens --------------------------------------------------------------------------------------------


@pytest.mark.security("SEC-API5-LISTENER")
def test_its_own_listener_serves_it_alone(tmp_path: Path) -> None:
    toml = SIM_ONLY.replace("port = 0\n", f'port = 0\ndata_dir = "{tmp_path}"\n') + "[admin]\nport = 0\n"
    with Running(toml) as gateway:
        port = gateway.announcement.admin_port
        key = gateway.announcement.admin_key
        assert port not in (None, gateway.port)
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as admin:
            assert admin.get(f"{PREFIX}/me").json()["role"] == "owner"
            # A key is asked for here in any case, so that the name by which it is reached does not matter.
            assert admin.get(f"{PREFIX}/me", headers={"host": "admin.example.com"}).status_code == 200
            made = admin.post(f"{PREFIX}/keys", json={"name": "app"}).json()
            assert admin.get("/healthz").status_code == 200
            say = {"model": "sim/echo", "input": "x"}
            use = {"authorization": f"Bearer {made['key']}"}
            assert admin.post("/v1/responses", json=say, headers=use).status_code == 404
            assert admin.post("/v1beta/models/sim/echo:generateContent", json={}, headers=use).status_code == 404
            assert admin.get("/v1/models", headers=use).status_code == 404
            assert httpx.post(f"{gateway.url}/responses", json=say, headers=use, trust_env=False).status_code == 200
            assert httpx.get(f"{gateway.origin}{PREFIX}/me", headers=headers, trust_env=False).status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    toml = SIM_ONLY.replace("port = 0\n", f'port = 0\ndata_dir = "{tmp_path}"\n') + "[admin]\nenabled = false\n"
    with Running(toml) as gateway:
        assert gateway.announcement.admin_key is None
        assert httpx.get(f"{gateway.origin}{PREFIX}/me", trust_env=False).status_code == 404


def test_without_storage_there_is_nothing_to_manage(tmp_path: Path) -> None:
    with Running(f'{SIM_ONLY}[storage]\nurl = "off"\n') as gateway:
        assert gateway.announcement.admin_key is None
        answer = httpx.get(f"{gateway.origin}{PREFIX}/me", trust_env=False)
        assert (answer.status_code, error(answer)["code"]) == (404, "storage_off")
        assert json.loads(answer.content)
