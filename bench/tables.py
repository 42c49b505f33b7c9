"""A table of the published figures: its lines, what they mean beside nginx, and its forms as Markdown, CSV and SVG."""

import csv
import io
from typing import Literal

import msgspec

from bench.plot import Bar, Group, bars, curves
from bench.results import Machine, Spread, spread
from bench.works import BUDGETS

__all__ = ["BASE", "LANGUAGES", "OURS", "Language", "Line", "Table"]

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

BASE = "nginx"
OURS = "Tidegate"
_FIRST = (BASE, OURS)
_BUSY = 0.1
_LOAD = 3.0
"""The load and the server under test keep two cores busy themselves."""

_UNITS = {"µs": "µs", "ms": "ms", "s": "秒", "MB": "MB", "KB": "KB", "requests/s": "请求/秒", "": ""}
_DIGITS = {"ms": 2, "s": 2, "requests/s": 0}
_HEADS = {
    "en": ("work", "unit", "must", "verdict"),
    "zh": ("工作", "单位", "上限", "结论"),
}
_VERDICTS = {
    "aim reached": "达到目标",
    "reached": "达到",
    "reached, the spread spans the limit": "达到（波动跨过上限）",
    "missed, the spread spans the limit": "未达到（波动跨过上限）",
    "missed": "未达到",
}


class Line(msgspec.Struct, kw_only=True):
    """One kind of work: a figure per repeat for each server, in the order of the repeats."""

    name: str
    zh: str
    unit: str
    values: dict[str, list[float]] = {}
    compared: bool = True
    """Whether the ratio to nginx means something."""
    budget: str = ""
    notes: dict[str, str] = {}
    """Why a server has no figure."""

    def title(self, language: Language) -> str:
        return self.zh if language == "zh" else self.name

    def spread(self, server: str) -> Spread | None:
        return spread(self.values.get(server, []))

    def ratio(self, server: str) -> Spread | None:
        """The ratios of windows that follow each other."""
        if not self.compared:
            return None
        pairs = zip(self.values.get(server, []), self.values.get(BASE, []), strict=False)
        return spread([one / base for one, base in pairs if base > 0])

    def verdict(self) -> str:
        """Whether ours keeps its budget, the lines beside it being what they are; empty without one."""
        if not self.budget:
            return ""
        budget = BUDGETS[self.budget]
        found = self.spread(OURS) if budget.unit else self.ratio(OURS)
        if found is None:
            return ""
        if found.middle > budget.must:
            return "missed, the spread spans the limit" if found.low <= budget.must else "missed"
        if found.high > budget.must:
            return "reached, the spread spans the limit"
        return "aim reached" if budget.aim is not None and found.middle <= budget.aim else "reached"

    def limit(self) -> str:
        if not self.budget:
            return ""
        budget = BUDGETS[self.budget]
        return f"{budget.must:g} {budget.unit or '×'}"


class Table(msgspec.Struct, kw_only=True):
    """One table of one run."""

    slug: str
    title: str
    zh: str
    began: str
    machine: Machine
    versions: dict[str, str]
    """Of the servers beside ours."""
    repeats: int
    quick: bool
    lines: list[Line] = []
    drawn: str = ""
    """The unit whose lines are drawn; empty for the ratios to nginx."""
    minutes: list[float] = []
    series: dict[str, list[float]] = {}
    """Curves over `minutes`, by their names."""
    series_zh: dict[str, str] = {}
    remarks: list[tuple[str, str]] = []
    failed: bool = False
    """Whether what was to stay flat did not."""
    busy: list[float] = []
    """Shares of the tested core that others used, one per window."""

    def servers(self) -> list[str]:
        """In the order of the columns; the bare upstream is none of them."""
        found = {server for line in self.lines for server in (*line.values, *line.notes)} - {"direct"}
        return [*(one for one in _FIRST if one in found), *sorted(found - {*_FIRST})]

    # -- forms --------------------------------------------------------------------------------------------------------

    def markdown(self, language: Language, picture: str) -> str:
        """What stands between the markers of a page; `picture` is the address of the plot."""
        work, unit, must, verdict = _HEADS[language]
        servers = self.servers()
        judged = any(line.budget for line in self.lines)
        compared = BASE in servers and any(line.compared for line in self.lines)
        head = [work, unit]
        for server in servers:
            head.append(server)
            if server != BASE and compared:
                head.append("× nginx")
        rows = [[*head, *([must, verdict] if judged else [])]]
        rows.append(["---"] * 2 + ["---:"] * (len(head) - 2) + ["---:", "---"] * judged)
        for line in self.lines:
            row = [line.title(language), _UNITS[line.unit] if language == "zh" else line.unit]
            digits = _DIGITS.get(line.unit, 1)
            for server in servers:
                found = line.spread(server)
                row.append(found.show(digits) if found else line.notes.get(server, "–"))
                if server != BASE and compared:
                    ratio = line.ratio(server)
                    row.append(_short(ratio) if ratio else "–")
            if judged:
                said = line.verdict()
                row += [line.limit() or "–", (_VERDICTS.get(said, said) if language == "zh" else said) or "–"]
            rows.append(row)
        parts = []
        if self.lines:
            parts.append("\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows))
        parts.append(f"![{self.zh if language == 'zh' else self.title}]({picture})")
        parts += [zh if language == "zh" else en for en, zh in self.remarks]
        parts.append(self._circumstances(language))
        return "\n\n".join(parts)

    def _circumstances(self, language: Language) -> str:
        machine = self.machine
        versions = ", ".join(f"{name} {version}" for name, version in {**self.versions, **machine.versions}.items())
        where = f"{machine.processor}, {machine.cores}"
        share = sum(self.busy) / len(self.busy) if self.busy else 0.0
        # Where no window counts what others use, what waited for a core before the table began tells of them.
        is_busy = share > _BUSY if self.busy else machine.load_average > _LOAD
        if language == "zh":
            text = f"测量于 {self.began}：{where} 核，{machine.kernel}，Python {machine.python}，{versions}；重复 {self.repeats} 次。"
            text += f"被测核心上其他进程平均占 {share:.0%}。" if self.busy else ""
            text += " **机器繁忙，这些数字不足为凭。**" if is_busy else ""
            return text + (" **短窗口试跑。**" if self.quick else "")
        text = f"Measured {self.began} on {where} cores, {machine.kernel}, Python {machine.python}, {versions}; {self.repeats} repeats."
        text += f" Others used {share:.0%} of the tested core." if self.busy else ""
        text += " **The machine was busy: these figures prove nothing.**" if is_busy else ""
        return text + (" **A trial with short windows.**" if self.quick else "")

    def csv(self) -> str:
        """One line per figure."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["table", "work", "unit", "server", "repeat", "value"])
        for line in self.lines:
            for server, values in line.values.items():
                for number, value in enumerate(values):
                    writer.writerow([self.slug, line.name, line.unit, server, number, f"{value:.6g}"])
        for name, values in self.series.items():
            for minute, value in zip(self.minutes, values, strict=True):
                writer.writerow([self.slug, name, "", OURS, f"{minute:.3f}", f"{value:.6g}"])
        return file.getvalue()

    def svg(self, language: Language) -> str:
        """The plot: curves where there are any, bars of ratios, or of what is measured in one unit."""
        zh = language == "zh"
        title = self.zh if zh else self.title
        if self.series:
            named = {self.series_zh[name] if zh else name: values for name, values in self.series.items()}
            return curves(title, self.began, self.minutes, named, axis="分钟" if zh else "minutes")
        groups = []
        for line in self.lines:
            if (self.drawn and line.unit != self.drawn) or (not self.drawn and not line.compared):
                continue
            found = []
            for server in self.servers():
                seen = line.spread(server) if self.drawn else line.ratio(server) if server != BASE else None
                if seen is not None:
                    found.append(Bar(server, seen.middle, seen.low, seen.high))
            if found:
                limited = bool(line.budget) and bool(BUDGETS[line.budget].unit) == bool(self.drawn)
                groups.append(Group(line.title(language), found, BUDGETS[line.budget].must if limited else None))
        if self.drawn:
            unit = _UNITS[self.drawn] if zh else self.drawn
            subtitle = f"中位数（{unit}），细线为最小到最大" if zh else f"Median in {unit}; whiskers from least to most"
            return bars(title, subtitle, groups)
        subtitle = (
            "相对 nginx 的倍数（虚线为 1），细线为最小到最大，红线为上限"
            if zh
            else "Multiples of nginx (dotted: 1); whiskers from least to most, red: what the budget allows"
        )
        return bars(title, subtitle, groups, unit="×", mark=1.0)


def _short(ratio: Spread) -> str:
    digits = 2 if ratio.middle < 10 else 1 if ratio.middle < 100 else 0
    return ratio.show(digits)
