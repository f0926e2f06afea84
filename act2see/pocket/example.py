"""A clip and a question that ship with the package, for a first trace.

Works on a scene of the split `test`, which nothing shipped was trained on. Does not know policies.
`python -m act2see.pocket.example` makes the clip anew. Our choice.
"""

from pathlib import Path

from act2see.pocket.questions import ask, scene_seed
from act2see.pocket.world import sample_scene, write_clip
from act2see.trace import Question

CLIP = Path(__file__).with_name("example.mp4")
# The overview shows between which two frames the wall turns, and never who comes by then.
SCENE = sample_scene(scene_seed("test", 20262, 2))


def example_video() -> Path:
    """A clip of 24 seconds, in which the wall turns dark and somebody visits just then."""
    return CLIP


def example_question() -> Question:
    """Its `search` question: what colour the visitor is. It names no time, and no overview frame
    shows the visitor.
    """
    return ask(SCENE, "search", CLIP)


if __name__ == "__main__":
    write_clip(SCENE, CLIP)
