"""Video reasoning that stops to look again: a runnable reproduction of Act2See.

A model answers a question about a video. In the middle of its reasoning it calls a tool, which
retrieves real frames at a higher rate or generates a hypothetical one, and reasons on with them.

    import act2see

    question = act2see.example_question()
    trace = act2see.ask(act2see.example_video(), question.text, question.options)
    print(trace)

`ask` probes the video, runs the loop and returns the `Trace`: in a notebook it shows its frames and
words. The default profile, `pocket`, needs no GPU, no key and no download, and knows a simulated
world of coloured shapes; `profile="t4"` and `"paper"` ask Qwen3-VL. From a shell:

    python -m act2see ask my.mp4 "what does she pick up?" --option "a cup" --option "a key"

Works on paths and texts. Knows nothing of how it is done, and imports nothing until it is used.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("act2see")

_HOMES = {
    "ask": "act2see.face",
    "example_video": "act2see.pocket.example",
    "example_question": "act2see.pocket.example",
    "load_profile": "act2see.profiles",
    "read_traces": "act2see.store",
    "Frame": "act2see.trace",
    "Question": "act2see.trace",
    "Step": "act2see.trace",
    "Trace": "act2see.trace",
    "Tool": "act2see.tools.tool",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    """One of `__all__`, imported when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"act2see has no {name!r}; it has: {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
