"""The plan of a run: what is done, in which order. It follows from the seed alone."""

import random
from collections.abc import Iterator, Sequence
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from tests.chaos.caller import Leave
from tests.chaos.fault import ALIASES, FAULTS, NO_FAULT, Fault

__all__ = ["SCENES", "Disturbance", "Scene", "Step", "plan"]

T = TypeVar("T")

Scene = Literal[
    "plain", "leave", "slow", "alias", "resume", "background", "cancel", "repeat", "websocket", "chain", "delete",
    "wrong", "limit", "revoke", "crowd",
]  # fmt: skip

Disturbance = Literal["reload", "bad reload", "outage", "kill"]

SCENES: Final[dict[Scene, int]] = {
    "plain": 60,
    "leave": 12,
    "slow": 2,
    "alias": 12,
    "resume": 8,
    "background": 5,
    "cancel": 4,
    "repeat": 5,
    "websocket": 5,
    "chain": 3,
    "delete": 2,
    "wrong": 3,
    "limit": 4,
    "revoke": 1,
    "crowd": 1,
}
"""How often each is in a hundred or so."""

_DISTURBED: Final[tuple[Disturbance, ...]] = ("reload", "bad reload", "reload", "outage", "reload")

NAMES: Final = 2

_WORDS: Final = [
    "tide",
    "wave",
    "ebb",
    "flow",
    "潮汐",
    "🌊",
    "harbour",
    "Größe",
    "moon",
    "naïve",
    "anchor",
    '"quoted"',
    "back\\slash",
    "<b>",
    "&",
    "海",
    "buoy",
    "𝄞",
    "keel",
]


class Step(NamedTuple):
    """One thing that is done, by one client."""

    number: int
    scene: Scene
    api: str
    stream: bool
    provider: str
    fault: Fault
    words: int
    gap: int
    """Milliseconds between the provider's frames."""
    leave: Leave
    wait_s: float
    """Where the scene waits for something: for so long."""
    choice: int
    """What the scene decides else."""
    before: tuple[Disturbance, ...] = ()
    """What happens when its turn comes."""

    @property
    def model(self) -> str:
        """What the client asks for."""
        if self.scene == "alias":
            return self.provider
        if self.fault.provider == "raw":
            return f"raw/{self.fault.options}"
        if self.fault.provider:
            return f"{self.fault.provider}/m"
        gap = f"gap={self.gap}" if self.gap and "split=" not in self.fault.options else ""
        options = "&".join(part for part in (self.fault.options, gap) if part)
        # Each name is a deployment of its own, so that nobody suffers for another's fault. They come again, as a gateway
        # remembers names up to a bound; but where the fault strikes once, it counts by name.
        name = self.number if "times=" in options else self.number % NAMES
        return f"{self.provider}/echo?message=s{name}{'&' if options else ''}{options}"

    def text(self, turn: int = 0) -> str:
        """What is said, and echoed."""
        dice = random.Random(self.number * 16 + turn)
        return f"[c{self.number * 16 + turn}] " + " ".join(dice.choices(_WORDS, k=self.words))


class _Deck(Generic[T]):
    """Cards in random order, each of them once before any comes again: also a short run sees everything."""

    def __init__(self, dice: random.Random, cards: Sequence[T]) -> None:
        self._dice = dice
        self._cards = list(cards)
        self._left: list[T] = []

    def draw(self) -> T:
        if not self._left:
            self._left = self._dice.sample(self._cards, len(self._cards))
        return self._left.pop()


def plan(seed: int, *, kills: Sequence[int] = ()) -> Iterator[Step]:
    """Steps without end. Before those whose number is in `kills` the gateway is killed."""
    dice = random.Random(seed)
    scenes = _Deck(dice, [scene for scene, count in SCENES.items() for _ in range(count)])
    faults = _Deck(dice, FAULTS)
    aliases = _Deck(dice, tuple(ALIASES))
    disturbed = _Deck(dice, _DISTURBED)
    number = 0
    while True:
        number += 1
        scene: Scene = scenes.draw()
        fault = NO_FAULT
        if scene == "plain":
            fault = faults.draw() if dice.random() < 0.9 else NO_FAULT
        elif scene in ("leave", "resume", "background", "websocket") and dice.random() < 0.3:
            fault = dice.choice([one for one in FAULTS if "responses" in one.apis and not one.provider])
        api, stream, provider = _asked(dice, scene, fault)
        if scene == "alias":
            provider = aliases.draw()
        elif scene == "crowd":
            provider = "few"
        before: list[Disturbance] = []
        if number % 17 == 0:
            before.append(disturbed.draw())
        if number in kills:
            before.append("kill")
        leave = Leave(
            after_s=dice.choice((0.0, 0.005, 0.02, 0.1, 0.4)) if dice.random() < 0.5 else None,
            after_bytes=dice.randint(1, 3000),
            reset=dice.random() < 0.5,
        )
        yield Step(
            number=number,
            scene=scene,
            api=api,
            stream=stream,
            provider=provider,
            fault=fault,
            words=dice.randint(6, 30) if scene != "slow" else 400,
            gap=_gap(dice, scene),
            leave=leave,
            wait_s=round(dice.uniform(0.0, 0.3), 3),
            choice=dice.getrandbits(16),
            before=tuple(before),
        )


def _gap(dice: random.Random, scene: Scene) -> int:
    if scene in ("leave", "resume", "background", "cancel", "crowd"):
        return dice.randint(10, 30)
    return dice.choice((0, 0, 0, 1, 4)) if scene != "slow" else 0


def _asked(dice: random.Random, scene: Scene, fault: Fault) -> tuple[str, bool, str]:
    """The API, whether a stream is asked for, and the provider."""
    apis: tuple[str, ...] = fault.apis
    match scene:
        case "resume":
            apis = ("responses", "responses", "chat", "messages", "gemini")
        case "background" | "cancel" | "websocket" | "chain" | "delete":
            apis = ("responses",)
        case "alias" | "repeat" | "limit" | "revoke" | "crowd":
            apis = ("responses", "chat", "messages", "gemini")
        case "slow":
            apis = ("responses", "chat")
    api = dice.choice(apis)
    stream = dice.random() < 0.7 if fault.stream is None else fault.stream
    if api == "embeddings":
        stream = False
    if scene in ("resume", "slow", "leave"):
        stream = True if api != "embeddings" else stream
    providers: tuple[str, ...] = ("prime", "lab", "claude", "google", "tide")
    if api in ("completions", "embeddings", "speech", "transcription"):
        providers = ("prime", "tide")
    return api, stream, fault.provider or dice.choice(providers)
