"""The page in a real Chromium: what it shows at every width, and what its browser of answers does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from emoray.report import Settings
from emoray.report.page import page
from emoray.report.summary import summarize
from tests.browser import CHROMIUM, Browser, browser
from tests.report.synthetic import RUSSELL, Run, run

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)")
_HOSTILE = (
    "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\"> & <!-- ",
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd \U0001f642\u200d\U0001f525 \u2028 \ufeff",
    "\x00\x07\x1b[2J\x7f between controls",
    "long " * 4_000,
)


_VISIBLE = {"\x00": "␀", "\x07": "␇", "\x1b": "␛", "\x7f": "␡"}


@pytest.fixture(scope="module")
def source() -> Run:
    found = run({"steady": 0.8, "a-model-of-a-very-long-name-" * 4: 0.2}, readers=("one", "two"), states=4, questions=3)
    table = found.said["steady"]
    place = table.schema.get_field_index("answer")
    texts = [*_HOSTILE, *table["answer"].to_pylist()[len(_HOSTILE) :]]
    outcomes = pa.array(["answer"] * len(table), pa.string())
    told = table.set_column(place, "answer", pa.array([text or "said" for text in texts], pa.string()))
    told = told.set_column(table.schema.get_field_index("outcome"), "outcome", outcomes)
    return Run(found.said | {"steady": told}, found.felt)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, source: Run) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(summarize(source, Settings(RUSSELL, "zero", shuffles=20))), encoding="utf-8")
    return path


@pytest.fixture
def shown(tab: Browser, written: Path) -> Browser:
    tab.requests.clear()
    tab.console.clear()
    tab.looks(width=1440)
    tab.open(written)
    return tab


def _chosen(name: str, value: str, event: str = "change") -> str:
    return (
        f"(e => {{ e.value = {value!r}; e.dispatchEvent(new Event({event!r})) }})(document.getElementById('b-{name}'))"
    )


def _count(shown: Browser) -> int:
    return int(shown.ask("document.getElementById('b-count').textContent").split(" ")[0].replace(",", ""))


def _one(shown: Browser) -> str:
    return str(shown.ask("document.getElementById('b-one').innerText"))


def test_it_asks_for_nothing_but_itself_and_the_console_stays_empty(shown: Browser, written: Path) -> None:
    shown.ask(_chosen("sort", "2"))
    assert shown.requests == [written.as_uri()]
    assert shown.console == []


@pytest.mark.parametrize("width", [1440, 800, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_no_width_makes_the_page_wider_than_the_screen(shown: Browser, width: int, dark: bool) -> None:
    shown.looks(width=width, dark=dark)
    assert shown.ask("document.documentElement.scrollWidth <= innerWidth")
    cut = "[...document.querySelectorAll('h1, h2, p, figcaption, .forest *')].filter(e => e.offsetParent &&"
    assert (
        shown.ask(f"{cut} e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 90))") == []
    )


def test_a_phone_shows_the_models_without_scrolling(shown: Browser) -> None:
    shown.looks(width=390, height=844)
    number = "document.querySelector('.by-0 .forest tbody .n')"
    assert shown.ask(f"{number}.getBoundingClientRect().bottom < innerHeight")


def test_one_reader_is_shown_at_a_time_and_needs_no_script(shown: Browser) -> None:
    def seen(place: int) -> int:
        return int(shown.ask(f"[...document.querySelectorAll('.by-{place}')].filter(e => e.offsetParent).length"))

    assert seen(0) > 3
    assert seen(1) == 0
    shown.tell("Emulation.setScriptExecutionDisabled", value=True)
    try:
        shown.ask("document.getElementById('reader-1').focus()")
        shown.ask("document.getElementById('reader-1').click()")
        assert (seen(0), seen(1) > 3) == (0, True)
    finally:
        shown.tell("Emulation.setScriptExecutionDisabled", value=False)


def test_paper_shows_every_reader_and_what_is_folded(shown: Browser) -> None:
    shown.tell("Emulation.setEmulatedMedia", media="print")
    try:
        hidden = "[...document.querySelectorAll('main table, .by')].filter(e => e.getBoundingClientRect().height === 0)"
        assert shown.ask(f"{hidden}.length") == 0
        assert shown.ask("document.getElementById('browser').offsetParent") is None
    finally:
        shown.tell("Emulation.setEmulatedMedia", media="")


def test_filters_leave_those_answers_that_are_so(shown: Browser) -> None:
    every = _count(shown)
    assert every > 50
    shown.ask(_chosen("state", "1"))
    one_state = _count(shown)
    assert 0 < one_state < every
    assert shown.ask("[...document.querySelectorAll('#b-list .head')].every(e => e.textContent.startsWith('90'))")
    shown.ask(_chosen("from", "0.5", "input"))
    assert 0 < _count(shown) <= one_state
    scores = "[...document.querySelectorAll('#b-list .score')].map(e => Number(e.textContent.split(' ').pop()))"
    assert min(shown.ask(scores)) >= 0.5
    shown.ask("document.getElementById('b-clear').click()")
    assert _count(shown) == every
    shown.ask(_chosen("search", "between CONTROLS", "input"))
    assert _count(shown) == 1


def test_the_tab_of_a_reader_turns_its_rows_and_its_readings_and_a_label_stays_the_label_that_it_was(
    shown: Browser,
) -> None:
    shown.ask(_chosen("label", "2"))
    name = "document.getElementById('b-label').selectedOptions[0].textContent"
    chosen = shown.ask(name)
    shown.ask("document.getElementById('reader-1').click()")
    assert shown.ask("document.getElementById('b-reader').value") == "1"
    assert shown.ask(name) == chosen
    scores = "[...document.querySelectorAll('#b-list .score')].map(e => e.textContent)"
    assert all(score.startswith(chosen) for score in shown.ask(scores))
    names = "[...document.querySelectorAll('#spread tbody th')].filter(e => e.offsetParent).map(e => e.textContent)"
    assert all(name.endswith("read by two") for name in shown.ask(names))


def test_sorted_by_cosine_they_rise(shown: Browser) -> None:
    shown.ask(_chosen("sort", "1"))
    scores = "[...document.querySelectorAll('#b-list .score')].map(e => e.textContent.split(' ').pop())"
    found = [float(score.replace("\u2212", "-")) for score in shown.ask(scores) if score != "\u2013"]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_keys_go_from_answer_to_answer_and_to_the_search(shown: Browser) -> None:
    shown.ask("document.getElementById('b-list').focus()")
    first = _one(shown)
    shown.press("ArrowDown")
    assert _one(shown) != first
    selected = "document.querySelector('#b-list [aria-selected=true]').id"
    assert (
        shown.ask(selected)
        == "b-line-1"
        == shown.ask("document.getElementById('b-list').getAttribute('aria-activedescendant')")
    )
    shown.press("ArrowUp")
    assert _one(shown) == first
    shown.press("End")
    assert shown.ask(selected) == f"b-line-{_count(shown) - 1}"
    shown.press("/")
    assert shown.ask("document.activeElement.id") == "b-search"
    shown.ask(_chosen("search", "nothing says this", "input"))
    assert _count(shown) == 0
    shown.press("Escape")
    assert _count(shown) > 0


def test_whatever_a_model_wrote_is_text(shown: Browser) -> None:
    for text, said in zip(_HOSTILE, ("onerror", "right to left", "between controls", "long long"), strict=True):
        shown.ask(_chosen("search", said, "input"))
        assert _count(shown) == 1
        there = shown.ask("document.querySelector('#b-one blockquote').textContent")
        assert there == "".join(_VISIBLE.get(character, character) for character in text)
    assert shown.ask("document.title") != "owned"
    assert shown.ask("document.querySelectorAll('#browser img, #browser script').length") == 0
    assert shown.ask("document.documentElement.scrollWidth <= innerWidth")
    assert shown.console == []


def test_an_answer_shows_its_probabilities_on_the_circle(shown: Browser) -> None:
    assert shown.ask("document.querySelectorAll('#b-one svg .top').length") <= 1
    shares = shown.ask(
        "[...document.querySelectorAll('#b-one .shares li')].map(e => parseFloat(e.children[1].textContent))"
    )
    assert len(shares) == 6
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 100.5
