"""Charts: what matplotlib is given to draw."""

from __future__ import annotations

import pytest
import torch

from feature_alignment.report import charts


@pytest.fixture
def drawn(monkeypatch):
    """The figures, instead of their content."""
    monkeypatch.setattr(charts, "finish", lambda figure, path: figure)


def data_of(axes):
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def test_curves_have_a_plot_a_quantity(drawn):
    figure = charts.curves({"loss": ([1, 2], [3.0, 4.0]), "kl": ([5], [6.0])}, title="losses")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "kl"]
    assert [data_of(axes) for axes in figure.axes] == [[([1, 2], [3.0, 4.0])], [([5], [6.0])]]


def test_bars_have_values_and_whiskers(drawn):
    (axes,) = charts.bars({"a": (2.0, 0.5), "b": (3000.0, None), "long (words)": (1.0, 1.0)}, unit="metres").axes
    assert [bar.get_height() for bar in axes.patches] == [2.0, 3000.0, 1.0]
    whiskers = axes.containers[0].lines[2][0].get_segments() if axes.containers[0].lines else []
    assert [each[:, 1].tolist() for each in whiskers if len(each)] == [[1.5, 2.5], [0.0, 2.0]]
    assert [text.get_text() for text in axes.texts] == ["2", "3,000", "1"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "long (words)"]
    assert axes.get_ylabel() == "metres"
    (axes,) = charts.bars({"a long label of a bar": (2.0, None)}).axes
    assert "\n" in axes.get_xticklabels()[0].get_text()


def test_points_are_coloured_by_class(drawn):
    points, labels = torch.tensor([[0.0, 1], [2, 3], [4, 5]]), torch.tensor([1, 0, 1])
    (axes,) = charts.scatter(points, labels, ("x", "y")).axes
    assert [each.get_offsets().tolist() for each in axes.collections] == [[[2, 3]], [[0, 1], [4, 5]]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["x", "y"]
    (axes,) = charts.scatter(points, None, ()).axes
    assert axes.collections[0].get_offsets().tolist() == points.tolist()
    assert axes.get_legend() is None


def test_lines_of_a_quantity_share_colour_and_name(drawn):
    lines = [([1, 2], [0.1, 0.2]), ([1, 2], [0.3, 0.4])]
    (axes,) = charts.plots({"panel": {"a": lines, "b": lines[:1]}}, x_label="gain", x_scale="log").axes
    assert data_of(axes) == [*lines, lines[0]]
    assert [line.get_color() for line in axes.lines] == ["C0", "C0", "C1"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlabel()) == ("log", "log", "gain")
    style = {"b": {"color": "C3", "linestyle": "--"}}
    spread = ([1, 2], [0.3, 0.4], [0.1, float("nan")])
    (axes,) = charts.plots({"panel": {"a": lines[:1], "b": [spread]}}, styles=style).axes
    assert [(line.get_color(), line.get_linestyle()) for line in axes.lines[:1]] == [("C0", "-")]
    line, _, (whiskers,) = axes.containers[1].lines
    assert (line.get_color(), line.get_linestyle()) == ("C3", "--")
    assert whiskers.get_segments()[0].flatten().tolist() == pytest.approx([1, 0.2, 1, 0.4])
    (axes,) = charts.plots({"panel": {"a": lines}}, x_scale="log", x_ticks=[1, 1.7]).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "1.7"]
    (axes,) = charts.plots({"panel": {"a": [([0, 1], [16, 66])]}}).axes
    low, high = axes.get_ylim()
    assert [tick for tick in axes.get_yticks() if low <= tick <= high] == [20, 30, 50, 70]
    for high in (3e1, 3e3, 3e5, 2e7, 1e12):  # however many powers of ten, some are named
        (axes,) = charts.plots({"panel": {"a": [([0, 1], [1e-6, high])]}}).axes
        axes.figure.canvas.draw()
        low, top = axes.get_ylim()
        shown = [each for each in axes.get_yticks() if low <= each <= top]
        assert 3 <= len(shown) <= 12, high
        assert all(each.get_text() for each in axes.get_yticklabels())
    (axes,) = charts.plots({"panel": {"a": [([0, 1], [0.9, 1.6])]}}).axes
    low, high = axes.get_ylim()  # less than a decade: one power of ten would be the only tick
    assert len([tick for tick in axes.get_yticks() if low <= tick <= high]) > 3
