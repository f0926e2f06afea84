"""The pocket world's scripted teacher: it knows the scene, reasons in words, and errs on purpose.

Works on traces about pocket questions. Knows nothing of the answer but what the frames it was shown
say; their facts it reads from the simulation. It stands for Gemini 2.5 Pro, with a teacher's
mistakes at a stated rate for the filter to find. It keeps no state: a turn follows from the trace
and the seed alone. Rates and grammar are our choice.
"""

from dataclasses import dataclass

import numpy as np

from act2see.interleave import Reply
from act2see.pocket import language
from act2see.pocket.edits import Edit, edited, sample_edit
from act2see.pocket.world import COLOURS, EVENT_S, PLACES, Facts, sample_scene
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
        return [Turn(trace, self).conclude("").answer for trace in traces]


def mistake(trace: Trace, policy) -> str:
    """The mistake made on purpose in this trace; "unknown" where the policy is no oracle."""
    return Turn(trace, policy).mistake if isinstance(policy, OraclePolicy) else "unknown"


class Turn:
    """One turn of the teacher about one trace."""

    def __init__(self, trace: Trace, policy: OraclePolicy):
        self.trace, self.question, truth = trace, trace.question, trace.question.truth
        self.kind, self.shape = truth["kind"], truth.get("shape", "")
        self.windows, self.scene = truth["windows"], sample_scene(truth["seed"])
        rng = np.random.default_rng([truth["seed"], policy.seed, 99])
        wrong = [policy.wrong_window, policy.misread, policy.jump, policy.wander]
        self.mistake = MISTAKES[int(rng.choice(5, p=[1 - sum(wrong), *wrong]))]
        self.chance = rng.random(4)
        step = int(rng.integers(1, 6))
        self.swap = dict(zip(COLOURS, COLOURS[-step:] + COLOURS[:-step], strict=True))
        self.turn = sum(s.kind == "think" for s in trace.steps)
        self.edit = Edit(**truth["edit"]) if "edit" in truth else None
        if self.edit and self.mistake == "wrong_window":  # imagines another change
            self.edit = sample_edit(self.scene, rng, self.edit.kind)

    def reply(self) -> Reply:
        """Think about what is newly shown, then ask for more or answer."""
        family = self.question.family
        looking = self._look_again if self.turn else self._look_first
        own = {"static": self._static, "counterfactual": self._imagine}
        reply = own.get(family, looking)()
        if self.mistake == "wander" and self.turn == 0:
            aside = [language.wall(self._see(f)) for f in self.trace.overview[:3]]
            more = " ".join(f"i wonder about the wall. {said} it may not matter." for said in aside)
            reply.thinking = f"{more} {reply.thinking}"
        return reply

    def _static(self) -> Reply:
        """The shape asked about is in every frame: say what it is like and answer."""
        if self.mistake == "wrong_window" and self.turn == 0:
            return self._ask("", 2.0, 4.0)
        if self.mistake == "jump":
            return self.conclude("")
        colour, place = self._see(self.trace.overview[0]).things[self.shape]
        asked = {"colour": colour, "shape": self.shape, "place": place}[self.kind]
        return self.conclude(f"the {self.shape} is {colour}, {place}.", asked)

    def _imagine(self) -> Reply:
        """Ask for a picture of the change, read it and answer; without the tool, guess."""
        time_s = self.question.truth["time_s"]
        if self.mistake == "jump" or "generate_frame" not in self.trace.tools:
            return self.conclude(language.UNSEEN)
        if self.turn == 0:
            told = {"time_s": round(time_s, 1), "prompt": self.edit.prompt()}
            call = Step(kind="call", tool="generate_frame", arguments=told)
            case = self.question.text.split(",")[0].removeprefix("if ")
            return Reply(f"{language.UNSEEN} {case}. {language.imagine(time_s)}", [call])
        frames = self.trace.steps[-1].frames
        if not frames:
            return self.conclude(language.UNSEEN)
        colour, place = self._see(frames[0]).things[self.shape]
        found = place if self.kind == "place" else colour
        return self.conclude(self._timeline(self.kind, frames), found)

    def _look_first(self) -> Reply:
        """Read walls up to the change, or the frames inside the windows; then ask for more."""
        start_s, end_s = self.windows[0]
        frames, kind = self.trace.overview, self.kind
        if kind == "search":
            after = sum(f.time_s < self.scene.wall_change_s for f in frames) + 1
            thinking = self._timeline("wall", frames[:after])
        else:
            thinking = self._timeline(kind, [f for f in frames if self._matters(f)])
        if self.mistake == "jump" or "retrieve_frames" not in self.trace.tools:
            return self.conclude(thinking)
        shift_s = 0
        if self.mistake == "wrong_window":  # one as long, several seconds away, inside the clip
            away_s = 4 + int(self.chance[2] * 6)
            inside = end_s + away_s <= self.scene.duration_s
            shift_s = away_s if inside else -min(away_s, start_s)
        return self._ask(f"{thinking} {language.UNSEEN}", start_s + shift_s, end_s + shift_s)

    def _look_again(self) -> Reply:
        """Read the frames newly shown; answer when they show it, else look where they may."""
        frames = self.trace.steps[-1].frames
        if self.kind == "search":
            frames = self._up_to_the_change()
        thinking = self._timeline(self.kind, frames)
        unseen = f"{thinking} {language.UNSEEN}"
        lost = self.mistake == "wrong_window"
        if lost and self.turn == 1:
            guesses = self.chance[1] < 0.5
            return self.conclude(thinking) if guesses else self._ask(unseen, *self.windows[0])
        asked = len(self.trace.calls()) - lost
        found = self._found()
        begun = [call.arguments["start_s"] for call in self.trace.calls()]
        if self.kind == "white" and found == "neither" and self.windows[1][0] not in begun:
            return self._ask(unseen, *self.windows[1])
        if self.kind == "search" and asked == 1 and not found:
            times = sorted(f.time_s for f in self.trace.frames())
            after = sum(t < self.scene.wall_change_s for t in times)
            if times[after] - times[after - 1] > EVENT_S:  # else it was shown, and misread
                return self._ask(unseen, times[after - 1], times[after])
        return self.conclude(thinking, found)

    def _up_to_the_change(self) -> list[Frame]:
        """Known frames of the window asked for last, its ends too, until the wall has turned."""
        start_s, end_s = self.trace.calls()[-1].arguments.values()
        known = sorted(self.trace.frames(), key=lambda f: f.time_s)
        known = [f for f in known if start_s - 0.06 < f.time_s < end_s + 0.06]  # times were rounded
        return known[: sum(f.time_s < self.scene.wall_change_s for f in known) + 1]

    def _found(self) -> str:
        """The option that the frames shown since the overview reveal, "" if none does."""
        usual = {t.shape: t.colour for t in self.scene.things}
        shown = (f for s in self.trace.steps for f in s.frames)
        for frame in sorted(shown, key=lambda f: f.time_s):
            seen = self._see(frame)
            if not self._matters(frame):
                continue
            if self.kind == "white":
                found = [s for s in self.scene.order_shapes if seen.things[s][0] == "white"]
            elif self.kind == "turn":
                found = {seen.things[self.shape][0]} - {usual[self.shape], "white"}
            else:
                found = set(seen.visitor or ()) & set(self.question.options)
            if found:
                return "both" if len(found) == 2 else found.pop()
        return "neither" if self.kind == "white" else ""

    def _matters(self, frame: Frame) -> bool:
        return any(start_s <= frame.time_s <= end_s for start_s, end_s in self.windows)

    def _see(self, frame: Frame) -> Facts:
        """The facts of a frame, one colour confused with another where the teacher misreads."""
        scene = edited(self.scene, frame.time_s, self.edit) if frame.generated else self.scene
        facts = scene.facts(frame.time_s)
        asked_for = any(frame is f for s in self.trace.steps for f in s.frames)
        if self.mistake != "misread" or not (asked_for or self.question.family == "static"):
            return facts
        places = dict(zip(PLACES, [*PLACES][1:] + [*PLACES][:1], strict=True))
        moved = places if self.edit else {}
        things = {s: (self.swap.get(c, c), moved.get(p, p)) for s, (c, p) in facts.things.items()}
        visitor = facts.visitor and (facts.visitor[0], self.swap[facts.visitor[1]])
        return Facts(facts.wall, things, visitor)

    def _timeline(self, kind: str, frames: list[Frame]) -> str:
        return language.timeline(kind, self.shape, [(f.time_s, self._see(f)) for f in frames])

    def _ask(self, thinking: str, start_s: float, end_s: float) -> Reply:
        window = {"start_s": round(start_s, 1), "end_s": round(end_s, 1)}
        call = Step(kind="call", tool="retrieve_frames", arguments=window)
        return Reply(f"{thinking} {language.look(*window.values())}".strip(), [call])

    def conclude(self, thinking: str, answer: str = "") -> Reply:
        """Answer with this option; where it is none, with one by chance."""
        options = self.question.options
        if answer not in options:
            answer = options[int(self.chance[0] * len(options))]
        ending, letter = language.conclusion(answer, options), LETTERS[options.index(answer)]
        return Reply(f"{thinking} {ending}".strip(), answer=f"Answer: {letter}")
