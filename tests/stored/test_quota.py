"""`storage.quota`: how much one key may have in store."""

import asyncio
import time
from pathlib import Path

import openai
import pytest

from tests.stored.conftest import KEPT
from tests.support.api import Api
from tests.support.running import Running
from tidegate.gateway.quota import Quota
from tidegate.storage.records import Ending, Item, NewRun, Tenant
from tidegate.storage.storage import Storage
from tidegate.wire.errors import StorageQuotaExceeded

TOML = (
    KEPT
    + """
[storage]
quota = "20KiB"
[[keys]]
name = "app"
secret = "key-0123456789abcdef0123456789abcd"
[[keys]]
name = "other"
secret = "key-abcdef0123456789abcdef01234567"
"""
)


def test_a_key_that_has_had_its_share_stores_nothing_after_a_start_either(tmp_path: Path) -> None:
    body = {"model": "openai/echo", "input": "x" * 4000}
    ours = {"authorization": "Bearer key-0123456789abcdef0123456789abcd"}
    others = {"authorization": "Bearer key-abcdef0123456789abcdef01234567"}
    with Running(TOML.replace("{data}", str(tmp_path))) as gateway, Api(gateway) as api:
        while api.post("/v1/responses", body, headers=ours).status == 200:
            pass
    for _ in range(2):
        with Running(TOML.replace("{data}", str(tmp_path))) as gateway, Api(gateway) as api:
            first = api.post("/v1/responses", body, headers=ours)
            assert (first.status, first.error["code"]) == (429, "storage_quota_exceeded")
            assert api.post("/v1/responses", body, headers=others).status == 200


def test_the_metadata_of_conversations_takes_of_the_share(tmp_path: Path) -> None:
    ours = {"authorization": "Bearer key-0123456789abcdef0123456789abcd"}
    metadata = {f"name {number}": "x" * 512 for number in range(16)}
    with Running(TOML.replace("{data}", str(tmp_path))) as gateway, Api(gateway) as api:
        made = api.post("/v1/conversations", {}, headers=ours).json["id"]
        for _ in range(3):
            assert api.post("/v1/conversations", {"metadata": metadata}, headers=ours).status == 200
    with Running(TOML.replace("{data}", str(tmp_path))) as gateway, Api(gateway) as api:
        for path in ("/v1/conversations", f"/v1/conversations/{made}"):
            refused = api.post(path, {"metadata": metadata}, headers=ours)
            assert (refused.status, refused.error["code"]) == (429, "storage_quota_exceeded")


def test_a_key_that_filled_its_share_at_another_gateway_is_known_here(tmp_path: Path) -> None:
    async def scene() -> None:
        storage = await Storage.open(f"sqlite:///{tmp_path / 'shared.db'}")
        quota = Quota(asyncio.get_running_loop(), storage, 1000, is_shared=True)
        tenant = Tenant("acme", "harbour")
        try:
            await quota.start()
            run = storage.put_run(
                NewRun(id="resp_1", tenant=tenant, key="app", dialect="responses", model="m", created_at=0.0),
                [Item("msg_1", b"x" * 2000)],
            )
            storage.finish_run(run, Ending(status="completed", completed_at=1.0))
            await storage.durable(run)
            await asyncio.sleep(0.1)
            with pytest.raises(StorageQuotaExceeded):
                quota.check(tenant, "app")
            quota.check(tenant, "other")
            quota.check(Tenant("acme", "airport"), "app")
        finally:
            await quota.close()
            await storage.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tidegate.gateway.quota.FRESH_S", 0.02)
        asyncio.run(scene())


@pytest.mark.security("SEC-API4-STORED")
def test_a_key_that_has_its_share_stores_no_more(tmp_path: Path) -> None:
    with (
        Running(TOML.replace("{data}", str(tmp_path))) as gateway,
        openai.OpenAI(base_url=gateway.url, api_key="key-0123456789abcdef0123456789abcd", max_retries=0) as app,
        openai.OpenAI(base_url=gateway.url, api_key="key-abcdef0123456789abcdef01234567", max_retries=0) as other,
    ):
        kept: list[str] = []

        def fill() -> None:
            for _ in range(20):
                kept.append(app.responses.create(model="openai/echo", input="x" * 4000).id)

        with pytest.raises(openai.RateLimitError) as caught:
            fill()
        assert 2 <= len(kept) < 20
        assert caught.value.code == "storage_quota_exceeded"
        assert caught.value.type == "insufficient_quota"
        assert app.responses.create(model="openai/echo", input="x", store=False).status == "completed"
        assert other.responses.create(model="openai/echo", input="x").status == "completed"
        for name in kept:
            app.responses.delete(name)
        until = time.monotonic() + 10
        while True:
            try:
                assert app.responses.create(model="openai/echo", input="x").status == "completed"
                break
            except openai.RateLimitError:
                assert time.monotonic() < until
                time.sleep(0.2)


def test_what_is_kept_to_be_had_again_counts_and_a_repetition_stores_nothing(tmp_path: Path) -> None:
    ours = {"authorization": "Bearer key-0123456789abcdef0123456789abcd"}
    question = {"model": "lab/echo", "messages": [{"role": "user", "content": "x" * 4000}]}
    stream = {**question, "stream": True}
    with Running(TOML.replace("{data}", str(tmp_path))) as gateway, Api(gateway) as api:
        first = api.post(
            "/v1/responses", {"model": "openai/echo", "input": "y"}, headers={**ours, "idempotency-key": "k"}
        )
        while (
            last := api.post("/v1/chat/completions", stream, headers={**ours, "tidegate-resume-grace": "5s"})
        ).headers.get("tidegate-stream"):
            pass
        # Who only wished to be able to come back is answered all the same.
        assert last.status == 200
        assert last.content.endswith(b"data: [DONE]\n\n")
        for number, body in enumerate((question, stream)):
            named = {**ours, "idempotency-key": f"k{number}"}
            for _ in range(2):  # the key is given back
                refused = api.post("/v1/chat/completions", body, headers=named)
                assert (refused.status, refused.error["code"]) == (429, "storage_quota_exceeded")
        again = api.post(
            "/v1/responses", {"model": "openai/echo", "input": "y"}, headers={**ours, "idempotency-key": "k"}
        )
        assert again.content == first.content
        assert again.headers["tidegate-repeated"] == "true"


def test_an_answer_in_one_body_that_is_kept_to_be_had_again_counts(tmp_path: Path) -> None:
    ours = {"authorization": "Bearer key-0123456789abcdef0123456789abcd"}
    others = {"authorization": "Bearer key-abcdef0123456789abcdef01234567"}
    body = {"model": "lab/echo", "messages": [{"role": "user", "content": "x" * 4000}]}
    for times in range(2):
        with Running(TOML.replace("{data}", str(tmp_path))) as gateway, Api(gateway) as api:
            statuses = [
                api.post("/v1/chat/completions", body, headers={**ours, "idempotency-key": f"k{times}{n}"}).status
                for n in range(8)
            ]
            if times:  # it is known behind a start
                assert set(statuses) == {429}
            else:
                assert statuses[0] == 200
                assert statuses[-1] == 429
            again = api.post("/v1/chat/completions", body, headers={**ours, "idempotency-key": "k00"})
            assert again.headers["tidegate-repeated"] == "true"
            other = api.post("/v1/chat/completions", body, headers={**others, "idempotency-key": f"o{times}"})
            assert other.status == 200
