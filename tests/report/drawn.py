"""Helpers that read a drawn figure: its texts, the numbers in them, and whether anything overlaps."""

import itertools
import re

from ganmrf.report.drawing import WIDTH

_HALF_PIXEL = 0.5  # edges of neighbours may be rounded to the same pixel


def images(figure):
    return [axes.images[0] for axes in figure.axes if axes.images]


def titles(figure):
    """Titles of the panels with an image."""
    return [axes.get_title() for axes in figure.axes if axes.images]


def labels(figure):
    return [text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel()) if text]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def numbers(text):
    """All numbers that stand alone in a text, in order; not those of names such as T1."""
    return [float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]*\d)", text)]


def assert_laid_out(figure):
    """Nothing leaves the figure, and no panel, title, legend, tick label or note lies on another one."""
    figure.draw_without_rendering()
    everything = figure.get_tightbbox()  # inches
    assert 0 <= everything.x0 < everything.x1 <= figure.get_figwidth() == WIDTH
    assert 0 <= everything.y0 < everything.y1 <= figure.get_figheight()
    visible = [axes for axes in figure.axes if axes.get_visible()]
    boxes = [axes.get_window_extent() for axes in visible]
    boxes += [axes.title.get_window_extent() for axes in visible if axes.get_title()]
    boxes += [one.get_window_extent() for one in figure.legends]
    assert_disjoint(boxes)
    for axes in visible:
        assert_disjoint([label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()])
        assert_disjoint([label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()])
        assert_disjoint([note.get_window_extent() for note in axes.texts])


def assert_disjoint(boxes):
    for one, other in itertools.combinations(boxes, 2):
        width = min(one.x1, other.x1) - max(one.x0, other.x0)
        height = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(width, height) < _HALF_PIXEL
