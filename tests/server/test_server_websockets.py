"""The surface of the library `websockets` that connections stand on. When one of these fails, read its changes, then move
the pin."""

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import OP_BINARY, OP_CLOSE, OP_CONT, OP_PING, OP_TEXT, Frame
from websockets.protocol import SEND_EOF, Protocol, Side, State
from websockets.utils import accept_key

ROOT = Path(__file__).resolve().parents[2]


def server(max_size: int | None = 100) -> Protocol:
    return Protocol(Side.SERVER, state=State.OPEN, max_size=max_size)


def masked(*frames: Frame) -> bytes:
    return b"".join(frame.serialize(mask=True) for frame in frames)


def test_websockets_is_pinned_to_the_major_version_that_was_read() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert "websockets>=16,<17" in dependencies
    assert version("websockets").startswith("16.")


def test_the_protocol_is_made_as_we_make_it() -> None:
    assert list(inspect.signature(Protocol).parameters) == ["side", "state", "max_size", "logger"]
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    protocol = server()
    assert protocol.extensions == []
    assert not protocol.reader.buffer
    assert protocol.current_size is None


def test_frames_come_as_they_were_sent_and_nothing_is_put_together() -> None:
    protocol: Any = server()
    protocol.receive_data(masked(Frame(OP_TEXT, b"a", False), Frame(OP_PING, b"p"), Frame(OP_CONT, b"", False)))
    frames = protocol.events_received()
    assert [(one.opcode, bytes(one.data), one.fin) for one in frames if isinstance(one, Frame)] == [
        (OP_TEXT, b"a", False),
        (OP_PING, b"p", True),
        (OP_CONT, b"", False),
    ]
    assert protocol.current_size == 1
    assert protocol.data_to_send() == [b"\x8a\x01p"]
    protocol.receive_data(masked(Frame(OP_CONT, b"c"), Frame(OP_BINARY, b"bb"))[:-1])
    assert len(protocol.events_received()) == 1
    assert protocol.current_size is None
    assert len(protocol.reader.buffer) == 1  # what there is of the unfinished frame


def test_a_message_over_the_limit_fails_the_connection_before_it_is_read() -> None:
    for pieces in ((101,), (60, 41)):
        protocol = server()
        frames = [Frame(OP_CONT if at else OP_TEXT, b"x" * size, False) for at, size in enumerate(pieces)]
        protocol.receive_data(masked(*frames))
        assert isinstance(protocol.parser_exc, PayloadTooBig)
        assert protocol.state is State.CLOSING
        close, end = protocol.data_to_send()
        assert close[2:4] == (1009).to_bytes(2, "big")
        assert end == SEND_EOF == b""
        assert len(protocol.events_received()) == len(pieces) - 1
        protocol.receive_data(b"anything")
        assert protocol.events_received() == []


def test_a_broken_frame_fails_the_connection() -> None:
    protocol = server()
    protocol.receive_data(Frame(OP_TEXT, b"x").serialize(mask=False))
    assert isinstance(protocol.parser_exc, ProtocolError)
    assert protocol.data_to_send()[0][2:4] == (1002).to_bytes(2, "big")


def test_a_close_is_answered_in_kind_and_ends_the_stream() -> None:
    protocol = server()
    protocol.receive_data(masked(Frame(OP_CLOSE, b"\x03\xe8")))
    assert [one.opcode for one in protocol.events_received() if isinstance(one, Frame)] == [OP_CLOSE]
    assert protocol.parser_exc is None
    assert protocol.close_rcvd is not None
    assert protocol.close_rcvd.code == 1000
    assert protocol.data_to_send() == [b"\x88\x02\x03\xe8", SEND_EOF]


def test_our_own_close_waits_for_theirs() -> None:
    protocol = server()
    protocol.send_text(b"{}")
    protocol.send_close(1012, "bye")
    assert protocol.data_to_send() == [b"\x81\x02{}", b"\x88\x05\x03\xf4bye"]
    assert protocol.state is State.CLOSING
    protocol.receive_data(masked(Frame(OP_CLOSE, b"\x03\xf4")))
    assert protocol.data_to_send() == [SEND_EOF]
