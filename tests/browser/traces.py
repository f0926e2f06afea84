"""Traces to look at in a browser: of the shipped clip, at the paper's size, full of markup.

Works on `Trace`. Knows nothing of browsers.
"""

import numpy as np
from PIL import Image, ImageDraw

import act2see
from act2see.trace import Frame, Question, Step, Trace
from act2see.video import read_frames

VIDEO = str(act2see.example_video())
MOMENTS_S = [1.5, 4.5, 7.5, 10.5, 13.5, 16.5, 19.5, 22.5]
MARKUP = "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script>&lt;b&gt; $x$"


def think(text: str) -> Step:
    return Step(kind="think", text=text)


def frames(times_s: list[float], **more: str) -> list[Frame]:
    pictures, _ = read_frames(VIDEO, times_s)
    return [Frame(time_s=t, pixels=p, **more) for t, p in zip(times_s, pictures, strict=True)]


def question(answer: int = 0) -> Question:
    shipped = act2see.example_question()
    options = shipped.options
    return Question(video=VIDEO, duration_s=24.0, text=shipped.text, options=options, answer=answer)


def student() -> Trace:
    """Three calls: one that is seen, one refused, one generated with a frame shown again."""
    window = {"start_s": 7.5, "end_s": 10.5}
    beyond = {"start_s": 20.0, "end_s": 99.5}
    prompt = {"prompt": "the disc is red", "time_s": 8.5}
    drawn = frames([8.5], made="generated", prompt="the disc is red")
    steps = [
        think("at 1.5 the wall is light. at 10.5 the wall is dark. i look between 7.5 and 10.5."),
        Step(kind="call", tool="retrieve_frames", arguments=window),
        Step(kind="evidence", frames=frames([8.5, 9.0, 9.5])),
        think("at 7.5 the wall is light. at 8.5 the wall is dark. the visitor is a cyan disc."),
        Step(kind="call", tool="retrieve_frames", arguments=beyond),
        Step(kind="evidence", text="end_s is 99.5; it must be at most 24.0."),
        think("what if it were red?"),
        Step(kind="call", tool="generate_frame", arguments=prompt),
        Step(kind="evidence", frames=[*drawn, *frames([9.0])]),
        think("so it is cyan."),
        Step(kind="answer", text="Answer: A"),
    ]
    return Trace(question=question(), overview=frames(MOMENTS_S), policy="act2see", steps=steps)


def base() -> Trace:
    """No call, and a wrong answer."""
    steps = [think("no visitor at 7.5. i guess."), Step(kind="answer", text="Answer: C")]
    return Trace(question=question(), overview=frames(MOMENTS_S), policy="base", steps=steps)


def marked() -> Trace:
    """Markup in every text of a trace."""
    drawn = frames([8.5], made=MARKUP, prompt=MARKUP)
    asked = Question(video=VIDEO, duration_s=24.0, text=MARKUP, options=[MARKUP] * 2, answer=0)
    steps = [
        think(MARKUP),
        Step(kind="call", tool=MARKUP, arguments={MARKUP: MARKUP}),
        Step(kind="evidence", frames=drawn),
        Step(kind="call", text=MARKUP),
        Step(kind="evidence", text=MARKUP),
        Step(kind="answer", text=f"Answer: A {MARKUP}"),
    ]
    overview = frames([1.5], made=MARKUP)
    return Trace(question=asked, overview=overview, policy=MARKUP, steps=steps, failed=MARKUP)


def picture(time_s: float) -> Image.Image:
    """1280 x 720 pixels with the time on them."""
    image = Image.linear_gradient("L").resize((1280, 720)).convert("RGB")
    left = int(time_s / 3600 * 1000)
    draw = ImageDraw.Draw(image)
    draw.ellipse((left, 200, left + 280, 480), fill=(200, 60, int(time_s) % 255))
    draw.text((40, 40), f"{time_s:.1f}", fill="white", font_size=90)
    return image


def paper() -> Trace:
    """The paper's size: an hour, 32 + 8 + 1 frames, 110 sentences; the file of the clip is gone."""
    overview_s = ((np.arange(32) + 0.5) * 3600 / 32).round(1).tolist()
    window_s = (1800 + np.arange(8) / 2).tolist()
    window = {"start_s": 1800.0, "end_s": 1803.5, "query": "a flag"}
    first = [f"At {overview_s[i % 32]:.1f} s the ship lies in harbour {i}." for i in range(55)]
    second = [f"At {window_s[i % 8]:.1f} s the flag is blue, and not {i}." for i in range(55)]
    prompt = "the ship without its flag, at night, seen from the wall of the harbour"
    drawn = Frame(time_s=1802.0, pixels=picture(1802.0), made="generated", prompt=prompt)
    steps = [
        think(" ".join(first)),
        Step(kind="call", tool="retrieve_frames", arguments=window),
        Step(kind="evidence", frames=[Frame(time_s=t, pixels=picture(t)) for t in window_s]),
        think(" ".join(second)),
        Step(kind="call", tool="generate_frame", arguments={"prompt": prompt, "time_s": 1802.0}),
        Step(kind="evidence", frames=[drawn]),
        Step(kind="answer", text="Answer: B"),
    ]
    options = [
        "it sails before the storm and comes back only at the very end of the film",
        "it stays",
    ]
    asked = Question(
        video="gone.mp4",
        duration_s=3600.0,
        text="what does the ship do?",
        options=options,
        answer=1,
    )
    overview = [Frame(time_s=t, pixels=picture(t)) for t in overview_s]
    return Trace(question=asked, overview=overview, policy="Qwen3-VL-8B-Thinking", steps=steps)


def scripts() -> Trace:
    """Texts of several scripts, and an emoji."""
    asked = Question(
        video="gone.mp4", duration_s=8.0, text="第三个画面里的女人在做什么？🤔 ماذا تفعل؟ कौन?",
        options=["她在读书 📖", "그녀는 걷는다", "она спит", "يقرأ"], answer=0,
    )  # fmt: skip
    steps = [think("在3.0秒她拿着一本书。彼女は歩く。"), Step(kind="answer", text="Answer: A")]
    small = [Frame(time_s=t, pixels=frames([t])[0].image().resize((64, 64))) for t in (1.0, 3.0)]
    return Trace(question=asked, overview=small, policy="学生", steps=steps)
