"""Finds the line of a TOML file on which a value stands: tomllib gives values without places."""

import re
from collections.abc import Mapping
from typing import Final

_HEADER: Final = re.compile(r"\s*(\[\[?)([^\[\]]+)\]")
_PIECE: Final = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(\.)?""")
_TOKEN: Final = re.compile(r'"""|\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#|[\[\]{}]')

Place = tuple[str | int, ...]


class Locator:
    """Lines by path, for a document that tomllib accepts. Best effort: an unknown place gets the line of the table or
    value around it, and `None` only when there is none."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Place, int] = {}
        self._scan(text)

    def line(self, path: str) -> int | None:
        """The line of a path such as `keys[1].name`, or of what surrounds it."""
        place = parse_path(path)
        while place:
            if place in self._lines:
                return self._lines[place]
            place = place[:-1]
        return None

    def _scan(self, text: str) -> None:
        counts: dict[Place, int] = {}
        table: Place = ()
        quote, depth, value = "", 0, ()  # type: str, int, Place
        items: list[int] = []
        for number, line in enumerate(text.splitlines(), 1):
            rest = line
            if not quote and not depth:
                header = _HEADER.match(line)
                if header:
                    table = _keys(header[2])
                    table = self._resolve(table, counts)
                    if header[1] == "[[":
                        counts[table] = counts.get(table, -1) + 1
                        table = (*table, counts[table])
                    self._lines.setdefault(table, number)
                    self._lines.setdefault(table[:-1], number)
                    continue
                key, rest = _assignment(line)
                if not key:
                    continue
                value = (*table, *key)
                self._lines[value] = number
                items = []
            quote, depth = self._follow(rest, quote, depth, value, items, number)

    def _resolve(self, table: Place, counts: Mapping[Place, int]) -> Place:
        """`[keys.extra]` belongs to the last `[[keys]]`: puts the index in, except behind the last name."""
        place: Place = ()
        for position, name in enumerate(table):
            place = (*place, name)
            if place in counts and position < len(table) - 1:
                place = (*place, counts[place])
        return place

    def _follow(
        self, rest: str, quote: str, depth: int, value: Place, items: list[int], number: int
    ) -> tuple[str, int]:
        """Tracks strings and brackets over the lines of one value; notes the lines of a list's tables."""
        position = 0
        while position < len(rest):
            if quote:
                end = rest.find(quote, position)
                if end < 0:
                    return quote, depth
                position, quote = end + 3, ""
                continue
            token = _TOKEN.search(rest, position)
            if token is None or token[0] == "#":
                break
            position = token.end()
            if token[0] in ('"""', "'''"):
                quote = token[0]
            elif token[0] in "[{":
                if token[0] == "{" and depth == 1:
                    items.append(number)
                    self._lines[(*value, len(items) - 1)] = number
                depth += 1
            elif token[0] in "]}":
                depth -= 1
        return quote, depth


def parse_path(path: str) -> Place:
    """The members of a path as `problem.join` writes it."""
    place: list[str | int] = []
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"|\[(\d+)\]|([^.\[\]"]+)', path):
        quoted, index, bare = match.groups()
        place.append(int(index) if index else bare if bare else re.sub(r"\\(.)", r"\1", quoted))
    return tuple(place)


def _keys(text: str) -> Place:
    names: list[str | int] = []
    position = 0
    while match := _PIECE.match(text, position):
        names.append(next((group for group in match.groups()[:3] if group is not None), ""))
        position = match.end()
        if not match[4]:
            break
    return tuple(names)


def _assignment(line: str) -> tuple[Place, str]:
    """The dotted key before `=` and what stands behind it; an empty key for blank lines and comments."""
    position = 0
    while match := _PIECE.match(line, position):
        position = match.end()
        if not match[4]:
            break
    if position and line[position : position + 1] == "=":
        return _keys(line), line[position + 1 :]
    return (), ""
