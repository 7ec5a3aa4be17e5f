"""The mechanism of explorers: pictures, controls, what moves and what stays. Each explorer has tests of its own."""

import asyncio
import math
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from itertools import product

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import gradcourse as gc
from gradcourse.explorer import Axis, Menu, Panel, Picture, Slider, Toggle, still
from gradcourse.explorer.picture import INK, SOFT

NAMES = [name for name in gc.explorer.__all__ if name[0].islower()]
SVG = "{http://www.w3.org/2000/svg}"


def line_of(power, x, log):
    panel = Panel("A line", Axis("x", 0, 10), Axis("y", 1e-3 if log else 0, 1e3 if log else 100, log=log))
    panel.line([0, x], [1, 10.0**power], "the line")
    return Picture((panel,), f"It ends at {x:g}, {10.0**power:g}.")


def explorer(draw=line_of, **more):
    controls = {
        "power": Slider("power", 1.0, -2, 2, step=0.5),
        "x": Slider("end", 5, 1, 10),
        "log": Toggle("log scale"),
    }
    return gc.Explorer("Where the line ends", draw, **(controls | more))


PIECES = []


def training(values):
    """A run that takes 400 pieces of at least a millisecond."""
    for step in range(400):
        time.sleep(0.001)
        PIECES.append(step)
        panel = Panel("Loss", Axis("step", 0, 400), Axis("loss", 0, 1))
        yield Picture((panel,), f"step {step} at rate {values.rate:g}", progress=(step + 1) / 400)


def trainer():
    return gc.Explorer("Training", training, rate=Slider("rate", 0.1, 0.01, 1.0, step=0.1, log=True))


def everywhere(one):
    """The panels of an explorer at each combination of its menus and toggles."""
    options = {
        key: control.options if isinstance(control, Menu) else (True, False)
        for key, control in one.controls.items()
        if not isinstance(control, Slider)
    }
    for combination in product(*options.values()):
        one.move(**dict(zip(options, combination, strict=True)))
        yield from one.picture.panels


@pytest.mark.parametrize("name", NAMES)
def test_lines_and_texts_have_the_contrast_of_wcag_aa(name):
    def contrast(colour):  # against white; a colour may be written #rgb
        rgb = np.array(matplotlib.colors.to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)

    one = getattr(gc.explorer, name)()
    panels = one.picture.panels if one.runs else list(everywhere(one))
    colours = {(method, facts["colour"]) for panel in panels for method, facts in panel.marks if method != "area"}
    assert len(colours) > 1
    for method, colour in colours:
        assert contrast(colour) >= (4.5 if method == "text" else 3), (method, colour)
    assert min(map(contrast, (INK, SOFT))) >= 4.5


@pytest.mark.parametrize("name", NAMES)
def test_no_two_lines_are_told_apart_by_colour_alone(name):
    one = getattr(gc.explorer, name)()
    for panel in one.picture.panels if one.runs else everywhere(one):
        looks = [
            (facts["dash"], facts["marker"], facts["width"])
            for method, facts in panel.marks
            if method == "line" and facts["label"]
        ]
        assert len(set(looks)) == len(looks), panel.title


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_axis_places_values_between_its_ends():
    assert Axis("", 2, 6).share([2, 3, 6]).tolist() == [0, 0.25, 1]
    assert Axis("", 1e-4, 1, log=True).share([1e-4, 1e-3, 1]).tolist() == pytest.approx([0, 0.25, 1])


def test_axis_has_no_place_for_what_a_log_scale_cannot_show():
    assert np.isnan(Axis("", 1e-4, 1, log=True).share([0, -1, math.nan, math.inf])).all()


@pytest.mark.parametrize(("low", "high", "ticks"), [(0, 10, [0, 2, 4, 6, 8, 10]), (0.25, 4, [1, 2, 3, 4]), (-1, 1, 5)])
def test_ticks_are_round_numbers(low, high, ticks):
    found = list(Axis("", low, high).labelled_ticks())
    assert found == ticks if isinstance(ticks, list) else len(found) == ticks


def test_ticks_of_a_log_scale_are_powers_of_ten():
    found = Axis("", 1e-16, 1e4, log=True).labelled_ticks()
    assert 3 <= len(found) <= 8
    assert all(math.log10(value).is_integer() for value in found)
    assert found[1e-16] == "1e-16"
    assert Axis("", 0.01, 100, log=True).labelled_ticks()[0.01] == "0.01"


def test_svg_is_well_formed_and_says_its_words_whatever_they_hold():
    panel = Panel('<b>"Title" & more', Axis("a < b", 0, 1), Axis("y", 0, 1))
    panel.line([0, 1], [0, 1], "<label>", marker=True)
    panel.text(0.5, 0.5, "<&>")
    tree = ET.fromstring(Picture((panel, panel), 'x < 1 & y > "2"').svg())
    assert tree.attrib["role"] == "img"
    assert tree.find(f"{SVG}title").text == 'x < 1 & y > "2"'
    assert [text.text for text in tree.iter(f"{SVG}text")].count("<label>") == 2


def path_of(panel):
    return next(one for one in panel._drawn if "<path" in one).split('d="')[1].split('"')[0]


def test_line_is_drawn_where_its_points_are():
    panel = Panel("", Axis("x", 0, 10), Axis("y", 0, 1))
    panel.line([0, 10], [0, 1])
    (left, bottom), (right, top) = [list(map(float, point.split())) for point in path_of(panel)[1:].split("L")]
    frame = ET.fromstring(Picture((panel,), "").svg()).find(f"{SVG}g/{SVG}rect").attrib
    assert (left, top) == (float(frame["x"]), float(frame["y"]))
    assert (right - left, bottom - top) == (float(frame["width"]), float(frame["height"]))


def test_line_breaks_where_it_is_not_finite():
    panel = Panel("", Axis("x", 0, 10), Axis("y", 1e-3, 1, log=True))
    panel.line([0, 1, 2, 3, 4], [1, 0.1, math.nan, 0.1, 0], "")
    assert path_of(panel).count("M") == 2
    assert path_of(panel).count("L") == 1


def test_a_point_that_is_nowhere_is_left_out():
    panel = Panel("", Axis("x", 0, 10), Axis("y", 0, 1))
    panel.point(math.nan, 1)
    panel.text(1, math.inf, "far")
    assert panel._drawn == []


def test_a_still_draws_all_that_the_picture_does():
    panel = Panel("Title", Axis("x", 0, 10), Axis("y", 1e-3, 1, log=True))
    panel.line([0, 10], [1, 0.1], "the line", colour=0, dash="--", marker="s")
    panel.line([0, 10], [0.1, 1])
    panel.point(5, 0.1, "here", colour=1)
    panel.text(5, 0.5, "a text")
    panel.area([0, 10, 10], [0.1, 0.1, 1], colour=2)
    figure = Figure()
    ax = figure.add_subplot()
    still._draw(ax, panel)
    assert ax.lines[0].get_ydata().tolist() == [1, 0.1]
    assert [text.get_text() for text in ax.get_legend().texts] == ["the line", "here"]
    assert [len(ax.lines), len(ax.patches), len(ax.texts)] == [3, 1, 1]
    assert (ax.get_yscale(), ax.get_xlim(), ax.get_title(loc="left")) == ("log", (0, 10), "Title")
    assert [label.get_text() for label in ax.get_yticklabels()] == list(panel.y.labelled_ticks().values())
    assert still.png(Picture((panel, panel), "")).startswith(b"\x89PNG")


# -- moving -----------------------------------------------------------------------------------------------------------


def test_moving_draws_what_the_controls_say():
    one = explorer()
    assert one.picture.words == "It ends at 5, 10."
    one.move(power=2.0, x=7)
    assert one.picture.words == "It ends at 7, 100."
    assert one.values == {"power": 2.0, "x": 7, "log": False}
    assert repr(one) == "Where the line ends: It ends at 7, 100."


@pytest.mark.parametrize(
    ("move", "complaint"),
    [
        ({"height": 1}, "Where the line ends has power, x, log"),
        ({"power": 3}, "3 is not a number from -2 to 2"),
        ({"power": "1"}, "'1' is not a number from -2 to 2"),
        ({"power": math.nan}, "nan is not a number"),
        ({"x": True}, "True is not a number from 1 to 10"),
        ({"log": "yes"}, "'yes' is not True or False"),
        ({"kind": "c"}, "'c' is not one of a, b"),
    ],
)
def test_a_move_that_is_not_possible_says_why_and_moves_nothing(move, complaint):
    one = explorer(lambda kind, **values: line_of(**values), kind=Menu("kind", "a", ("a", "b")))
    before = dict(one.values)
    with pytest.raises(ValueError, match="move") as error:
        one.move(x=9, **move) if "x" not in move else one.move(**move)
    assert complaint in str(error.value)
    assert one.values == before


def front_of(one):
    from gradcourse.explorer.front import Front

    one._front = Front(one)
    return one._front


def test_a_hand_on_a_widget_moves_the_picture_and_the_words():
    one = explorer()
    front = front_of(one)
    front.hands["x"].value = 8
    assert one.picture.words == "It ends at 8, 10."
    assert one.picture.svg() == front._image.value
    assert "It ends at 8, 10." in front._words.value


@pytest.mark.parametrize(
    ("slider", "typed", "up", "ends"),
    [
        (Slider("power", 1.0, -2, 2, step=0.5), 1.6, 2, (-2, 2)),
        (Slider("gain", 1.0, 0.02, 3.0, step=0.1, log=True), 1.2345, 1.59, (0.02, 3)),  # 0.02 * 10**1.9
        (Slider("layers", 20, 1, 40), 7, 8, (1, 40)),
        (Slider("layers", 80, 1, 1000, step=1, log=True), 11, 100, (1, 1000)),
    ],
)
def test_a_typed_number_stays_and_the_slider_goes_on_from_its_nearest_place(slider, typed, up, ends):
    field, shown = slider.widget()
    hand = next(child for child in shown.children if child is not field)
    moves = []
    hand.observe(lambda change: moves.append(change.new), "value")
    field.value = typed
    assert field.value == typed
    assert moves == [hand.value]
    hand.value += 1
    assert field.value == up
    for place, end in zip((hand.min, hand.max), ends, strict=True):
        hand.value = place
        assert field.value == end
        assert type(field.value) is type(slider.value)
    assert field.description == slider.label


def test_several_moves_at_once_draw_once():
    drawn = []
    one = explorer(lambda **values: drawn.append(values) or line_of(**values))
    front_of(one)
    drawn.clear()
    one.move(power=0.0, x=2)
    assert [(values["power"], values["x"]) for values in drawn] == [(0.0, 2)]


def test_every_control_has_a_label():
    front = front_of(explorer(lambda kind, **values: line_of(**values), kind=Menu("kind", "a", ("a", "b"))))
    labelled = [child for child in walk(front.box) if getattr(child, "description", "")]
    assert {child.description for child in labelled} >= {"power", "end", "log scale", "kind"}


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def test_the_journal_notes_once_that_an_explorer_was_moved(monkeypatch):
    noted = []
    monkeypatch.setattr("gradcourse.journal.note", lambda *event: noted.append(event))
    front = front_of(gc.Explorer("A line", lambda x: line_of(0, x, False), id="99-x1", x=Slider("end", 5, 1, 10)))
    assert noted == []
    for place in (6, 7):
        front.hands["x"].value = place
    assert noted == [("explore", "99-x1")]


# -- runs -------------------------------------------------------------------------------------------------------------


def test_without_a_button_a_run_shows_its_end():
    one = trainer()
    assert one.picture.words == "step 399 at rate 0.1"
    one.move(rate=1.0)
    assert one.picture.words == "step 399 at rate 1"


def test_a_control_that_moves_while_nothing_runs_asks_for_the_button():
    one = trainer()
    front = front_of(one)
    front.hands["rate"].value = 0.5
    assert "Press Train" in front._words.value
    assert one.picture.words == "step 399 at rate 0.1"


def pressed(act):
    """Press Train and act for a while; return the explorer, its front and the most pieces done without a pause."""
    one = trainer()

    async def session():
        front = front_of(one)
        front.button.click()
        assert front.button.description == "Stop"
        most = 0
        for turn in range(10_000):
            PIECES.clear()
            await asyncio.sleep(0)
            most = max(most, len(PIECES))
            act(turn, front)
            if front._task is None:
                break
        return front, most

    front, most = asyncio.run(session())
    return one, front, most


def test_a_run_goes_on_to_its_end_while_the_kernel_listens():
    one, front, most = pressed(lambda turn, front: None)
    assert one.picture.words == "step 399 at rate 0.1"
    assert front._bar.value == 1.0
    assert front.button.description == "Train"
    assert 1 <= most <= 25  # 20 ms, and the piece that ends them


def test_a_slider_acts_on_the_run_that_is_going_on():
    one, _, _ = pressed(lambda turn, front: turn == 3 and setattr(front.hands["rate"], "value", 0.5))
    assert one.picture.words == "step 399 at rate 0.5"


def test_a_move_by_code_acts_on_the_run_that_is_going_on():
    one = trainer()

    async def session():
        front = front_of(one)
        front.button.click()
        await asyncio.sleep(0)
        one.move(rate=0.5)
        await front._task

    asyncio.run(session())
    assert one.picture.words == "step 399 at rate 0.5"


def test_stop_stops_and_the_next_press_begins_again():
    one, front, _ = pressed(lambda turn, front: turn == 5 and front.button.click())
    assert one.picture.progress < 1.0
    assert front.button.description == "Train"


# -- what stays -------------------------------------------------------------------------------------------------------


def shown(code, **variables):
    """Run code in a fresh Python whose `display` prints the MIME types and texts that a front end would get."""
    program = f"""
import os, sys
os.environ.update({variables!r})
import IPython.display
def display(data, raw=False, metadata=None, **options):
    assert "image/png" not in data or metadata == {{"image/png": {{"alt": data["text/plain"]}}}}
    kept = "still" if "gradcourse-still" in data.get("text/html", "") else ""
    print(sorted(data), "|", data["text/plain"], "|", kept)
    return type("Handle", (), {{"display_id": "x"}})
IPython.display.display = display
sys.path.insert(0, {str(__file__).rsplit("/", 1)[0]!r})
from test_explorer import explorer
{code}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    return done.stdout.splitlines()


WIDGET = "application/vnd.jupyter.widget-view+json"
WORDS = "Where the line ends: It ends at 5, 10."


def test_a_front_end_gets_the_widget_the_still_and_the_words_in_one_output():
    (line,) = shown("explorer()._ipython_display_()", GRADCOURSE_UNATTENDED="0")
    assert line == f"{[WIDGET, 'image/png', 'text/plain']} | {WORDS} | "


def test_jupyterlab_gets_the_still_as_an_output_of_its_own():
    live, still = shown("explorer()._ipython_display_()", JPY_SESSION_NAME="lesson.ipynb", GRADCOURSE_UNATTENDED="0")
    assert live == f"{[WIDGET, 'text/plain']} | {WORDS} | "
    assert still == f"{['image/png', 'text/html', 'text/plain']} | {WORDS} | still"


@pytest.mark.parametrize(
    ("without", "unattended"), [("sys.modules['ipywidgets'] = None\n", "0"), ("", "1")], ids=["no ipywidgets", "build"]
)
def test_where_nothing_can_move_the_still_and_its_words_appear(without, unattended):
    still, words = shown(f"{without}explorer()._ipython_display_()", GRADCOURSE_UNATTENDED=unattended)
    assert still == f"{['image/png', 'text/plain']} | {WORDS} | "
    assert words == "It ends at 5, 10."
