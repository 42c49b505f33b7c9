"""How much of what the local audio engine speaks does it understand itself? `python -m bench.recall [VOICE…]`

Twenty sentences, spoken to MP3 and transcribed as a stream with the full vocabulary, by the official SDK. Recall is the share
of a sentence's words that come back in order.
"""

import argparse
import asyncio
import os
import re
import statistics
import sys
import time
from typing import Final

import openai

from tidegate.local_audio import LocalAudio

SENTENCES: Final = (
    "The quick brown fox jumps over the lazy dog.",
    "She sells fresh bread at the market every morning.",
    "The train to London leaves at seven in the evening.",
    "Please remember to close the windows before you leave.",
    "My brother works as a doctor in a small hospital.",
    "The weather will be cold and cloudy for the next three days.",
    "We walked along the river until the sun went down.",
    "Can you tell me where the nearest bank is?",
    "The president gave a long speech about the economy.",
    "I would like a cup of coffee with milk and sugar.",
    "Children were playing football in the park after school.",
    "The company announced that it will open a new office next year.",
    "He opened the letter and read it twice in silence.",
    "There is a big difference between knowing and understanding.",
    "The old man sat by the fire and told a story.",
    "Many people believe that music makes them happy.",
    "The police found the stolen car near the airport.",
    "Our teacher asked us to write about our favorite book.",
    "It is important to drink enough water when it is hot.",
    "The government plans to build a new bridge over the river.",
)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def recall(said: str, heard: str) -> float:
    """The longest common subsequence of words, as a share of what was said."""
    wanted, found = words(said), words(heard)
    best = [0] * (len(found) + 1)
    for word in wanted:
        diagonal = 0
        for position, other in enumerate(found, 1):
            diagonal, best[position] = (
                best[position],
                diagonal + 1 if word == other else max(best[position], best[position - 1]),
            )
    return best[-1] / len(wanted)


async def measure(client: openai.AsyncOpenAI, prefix: str, voice: str) -> None:
    shares = []
    began = time.monotonic()
    for sentence in SENTENCES:
        speech = await client.audio.speech.create(model=f"{prefix}espeak-ng", voice=voice, input=sentence)
        heard = await client.audio.transcriptions.create(
            model=f"{prefix}pocketsphinx", file=("speech.mp3", speech.content), stream=True
        )
        text = "".join([event.delta async for event in heard if event.type == "transcript.text.delta"]).strip()
        shares.append(recall(sentence, text))
        print(f"{shares[-1]:5.0%}  {sentence}\n       {text}")
    print(
        f"{voice}: median word recall {statistics.median(shares):.1%}, mean {statistics.mean(shares):.1%}, "
        f"{time.monotonic() - began:.0f} s"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.recall", description=__doc__)
    parser.add_argument("voices", nargs="*", default=["alloy"])
    parser.add_argument(
        "--url", help="ask through this gateway, such as http://127.0.0.1:8080/v1, not the engine alone"
    )
    given = parser.parse_args()

    def note(event: str, **fields: object) -> None:
        print(event, fields, file=sys.stderr)

    engine = LocalAudio(os.environ, note)
    engine.start()
    try:
        client = openai.AsyncOpenAI(base_url=given.url or engine.base_url, api_key="unused", timeout=120)
        for voice in given.voices:
            await measure(client, "local-audio/" if given.url else "", voice)
    finally:
        await engine.stop()


if __name__ == "__main__":
    asyncio.run(main())
