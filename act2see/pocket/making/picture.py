"""Draws the picture of a trace that opens the README: `python -m act2see.pocket.making.picture`.

Works on the shipped adapter and the example clip. Knows nothing of training. Refuses to draw a
trace with a sentence that its frames do not show: it keeps the trace next to the picture, so that a
test can hold both against the scene. Our choice.
"""

import sys
from pathlib import Path

from act2see.face import ask
from act2see.figures import save
from act2see.pocket.claims import false_claims
from act2see.pocket.example import example_question
from act2see.store import write_traces
from act2see.trace_figure import trace_figure


def draw(folder: Path) -> None:
    """Write trace.png, trace.pdf and trace.jsonl with its frames into the folder."""
    question = example_question()
    trace = ask(question.video, question.text, question.options)
    trace = trace.model_copy(update={"question": question})
    if wrong := false_claims(trace):
        raise ValueError(f"{len(wrong)} sentences are false, {wrong[0]!r} first: train anew")
    if not trace.correct() or not trace.calls():
        raise ValueError(f"the trace is wrong or has no call: {trace!r}")
    # A path of this machine would stand in the file.
    trace.question = question.model_copy(update={"video": Path(question.video).name})
    (folder / "trace.jsonl").unlink(missing_ok=True)
    write_traces(folder / "trace.jsonl", [trace])
    save(trace_figure(trace), folder / "trace")


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "figures"))
