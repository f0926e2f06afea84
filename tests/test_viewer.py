"""The viewer's JSON and page: what can be stopped at, what is named, what a page lets in.

`tests/browser` clicks it.
"""

import base64
import hashlib
import io
import json
import re
import sys
from html.parser import HTMLParser

import pytest
from PIL import Image, ImageColor

import act2see
from act2see import viewer
from act2see.__main__ import main
from act2see.style import BLUE, GREEN, ORANGE, frame_colour
from act2see.trace import Frame, Question, Step, Trace
from act2see.viewer import frame_viewer, page, save_page, side_by_side, viewer_json

COLOURS = ("red", "green", "blue", "yellow")
MARKUP = "<script>alert(1)</script><img src=x onerror='alert(1)'> $x$ </script><!-- \"'"


def frame(time_s, **more):
    return Frame(time_s=time_s, pixels=Image.new("RGB", (8, 6), COLOURS[int(time_s) % 4]), **more)


def call(start_s=2.0, end_s=3.0):
    return Step(kind="call", tool="retrieve_frames", arguments={"start_s": start_s, "end_s": end_s})


def seen(*frames):
    return Step(kind="evidence", frames=list(frames))


def think(text):
    return Step(kind="think", text=text)


REFUSED = Step(kind="evidence", text="end_s is 9; it must be at most 8.")
STEPS = [think("i look."), call(), seen(frame(2.0), frame(2.5, made="generated", prompt="red"))]


def trace(id="q", text="what colour?", policy="tuned", overview=2, steps=STEPS, **more):
    question = Question(
        id=id, source="pocket", family="moment", video=more.pop("video", "v.mp4"),
        duration_s=more.pop("duration_s", 8.0), text=text, options=["red", "green"], answer=1,
    )  # fmt: skip
    return Trace(
        question=question,
        overview=[frame(float(i)) for i in range(overview)],
        steps=[*steps, Step(kind="answer", text="Answer: B")],
        policy=policy,
        **more,
    )


def written(*traces, base=()):
    """The viewer's JSON, read back."""
    return json.loads(viewer_json(traces, base))


def only(one):
    """The one trace of a viewer."""
    ((view,),) = written(one)["views"]
    return view


def content(uri):
    return base64.b64decode(uri.partition(",")[2])


def test_the_stops_are_the_frames_in_the_order_of_the_dialogue_and_the_end():
    whole = written(trace())
    ((view,),) = whole["views"]
    *frames, end = view["stops"]
    assert [(s["part"], s["time_s"], s["made"]) for s in frames] == [
        (0, 0.0, "real"), (0, 1.0, "real"), (1, 2.0, "real"), (1, 2.5, "generated"),
    ]  # fmt: skip
    assert end == {"part": 1, "line": 4, "end": True}
    assert [s["colour"] for s in frames] == [BLUE, BLUE, ORANGE, GREEN]
    for stop in frames:
        picture = Image.open(io.BytesIO(content(whole["pictures"][stop["picture"]])))
        assert picture.size == (8, 6)
        assert picture.getpixel((4, 3)) == ImageColor.getrgb(COLOURS[int(stop["time_s"]) % 4])


def test_the_words_belong_to_the_part_of_the_dialogue_that_has_brought_them():
    view = only(trace(steps=[*STEPS, think("so."), call(), REFUSED]))
    kinds = [(line["kind"], line["part"]) for line in view["lines"]]
    assert kinds == [
        ("overview", 0), ("think", 0), ("call", 0), ("evidence", 1), ("think", 1), ("call", 1),
        ("evidence", 2), ("answer", 2),
    ]  # fmt: skip
    assert view["lines"][2]["text"][0]["text"] == "retrieve_frames(start_s=2.0, end_s=3.0)"
    assert (view["right"], view["chosen"], view["verdict"]) == (1, 1, "✓ right")


def test_a_refused_call_and_one_without_an_answer_can_be_stopped_at():
    view = only(trace(steps=[call(), REFUSED, call()], forced=True))
    assert view["stops"][2:4] == [
        {"part": 1, "line": 2, "refused": REFUSED.text, "again": False},
        {"part": 2, "line": 3, "refused": "The call was not answered.", "again": False},
    ]


def test_a_frame_that_was_there_before_is_repeated_and_its_picture_is_written_once():
    drawn = frame(1.0, made="generated", prompt="red")
    whole = written(trace(steps=[call(), seen(frame(1.0), drawn, frame(5.0)), call(), seen(drawn)]))
    ((view,),) = whole["views"]
    assert [s["again"] for s in view["stops"][:6]] == [False, False, True, False, False, True]
    assert len(whole["pictures"]) == 2


def test_the_window_of_a_call_is_as_it_says_or_else_that_of_its_frames():
    other = Step(kind="call", tool="crop", arguments={"start_s": "a", "end_s": 10**400})
    steps = [call(), seen(frame(2.5)), other, seen(frame(4.0), frame(3.0)), other, REFUSED]
    windows = only(trace(steps=steps))["windows"]
    assert windows == {"1": [2.0, 3.0], "2": [3.0, 4.0], "3": []}


@pytest.mark.parametrize(
    ("sentence", "spans"),
    [
        ("at 7.5 the wall is light.", [[7.5, 7.5]]),
        ("between 7.5 and 12.25.", [[7.5, 7.5], [12.25, 12.25]]),
        ("at 12 s or 3 seconds, 3 discs.", [[12, 12], [3, 3]]),
        ("在5秒和3.0秒。", [[5, 5], [3, 3]]),
        ("at 1:05 and 01:00:07", [[65, 66], [3607, 3608]]),
        ("no time, 12 discs, version 1.2.3:4.", [[1.2, 1.2]]),
        ("9" * 400 + ".5", []),
    ],
)
def test_a_sentence_carries_the_moments_that_it_names(sentence, spans):
    line = only(trace(steps=[think(sentence)]))["lines"][1]
    assert [span for part in line["text"] for span in part["spans"]] == spans


def test_sentences_are_cut_behind_their_ends_and_lose_nothing():
    text = " One at 2.5 s. “Two!” Three?\n\nFour… 五。六！ seven"
    parts = [s["text"] for s in only(trace(steps=[think(text)]))["lines"][1]["text"]]
    assert "".join(parts) == text
    assert [p.strip() for p in parts] == [
        "One at 2.5 s.", "“Two!”", "Three?", "Four…", "五。", "六！", "seven",
    ]  # fmt: skip


def test_a_large_picture_is_shrunk_and_a_very_long_one_keeps_a_side():
    large = Frame(time_s=1.0, pixels=Image.new("RGBA", (1280, 720)))
    thin = Frame(time_s=2.0, pixels=Image.new("L", (1, 4000)))
    pictures = written(trace(overview=0, steps=[call(), seen(large, thin)]))["pictures"]
    sizes = [Image.open(io.BytesIO(content(uri))).size for uri in pictures]
    assert sizes == [(640, 360), (1, 640)]


def test_a_viewer_at_the_papers_size_is_bounded():
    noise = Image.effect_noise((1280, 720), 60).convert("RGB")
    frames = [Frame(time_s=float(i), pixels=noise.rotate(i)) for i in range(41)]
    steps = [think("At 7.0 s it is dark. " * 110), call(), seen(*frames[32:])]
    whole = trace(overview=0, steps=steps, duration_s=3600.0)
    whole.overview = frames[:32]
    assert len(viewer_json([whole])) < 8e6


def test_the_clip_is_there_once_where_it_is_the_small_video_that_the_trace_is_about(monkeypatch):
    video = str(act2see.example_video())
    whole = written(*[trace(video=video, duration_s=24.0)] * 2)
    assert [view[0]["clip"] for view in whole["views"]] == [0, 0]
    (clip,) = whole["clips"]
    assert clip.startswith("data:video/mp4;base64,")
    assert content(clip) == act2see.example_video().read_bytes()
    monkeypatch.setattr(viewer, "CLIP_BYTES", 1000)
    assert written(trace(video=video, duration_s=24.0))["clips"] == [""]


@pytest.mark.parametrize("video", ["", "no.mp4", "a\0b", "/dev/zero", __file__, "example"])
def test_no_other_file_gets_into_a_page(video):
    video = str(act2see.example_video()) if video == "example" else video
    assert written(trace(video=video, duration_s=8.0))["clips"] == [""]


def test_two_traces_share_a_view_and_their_questions_must_be_the_same():
    (view,) = written(trace(), base=[trace(policy="base", steps=[])])["views"]
    assert [one["name"] for one in view] == ["base", "tuned"]
    with pytest.raises(ValueError, match="1 or more"):
        viewer_json([])
    with pytest.raises(ValueError, match=r"\['q'\] and base answers \['other'\]"):
        side_by_side(trace(id="other"), trace())


def test_a_trace_without_frames_or_steps_and_times_that_are_none_are_written():
    bare = trace(overview=0, steps=[], duration_s=0.0)
    assert [s.get("end") for s in only(bare)["stops"]] == [True]
    assert only(bare)["end_s"] == 1.0
    bare.steps = []
    bare.failed = "refused."
    assert only(bare)["lines"][-1]["kind"] == "failed"
    odd = trace(steps=[call(), seen(frame(2.0).model_copy(update={"time_s": float("nan")}))])
    assert only(odd)["stops"][2]["time_s"] == 0.0


class Elements(HTMLParser):
    """The elements of a page and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.scripts = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts.append(data)


def marked():
    """A trace with markup in every text that it has."""
    bad = frame(2.0, made=MARKUP, prompt=MARKUP)
    steps = [
        think(MARKUP + "\ud83d"), Step(kind="call", tool=MARKUP, arguments={MARKUP: MARKUP}),
        seen(bad), Step(kind="call", text=MARKUP), Step(kind="evidence", text=MARKUP),
    ]  # fmt: skip
    whole = trace(text=MARKUP, policy=MARKUP, steps=steps, failed=MARKUP)
    whole.question.options = [MARKUP, MARKUP]
    return whole


def test_a_page_holds_the_texts_as_data_and_no_element_of_theirs():
    whole = page([marked()], [marked()])
    elements = Elements(whole)
    names = [tag for tag, _ in elements.tags]
    assert names == "html head meta meta meta title style body main script script".split()
    data, script = elements.scripts
    assert json.loads(data) == written(marked(), base=[marked()])
    assert MARKUP in json.loads(data)["views"][0][0]["question"]
    assert not {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"} & {
        *re.findall(r"[\w.]+", script)
    }
    whole.encode("utf-8")


def test_a_page_needs_no_other_file_and_runs_no_other_script():
    elements = Elements(page([trace()]))
    links = [(tag, a) for tag, a in elements.tags if {"src", "href"} & a.keys()]
    (policy,) = [a["content"] for _, a in elements.tags if "http-equiv" in a]
    digest = base64.b64encode(hashlib.sha256(elements.scripts[1].encode()).digest()).decode()
    assert links == []
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert not re.search(r"\bimport\b|fetch\(|https?:", viewer.SCRIPT + viewer.STYLE)


def test_the_widget_carries_the_same_script_and_data():
    widget = frame_viewer([trace()])
    assert widget.data == viewer_json([trace()])
    assert (widget._esm, widget._css) == (viewer.SCRIPT, viewer.STYLE)


def test_a_stored_notebook_holds_a_picture_of_the_first_trace_next_to_the_widget():
    data, metadata = frame_viewer([trace(), trace()], [trace(), trace()])._repr_mimebundle_()
    still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert still.format == "PNG" and still.height > still.width / 2
    assert metadata["image/png"]["alt"] == "A trace about: what colour?"
    assert "application/vnd.jupyter.widget-view+json" in data


def test_without_anywidget_the_page_stands_in_a_core_widget(monkeypatch):
    monkeypatch.setattr(viewer, "find_spec", lambda name: None)
    widget = frame_viewer([marked()])
    ((tag, attributes),) = Elements(widget.value).tags
    assert (type(widget).__name__, tag) == ("HTML", "iframe")
    assert attributes["srcdoc"] == page([marked()])


def test_the_colours_of_the_style_are_those_of_the_figures():
    for name, colour in {"overview": BLUE, "retrieved": ORANGE, "made": GREEN}.items():
        assert f"--{name}: {colour.lower()};" in viewer.STYLE
    cropped = only(trace(steps=[call(), seen(frame(1.0, made="cropped"))]))["stops"][2]
    assert cropped["colour"] == frame_colour("cropped", ORANGE)


def test_the_command_writes_the_page(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "act2see.face", type(sys)("face"))
    sys.modules["act2see.face"].ask = lambda *words, **more: trace()
    file = tmp_path / "new" / "trace.html"
    assert main(["ask", "v.mp4", "what?", "--html", str(file)]) == 0
    assert file.read_text(encoding="utf-8") == page([trace()])
    assert "Answer: B" in capsys.readouterr().out
    save_page(tmp_path / "two.html", [trace()], [trace()])
    assert (tmp_path / "two.html").stat().st_size > len(viewer.SCRIPT)
