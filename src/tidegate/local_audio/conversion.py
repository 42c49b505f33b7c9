"""Samples from one rate and form to another, piece by piece, through FFmpeg's filters."""

from collections.abc import Iterator
from typing import Final

import av
from av.audio.frame import AudioFrame
from av.filter import Graph

__all__ = ["Converter", "frame_of", "samples_of"]

_WANTING: Final = (av.error.BlockingIOError, av.error.EOFError)


def frame_of(samples: bytes, rate: int, position: int) -> AudioFrame:
    """16-bit mono samples as a frame that begins at sample number `position`."""
    frame = AudioFrame(format="s16", layout="mono", samples=len(samples) // 2)
    frame.sample_rate = rate
    frame.pts = position
    frame.planes[0].update(samples)
    return frame


def samples_of(frame: AudioFrame) -> bytes:
    """The 16-bit mono samples of a frame."""
    return bytes(frame.planes[0])[: frame.samples * 2]


class Converter:
    """A chain of filters, given in FFmpeg's words as `(name, arguments)`.

    The first frame decides what comes in. When the form of the frames changes on the way, as it may at a joint of two
    recordings, the chain is emptied and made anew.
    """

    def __init__(self, *filters: tuple[str, str]) -> None:
        self._filters = filters
        self._graph: Graph | None = None
        self._form: tuple[str, str, int] | None = None

    def feed(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        """Takes a frame, and gives what is finished."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            yield from self.finish()
            self._graph, self._form = self._chain(form), form
        assert self._graph is not None
        frame.pts = None  # filters count samples themselves, so that gaps and jumps of time stamps do no harm
        self._graph.push(frame)
        yield from self._pull(self._graph)

    def finish(self) -> Iterator[AudioFrame]:
        """Gives what the filters still hold."""
        graph, self._graph, self._form = self._graph, None, None
        if graph is not None:
            graph.push(None)
            yield from self._pull(graph)

    def _chain(self, form: tuple[str, str, int]) -> Graph:
        sample_format, layout, rate = form
        graph = Graph()
        last = graph.add(
            "abuffer", f"sample_fmt={sample_format}:channel_layout={layout}:sample_rate={rate}:time_base=1/{rate}"
        )
        for name, arguments in (*self._filters, ("abuffersink", "")):
            following = graph.add(name, arguments) if arguments else graph.add(name)
            last.link_to(following)
            last = following
        graph.configure()
        return graph

    def _pull(self, graph: Graph) -> Iterator[AudioFrame]:
        while True:
            try:
                frame = graph.pull()
            except _WANTING:
                return
            assert isinstance(frame, AudioFrame)
            yield frame
