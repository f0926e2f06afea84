"""Generation: a hypothetical frame, the real one at a moment changed as a prompt says.

Works on a `Trace` and its video. Knows nothing of policies, nor of what draws: `generator` does.
Conditional image generation is the paper's. It retrieves the frame by the prompt first, as reported
in a third party's note on it, which is `search`; to name a moment instead is our choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Self

from pydantic import AfterValidator

from act2see.tools.tool import Arguments, Seconds, Tool
from act2see.trace import Frame, Trace
from act2see.video import read_frames

MAX_PROMPT = 300  # characters; the text encoders of most generators read no more


def _short(prompt: str) -> str:
    length = len(prompt.strip())
    if not 0 < length <= MAX_PROMPT:
        raise ValueError(f"prompt has {length} characters; it must have 1 to {MAX_PROMPT}.")
    return prompt


class Wish(Arguments):
    """A moment, and what would be different there."""

    time_s: Seconds
    prompt: Annotated[str, AfterValidator(_short)]


@dataclass(frozen=True)
class GenerateFrame(Tool):
    """One hypothetical frame: the real one at `time_s`, changed as the prompt says.

    generator: folder or hub name of the pipeline that draws, called with `options`; once `loaded`,
        the function (frame, prompt) -> picture itself.
    """

    generator: object = ""
    options: Mapping = field(default_factory=dict)
    max_side_px: int = 0

    name = "generate_frame"
    description = "A hypothetical frame: the frame at a time, changed as the prompt says."
    arguments = Wish

    @property
    def setting(self) -> str:
        """The generator."""
        return getattr(self.generator, "__name__", "")

    def loaded(self) -> Self:
        """The tool with its generator in memory."""
        if not isinstance(self.generator, str) or not self.generator:
            return self
        from act2see.tools.generator import load_generator

        return replace(self, generator=load_generator(self.generator, self.options))

    def run(self, trace: Trace, wish: Wish) -> list[Frame]:
        """The frame. Raises ValueError where no generator is loaded."""
        if not callable(self.generator):
            raise ValueError(
                "generate_frame is offered and its generator is not loaded; call loaded() first"
            )
        (image,), (time_s,) = read_frames(trace.question.video, [wish.time_s], self.max_side_px)
        picture = self.generator(image, wish.prompt)
        return [Frame(time_s=time_s, made="generated", prompt=wish.prompt, pixels=picture)]
