"""What a run has found, for people."""

from tests.chaos.run import Result

__all__ = ["report"]

SHOWN = 40


def report(result: Result) -> str:
    """A page of text."""
    settings, figures = result.settings, result.figures
    ledger = figures.get("ledger", {})
    equal = figures.get("equal", {})
    memory = figures.get("memory", {"before": 0, "after": 0})
    rows = [
        (
            "steps",
            f"{result.steps} in {result.seconds:.1f} s, seed {settings.seed}, {settings.engine}, {settings.kills} kills",
        ),
        ("requests", f"{ledger.get('requests')} of clients, {result.seen} at providers"),
        (
            "ledger",
            f"{ledger.get('entries')} entries, {ledger.get('estimated')} estimated, {ledger.get('cost', 0):.6f} $",
        ),
        ("endings", _counts(ledger.get("endings", {}))),
        ("equal to the token", f"{equal.get('requests', 0)} requests, {equal.get('tokens', 0)} tokens"),
        ("memory", f"{memory['before'] >> 20} MiB before, {memory['after'] >> 20} MiB after"),
        ("left", str(figures.get("left"))),
        ("more objects", _grown(figures.get("types", {}))),
        ("stopped in", f"{figures.get('stopped in', 0):.2f} s"),
        ("log", _counts(figures.get("log", {}))),
    ]
    lines = [f"{name:>20}  {what}" for name, what in rows]
    for title, prefix in (("rows", "row "), ("scenes", "scene "), ("clients saw", "ending "), ("APIs", "api ")):
        found = {name.removeprefix(prefix): count for name, count in result.reached.items() if name.startswith(prefix)}
        lines.append(f"{title:>20}  {_counts(found)}")
    if result.unseen:
        lines.append(f"\nnever reached: {', '.join(result.unseen)}")
    if result.problems:
        lines.append(f"\n{len(result.problems)} problems:")
        lines += [f"- {problem}" for problem in result.problems[:SHOWN]]
        if len(result.problems) > SHOWN:
            lines.append(f"… and {len(result.problems) - SHOWN} more")
    lines.append("\npassed" if result.passed else f"\nFAILED; the same plan again: --seed {settings.seed}")
    return "\n".join(lines)


def _grown(types: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{name} {before} → {after}" for name, (before, after) in types.items()) or "none"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
