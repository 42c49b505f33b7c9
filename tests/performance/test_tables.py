"""Published tables: every one has a place on both pages, says what it means beside nginx, and draws itself."""

from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from bench.all import NAMES, fill
from bench.results import Machine
from bench.soak import SERIES_ZH, Soak
from bench.suite import SUITE
from bench.tables import LANGUAGES, Language, Line, Table

DOCS = Path(__file__).resolve().parents[2] / "docs"
MACHINE = Machine(
    processor="a processor",
    cores=2,
    kernel="Linux 6",
    python="3.11.7",
    versions={"tidegate": "1"},
    nginx="1.22",
    nginx_access_log=False,
    load_average=0.0,
)
each_language = pytest.mark.parametrize("language", LANGUAGES)


def table(*lines: Line, drawn: str = "", slug: str = "requests") -> Table:
    return Table(
        slug=slug,
        title="A title",
        zh="标题",
        began="2026-11-26T01:00+00:00",
        machine=MACHINE,
        versions={"nginx": "1.22"},
        repeats=3,
        quick=False,
        drawn=drawn,
        lines=list(lines),
    )


def work(ours: list[float], *, budget: str = "request", **others: list[float]) -> Line:
    values = {"nginx": [10.0, 10.0, 20.0], "Tidegate": ours, **others}
    return Line(name="chat", zh="聊天", unit="µs", budget=budget, values=values)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("text")]


@each_language
@pytest.mark.parametrize("slug", NAMES)
def test_every_table_has_a_place_on_the_page(slug: str, language: Language) -> None:
    page = (DOCS / language / "performance.md").read_text("utf-8")
    filled = fill(page, table(work([20.0] * 3), slug=slug), language)
    assert f"../performance/{slug}.{language}.svg" in filled
    # What was there before is replaced, and nothing else: filling it again changes nothing.
    assert fill(filled, table(work([20.0] * 3), slug=slug), language) == filled


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"docs/en/performance\.md has no place for the table requests"):
        fill("# Performance\n", table(work([20.0] * 3)), "en")


def test_a_ratio_is_that_of_neighbours_in_time() -> None:
    found = work([20.0, 30.0, 40.0]).ratio("Tidegate")
    assert found is not None
    assert (found.middle, found.low, found.high) == (2.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ([20.0, 20.0, 40.0], "aim reached"),
        ([25.0, 25.0, 50.0], "reached"),
        ([25.0, 25.0, 80.0], "reached, the spread spans the limit"),
        ([40.0, 40.0, 40.0], "missed, the spread spans the limit"),
        ([40.0, 40.0, 80.0], "missed"),
    ],
)
def test_a_verdict_compares_the_ratio_with_the_budget(ours: list[float], said: str) -> None:
    assert work(ours).verdict() == said


def test_a_budget_in_its_own_unit_needs_no_nginx() -> None:
    line = Line(name="start", zh="启动", unit="s", compared=False, budget="start", values={"Tidegate": [0.6, 0.7, 0.8]})
    assert line.verdict() == "reached"
    assert "1 s" in table(line).markdown("en", "p.svg")


@each_language
def test_a_table_shows_every_server_and_why_one_has_no_figure(language: Language) -> None:
    line = work([20.0, 30.0, 40.0], LiteLLM=[100.0, 100.0, 200.0])
    line.notes["Portkey"] = "500 of 1,000 streams did not start"
    shown = table(line).markdown(language, "p.svg")
    head, _, row = shown.splitlines()[:3]
    assert [cell.strip() for cell in head.split("|")][3:10] == [
        "nginx", "Tidegate", "× nginx", "LiteLLM", "× nginx", "Portkey", "× nginx",
    ]  # fmt: skip
    assert "10.00 [10.00-10.00]" not in row
    assert "500 of 1,000 streams did not start" in row
    assert "| 30.0 [20.0-40.0] | 2.00 [2.00-3.00] |" in row


def test_figures_of_a_busy_machine_say_so() -> None:
    one = table(work([20.0] * 3))
    one.busy = [0.5, 0.3]
    assert "**The machine was busy: these figures prove nothing.**" in one.markdown("en", "p.svg")
    assert "**机器繁忙，这些数字不足为凭。**" in one.markdown("zh", "p.svg")
    one.busy = [0.01, 0.02]
    assert "busy" not in one.markdown("en", "p.svg")
    one.busy, one.machine = [], msgspec.structs.replace(MACHINE, load_average=5.0)
    assert "**The machine was busy: these figures prove nothing.**" in one.markdown("en", "p.svg")


def test_the_csv_has_one_line_per_figure() -> None:
    lines = table(work([20.0, 30.0, 40.0])).csv().splitlines()
    assert lines[0] == "table,work,unit,server,repeat,value"
    assert lines[-1] == "requests,chat,µs,Tidegate,2,40"
    assert len(lines) == 7


@each_language
@pytest.mark.parametrize("factor", [1.0, 1000.0], ids=["near", "far apart"])
def test_a_plot_has_a_bar_for_every_ratio(language: Language, factor: float) -> None:
    line = work([20.0, 20.0, 40.0], LiteLLM=[50.0 * factor] * 3)
    svg = table(line).svg(language)
    shown = texts(svg)
    assert ("聊天" if language == "zh" else "chat") in shown
    assert "2×" in shown
    assert f"{5 * factor:,.0f}×" in shown
    widths = [float(bar.attrib["width"]) for bar in ET.fromstring(svg).iter() if bar.tag.endswith("rect")][-2:]
    assert widths[0] < widths[1] < 600


def test_a_plot_survives_figures_below_zero() -> None:
    line = Line(name="gap & more", zh="间隔", unit="ms", values={"nginx": [-0.2], "Tidegate": [0.0]}, compared=False)
    assert {"gap & more", "-0.2", "0"} <= set(texts(table(line, drawn="ms").svg("en")))


@pytest.mark.parametrize(("last", "flat"), [(101.0, True), (120.0, False)])
def test_a_soak_that_grows_is_told(last: float, flat: bool) -> None:
    rounds = 40
    series = {name: [100.0] * rounds for name in SERIES_ZH}
    series["memory, MB"] = [50.0] * 5 + [100.0] * 20 + [last] * 15
    found = Soak(minutes=[float(number) for number in range(rounds)], series=series)
    assert found.is_flat is flat
    [(english, chinese)] = found.remarks()
    assert ("**grows**" in english, "**增长**" in chinese) == (not flat, not flat)


@each_language
def test_a_soak_is_drawn_as_curves(language: Language) -> None:
    one = table()
    one.minutes, one.series, one.series_zh = [1.0, 2.0], {name: [3.0, 4.0] for name in SERIES_ZH}, SERIES_ZH
    assert set(SERIES_ZH.values() if language == "zh" else SERIES_ZH) <= set(texts(one.svg(language)))


def test_tables_have_names_of_their_own() -> None:
    assert len({kind.slug for kind in SUITE}) == len(SUITE)
