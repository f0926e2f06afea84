"""The pocket world's scripted teacher: it knows the scene, reasons in words, and errs on purpose.

Works on traces about pocket questions. Knows nothing of the answer's letter that it could not read
off the frames it was shown: it reads each frame's facts from the simulation. It stands for Gemini
2.5 Pro, so it makes a teacher's mistakes at a stated rate, and the filter has work to do. It keeps
no state: a turn follows from the trace and the seed alone. Rates and grammar are our choice.
"""

from dataclasses import dataclass

import numpy as np

from act2see.interleave import Reply
from act2see.pocket import language
from act2see.pocket.world import COLOURS, Facts, sample_scene
from act2see.trace import LETTERS, Frame, Step, Trace

MISTAKES = ("none", "wrong_window", "misread", "jump", "wander")


@dataclass(frozen=True)
class OraclePolicy:
    """The scripted teacher. Rates are chances per question; what remains is done right."""

    seed: int = 0
    wrong_window: float = 0.08
    misread: float = 0.08
    jump: float = 0.08
    wander: float = 0.08
    name: str = "oracle"

    def reply(self, traces: list[Trace]) -> list[Reply]:
        """The next turn of every trace."""
        return [Turn(trace, self).reply() for trace in traces]

    def force(self, traces: list[Trace]) -> list[str]:
        """A guess from the trace's own seed."""
        return [f"Answer: {LETTERS[Turn(t, self).guess()]}" for t in traces]


class Turn:
    """One turn of the teacher about one trace."""

    def __init__(self, trace: Trace, policy: OraclePolicy):
        self.trace, self.question = trace, trace.question
        truth = trace.question.truth
        self.kind, self.shape = truth["kind"].split("_")[0], truth.get("shape", "")
        self.scene = sample_scene(truth["seed"])
        rng = np.random.default_rng([truth["seed"], policy.seed, 99])
        wrong = [policy.wrong_window, policy.misread, policy.jump, policy.wander]
        self.mistake = MISTAKES[int(rng.choice(5, p=[1 - sum(wrong), *wrong]))]
        self.chance = rng.random(4)
        self.swap = dict(zip(COLOURS, np.roll(COLOURS, int(rng.integers(1, 6))), strict=True))
        self.turn = sum(s.kind == "think" for s in trace.steps)

    def reply(self) -> Reply:
        """Think about what is newly shown, then ask for more or answer."""
        reply = self._static() if self.question.family == "static" else self._looking()
        if self.mistake == "wander" and self.turn == 0:
            aside = [language.wall(self._see(f)) for f in self.trace.overview[:3]]
            more = " ".join(f"i wonder about the wall. {said} it may not matter." for said in aside)
            reply.thinking = f"{more} {reply.thinking}"
        return reply

    def guess(self) -> int:
        """An option by chance."""
        return int(self.chance[0] * len(self.question.options))

    def _static(self) -> Reply:
        """The shape asked about is in every frame: say what it is like and answer."""
        if self.mistake == "wrong_window" and self.turn == 0:
            return self._ask("", 2.0, 4.0)
        colour, place = self._see(self.trace.overview[0]).things[self.shape]
        asked = {"colour": colour, "shape": self.shape, "place": place}[self.question.truth["kind"]]
        if self.mistake == "jump":
            return self._guess("")
        return self._conclude(f"the {self.shape} is {colour}, {place}.", asked)

    def _looking(self) -> Reply:
        """Read the frames that matter; answer when they show it, else look where they may."""
        family = self.question.family
        windows = self.question.truth["windows"]
        if self.turn == 0:
            thinking = self._first_reading()
            if self.mistake == "jump":
                return self._guess(thinking)
            start_s, end_s = windows[0]
            if self.mistake == "wrong_window":
                start_s, end_s = self._elsewhere(start_s, end_s)
            if family == "order":
                low, high = windows[0][0], windows[1][1]
                middle = f"the middle of {low:.1f} and {high:.1f} is {(low + high) / 2:.1f}."
                thinking = f"{thinking} {middle}"
            return self._ask(f"{thinking} {language.UNSEEN}".strip(), start_s, end_s)
        thinking = self._timeline(self._new_frames())
        if self.mistake == "wrong_window" and self.turn == 1:
            if self.chance[1] < 0.5:
                return self._guess(thinking)
            return self._ask(f"{thinking} {language.UNSEEN}".strip(), *windows[0])
        asked = sum(s.kind == "call" for s in self.trace.steps) - (self.mistake == "wrong_window")
        if family == "order" and asked == 1:
            return self._ask(thinking, *windows[1])
        found = self._found()
        if found:
            return self._conclude(thinking, found)
        if family == "search" and asked == 1:
            return self._ask(f"{thinking} {language.UNSEEN}".strip(), *self._around_change())
        return self._guess(thinking)

    def _first_reading(self) -> str:
        """What the overview says: walls up to the change, or the frames inside the windows."""
        if self.question.family == "search":
            after = sum(f.time_s < self.scene.wall_change_s for f in self.trace.overview) + 1
            walls = [(f.time_s, self._see(f)) for f in self.trace.overview[:after]]
            return language.timeline("wall", "", walls)
        windows = self.question.truth["windows"]
        low, high = windows[0][0], windows[-1][1]
        return self._timeline([f for f in self.trace.overview if low <= f.time_s <= high])

    def _found(self) -> str:
        """The option that the frames shown since the overview reveal, "" if none does."""
        frames = sorted((f for s in self.trace.steps for f in s.frames), key=lambda f: f.time_s)
        facts = [(f.time_s, self._see(f)) for f in frames]
        if self.question.family == "order":
            pair = self.scene.order_shapes
            for _, seen in facts:
                white = [s for s in pair if seen.things[s][0] == "white"]
                if white:
                    return "both" if len(white) == 2 else white[0]
            return "neither"
        usual = {t.shape: t.colour for t in self.scene.things}
        low, high = self.question.truth["windows"][0]
        for time_s, seen in facts:
            if not low <= time_s <= high:
                continue
            colour = seen.things[self.shape][0] if self.kind == "turn" else "white"
            if colour not in (usual.get(self.shape), "white"):
                return colour
            if self.kind != "turn" and seen.visitor:
                return next((x for x in seen.visitor if x in self.question.options), "")
        return ""

    def _around_change(self) -> tuple[float, float]:
        """The closest frames shown before and after the wall's change."""
        times = sorted(f.time_s for f in self.trace.frames())
        after = sum(t < self.scene.wall_change_s for t in times)
        return times[after - 1], times[after]

    def _elsewhere(self, start_s: float, end_s: float) -> tuple[float, float]:
        """A window as long, several seconds away, inside the clip."""
        away = 4 + int(self.chance[2] * 6)
        room = end_s + away <= self.scene.duration_s
        shift = away if room else -min(away, start_s)
        return start_s + shift, end_s + shift

    def _see(self, frame: Frame) -> Facts:
        """The facts of a frame, one colour confused with another where the teacher misreads."""
        facts = self.scene.facts(frame.time_s)
        asked_for = any(frame is f for s in self.trace.steps for f in s.frames)
        if self.mistake != "misread" or not (asked_for or self.question.family == "static"):
            return facts
        things = {s: (str(self.swap.get(c, c)), p) for s, (c, p) in facts.things.items()}
        visitor = facts.visitor and (facts.visitor[0], str(self.swap[facts.visitor[1]]))
        return Facts(facts.wall, things, visitor)

    def _new_frames(self) -> list[Frame]:
        return self.trace.steps[-1].frames

    def _timeline(self, frames: list[Frame]) -> str:
        return language.timeline(self.kind, self.shape, [(f.time_s, self._see(f)) for f in frames])

    def _ask(self, thinking: str, start_s: float, end_s: float) -> Reply:
        start_s, end_s = round(start_s, 1), round(end_s, 1)
        window = {"start_s": start_s, "end_s": end_s}
        call = Step(kind="call", tool="retrieve_frames", arguments=window)
        return Reply(f"{thinking} {language.look(start_s, end_s)}".strip(), [call])

    def _conclude(self, thinking: str, answer: str) -> Reply:
        options = self.question.options
        if answer not in options:
            return self._guess(thinking)
        ending = language.conclusion(answer, options)
        return Reply(
            f"{thinking} {ending}".strip(), answer=f"Answer: {LETTERS[options.index(answer)]}"
        )

    def _guess(self, thinking: str) -> Reply:
        number = self.guess()
        ending = language.conclusion(self.question.options[number], self.question.options)
        return Reply(f"{thinking} {ending}".strip(), answer=f"Answer: {LETTERS[number]}")
