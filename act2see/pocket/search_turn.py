"""One turn of the scripted teacher that finds frames by texts: one frame a call, no times.

Works on a trace in the paper's tags about a pocket question. One frame cannot show everything: a
text names neither a moment nor which of two events came first. Where no frame settles the question,
the teacher guesses. Does not know what scores the frames. Our choice.
"""

from dataclasses import replace

from act2see.pocket import language
from act2see.pocket.turn import Rates, Turn
from act2see.trace import Reply, Step, Trace

BLANK = "no visitor."  # a text that fits nearly every frame


class SearchTurn(Turn):
    """One turn about one trace; `searches` is the most frames that are asked for by a text."""

    retrieves = "retrieve"
    generates = "generate"

    def __init__(self, trace: Trace, policy: Rates, searches: int):
        # The wrong forms of a call are those of windows.
        super().__init__(trace, replace(policy, slips=0.0))
        self.searches = searches

    def _look_first(self) -> Reply:
        """The overview does not show it: search, or guess where that is impossible."""
        if self.mistake == "jump" or self.retrieves not in self.trace.tool_names():
            return self.conclude(language.UNSEEN)
        astray = self.mistake == "wrong_window"
        return self._search(language.UNSEEN, BLANK if astray else self._query())

    def _look_again(self) -> Reply:
        """Read the last frame; answer where it shows it, else search on while calls are left."""
        frames = self._last_frames()
        thinking = self.timeline(self.kind, frames)
        answer = self.revealed()
        missing = answer in ("", "neither")
        if missing and frames and self.number < self.searches:
            return self._search(f"{thinking} {language.UNSEEN}", self._query())
        return self.conclude(thinking, answer)

    def _scan(self) -> Reply:
        """Who is described is found by the description."""
        return self._look_again() if self.number else self._look_first()

    def _waste(self) -> Reply:
        return self._search("", BLANK)

    def _wish(self, thinking: str) -> Reply:
        call = Step(kind="call", tool=self.generates, arguments={"query": self.edit.prompt()})
        return Reply(f"{thinking} {language.IMAGINE}", [call])

    def _search(self, thinking: str, query: str) -> Reply:
        call = Step(kind="call", tool=self.retrieves, arguments={"query": query})
        return Reply(f"{thinking} {language.SEARCH}".strip(), [call])

    def _query(self) -> str:
        """What a frame that settles the question would show, as far as the question tells it."""
        if self.question.family == "described":
            return self.question.truth["query"]
        if self.kind == "turn":
            # Its colour is the question: one option after another.
            options = self.question.options
            guess = options[(int(self.chance[3] * len(options)) + self.number) % len(options)]
            return f"the {self.shape} is {guess}."
        if self.kind == "white":
            return f"the {self.scene.order_shapes[self.number % 2]} is white."
        if self.kind == "search":
            return (
                f"the wall is {self.scene.wall_at(self.scene.wall_change_s)}. there is a visitor."
            )
        return "there is a visitor."
