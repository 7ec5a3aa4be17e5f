"""Explorers under the hand, in a real browser: each control moved by keyboard and mouse, what is seen, what stays."""

import json
import sys

import pytest
from browsing import CHROMIUM, browser_page, code_cells, notebook_of, opened, run_all_cells, run_cell, wait_for_kernel

import gradcourse as gc
from gradcourse.explorer import Menu, Slider

pytestmark = pytest.mark.browser

NAMES = [name for name in gc.explorer.__all__ if name[0].islower()]


ONLY_SEEN = {"zoom", "threshold", "rate"}  # they change what is drawn, and no word


def controls():
    """(explorer, name of a control), of all but one that changes nothing but the speed of a run."""
    found = [(name, key) for name in NAMES for key in getattr(gc.explorer, name)().controls]
    return [one for one in found if one != ("clipping", "slow")]


if CHROMIUM or sys.platform == "linux":  # elsewhere a browser is not asked for

    @pytest.fixture(scope="module")
    def live(tmp_path_factory):
        """All explorers in one notebook that has run: the page, and the notebook's path."""
        if CHROMIUM is None:
            pytest.skip("no Chromium on this machine")
        folder = tmp_path_factory.mktemp("explorers")
        path = folder / "explorers.ipynb"
        sources = [f"import gradcourse as gc\ngc.explorer.{name}()" for name in NAMES]
        path.write_text(json.dumps(notebook_of(*sources)), encoding="utf-8")
        with browser_page(height=800 * len(NAMES)) as page, opened(page, path, folder / "home"):
            run_all_cells(page, path)
            yield page, path

    def area_of(page, name):
        return page.locator(f'.jp-Notebook [data-windowed-list-index="{NAMES.index(name)}"] .gradcourse-live')

    def seen(page, name):
        """The picture and the words of an explorer."""
        area = area_of(page, name)
        return area.locator("svg[role=img]").evaluate("e => e.outerHTML"), area.locator("p[role=status]").inner_text()

    def changes(page, name, act, words=True):
        """Act, train where there is something to train, and wait until the picture, and the words, are others."""
        before = seen(page, name)
        act()
        train(page, name)
        for _ in range(100):
            now = seen(page, name)
            if now[0] != before[0] and (now[1] != before[1] or not words):
                return
            page.wait_for_timeout(100)
        raise AssertionError(f"{name}: {'the words' if now[0] != before[0] else 'nothing'} did not change")

    def settled_box(page, locator):
        """Where an element is, once what was drawn anew above it no longer moves it."""
        before = None
        while before != (before := locator.bounding_box()):
            page.wait_for_timeout(500)
        return before

    def train(page, name):
        """Press the button, where there is one, and wait for the end of the run."""
        button = area_of(page, name).locator("button")
        if button.count():
            button.click()
            button.get_by_text("Stop").or_(button).wait_for()
            area_of(page, name).locator("button", has_text="Train").wait_for(timeout=60_000)

    def hand(page, name, control):
        """What the keyboard moves of a control: one of a menu's buttons, reached by Tab, is another choice."""
        row = area_of(page, name).locator(".widget-hbox, .widget-radio, .widget-checkbox")
        row = row.filter(has=page.locator("label", has_text=control.label)).last
        if isinstance(control, Menu):
            other = next(option for option in control.options if option != control.value)
            return row.locator(f'input[data-value="{other}"]')
        return row.locator(".noUi-handle" if isinstance(control, Slider) else "input").first

    def key_that_moves(control):
        """The key that moves a control from where it first stands."""
        if not isinstance(control, Slider):
            return "Space"
        return "ArrowLeft" if control.value == control.high else "ArrowRight"

    @pytest.mark.parametrize("name", NAMES)
    def test_an_explorer_is_drawn_and_says_what_it_shows(name, live):
        page, _ = live
        picture, words = seen(page, name)
        assert picture.count("<path") > 3
        assert any(letter.isdigit() for letter in words)
        still = page.locator(".gradcourse-still").nth(NAMES.index(name))
        assert not still.is_visible()  # as long as the widget lives

    @pytest.mark.parametrize(("name", "key"), [pytest.param(name, key, id=f"{name}-{key}") for name, key in controls()])
    def test_the_keyboard_moves_a_control(name, key, live):
        page, _ = live
        run_cell(page, NAMES.index(name))  # from where it first stands
        control = getattr(gc.explorer, name)().controls[key]
        if key == "leak":
            area_of(page, name).locator('input[data-value="leaky_relu"]').click()
            page.wait_for_timeout(1000)

        def act():
            hand(page, name, control).focus()
            page.keyboard.press(key_that_moves(control))

        changes(page, name, act, words=key not in ONLY_SEEN)

    def test_a_typed_number_is_what_is_drawn_and_said(live):
        page, _ = live
        run_cell(page, NAMES.index("gradients"))
        field = area_of(page, "gradients").get_by_label("gain of Xavier's weights")

        def act():
            field.fill("1.234")  # between two places of the slider
            field.press("Enter")

        changes(page, "gradients", act)
        assert "gain 1.23:" in seen(page, "gradients")[1]
        assert field.input_value() == "1.234"

    @pytest.mark.parametrize("name", NAMES)
    def test_the_mouse_drags_a_slider(name, live):
        page, _ = live
        handle = area_of(page, name).locator(".noUi-handle").first

        def act():
            box = handle.bounding_box()
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x + 12, y, steps=4)
            page.mouse.move(x + 30, y, steps=4)
            page.mouse.up()

        changes(page, name, act, words=name != "clipping")

    def test_the_mouse_drags_the_point_of_the_phase_diagram(live):
        page, _ = live
        run_cell(page, NAMES.index("phase_diagram"))
        area = area_of(page, "phase_diagram")
        map = settled_box(page, area.locator("rect[onpointermove]"))

        def place(weights, biases):
            return map["x"] + map["width"] * weights / 5.0, map["y"] + map["height"] * (1.0 - biases)

        def act():
            page.mouse.move(*place(0.33, 0.005))
            page.mouse.down()
            for step in range(1, 11):
                page.mouse.move(*place(0.33 + 0.267 * step, 0.005 + 0.0495 * step))
                page.wait_for_timeout(30)
            page.mouse.up()

        changes(page, "phase_diagram", act)
        page.wait_for_timeout(500)
        weights, biases = (float(field.input_value()) for field in area.get_by_role("spinbutton").all())
        assert (weights, biases) == (pytest.approx(3.0, abs=0.03), pytest.approx(0.5, abs=0.01))
        assert f"weight variance {weights:.3g}, bias variance {biases:.3g}" in seen(page, "phase_diagram")[1]
        page.mouse.move(*place(1.0, 0.9))  # without a button
        page.wait_for_timeout(300)
        assert float(area.get_by_role("spinbutton").first.input_value()) == weights

    def test_what_was_seen_last_stays_when_nothing_can_move_any_more(live, tmp_path):
        page, path = live
        words = [seen(page, name)[1] for name in NAMES]
        hidden = page.locator(".gradcourse-still")
        for number, text in enumerate(words):  # a still is renewed when nothing has moved for a moment
            for _ in range(200):
                if text in hidden.nth(number).text_content():
                    break
                page.wait_for_timeout(100)
        page.keyboard.press("Control+s")
        page.wait_for_timeout(1500)
        assert "widgets" not in json.loads(path.read_text(encoding="utf-8"))["metadata"]
        again = page.context.browser.new_page(viewport=page.viewport_size)
        with opened(again, path, tmp_path / "home"):
            wait_for_kernel(again)
            stills = again.locator(".gradcourse-still")
            for number, text in enumerate(words):
                assert stills.nth(number).is_visible()
                assert text in stills.nth(number).inner_text()
                assert stills.nth(number).locator("img").evaluate("e => e.complete && e.naturalWidth > 300")
            gone = again.get_by_text("Error displaying widget")
            assert not any(gone.nth(number).is_visible() for number in range(gone.count()))
        outputs = [output for one in code_cells(path) for output in one["outputs"]]
        assert [output for output in outputs if output["output_type"] in ("error", "stream")] == []
