"""Managed keys over a socket: what they may do, when they begin and when they end."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.api import Api
from tests.support.running import SIM_ONLY, Running, wait_for

CONFIGURED = "key-configured-0123456789abcdef012345"


class Admin:
    """The admin API, with the key that was shown at the start."""

    def __init__(self, gateway: Running) -> None:
        key = gateway.announcement.admin_key
        assert key is not None
        self.key = key
        self.http = httpx.Client(
            base_url=f"{gateway.origin}/admin/v1", headers={"authorization": f"Bearer {key}"}, trust_env=False
        )

    def make(self, name: str, **members: Any) -> Any:
        answer = self.http.post("/keys", json={"name": name, **members})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()


def storing(folder: Path, more: str = "") -> str:
    return SIM_ONLY.replace("port = 0\n", f'port = 0\ndata_dir = "{folder}"\n') + more


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    more = f'[models.fast]\ntarget = "sim/zh"\n[[keys]]\nname = "configured"\nsecret = "{CONFIGURED}"\n'
    with Running(storing(tmp_path_factory.mktemp("data"), more)) as running:
        yield running


@pytest.fixture(scope="module")
def admin(gateway: Running) -> Iterator[Admin]:
    found = Admin(gateway)
    yield found
    found.http.close()


def ask(gateway: Running, key: str, endpoint: str = "chat", model: str | None = "sim/echo", **members: Any) -> Any:
    with Api(gateway, authorization=f"Bearer {key}") as api:
        return api.ask(endpoint, model, **members)


@pytest.mark.row("S7")
def test_a_managed_key_works_beside_a_configured_one(gateway: Running, admin: Admin) -> None:
    made = admin.make("first")
    assert ask(gateway, made["key"]).status == ask(gateway, CONFIGURED).status == 200
    reply = ask(gateway, made["key"])
    assert gateway.usage(reply.request_id)["key"] == "first"
    for wrong in (made["key"][:-1], made["key"][:-1] + "!", made["id"], "tg-" + "a" * 65):
        reply = ask(gateway, wrong)
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    assert "checksum" in ask(gateway, made["key"][:-1] + ("a" if made["key"][-1] != "a" else "b")).error["message"]
    assert "admin key" in ask(gateway, admin.key).error["message"]


@pytest.mark.security("SEC-API2-PLACE")
def test_a_key_may_do_what_it_says(gateway: Running, admin: Admin) -> None:
    made = admin.make("narrow", models=["fast", "sim/l*"], endpoints=["chat", "responses"], model="fast")
    assert ask(gateway, made["key"], model="sim/echo").error["code"] == "model_not_allowed"
    assert ask(gateway, made["key"], model="sim/lorem").status == 200
    assert ask(gateway, made["key"], model=None).headers["tidegate-deployment"] == "sim/zh"
    reply = ask(gateway, made["key"], "completions", "sim/lorem")
    assert (reply.status, reply.error["code"]) == (403, "endpoint_not_allowed")
    assert "chat, responses" in reply.error["message"]
    only = admin.make("vectors", endpoints=["embeddings"])
    with Api(gateway, authorization=f"Bearer {only['key']}") as api:
        assert api.get("/v1/models").status == 200
        assert api.get("/v1/responses/resp_1").error["code"] == "endpoint_not_allowed"
        assert api.post("/v1/conversations", {}).error["code"] == "endpoint_not_allowed"


@pytest.mark.security("SEC-API2-PLACE")
def test_a_key_is_good_only_where_it_may_be_used(gateway: Running, admin: Admin) -> None:
    there = admin.make("there", addresses=["10.0.0.0/8", "2001:db8::/32"])
    reply = ask(gateway, there["key"])
    assert (reply.status, reply.error["code"]) == (403, "address_not_allowed")
    for here in ("127.0.0.0/8", "127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.0/104", "::/0"):
        made = admin.make(here.replace("/", "-").replace(":", "_"), addresses=["10.0.0.1", here])
        assert ask(gateway, made["key"]).status == (403 if here == "::/0" else 200), here
    answer = admin.http.post("/keys", json={"name": "nowhere", "addresses": ["10.0.0.1/8"]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "addresses[0]")


def test_profile_and_unsupported_of_a_key_hold(gateway: Running, admin: Admin) -> None:
    made = admin.make("relay", profile="kkiai", unsupported="drop")
    reply = ask(gateway, made["key"], "responses", stream=True)
    assert reply.headers["tidegate-profile"] == "kkiai"
    assert reply.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.fault("FAULT-KEY-REVOKED")
@pytest.mark.security("SEC-API2-REVOKED")
def test_a_revoked_key_is_refused_at_once_also_on_an_open_connection(gateway: Running, admin: Admin) -> None:
    made = admin.make("short-lived")
    with Api(gateway, authorization=f"Bearer {made['key']}") as api:
        assert [api.ask("chat").status for _ in range(2)] == [200, 200]
        admin.post(f"/keys/{made['id']}/revoke")
        assert api.ask("chat").status == 401


def test_a_stream_that_runs_when_its_key_is_revoked_goes_on_to_its_end(gateway: Running, admin: Admin) -> None:
    made = admin.make("streaming")
    headers = {"authorization": f"Bearer {made['key']}"}
    body = {
        "model": "sim/echo?chunks=12&gap=50",
        "messages": [{"role": "user", "content": "x" * 60}],
        "stream": True,
    }
    with httpx.stream("POST", f"{gateway.url}/chat/completions", json=body, headers=headers, trust_env=False) as answer:
        lines = answer.iter_lines()
        next(lines)
        admin.post(f"/keys/{made['id']}/revoke")
        assert ask(gateway, made["key"]).status == 401
        rest = list(lines)
    assert [line for line in rest if line][-1] == "data: [DONE]"


@pytest.mark.security("SEC-API2-ROTATE")
def test_after_a_rotation_both_texts_hold_for_as_long_as_was_said(gateway: Running, admin: Admin) -> None:
    made = admin.make("rotating")
    rotated = admin.post(f"/keys/{made['id']}/rotate", {"overlap_seconds": 1})
    with Api(gateway, authorization=f"Bearer {made['key']}") as api:
        assert api.ask("chat").status == 200
        assert ask(gateway, rotated["key"]).status == 200
        # On the same connection, which has its key remembered, and with nobody making a change.
        assert wait_for(lambda: api.ask("chat").status == 401, 3)
        assert "expired" in api.ask("chat").error["message"]
    assert ask(gateway, rotated["key"]).status == 200
    last = admin.post(f"/keys/{made['id']}/rotate")
    assert ask(gateway, rotated["key"]).status == 401
    assert ask(gateway, last["key"]).status == 200


@pytest.mark.security("SEC-API2-ROTATE")
def test_a_rotation_ends_older_texts_that_still_held(gateway: Running, admin: Admin) -> None:
    made = admin.make("rotating twice")
    second = admin.post(f"/keys/{made['id']}/rotate", {"overlap_seconds": 3600})
    assert [ask(gateway, one["key"]).status for one in (made, second)] == [200, 200]
    third = admin.post(f"/keys/{made['id']}/rotate")
    assert [ask(gateway, one["key"]).status for one in (made, second, third)] == [401, 401, 200]


@pytest.mark.security("SEC-API2-REVOKED")
def test_an_expired_key_is_refused(gateway: Running, admin: Admin) -> None:
    made = admin.make("past", expires_at=int(time.time()) - 5)
    assert made["status"] == "expired"
    reply = ask(gateway, made["key"])
    assert (reply.status, "expired" in reply.error["message"]) == (401, True)
    answer = admin.http.patch(f"/keys/{made['id']}", json={"expires_at": None})
    assert answer.json()["status"] == "active"
    assert ask(gateway, made["key"]).status == 200


@pytest.mark.security("SEC-API2-REVOKED")
def test_a_key_expires_to_the_moment_also_on_a_connection_that_it_has_used(gateway: Running, admin: Admin) -> None:
    ends = int(time.time()) + 2
    made = admin.make("passing", expires_at=ends)
    late: list[float] = []
    with Api(gateway, authorization=f"Bearer {made['key']}") as api:
        while (begun := time.time()) < ends + 0.5:
            status = api.ask("chat", "sim/echo").status
            if status == 200:
                late += [begun] if begun >= ends else []
            else:
                assert status == 401
                assert time.time() >= ends
                break
    assert not late, "an expired key was served"


@pytest.mark.security("SEC-API1-OBJECT")
def test_projects_and_organizations_do_not_see_each_others_responses(gateway: Running, admin: Admin) -> None:
    admin.post("/organizations", {"name": "acme"})
    keys = []
    for organization in ("default", "acme"):
        admin.post(f"/organizations/{organization}/projects", {"name": "harbour"})
        for number in (1, 2):
            keys.append(admin.make(f"k{number}", organization=organization, project="harbour")["key"])
    stored = ask(gateway, keys[0], "responses").json["id"]

    def read(key: str) -> int:
        with Api(gateway, authorization=f"Bearer {key}") as api:
            return api.get(f"/v1/responses/{stored}").status

    assert [read(key) for key in keys] == [200, 200, 404, 404]
    assert read(CONFIGURED) == 404


@pytest.mark.security("SEC-API1-ENVELOPE")
def test_a_key_of_the_other_organization_cannot_open_an_envelope(gateway: Running) -> None:
    def look() -> tuple[object, object, object]:
        from tidegate.access.keys import Principal
        from tidegate.wire.events import Seal

        whole = gateway.server._parts.gateway
        assert whole is not None
        ours, theirs = (
            whole.envelopes(Principal(key="a", organization=name, project="web")) for name in ("acme", "default")
        )
        odd = whole.envelopes(Principal(key="a", project="acme/web"))
        text = ours.seal(Seal(kind="encrypted", data="x"), provider="sim", model="m")
        return tuple(one.open(text, provider="sim") for one in (ours, theirs, odd))  # type: ignore[return-value]

    ours, theirs, odd = gateway.call(look)
    assert (ours is not None, theirs, odd) == (True, None, None)


@pytest.mark.security("SEC-API8-FIRST")
@pytest.mark.row("S7", "S8")
def test_an_open_gateway_closes_with_its_first_managed_key_and_stays_closed(tmp_path: Path) -> None:
    with Running(storing(tmp_path)) as gateway, Api(gateway) as api:
        admin = Admin(gateway)
        assert api.ask("chat").status == 200
        assert api.get("/admin/v1/keys").status == 401
        assert not gateway.announcement.needs_key
        made = admin.make("first")
        assert api.ask("chat").status == 401
        assert ask(gateway, made["key"]).status == 200
        admin.post(f"/keys/{made['id']}/revoke")
        assert api.ask("chat").status == 401
        admin.http.close()
    with Running(storing(tmp_path)) as gateway, Api(gateway) as api:
        assert api.ask("chat").status == 401
        assert gateway.announcement.admin_key is None, "the key of the first admin is shown once"
        assert gateway.announcement.needs_key


def command(folder: Path, *arguments: str) -> Any:
    """What a `tidegate` command prints, as JSON."""
    environment = {"PATH": os.environ["PATH"], "TIDEGATE_DATA": str(folder), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=folder,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.fault("FAULT-KEY-REVOKED")
@pytest.mark.security("SEC-AUDIT-TRAIL")
def test_a_change_on_the_command_line_holds_within_a_second(tmp_path: Path) -> None:
    before = command(tmp_path, "keys", "create", "early", "--limit", "streams=2")
    with Running(storing(tmp_path)) as gateway:
        assert ask(gateway, before["key"]).status == 200
        made = command(tmp_path, "keys", "create", "late")
        assert wait_for(lambda: ask(gateway, made["key"]).status == 200, 1)
        command(tmp_path, "keys", "revoke", "early")
        assert wait_for(lambda: ask(gateway, before["key"]).status == 401, 1)
        assert ask(gateway, made["key"]).status == 200
        traces = command(tmp_path, "audit")["data"]
        by_hand = [one for one in traces if one["actor"].startswith("cli:")]
        assert [one["action"] for one in by_hand] == ["key.revoke", "key.create", "key.create"]


def test_the_command_line_shows_the_budgets_of_managed_keys_too(tmp_path: Path) -> None:
    made = command(tmp_path, "keys", "create", "app", "--limit", "cost.month=5", "--limit", "requests.day=9")
    with Running(storing(tmp_path)) as gateway:
        assert ask(gateway, made["key"]).status == 200
    found = command(tmp_path, "budget")["data"]
    assert [(one["level"], one["id"], one["kind"], one["limit"], one["used"]) for one in found] == [
        ("key", made["id"], "requests", 9, 1),
        ("key", made["id"], "cost", 5, 0),
    ]


@pytest.mark.security("SEC-API4-FORGET")
@pytest.mark.parametrize("lifted", [{}, {"streams": 9}])
def test_what_was_used_while_a_limit_was_lifted_counts_when_it_is_back(
    gateway: Running, admin: Admin, lifted: dict[str, int]
) -> None:
    limits = {"requests": {"day": 3}}
    made = admin.make(f"lifted-{len(lifted)}", limits=limits)

    def limit(to: object) -> None:
        assert admin.http.patch(f"/keys/{made['id']}", json={"limits": to}).status_code == 200

    assert ask(gateway, made["key"]).status == 200
    limit(lifted)
    assert [ask(gateway, made["key"]).status for _ in range(2)] == [200, 200]
    limit(limits)
    [standing] = admin.http.get(f"/budgets?id={made['id']}").json()["data"]
    assert (standing["used"], standing["remaining"]) == (3, 0)
    assert ask(gateway, made["key"]).status == 429


@pytest.mark.security("SEC-API1-USAGE")
def test_the_holder_of_a_key_sees_its_own_limits_alone(gateway: Running, admin: Admin) -> None:
    mine, other = (admin.make(name, limits={"streams": 3}) for name in ("mine", "other"))
    with Api(gateway, authorization=f"Bearer {mine['key']}") as api:
        for query in ("", "?level=key", f"?id={mine['id']}"):
            page = api.get(f"/admin/v1/budgets{query}")
            assert [one["id"] for one in page.json["data"]] == [mine["id"]]
        assert api.get(f"/admin/v1/budgets?id={other['id']}").json["data"] == []
    shown = admin.http.get("/budgets").json()["data"]
    assert {mine["id"], other["id"]} <= {one["id"] for one in shown}


def test_the_limits_of_all_are_shown_also_of_those_without_a_key_and_of_end_users(
    gateway: Running, admin: Admin
) -> None:
    admin.post("/organizations", {"name": "quiet", "limits": {"cost": {"month": 7}}})
    admin.post("/organizations/quiet/projects", {"name": "still", "limits": {"requests": {"day": 8}}})
    users = {"requests": {"minute": 9}, "cost": {"day": 1}}
    admin.post("/organizations/quiet/projects", {"name": "crowd", "end_user_limits": users})
    key = admin.make("crowded", organization="quiet", project="crowd")["key"]
    for name in ("ann", "bob", "ann"):
        assert ask(gateway, key, user=name).status == 200

    def shown(query: str = "") -> dict[tuple[str, str, str, str], Any]:
        answer = admin.http.get(f"/budgets{query}").json()
        assert answer["has_more"] is False
        return {(one["level"], one["id"], one["kind"], one["window"]): one for one in answer["data"]}

    found = shown()
    month = found["organization", "quiet", "cost", "month"]
    assert (month["limit"], month["used"], month["resets_in_s"] > 0) == (7, 0, True)
    assert found["project", "quiet/still", "requests", "day"]["limit"] == 8
    assert 0 < found["project", "quiet/still", "requests", "day"]["resets_in_s"] <= 86400
    assert found["end_user", "quiet/crowd/ann", "requests", "minute"]["used"] == 2
    assert found["end_user", "quiet/crowd/bob", "requests", "minute"]["used"] == 1
    assert 0 < found["end_user", "quiet/crowd/bob", "cost", "day"]["resets_in_s"] <= 86400
    assert {level for level, *_ in shown("?level=end_user")} == {"end_user"}
    assert len(shown("?level=end_user")) == 4
    assert len(shown("?id=quiet/crowd/bob")) == 2
    never_seen = shown("?level=end_user&id=quiet/crowd/carl")
    assert never_seen["end_user", "quiet/crowd/carl", "requests", "minute"]["used"] == 0
    assert shown("?level=end_user&id=quiet/still/carl") == {}


@pytest.mark.security("SEC-API2-GUESS")
def test_only_known_addresses_are_let_guess(tmp_path: Path) -> None:
    """From this machine many failures are borne, and a known key is served even when they are too many."""
    from tidegate.access import failures

    more = f'[[keys]]\nname = "configured"\nsecret = "{CONFIGURED}"\n'
    with Running(SIM_ONLY + more) as gateway, Api(gateway, authorization="Bearer wrong") as api:
        statuses = [api.get("/v1/models").status for _ in range(failures.OWN_BURST + 20)]
        assert statuses[: failures.OWN_BURST] == [401] * failures.OWN_BURST
        assert statuses[-1] == 429 or 429 in statuses
        held = next(reply for reply in (api.get("/v1/models") for _ in range(200)) if reply.status == 429)
        assert held.error["code"] == "too_many_unknown_keys"
        assert int(held.headers["retry-after"]) >= 1
        assert ask(gateway, CONFIGURED).status == 200


def test_a_public_gateway_may_lose_its_configured_keys_only_when_there_are_managed_ones(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    without = storing(tmp_path / "data").replace("[server]\n", '[server]\nhost = "0.0.0.0"\n')
    keyed = f'{without}[[keys]]\nname = "configured"\nsecret = "{CONFIGURED}"\n'
    with Running(keyed, path=path) as gateway:
        path.write_text(path.read_text("utf-8").partition("[[keys]]")[0], "utf-8")
        gateway.call(gateway.server._parts.reload)
        [line] = wait_for(lambda: [one for one in gateway.log_lines if one["event"] == "reload_refused"])
        assert "tidegate keys create" in line["reason"]
        assert ask(gateway, CONFIGURED).status == 200
        admin = Admin(gateway)
        made = admin.make("managed")
        gateway.call(gateway.server._parts.reload)
        assert wait_for(lambda: [one for one in gateway.log_lines if one["event"] == "reloaded"])
        assert ask(gateway, CONFIGURED).status == 401
        assert ask(gateway, made["key"]).status == 200
        admin.http.close()
