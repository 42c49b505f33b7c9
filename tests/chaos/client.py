"""The clients of a run: what each kind of step does, in which order, and what it holds for right."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.chaos.book import Book, Record
from tests.chaos.caller import Answer, Leave, call
from tests.chaos.dialect import Asked, Said, Wrong, read, read_events, request
from tests.chaos.judge import Judge
from tests.chaos.plan import Step
from tests.chaos.world import KEYS, Seen, World

__all__ = ["Client"]

SETTLED_WITHIN_S: Final = 6.0
"""How long the providers of an answer that has ended may go on."""

_ENDED: Final = ("completed", "incomplete", "failed", "cancelled")
_TERMINAL: Final = ("response.completed", "response.incomplete", "response.failed")


class Client:
    """Plays steps."""

    def __init__(self, world: World, book: Book) -> None:
        self._world = world
        self._book = book
        self._judge = Judge(world, book)
        self._scenes: dict[str, Callable[[Step], Awaitable[None]]] = {
            "plain": self._plain,
            "alias": self._plain,
            "leave": self._plain,
            "slow": self._plain,
            "resume": self._resume,
            "background": self._background,
            "cancel": self._cancel,
            "repeat": self._repeat,
            "websocket": self._websocket,
            "chain": self._chain,
            "delete": self._delete,
            "wrong": self._wrong,
            "limit": self._limit,
            "revoke": self._revoke,
            "crowd": self._crowd,
        }

    async def play(self, step: Step) -> None:
        """One step, from its first request to its last judgement."""
        await self._world.is_up.wait()
        self._book.reach(f"scene {step.scene}")
        if step.fault.row and step.scene == "plain":
            self._book.reach(f"fault {step.fault.name}", f"row {step.fault.row}")
        lives = self._world.lives
        try:
            await self._scenes[step.scene](step)
        except Exception as error:
            if self._world.lives == lives and self._world.is_up.is_set():
                self._book.wrong(f"step {step.number} ({step.scene} {step.api} {step.model}): {error!r}")
        for turn in range(16):
            self._world.seen.pop(step.number * 16 + turn, None)

    # -- asking ----------------------------------------------------------------------------------------------------

    def _record(self, step: Step, turn: int = 0, *, key: str = "main", stream: bool | None = None) -> Record:
        wants = step.stream if stream is None else stream
        return self._book.add(Record(step, f"chaos-{step.number}-{turn}", step.api, stream=wants, key=key))

    def _request(self, step: Step, turn: int = 0, *, stream: bool | None = None, **more: Any) -> Asked:
        wants = step.stream if stream is None else stream
        tools = step.fault.options.startswith("calls")
        if step.api == "responses" and "store" not in more:
            more["store"] = bool(step.choice & 1)
        return request(step.api, step.model, step.text(turn), stream=wants, tools=tools, **more)

    async def _send(
        self,
        record: Record,
        asked: Asked,
        headers: dict[str, str] | None = None,
        *,
        leave: Leave | None = None,
        sip: int = 0,
        secret: str = "",
    ) -> Answer:
        own = {
            "authorization": f"Bearer {secret or KEYS[record.key]}",
            "x-request-id": record.request_id,
            **asked.headers,
            **(headers or {}),
        }
        lives = self._world.lives
        answer = await call(self._world.port, asked.method, asked.path, own, asked.body, leave=leave, sip=sip)
        record.status = answer.status
        record.ended_at = answer.ended_at
        record.left = answer.ended == "left"
        if self._world.lives != lives or not self._world.is_up.is_set():
            record.shaken = True
        if answer.ended == "hung":
            self._book.wrong("no end within half a minute", record)
        return answer

    async def _get(self, path: str) -> Answer:
        await self._world.is_up.wait()
        return await call(self._world.port, "GET", path, {"authorization": f"Bearer {KEYS['main']}"})

    async def _post(self, path: str) -> Answer:
        await self._world.is_up.wait()
        headers = {"authorization": f"Bearer {KEYS['main']}", "content-type": "application/json"}
        return await call(self._world.port, "POST", path, headers, b"{}")

    async def _seen(self, step: Step, turn: int = 0) -> list[tuple[str, Seen]]:
        """What reached providers, in order, when nothing of it goes on any more."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLED_WITHIN_S
        while True:
            self._world.harvest()
            found = self._world.seen.get(step.number * 16 + turn, [])
            running = [
                one
                for name, one in found
                if one.finished_at is None
                and one.closed_by_peer_at is None
                and not (name == "tide" and self._world.was_away(one.started_at))
                and not _is_deaf(one)
            ]
            if not running or loop.time() > until:
                return sorted(found, key=lambda one: one[1].started_at)
            await asyncio.sleep(0.02)

    async def _judge_answer(self, step: Step, record: Record, answer: Answer, text: str, turn: int = 0) -> Said | None:
        """None where the answer is none."""
        seen = await self._seen(step, turn)
        try:
            said = read(record.api, answer, stream=record.stream)
        except Wrong as error:
            if not record.shaken:
                self._book.wrong(str(error), record)
            return None
        if not seen and "tidegate-deployment" not in answer.headers:
            record.entry = "maybe"  # it may have been refused before it was admitted
        self._judge.answer(record, said, seen, text)
        if record.shaken:
            record.entry = "maybe"
        return said

    # -- scenes ----------------------------------------------------------------------------------------------------

    async def _plain(self, step: Step) -> None:
        record = self._record(step)
        asked = self._request(step)
        leave = step.leave if step.scene == "leave" else None
        headers = {"tidegate-timeout": "3s"} if step.choice % 7 == 0 else {}
        answer = await self._send(record, asked, headers, leave=leave, sip=600 if step.scene == "slow" else 0)
        if answer.ended != "left":
            await self._judge_answer(step, record, answer, asked.text)
            return
        await asyncio.sleep(0.05)
        self._judge.left(record, answer, await self._seen(step))
        record.entry = "one" if record.claim is not None and not record.shaken else "maybe"

    async def _resume(self, step: Step) -> None:
        record = self._record(step, stream=True)
        asked = self._request(step, stream=True, **({"store": True} if step.api == "responses" else {}))
        leave = Leave(after_bytes=step.leave.after_bytes, reset=step.leave.reset)
        answer = await self._send(record, asked, {"tidegate-resume-grace": "20s"}, leave=leave)
        name = answer.headers.get("tidegate-stream", "")
        if answer.ended == "left" and name:
            answer = await self._come_back(step, record, answer, name)
            self._book.reach("resume")
        elif answer.ended == "left":
            record.entry = "maybe"
            return
        await self._judge_answer(step, record, answer, asked.text)

    async def _come_back(self, step: Step, record: Record, first: Answer, name: str) -> Answer:
        """The rest of a stream, on another connection; both parts as one answer."""
        await asyncio.sleep(step.wait_s)
        whole, _, _ = bytes(first.body).rpartition(b"\n\n")
        whole = whole + b"\n\n" if whole else b""
        units = [one for one in whole.split(b"\n\n") if b"data:" in one and b"event: keepalive" not in one]
        units = [one for one in units if b"event: ping" not in one]  # they may come at any time, and have no number
        path = f"/v1/responses/{name}" if step.api == "responses" and step.choice & 2 else f"/v1/streams/{name}"
        behind = f"starting_after={len(units) - 1}&" if units else ""
        lives = self._world.lives
        rest = await self._get(f"{path}?{behind}stream=true")
        if self._world.lives != lives or not self._world.is_up.is_set():
            record.shaken = True
        if rest.status != 200 and not record.shaken:
            raise Wrong(f"{path}: {rest.status} {bytes(rest.body)[:300]!r}")
        rest.body[:0] = whole
        rest.headers["tidegate-deployment"] = first.headers.get("tidegate-deployment", "")
        rest.headers["tidegate-attempts"] = first.headers.get("tidegate-attempts", "0")
        record.ended_at = rest.ended_at
        record.left = False
        return rest

    async def _background(self, step: Step) -> None:
        stream = bool(step.choice & 4)
        record = self._record(step, stream=stream)
        asked = self._request(step, stream=stream, store=True, background=True)
        leave = Leave(after_bytes=step.leave.after_bytes) if stream else None
        answer = await self._send(record, asked, leave=leave)
        if answer.status != 200 or record.shaken:
            record.entry = "maybe"
            if not record.shaken:
                await self._judge_answer(step, record, answer, asked.text)
            return
        response_id = answer.headers.get("tidegate-stream", "")
        if not stream:
            response_id = json.loads(answer.body)["id"]
        elif answer.ended == "left":
            answer = await self._come_back(step, record, answer, response_id)
            self._book.reach("resume")
            await self._judge_answer(step, record, answer, asked.text)
        if response_id:
            await self._polled(step, record, response_id, asked.text)

    async def _polled(self, step: Step, record: Record, response_id: str, text: str) -> Said | None:
        """A background response, asked for until it has ended."""
        loop = asyncio.get_running_loop()
        until = loop.time() + 20
        lives = self._world.lives
        while True:
            answer = await self._get(f"/v1/responses/{response_id}")
            record.shaken |= self._world.lives != lives or not self._world.is_up.is_set()
            if answer.status == 200 and json.loads(answer.body)["status"] in _ENDED:
                break
            if loop.time() > until or (answer.status not in (200, 0) and not record.shaken):
                self._book.wrong(f"GET {response_id}: {answer.status} {bytes(answer.body)[:200]!r}", record)
                return None
            await asyncio.sleep(0.05)
        self._book.reach("background")
        body = json.loads(answer.body)
        record.ended_at = answer.ended_at
        seen = await self._seen(step)
        code = str((body.get("error") or {}).get("message", "")).partition(":")[0]
        said = Said(body["status"], _text(body), code, (), response_id)
        if said.kind == "cancelled":
            record.kind, record.claim = "cancelled", None
            self._book.reach("ending cancelled")
        elif record.shaken:
            record.entry = "maybe"
        else:
            self._judge.answer(record, said, seen, text)
        return said

    async def _cancel(self, step: Step) -> None:
        record = self._record(step, stream=False)
        asked = self._request(step, stream=False, store=True, background=True)
        answer = await self._send(record, asked)
        if answer.status != 200 or record.shaken:
            record.entry = "maybe"
            return
        response_id = json.loads(answer.body)["id"]
        await asyncio.sleep(step.wait_s)
        cancelled = await self._post(f"/v1/responses/{response_id}/cancel")
        if cancelled.status == 200 and json.loads(cancelled.body)["status"] == "cancelled":
            self._book.reach("cancel")
        elif cancelled.status != 200 and self._world.is_up.is_set() and cancelled.ended == "whole":
            self._book.wrong(f"cancelling: {cancelled.status} {bytes(cancelled.body)[:200]!r}", record)
        said = await self._polled(step, record, response_id, asked.text)
        if said is not None and said.kind == "cancelled":
            self._judge.left(record, cancelled, await self._seen(step))

    async def _repeat(self, step: Step) -> None:
        """The same request twice, at once or one behind the other; or another one with the same key."""
        first, second = self._record(step), self._record(step, 1)
        asked = self._request(step)
        headers = {"idempotency-key": f"key-{step.number}"}
        other = asked
        if step.choice % 4 == 3:
            other = asked._replace(body=asked.body.replace(b"[c", b"[d"))
        at_once = step.choice & 4 and other is asked
        if at_once:
            answers = await asyncio.gather(
                self._send(first, asked, headers), self._send(second, other, headers), return_exceptions=False
            )
        else:
            answers = (await self._send(first, asked, headers), await self._send(second, other, headers))
        swapped = answers[0].status != 200 and answers[1].status == 200 and other is asked
        if swapped or answers[0].headers.get("tidegate-repeated"):
            first, second, answers = second, first, (answers[1], answers[0])
        said = await self._judge_answer(step, first, answers[0], asked.text)
        if first.shaken or second.shaken:
            first.entry = second.entry = "maybe"
            return
        if other is not asked and answers[0].status != 200:
            second.entry, second.kind, second.left = "maybe", "error", True  # the key is free again
        elif other is not asked:
            second.entry, second.kind = "none", "error"
            if answers[1].status != 422:
                self._book.wrong(f"another request with a used key: {answers[1].status}", second)
        elif answers[1].headers.get("tidegate-repeated"):
            second.entry, second.kind = "repeated", first.kind
            self._book.reach("repeat")
            if bytes(answers[1].body) != bytes(answers[0].body):
                self._book.wrong("a repeated answer has other bytes", second)
        elif said is not None and said.kind in ("completed", "incomplete") and answers[1].status == 200:
            self._book.wrong("a repeated request was not recognised", second)
        else:  # what failed may be sent again
            second.entry, second.kind = "maybe", "error"

    async def _websocket(self, step: Step) -> None:
        """Several turns on one connection; at the last one the client may leave."""
        address = f"ws://127.0.0.1:{self._world.port}/v1/responses"
        lives = self._world.lives
        headers = {"authorization": f"Bearer {KEYS['main']}"}
        previous: dict[str, str] = {}
        turns = step.choice % 3 + 1
        leaves = bool(step.choice & 8)
        try:
            async with connect(address, additional_headers=headers, max_size=None, proxy=None) as socket:
                for turn in range(turns):
                    text = step.text(turn)
                    event = {
                        "type": "response.create",
                        "model": step.model,
                        "input": text,
                        "store": bool(step.choice & 1),
                    }
                    await socket.send(json.dumps({**event, **previous}, ensure_ascii=False))
                    events: list[Any] = []
                    while not events or (events[-1]["type"] not in _TERMINAL and "status" not in events[-1]):
                        found = json.loads(await asyncio.wait_for(socket.recv(), 20))
                        if found["type"] != "keepalive":
                            events.append(found)
                        if leaves and turn == turns - 1 and found["type"] == "response.output_text.delta":
                            break
                    self._book.reach("websocket")
                    told = events[0].get("headers") or events[0].get("error", {}).get("headers") or {}
                    record = Record(
                        step, told.get("x-request-id", f"websocket-{step.number}"), "responses", stream=True
                    )
                    self._book.add(record)
                    # What was on its way when the gateway was killed is still heard.
                    record.shaken = self._world.lives != lives or not self._world.is_up.is_set()
                    if events[-1]["type"] == "response.output_text.delta":
                        record.left = True
                        break
                    said = self._read_socket(record, events)
                    if said is None:
                        return
                    record.status = 200 if said.kind != "error" else int(events[-1]["status"])
                    seen = await self._seen(step, turn)
                    record.entry = "one" if seen or told.get("tidegate-deployment") else "maybe"
                    self._judge.answer(record, said, seen, text)
                    if said.kind != "completed":
                        return
                    previous = {"previous_response_id": said.response_id}
                left_at = asyncio.get_running_loop().time()
                if not record.left:
                    return
                socket.transport.abort()
        except (ConnectionClosed, OSError, InvalidHandshake):
            if self._world.lives != lives or not self._world.is_up.is_set():
                return
            raise
        gone = Answer(left_at)
        gone.ended_at = left_at
        await asyncio.sleep(0.05)
        self._judge.left(record, gone, await self._seen(step, turns - 1))

    def _read_socket(self, record: Record, events: list[Any]) -> Said | None:
        try:
            if "status" in events[-1]:
                return Said("error", code=str(events[-1]["error"]["code"]))
            for event in events:
                event.pop("headers", None)
            return read_events(events)
        except (AssertionError, Wrong, KeyError) as error:
            self._book.wrong(f"over WebSocket: {error!r}"[:600], record)
            return None

    async def _chain(self, step: Step) -> None:
        previous: dict[str, Any] = {}
        for turn in range(2 + step.choice % 2):
            record = self._record(step, turn)
            asked = self._request(step, turn, store=True, **previous)
            answer = await self._send(record, asked)
            said = await self._judge_answer(step, record, answer, asked.text, turn)
            if said is None or said.kind != "completed" or record.shaken:
                return
            previous = {"previous_response_id": said.response_id}
        self._book.reach("chain")

    async def _delete(self, step: Step) -> None:
        record = self._record(step)
        asked = self._request(step, store=True)
        answer = await self._send(record, asked)
        said = await self._judge_answer(step, record, answer, asked.text)
        if said is None or not said.response_id or record.shaken:
            return
        lives = self._world.lives
        headers = {"authorization": f"Bearer {KEYS['main']}"}
        path = f"/v1/responses/{said.response_id}"
        gone = await call(self._world.port, "DELETE", path, headers)
        then = await self._get(path)
        if self._world.lives == lives and then.status and (gone.status, then.status) != (200, 404):
            self._book.wrong(f"deleted with {gone.status}, and then {then.status}", record)
        self._book.reach("delete")

    async def _wrong(self, step: Step) -> None:
        """Requests that are at fault."""
        record = self._record(step)
        asked = self._request(step)
        record.entry = "none"
        secret = ""
        headers: dict[str, str] = {}
        statuses: tuple[int, ...]
        match step.choice % 5:
            case 0:
                secret, statuses = "no-0123456789abcdef0123456789abcdef", (401, 429)
            case 1:
                asked, statuses = request("chat", "prime/nobody", step.text(), stream=step.stream), (404,)
                record.api, record.entry = "chat", "one"  # the provider says so
            case 2:
                asked = request("chat", "prime/echo", step.text(), stream=step.stream)
                asked, statuses = asked._replace(body=asked.body[: len(asked.body) // 2]), (400,)
                record.api = "chat"
            case 3:
                headers, statuses = {"tidegate-profile": "nobody's"}, (400,)
            case _:
                asked, statuses = request("chat", "prime/echo", step.text(), stream=step.stream, temperature=9), (400,)
                record.api = "chat"
        answer = await self._send(record, asked, headers, secret=secret)
        if record.shaken:
            return
        said = read(record.api, answer, stream=record.stream)
        record.kind = said.kind
        self._book.reach("refused")
        if said.kind != "error" or answer.status not in statuses:
            self._book.wrong(f"{said.kind} {answer.status} in place of {statuses}", record)

    async def _limit(self, step: Step) -> None:
        """Keys that may do little."""
        key = ("tight", "poor", "narrow")[step.choice % 3]
        count = 3 if key == "narrow" else 1
        records = [self._record(step, turn, key=key) for turn in range(count)]
        asked = [self._request(step, turn) for turn in range(count)]
        answers = await asyncio.gather(*map(self._send, records, asked))
        for turn, (record, answer) in enumerate(zip(records, answers, strict=True)):
            if answer.status != 429 or await self._seen(step, turn):
                await self._judge_answer(step, record, answer, asked[turn].text, turn)
                continue
            record.entry, record.kind = "none", "error"
            said = read(record.api, answer, stream=record.stream)
            record.code = said.code
            self._book.reach(f"limit {key}")
            if "retry-after" not in answer.headers and answer.headers.get("x-should-retry") != "false":
                self._book.wrong("a 429 that does not say when to come again", record)

    async def _crowd(self, step: Step) -> None:
        """More requests at once than the provider may have: one is answered, one waits, the others are turned away."""
        records = [self._record(step, turn) for turn in range(4)]
        asked = [self._request(step, turn) for turn in range(4)]
        answers = await asyncio.gather(*map(self._send, records, asked))
        for turn, (record, answer) in enumerate(zip(records, answers, strict=True)):
            said = await self._judge_answer(step, record, answer, asked[turn].text, turn)
            if said is None or said.kind != "error" or record.shaken:
                continue
            self._book.reach("row FAULT-POOL")
            if answer.status not in (503, 529) or "retry-after" not in answer.headers:
                self._book.wrong(
                    f"a full provider: {answer.status}, retry-after {answer.headers.get('retry-after')}", record
                )

    async def _revoke(self, step: Step) -> None:
        """A key is taken back while its request runs: that goes on to its end, and the next one is refused."""
        lives = self._world.lives
        made = await self._world.admin("POST", "/keys", {"name": f"key {step.number}"})
        slow = step._replace(gap=10, stream=True)
        record = self._record(slow, key="managed")
        asked = self._request(slow)
        running = asyncio.create_task(self._send(record, asked, secret=made["key"]))
        await asyncio.sleep(0.05)
        await self._world.admin("POST", f"/keys/{made['id']}/revoke")
        after = self._record(step, 1, key="managed")
        refused = await self._send(after, self._request(step, 1), secret=made["key"])
        after.entry, after.kind = "none", "error"
        if refused.status not in (401, 0) and self._world.lives == lives:
            self._book.wrong(f"a revoked key opens: {refused.status}", after)
        answer = await running
        self._book.reach("revocation")
        if answer.status == 401:
            record.entry = "none"  # it came behind the revocation
        else:
            await self._judge_answer(slow, record, answer, asked.text)


def _is_deaf(request: Seen) -> bool:
    """Whether the provider has stopped reading: it will not see that anybody leaves."""
    return request.upload is not None and "upload_stall" in (request.upload.field("model") or "")


def _text(body: Any) -> str:
    parts = [part for item in body["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part.get("text", "") for part in parts)
