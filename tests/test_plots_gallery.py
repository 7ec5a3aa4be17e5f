"""The gallery shows every plot, its lines run, and in its pictures nothing overlaps."""

import importlib.util
import itertools
import re
from pathlib import Path

import matplotlib
import pytest
from matplotlib import pyplot as plt
from test_plots_maps import FakeSweep

import gradcourse as gc

matplotlib.use("agg")
GALLERY = Path(__file__).resolve().parents[1] / "docs" / "gallery"
PAGE = (GALLERY / "README.md").read_text(encoding="utf-8")


def load():
    specification = importlib.util.spec_from_file_location("gallery", GALLERY / "build.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


GALLERY_MODULE = load()
PICTURES = GALLERY_MODULE.PICTURES


@pytest.fixture(scope="module", params=PICTURES)
def drawn(request):
    """The Axes, one or several, of a picture of the gallery."""
    with pytest.MonkeyPatch.context() as patch:
        if not callable(getattr(gc, "sweep", None)):
            patch.setattr(gc, "sweep", FakeSweep, raising=False)
        axes = GALLERY_MODULE.run(PICTURES[request.param][1])
    yield axes
    plt.close("all")


def figure_of(axes):
    return getattr(axes, "figure", None) or axes[0].figure


def test_page_shows_every_public_plot():
    plots = {name for name in gc.plots.__all__ if name.startswith("plot_")} | {"compare"}
    assert set(PICTURES) == plots == {name for name in gc.__all__ if name.startswith("plot_")} | {"compare"}
    assert re.findall(r"^## (\w+)$", PAGE, flags=re.MULTILINE) == list(PICTURES)
    assert sorted(path.stem for path in GALLERY.glob("*.png")) == sorted(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_page_holds_the_three_lines_and_the_picture_with_its_alt_text(name):
    caption, code = PICTURES[name]
    assert f"{caption}\n\n```python\n{code.strip()}\n```\n" in PAGE
    assert len(code.strip().splitlines()) == 3
    assert re.search(rf"!\[[^\]]{{60,}}\]\({name}\.png\)", PAGE)
    assert (GALLERY / f"{name}.png").stat().st_size < 60_000


def test_picture_says_numbers(drawn):
    assert len(re.findall(r"\d", gc.describe(drawn))) > 3


def boxes(figure):
    """Each text and legend outside of the data, with its box in pixels."""
    figure.draw_without_rendering()
    texts = []
    for ax in figure.axes:
        texts += [ax.title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [t.label1 for t in axis.get_major_ticks() if t.label1.get_visible() and low <= t.get_loc() <= high]
    texts += [text for text in (figure._suptitle,) if text is not None]
    named = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text() and text.get_visible()]
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()] + figure.legends
    return named + [("legend", legend.get_window_extent()) for legend in legends]


def test_texts_and_legends_do_not_overlap_and_stay_on_the_figure(drawn):
    figure = figure_of(drawn)
    found = boxes(figure)
    overlaps = [(a, b) for (a, one), (b, two) in itertools.combinations(found, 2) if one.overlaps(two.padded(-1))]
    assert overlaps == []
    for name, box in found:
        assert box.x0 >= -1, name
        assert box.y0 >= -1, name
        assert box.x1 <= figure.bbox.x1 + 1, name
        assert box.y1 <= figure.bbox.y1 + 1, name


def test_legend_covers_no_line(drawn):
    figure = figure_of(drawn)
    figure.draw_without_rendering()
    for ax in filter(lambda ax: ax.get_legend(), figure.axes):
        box = ax.get_legend().get_window_extent()
        for line in ax.lines:
            path = line.get_transform().transform_path(line.get_path())
            assert not path.intersects_bbox(box, filled=False), line.get_label()
