"""The viewer as a person uses it: click, key, play to the end, two in step, markup as text."""

import re

import pytest

from tests.browser.conftest import open_notebook, open_page
from tests.browser.traces import MARKUP, base, student

HIGH_PX = 637  # what JupyterLab leaves of a small screen


def keys(viewer, *names):
    for name in names:
        viewer.page.keyboard.press(name)


def caption(viewer, pane=0):
    return viewer.locator("figcaption").nth(pane).inner_text()


def status(viewer):
    return viewer.locator(".status").inner_text()


def wait(viewer, script):
    """Wait until an expression about the viewer `v` holds."""
    page = viewer.page
    page.wait_for_function(
        f"() => {{ const v = document.querySelector('.act2see'); return {script}; }}",
        timeout=20_000,
    )


def test_keys_go_from_frame_to_frame_and_from_call_to_call(show, shoot):
    viewer = show("one")
    assert caption(viewer) == "1.5 s, real frame, overview"
    shoot(viewer, "overview")
    keys(viewer, "ArrowRight", "ArrowRight", "ArrowLeft")
    assert caption(viewer) == "4.5 s, real frame, overview"
    keys(viewer, "ArrowDown")
    assert (caption(viewer), status(viewer)) == (
        "8.5 s, real frame, call 1",
        "call 1 of 3 · 9 / 15",
    )
    shoot(viewer, "call")
    keys(viewer, "ArrowDown")
    assert caption(viewer) == "call 2, refused"
    assert viewer.locator(".told").inner_text() == "end_s is 99.5; it must be at most 24.0."
    shoot(viewer, "refused")
    keys(viewer, "ArrowDown")
    assert caption(viewer) == "8.5 s, generated frame, call 3, after “the disc is red”"
    shoot(viewer, "generated")
    keys(viewer, "ArrowRight")
    assert caption(viewer) == "9.0 s, real frame, call 3, shown again"
    shoot(viewer, "again")
    keys(viewer, "End")
    assert caption(viewer) == "End. ✓ right"
    keys(viewer, "ArrowUp", "ArrowUp", "ArrowUp")
    assert status(viewer).startswith("call 1 of 3")
    keys(viewer, "Home")
    assert status(viewer) == "overview · 1 / 15"


def test_a_click_on_a_card_the_axis_or_a_sentence_shows_the_frame(show):
    viewer = show("one")
    viewer.locator(".card.made").click()
    assert "generated frame" in caption(viewer)
    axis = viewer.locator(".axis")
    box = axis.bounding_box()
    tick_px = box["width"] * 13.5 / 24
    axis.click(position={"x": tick_px, "y": box["height"] - 22})
    assert caption(viewer) == "13.5 s, real frame, overview"
    axis.click(position={"x": box["width"] * 12 / 24, "y": box["height"] - 22})
    assert caption(viewer) == "The clip at 12.0 s"
    viewer.get_by_text("at 8.5 the wall is dark.").click()
    assert caption(viewer).startswith("8.5 s")
    # A button that was clicked keeps the focus, and the keys go on from there.
    viewer.locator(".card").first.click()
    keys(viewer, "ArrowRight")
    assert caption(viewer) == "4.5 s, real frame, overview"


def test_the_sentence_that_names_the_frame_is_marked_and_in_sight(show):
    viewer = show("one")
    keys(viewer, "ArrowDown")
    (named,) = viewer.locator(".line.think .named").all()
    assert named.inner_text() == "at 8.5 the wall is dark."
    words = viewer.locator(".words").bounding_box()
    box = named.bounding_box()
    assert words["y"] <= box["y"] and box["y"] + box["height"] <= words["y"] + words["height"]
    later = viewer.locator(".later > b").all_inner_texts()
    assert later == ["is told", "thinks", "call 3", "sees", "thinks", "answers"]


def test_the_trace_plays_to_its_end_and_stops(show):
    viewer = show("one")
    keys(viewer, "ArrowDown", "ArrowDown", "ArrowDown", " ")
    assert viewer.get_by_text("Pause").count() == 1
    wait(viewer, "v.querySelector('figcaption').textContent.startsWith('End.')")
    assert viewer.get_by_text("Play", exact=True).count() == 1
    keys(viewer, " ")
    assert status(viewer) == "overview · 1 / 15"
    keys(viewer, "ArrowRight")
    assert viewer.get_by_text("Pause").count() == 0


def test_the_clip_plays_around_the_call_and_stops_there(show, shoot):
    viewer = show("one")
    keys(viewer, "ArrowDown", "c")
    wait(viewer, "v.querySelector('video').currentTime > 7")
    assert viewer.locator("video").is_visible()
    shoot(viewer, "clip")
    wait(viewer, "v.querySelector('video').paused")
    assert caption(viewer) == "The clip at 11.5 s"
    assert viewer.locator("video").evaluate("video => video.currentTime") < 12
    keys(viewer, "ArrowLeft")
    assert not viewer.locator("video").is_visible()


def test_two_traces_move_in_step(show, shoot):
    viewer = show("two")
    names = viewer.locator("h3").all_inner_texts()
    assert [name.split()[0] for name in names] == ["base", "act2see"]
    keys(viewer, "ArrowRight")
    assert caption(viewer, 0) == caption(viewer, 1) == "4.5 s, real frame, overview"
    keys(viewer, "ArrowDown")
    assert caption(viewer, 0) == "22.5 s, real frame, overview"
    assert caption(viewer, 1) == "8.5 s, real frame, call 1"
    shoot(viewer, "two")
    viewer.locator(".pane").nth(0).locator(".card").nth(2).click()
    assert caption(viewer, 0) == caption(viewer, 1) == "7.5 s, real frame, overview"
    keys(viewer, "End")
    assert (caption(viewer, 0), caption(viewer, 1)) == ("End. ✗ right is A", "End. ✓ right")


def test_another_trace_begins_at_its_first_frame(show):
    viewer = show("one")
    keys(viewer, "End")
    viewer.locator("select").select_option("1")
    assert status(viewer) == "overview · 1 / 9"
    assert viewer.locator("h3").inner_text().startswith("base")
    assert viewer.locator(".right").inner_text() == "A) cyan✓ right"
    assert viewer.get_by_text("◂ answered").locator("..").inner_text().startswith("C) red")


def test_markup_shows_as_text_everywhere(show, shoot):
    viewer = show("marked")
    stops = viewer.locator(".pane").first.locator(".card").count()
    for _ in range(stops):
        keys(viewer, "ArrowRight")
    keys(viewer, "Home", "ArrowDown")
    shoot(viewer, "markup")
    page = viewer.page
    assert page.evaluate("window.harmed") is None
    assert viewer.locator("script, img[src='x'], b b").count() == 0
    assert MARKUP in viewer.locator(".question").first.text_content()
    assert MARKUP in viewer.locator("h3").first.text_content()
    assert MARKUP in caption(viewer)
    assert MARKUP in viewer.locator("img.picture").first.get_attribute("alt")
    for kind in ("think", "call", "refused", "answer", "failed"):
        assert MARKUP in viewer.locator(f".line.{kind}").first.text_content()


def test_markup_shows_as_text_in_the_html_of_a_trace(tab, jupyterlab):
    open_notebook(tab, jupyterlab, "html")
    output = tab.locator(".jp-RenderedHTML")
    output.locator("figure").first.wait_for(timeout=60_000)
    # The typesetter of formulas has had its time once the kernel is idle again.
    tab.get_by_text("(ipykernel) | Idle").wait_for(timeout=60_000)
    assert tab.evaluate("window.harmed") is None
    assert output.text_content().count(MARKUP) >= 8
    assert output.locator("script, img[src='x'], p b b, .MathJax, mjx-container").count() == 0


def test_it_can_be_read_at_the_papers_size_and_the_axis_opens(show, shoot):
    viewer = show("paper")
    assert viewer.bounding_box()["height"] <= HIGH_PX
    keys(viewer, "ArrowDown")
    shoot(viewer, "paper")
    near = "[...v.querySelectorAll('.tick.retrieved')].map((t) => parseFloat(t.style.left))"
    wait(viewer, f"Math.max(...{near}) - Math.min(...{near}) < 1")
    keys(viewer, "z")
    shoot(viewer, "zoom")
    wait(viewer, f"Math.max(...{near}) - Math.min(...{near}) > 30")
    keys(viewer, "c")
    assert caption(viewer).endswith("nearest frame kept")


def test_text_of_any_script_is_shown(show, shoot):
    viewer = show("scripts")
    keys(viewer, "ArrowRight")
    assert viewer.locator(".words .named").inner_text() == "在3.0秒她拿着一本书。"
    shoot(viewer, "scripts")


@pytest.mark.parametrize("width", [520, 653, 800, 1400])
@pytest.mark.parametrize("name", ["one", "two", "paper"])
def test_it_fits_a_small_screen_at_any_stop(tab, tmp_path, name, width, shoot):
    tab.set_viewport_size({"width": width, "height": 700})
    viewer = open_page(tab, tmp_path, name)
    heights = set()
    for key in ("Home", "ArrowDown", "ArrowDown", "End"):
        tab.keyboard.press(key)
        heights.add(viewer.bounding_box()["height"])
    shoot(viewer, "fits")
    assert max(heights) <= HIGH_PX + 30 * (width < 600)
    assert len(heights) == 1
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_a_small_frame_is_enlarged_with_its_edges(tab, tmp_path):
    viewer = open_page(tab, tmp_path, "scripts")
    picture = viewer.locator("img.picture")
    assert picture.bounding_box()["width"] == 3.5 * 64
    assert picture.evaluate("img => getComputedStyle(img).imageRendering") == "pixelated"


def test_everything_has_a_name_for_a_screen_reader(tab, tmp_path):
    viewer = open_page(tab, tmp_path, "one")
    assert viewer.get_attribute("aria-label") == "viewer of traces"
    for control in viewer.locator("button, select, [tabindex='0'], video").all():
        name = control.get_attribute("aria-label") or control.inner_text()
        assert re.search(r"\w", name)
    assert all(img.get_attribute("alt") is not None for img in viewer.locator("img").all())
    tab.keyboard.press("End")
    assert viewer.locator("[aria-current='true']").get_attribute("aria-label") == "End. ✓ right"
    assert viewer.get_by_role("slider").get_attribute("aria-valuetext") == "End. ✓ right"
    assert viewer.get_by_role("status").inner_text() == "answer · 15 / 15"


def test_kinds_differ_by_more_than_colour(tab, tmp_path):
    viewer = open_page(tab, tmp_path, "one")
    style = "el => getComputedStyle(el).borderStyle + getComputedStyle(el).borderWidth"
    kinds = ("overview", "retrieved", "made", "again")
    forms = [viewer.locator(f".card.{kind} img").first.evaluate(style) for kind in kinds]
    assert len({*forms}) == 4
    assert viewer.locator(".legend li").count() == 6
    assert viewer.locator(".card.made").inner_text().split("\n")[-1] == "◆ generated"


def test_a_stored_notebook_shows_a_figure(tab, jupyterlab):
    open_notebook(tab, jupyterlab, "stored", run=False)
    tab.locator(".jp-RenderedImage img").wait_for(timeout=60_000)
    assert tab.locator(".act2see").count() == 0


def test_a_trusted_notebook_shows_the_viewer_without_running(tab, jupyterlab):
    viewer = open_notebook(tab, jupyterlab, "trusted", run=False)
    viewer.locator(".card").first.wait_for(timeout=60_000)
    viewer.focus()
    keys(viewer, "End")
    assert caption(viewer) == "End. ✓ right"


def test_where_anywidget_is_missing_the_page_stands_in_the_notebook(tab, jupyterlab):
    open_notebook(tab, jupyterlab, "core")
    viewer = tab.frame_locator("iframe[title='traces']").locator(".act2see")
    viewer.locator(".card.made").click(timeout=60_000)
    assert "generated frame" in caption(viewer)
    tab.keyboard.press("End")
    assert caption(viewer) == "End. ✓ right"


def test_a_page_asks_for_nothing_from_outside(tab, tmp_path):
    asked = []
    tab.on("request", lambda request: asked.append(request.url.partition(":")[0]))
    viewer = open_page(tab, tmp_path, "two")
    keys(viewer, "End")
    assert {*asked} <= {"file", "data"}
    assert len(student().frames()) > len(base().frames())
