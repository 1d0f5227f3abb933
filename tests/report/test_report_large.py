"""A run of any size has a report that can be opened: figures go on over pages or draw groups, tables are cut."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest

from emoray.report import chosen, figures, write_report
from emoray.report.names import shortened
from emoray.report.shown import PANELS, more, panels_each, shown
from tests.report.synthetic import run

MOST_PIXELS = 7_500  # either way: what a picture may have and still be opened anywhere
MOST_BYTES = 6_000_000  # of a page


def report(skills: dict[str, float], **size: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    large = run(skills, refusals=0.0, failures=0.0, **size)  # type: ignore[arg-type]
    write_report(large, files.__setitem__, chosen(large.manifest() or {}, shuffles=20))
    return files


def pixels(picture: bytes) -> tuple[int, int]:
    return int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")


def lines(files: dict[str, bytes], table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(files[f"tables/{table}.csv"].decode().splitlines()))


def names(count: int) -> dict[str, float]:
    return {f"{'org/' * (place % 3) * 12}model-{place:02d}": 0.9 - place / 40 for place in range(count)}


def check_sizes(files: dict[str, bytes]) -> None:
    drawn = [data for name, data in files.items() if name.endswith(".png")]
    assert max(side for picture in drawn for side in pixels(picture)) <= MOST_PIXELS
    assert len(files["report.html"]) <= MOST_BYTES


def test_of_a_thousand_questions_the_figures_draw_groups_and_the_tables_have_all() -> None:
    files = report({"a": 0.8}, states=2, questions=1000, repetitions=1)
    page, summary = files["report.html"].decode(), json.loads(files["summary.json"])
    check_sizes(files)
    assert "1,000 questions are drawn as the means of 40 groups of 25, those that score highest" in page
    assert "900 more questions in tables/questions.csv." in page
    assert "900 more questions in summary.json." in page
    assert b"1,000 questions are drawn" not in files["figures/circumplex.svg"]
    assert len(lines(files, "questions")) == len(summary["design"]["questions"]) == 1000
    assert np.shape(summary["models"][0]["scores"]["state_by_question"]) == (2, 1000)


def test_more_states_than_can_be_told_apart_are_drawn_in_groups_and_named_every_so_often() -> None:
    files = report({"a": 0.8}, states=120, questions=2, repetitions=1)
    page = files["report.html"].decode()
    check_sizes(files)
    assert "120 states are drawn as the means of 36 groups of neighbours." in page
    assert "Every 4th of 120 is named beside the list of states." in page
    assert "20 more states in tables/states.csv." in page
    assert "216 more in summary.json." in page  # answers, two of each state
    assert len(lines(files, "states")) == 120


def test_many_models_with_long_names_go_on_over_pages_and_the_page_says_where_the_rest_is() -> None:
    models = names(16)
    files = report(models, states=2, questions=2, repetitions=1)
    page = files["report.html"].decode()
    check_sizes(files)
    for name in ("circumplex", "states", "states_by_question"):
        pages = [file for file in files if file.startswith(f"figures/{name}") and file.endswith(".png")]
        assert {f"figures/{name}.png", f"figures/{name}-page-2.png"} == {
            file for file in pages if not file.startswith("figures/states_") or name == "states_by_question"
        }
    assert page.count('aria-label="Circumplex of ') == 12
    assert "Drawn here: the first 12 of 16 models; the numbers of all are in tables/." in page
    assert "20 more pairs in tables/differences.csv." in page
    assert {line["model"] for line in lines(files, "models")} == set(models)
    assert len(lines(files, "differences")) == 120
    assert all(name in page for name in models)


def test_a_run_of_usual_size_is_shown_whole_and_says_nothing_of_it() -> None:
    files = report(names(3), states=12, questions=10, repetitions=1)
    page = files["report.html"].decode()
    assert not [words for words in ("Drawn here", " more in ", " more questions", "are drawn as") if words in page]
    assert not [name for name in files if "-page-" in name]


# ---- the arithmetic of it


@pytest.mark.parametrize(("count", "most"), [(0, 5), (1, 5), (5, 5), (6, 5), (9, 5), (10, 5), (360, 36), (10_000, 40)])
def test_groups_of_neighbours_are_even_and_leave_nothing_out(count: int, most: int) -> None:
    groups = figures.neighbours(count, most)
    assert [place for some in groups for place in range(count)[some]] == list(range(count))
    sizes = {some.stop - some.start for some in groups}
    assert len(groups) == min(count, most)
    assert not sizes or max(sizes) - min(sizes) <= 1


def grid(order: Sequence[int], rows: Sequence[int], columns: Sequence[int]) -> figures.Grid:
    return figures.Grid((), (), "", np.array(order), np.array(rows), np.array(columns))


def test_a_group_of_squares_is_the_mean_of_those_that_are_known() -> None:
    unknown = math.nan
    cells = np.array([[0.0, 1.0, 0.5, unknown], [0.2, unknown, 0.7, unknown], [-1.0, 0.4, unknown, unknown]])
    found = grid([2, 0, 1, 3], [0, 2], [0, 2, 3]).means(cells)
    assert found == pytest.approx(np.array([[0.35, 1.0, unknown], [-1.0, 0.4, unknown]]), nan_ok=True)
    assert grid(range(4), range(3), range(4)).means(cells) == pytest.approx(cells, nan_ok=True, abs=0)


def test_a_name_that_is_cut_keeps_its_beginning_and_its_end() -> None:
    assert shortened("gpt-4o") == "gpt-4o"
    cut = shortened(f"org/{'x' * 90}-instruct-v2", 24)
    assert len(cut) == 24
    assert cut.startswith("org/")
    assert cut.endswith("instruct-v2")


def test_what_is_left_out_is_said_and_where_it_is() -> None:
    assert shown(range(7), "tables/x.csv", most=5).more == "2 more in tables/x.csv."
    assert shown(range(5), "tables/x.csv", most=5).more == ""
    assert (
        more([("questions", 9_900), ("models", 0), ("readers", 2)], "x")
        == "9,900 more questions and 2 more readers in x."
    )
    assert more([("models", 1), ("families of pairs", 1)], "x") == "1 more model and 1 more family of pairs in x."


@pytest.mark.parametrize("readers", [1, 2, 3, 5, 12, 100])
def test_however_many_readers_there_are_the_page_has_panels_and_not_too_many(readers: int) -> None:
    assert 1 <= panels_each(readers) <= 12
    assert panels_each(readers) * min(readers, 12) <= PANELS
