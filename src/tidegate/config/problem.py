"""What is wrong with a configuration: all of it at once, each with its place and the nearest right name."""

from collections.abc import Sequence

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One fault. `message` never quotes a secret."""

    path: str
    """Where in the document, such as `providers.lab.timeouts.idel`; empty for the document as a whole."""
    message: str
    nearest: str = ""
    """The known name that was probably meant."""
    line: int | None = None
    """Line of the file, counted from 1, where it can be found."""
    origin: str = ""
    """Where the value came from when it was not the file: an environment variable or the command line."""

    def render(self, source: str) -> str:
        """One line: place, path, message, hint."""
        place = self.origin or (f"{source}:{self.line}" if self.line else source)
        place = f"{place}: " if place else ""
        path = f"{self.path}: " if self.path else ""
        hint = f"; did you mean `{self.nearest}`?" if self.nearest else ""
        return f"{place}{path}{self.message}{hint}"


class ConfigInvalid(Exception):
    """The configuration cannot be used. Carries every problem that was found."""

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__(self.render())

    def render(self) -> str:
        """The whole list, one problem per line, for a terminal or a log."""
        count = len(self.problems)
        in_source = any(not problem.origin for problem in self.problems)
        head = f"{(in_source and self.source) or 'the configuration'} has {count} problem{'' if count == 1 else 's'}:"
        return "\n".join([head, *(f"  {problem.render(self.source)}" for problem in self.problems)])


def join(path: str, key: str) -> str:
    """The path of a member, quoted the way TOML would need it."""
    bare = key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key)
    shown = key if bare else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{path}.{shown}" if path else shown
