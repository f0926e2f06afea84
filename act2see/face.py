"""The way in: one question about one video.

Works on a path, texts and the name of a profile. Knows nothing of training or scoring. Loaded
models stay for the next question. Our choice.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from act2see.datasets.choices import unlettered
from act2see.interleave import Policy, interleave
from act2see.profiles import Profile, equip, load_profile
from act2see.tools.tool import Tool
from act2see.trace import LETTERS, Question, Trace
from act2see.video import probe


def ask(
    video: str | Path,
    question: str,
    options: Sequence[str] = (),
    profile: str = "",
    adapter: str | Path | None = None,
    student: str = "",
    tools: Sequence[Tool] | None = None,
    model: str = "",
    base_url: str = "",
    **budget: int | bool | str,
) -> Trace:
    """The student's trace about a video: what it saw, thought, called and answered.

    options: of a multiple-choice question; none for an open one. profile: "" for `pocket`, or with
    a `model` for `served`. adapter: a folder; None for the profile's own, "" for the bare base.
    student: a folder or hub name instead of the profile's. tools: instead of the profile's; () for
    none. model, base_url: of a chat server with vision and tools, asked instead of the student:
    Ollama, llama.cpp, LM Studio, vLLM, a vendor; "" as its address for the maker's own. budget:
    fields of `Budget`, as `max_calls=1`.
    Raises VideoError for a file that is not a video, ValueError for an empty question, an unknown
    profile, an address without a model or an adapter of another base, FileNotFoundError where a
    model is not there.
    """
    item = own_question(video, question, options)  # before any weight is loaded
    if base_url and not model:
        raise ValueError(f"model is empty; it must name one of those on {base_url}")
    profile = profile or ("served" if model else "pocket")
    settings = load_profile(profile, student=student)
    limits = replace(settings.budget, **budget)
    if adapter is None:
        # The profile's adapter fits the profile's student alone.
        adapter = "" if student else settings.adapter
    if model:
        from act2see.teachers import load_teacher

        policy = load_teacher(model, base_url)
    else:
        policy = _policy(profile, settings.student, str(adapter))
    tools = equip(settings).tools if tools is None else tuple(tool.loaded() for tool in tools)
    return next(interleave([item], policy, tools, limits))


def own_question(video: str | Path, question: str, options: Sequence[str] = ()) -> Question:
    """The question about a video of your own, with its length, after all that can be checked.

    options: none for an open question; their own letters are read, and not shown twice. Raises
    ValueError for an empty question, one option alone or more than ten, VideoError as `probe`.
    """
    if not question.strip():
        raise ValueError("question is empty; it must say what to find out about the video")
    if len(options) == 1 or len(options) > len(LETTERS):
        limit = f"they must be 2 to {len(LETTERS)}, or none for an open question"
        raise ValueError(f"options are {list(options)}; {limit}")
    return Question(
        video=str(video),
        text=question,
        options=unlettered(options),
        duration_s=probe(video).duration_s,
    )


@lru_cache(maxsize=1)
def _policy(profile: str, student: str, adapter: str) -> Policy:
    """The student as policy; the last one stays loaded."""
    return load_policy(load_profile(profile, student=student), adapter)


def load_policy(
    settings: Profile,
    adapter: str | Path = "",
    name: str = "act2see",
    seed: int = 0,
    url: str = "",
    served: str = "act2see",
) -> Policy:
    """The student of a profile, ready to answer: loaded here, or on the server at `url`.

    adapter: its folder, "" for the bare base; on a server, whose adapter is called `served`, any
    text for the one or the other. Raises as `student.load_student` and `ServedPolicy`.
    """
    # Seconds of imports: whoever has mistyped a path is told before them.
    from act2see.student import load_processor, load_student

    processor = load_processor(settings.student)
    speech = settings.speech(seed)
    if url:
        from act2see.policies.served import ServedPolicy

        return ServedPolicy(served, url, processor, name, tuned=bool(adapter), **speech)
    from act2see.policies.qwen import QwenPolicy

    return QwenPolicy(
        load_student(settings.student, adapter, unpack=True), processor, name, **speech
    )
