"""The way in: one question about one video.

Works on a path, texts and the name of a profile. Knows nothing of training or scoring. Loaded
models stay for the next question. Our choice.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from act2see.interleave import Policy, interleave
from act2see.profiles import equip, load_profile
from act2see.tools.tool import Tool
from act2see.trace import Question, Trace
from act2see.video import probe


def ask(
    video: str | Path,
    question: str,
    options: Sequence[str] = (),
    profile: str = "pocket",
    adapter: str | Path | None = None,
    student: str = "",
    tools: Sequence[Tool] | None = None,
    **budget: int | bool | str,
) -> Trace:
    """The student's trace about a video: what it saw, thought, called and answered.

    options: of a multiple-choice question; none for an open one. adapter: a folder; None for the
    profile's own, "" for the bare base. student: a folder or hub name instead of the profile's.
    tools: instead of the profile's; () for none. budget: fields of `Budget`, as `max_calls=1`.
    Raises VideoError for a file that is not a video, ValueError for an empty question, an unknown
    profile or an adapter of another base, FileNotFoundError where a model is not there.
    """
    if not question.strip():
        raise ValueError("question is empty; it must say what to find out about the video")
    settings = load_profile(profile, student=student)
    limits = replace(settings.budget, **budget)
    item = Question(
        video=str(video),
        text=question,
        options=list(options),
        duration_s=probe(video).duration_s,  # before any weight is loaded
    )
    if adapter is None:
        # The profile's adapter fits the profile's student alone.
        adapter = "" if student else settings.adapter
    policy = _policy(profile, settings.student, str(adapter))
    tools = equip(settings).tools if tools is None else tuple(tool.loaded() for tool in tools)
    return next(interleave([item], policy, tools, limits))


@lru_cache(maxsize=1)
def _policy(profile: str, student: str, adapter: str) -> Policy:
    """The student as policy; the last one stays loaded."""
    # Seconds of imports: whoever has mistyped a path is told before them.
    from act2see.policies.qwen import QwenPolicy
    from act2see.student import load_processor, load_student

    settings = load_profile(profile)
    model = load_student(student, adapter)
    return QwenPolicy(
        model,
        load_processor(student),
        max_new_tokens=settings.reply_tokens,
        system=settings.system,
    )
