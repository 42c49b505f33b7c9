"""A journal of which the database has lost a part: whoever reads it is told, and takes nothing for the whole."""

import contextlib
import json
import sqlite3
from pathlib import Path

import httpx
import pytest

from tests.support.running import Running


def stream(url: str, path: str, body: dict[str, object]) -> tuple[str, bytes]:
    """A stream that goes on for a while, with the name under which it is kept."""
    answer = httpx.post(
        f"{url}{path}",
        json={"model": "lab/lorem?chunks=8&gap=60", "stream": True, **body},
        headers={"tidegate-resume-grace": "5s"},
        timeout=20,
    )
    assert answer.status_code == 200
    return answer.headers["tidegate-stream"], answer.content


def lose(data: Path, name: str, which: str) -> int:
    """Remove one segment; the place where it began."""
    with contextlib.closing(sqlite3.connect(data / "tidegate.db", timeout=5)) as database, database:
        rows = database.execute(
            "SELECT s.number, s.first FROM segments s JOIN runs r ON r.number = s.run WHERE r.id = ? ORDER BY s.first",
            (name,),
        ).fetchall()
        assert len(rows) >= 3
        number, first = {"first": rows[0], "middle": rows[len(rows) // 2], "last": rows[-1]}[which]
        database.execute("DELETE FROM segments WHERE number = ?", (number,))
    return int(first)


@pytest.mark.parametrize("which", ["first", "middle", "last"])
def test_a_response_whose_journal_has_a_hole_does_not_pass_for_completed(
    keeping: Running, data: Path, which: str
) -> None:
    name, whole = stream(keeping.url, "/responses", {"input": "hi"})
    httpx.get(f"{keeping.url}/responses/{name}")  # waits until it is written
    place = lose(data, name, which)
    found = httpx.get(f"{keeping.url}/responses/{name}?stream=true").content
    assert found[:place] == whole[:place]
    events = [json.loads(one.split(b"\n")[0]) for one in found[place:].split(b"data: ")[1:]]
    assert [event["type"] for event in events] == ["error", "response.failed"]
    assert events[0]["code"] == "stream_damaged"
    assert events[1]["response"]["error"]["message"].startswith("stream_damaged: ")
    seen = whole[:place].count(b"\n\n")
    assert [event["sequence_number"] for event in events] == [seen, seen + 1]
    last = httpx.get(f"{keeping.url}/responses/{name}?stream=true&starting_after={seen + 2}").content
    assert [json.loads(one.split(b"\n")[0])["sequence_number"] for one in last.split(b"data: ")[1:]] == [
        seen + 3,
        seen + 4,
    ]
    # The answer itself does not stand in the journal.
    answer = httpx.get(f"{keeping.url}/responses/{name}").json()
    assert answer["status"] == "completed"
    assert answer["output"][0]["content"][0]["text"]


def test_a_chat_stream_with_a_hole_has_no_ending_but_an_error(keeping: Running, data: Path) -> None:
    name, whole = stream(keeping.url, "/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
    httpx.get(f"{keeping.url}/streams/{name}")
    place = lose(data, name, "middle")
    found = httpx.get(f"{keeping.url}/streams/{name}").content
    assert found[:place] == whole[:place]
    assert json.loads(found[place:].removeprefix(b"data: "))["error"]["code"] == "stream_damaged"
