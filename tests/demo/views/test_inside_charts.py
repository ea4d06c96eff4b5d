"""What the charts of the panel are told to draw."""

from __future__ import annotations

from typing import Any

import pytest

from demo.core.inside import StageTime
from demo.core.model_size import ModelSize, designs
from demo.core.passage_map import PassageMap, Point
from demo.views.inside_charts import FOUND, OTHER, QUESTION, QUOTED, designs_chart, map_chart, times_chart


def rows(chart: Any) -> list[dict[str, Any]]:
    (data,) = chart.to_dict()["datasets"].values()
    return data


@pytest.fixture
def drawn() -> PassageMap:
    """Nine documents, of which eight were found; the first has an answer."""
    points = [
        Point(
            str(n), f"Document {n}", f"{n}.md", f"text {n} " * 40, n, -n, rank=n + 1 if n < 8 else None, quoted=n == 0
        )
        for n in range(9)
    ]
    return PassageMap(tuple(points), 0.5, 0.5)


def test_times_with_their_numbers():
    times = [StageTime("embed", 12.34, 0.995), StageTime("fuse", 0.06, 0.005)]
    assert [row["label"] for row in rows(times_chart(times))] == ["12.3 ms, 100%", "0.1 ms, under 1%"]


def test_designs_with_their_numbers():
    compared = designs([ModelSize("x", 22_600_000, 1155)], "torch-float32")
    assert rows(designs_chart(compared))[0]["label"] == "22.6 million, 90 MB"


@pytest.mark.parametrize("by_document", [False, True])
def test_every_point_once_with_its_part_and_the_question_on_top(drawn, by_document):
    table = rows(map_chart(drawn, by_document=by_document))
    assert len(table) == 10
    assert (table[-1]["role"], table[-1]["x"], table[-1]["id"]) == (QUESTION, 0.5, "")
    assert {row["id"]: row["role"] for row in table[:-1]} == {
        "0": QUOTED,
        **{str(n): FOUND for n in range(1, 8)},
        "8": OTHER,
    }
    assert all(len(row["text"]) < 130 for row in table)


def test_only_some_documents_have_a_colour_of_their_own(drawn):
    spec = map_chart(drawn, by_document=True).to_dict()
    named = [row["document"] for row in rows(map_chart(drawn, by_document=True))]
    assert len(set(named)) == 7
    assert named.count("other documents") == 4
    colours = str(spec["encoding"]["fill"])
    assert all(title in colours for title in set(named))


def test_clicks_select_by_passage(drawn):
    (chosen,) = map_chart(drawn, by_document=False).to_dict()["params"]
    assert (chosen["name"], chosen["select"]["fields"]) == ("chosen", ["id"])
