"""One turn of the scripted teacher: what it reads off the frames, and where it looks next.

Works on a trace about a pocket question; calls windows of time, as the dialect `calls` has them.
Does not know the answer but for what the frames in the trace show; their facts it reads from the
simulation. Rates and grammar are our choice.
"""

from typing import Protocol

import numpy as np

from act2see.pocket import language
from act2see.pocket.edits import Edit, edited, sample_edit
from act2see.pocket.slips import SLIPS, slipped
from act2see.pocket.world import COLOURS, EVENT_S, Facts, Look, Visitor, sample_scene
from act2see.trace import LETTERS, Frame, Reply, Step, Trace

MISTAKES = ("none", "wrong_window", "misread", "jump", "wander")
NEXT_PLACE = {"top": "left", "left": "right", "right": "bottom", "bottom": "top"}
SCANS = 4  # windows looked through for someone whose time is not known


class Rates(Protocol):
    """How often a teacher errs in which way, as chances per question, and the seed of its luck.

    slips: chance that its first or second turn has a call that is refused for its form; the turn
    is then taken again, and right.
    """

    seed: int
    slips: float
    wrong_window: float
    misread: float
    jump: float
    wander: float


class Turn:
    """One turn of the teacher about one trace."""

    retrieves = "retrieve_frames"
    generates = "generate_frame"

    def __init__(self, trace: Trace, policy: Rates):
        self.trace = trace
        self.question = trace.question
        truth = trace.question.truth
        self.kind = truth["kind"]
        self.shape = truth.get("shape", "")
        self.windows = truth["windows"]
        self.scene = sample_scene(truth["seed"])
        # Drawn anew at every turn, the same each time: the mistake belongs to the question.
        again = [trace.attempt] if trace.attempt > 1 else []
        rng = np.random.default_rng([truth["seed"], policy.seed, 99, *again])
        rates = [policy.wrong_window, policy.misread, policy.jump, policy.wander]
        self.mistake = MISTAKES[int(rng.choice(5, p=[1 - sum(rates), *rates]))]
        self.chance = rng.random(4)
        # One shift for all: two colours are never taken for the same one.
        shift = int(rng.integers(1, 6))
        self.misread = {c: COLOURS[i - shift] for i, c in enumerate(COLOURS)} | {"white": "white"}
        offered = self.retrieves in trace.tool_names()
        self.slip = SLIPS[int(rng.integers(len(SLIPS)))] * offered * (rng.random() < policy.slips)
        self.edit = Edit(**truth["edit"]) if "edit" in truth else None
        # In a hypothetical there is no window to miss: another change is imagined.
        if self.edit and self.mistake == "wrong_window":
            self.edit = sample_edit(self.scene, rng, self.edit.kind)
        self.slip_number = int(rng.integers(2))
        start_s = round(rng.random() * (self.scene.duration_s - 2), 1)
        # Any window: what could be copied from a refused call would not be looked for.
        self.slip_window = start_s, round(start_s + 2, 1)
        # A turn whose call was refused did not happen: it is taken again.
        turns = sum(s.kind == "think" for s in trace.steps)
        self.slipping = bool(self.slip) and turns == self.slip_number
        self.slipped = bool(self.slip) and turns > self.slip_number
        self.number = turns - self.slipped

    def reply(self) -> Reply:
        """Think about what the last frames show, then call for more or answer."""
        if self.slipping:
            return Reply("", [slipped(self.slip, self.retrieves, *self.slip_window)])
        looking = self._look_again if self.number else self._look_first
        own = {"static": self._static, "counterfactual": self._imagine, "described": self._scan}
        reply = own.get(self.question.family, looking)()
        if self.mistake == "wander" and self.number == 0:
            asides = [language.wall(self._see(f)) for f in self.trace.overview[:3]]
            more = " ".join(
                f"i wonder about the wall. {wall} it may not matter." for wall in asides
            )
            reply.thinking = f"{more} {reply.thinking}"
        return reply

    def _static(self) -> Reply:
        """The shape of the question is in every frame: note how it looks and answer."""
        if self.mistake == "wrong_window" and self.number == 0:
            return self._waste()
        if self.mistake == "jump":
            return self.conclude("")
        facts = self._see(self.trace.overview[0])
        traits = {"shape": self.shape, **facts.things[self.shape]._asdict()}
        return self.conclude(language.thing(facts, self.shape), traits[self.kind])

    def _imagine(self) -> Reply:
        """Call for a picture of the change, read it and answer; without the tool, guess."""
        if self.mistake == "jump" or self.generates not in self.trace.tool_names():
            return self.conclude(language.UNSEEN)
        if self.number == 0:
            case = self.question.text.split(",")[0].removeprefix("if ")
            return self._wish(f"{language.UNSEEN} {case}.")
        frames = self._last_frames()
        if not frames:
            return self.conclude(language.UNSEEN)
        look = self._see(frames[0]).things[self.shape]
        return self.conclude(self.timeline(self.kind, frames), getattr(look, self.kind))

    def _look_first(self) -> Reply:
        """Read walls up to the change, or the frames inside the windows; then call for more."""
        start_s, end_s = self.windows[0]
        frames = self.trace.overview
        if self.kind == "search":
            thinking = self.timeline("wall", self._until_change(frames))
        else:
            thinking = self.timeline(self.kind, [f for f in frames if self._matters(f)])
        if self.mistake == "jump" or self.retrieves not in self.trace.tool_names():
            return self.conclude(thinking)
        shift_s = 0
        # The wrong window is as long, several seconds away, and inside the clip.
        if self.mistake == "wrong_window":
            away_s = 4 + int(self.chance[2] * 6)
            inside = end_s + away_s <= self.scene.duration_s
            shift_s = away_s if inside else -min(away_s, start_s)
        return self._call(f"{thinking} {language.UNSEEN}", start_s + shift_s, end_s + shift_s)

    def _look_again(self) -> Reply:
        """Read the last frames; answer when they show it, else look where they may."""
        frames = self._last_frames()
        if self.kind == "search":
            frames = self._until_change(self._in_last_window())
        thinking = self.timeline(self.kind, frames)
        unseen = f"{thinking} {language.UNSEEN}"
        astray = self.mistake == "wrong_window"
        if astray and self.number == 1:
            guesses = self.chance[1] < 0.5
            return self.conclude(thinking) if guesses else self._call(unseen, *self.windows[0])
        answer = self.revealed()
        starts = [call.arguments["start_s"] for call in self._calls()]
        if self.kind == "white" and answer == "neither" and self.windows[1][0] not in starts:
            return self._call(unseen, *self.windows[1])
        # A search narrows once: between the last known frame of the old wall and the first of the
        # new. Where these are closer than an event lasts, it was shown, and misread.
        if self.kind == "search" and len(starts) - astray == 1 and not answer:
            times_s = sorted(f.time_s for f in self.trace.frames())
            after = sum(t < self.scene.wall_change_s for t in times_s)
            before_s, after_s = times_s[after - 1 : after + 1]
            if after_s - before_s > EVENT_S:
                return self._call(unseen, before_s, after_s)
        return self.conclude(thinking, answer)

    def _scan(self) -> Reply:
        """Look through gaps between overview frames, from any on, for whom the question names."""
        thinking = self.timeline("visit", self._in_last_window()) if self.number else ""
        answer = self.revealed()
        lost = self.mistake == "wrong_window" and self.number == 1
        offered = self.retrieves in self.trace.tool_names()
        blocked = self.mistake == "jump" or not offered or self.number == SCANS
        if answer or lost or blocked:
            return self.conclude(thinking, answer)
        times_s = [frame.time_s for frame in self.trace.overview]
        first = int(self.chance[3] * (len(times_s) - 1))
        gap = (first + self.number) % (len(times_s) - 1)
        unseen = f"{thinking} {language.UNSEEN}".strip()
        return self._call(unseen, *times_s[gap : gap + 2])

    def _calls(self) -> list[Step]:
        """The calls, without one that was refused for its form."""
        return self._meant(self.trace.calls())

    def _last_frames(self) -> list[Frame]:
        """The frames of the last call, without one that was refused for its form."""
        return self._meant([s for s in self.trace.steps if s.kind == "evidence"])[-1].frames

    def _meant(self, steps: list[Step]) -> list[Step]:
        """Of one step a turn, those of the turns that were not slips."""
        skipped = self.slip_number if self.slipped else len(steps)
        return steps[:skipped] + steps[skipped + 1 :]

    def _in_last_window(self) -> list[Frame]:
        """Known frames of the window called for last, its ends too, in time order."""
        start_s, end_s = self._calls()[-1].arguments.values()
        known = sorted(self.trace.frames(), key=lambda f: f.time_s)
        # The ends stand in the call with one decimal, so a frame at an end may lie just outside.
        return [f for f in known if start_s - 0.06 < f.time_s < end_s + 0.06]

    def _until_change(self, frames: list[Frame]) -> list[Frame]:
        """Frames in time order up to the first after the wall has turned."""
        return frames[: sum(f.time_s < self.scene.wall_change_s for f in frames) + 1]

    def revealed(self) -> str:
        """The option that the frames shown since the overview reveal, "" if none does."""
        usual = {t.shape: t.colour for t in self.scene.things}
        frames = [f for s in self.trace.steps for f in s.frames]
        for frame in sorted(filter(self._matters, frames), key=lambda f: f.time_s):
            facts = self._see(frame)
            if self.kind == "white":
                pair = self.scene.order_shapes
                options = [s for s in pair if facts.things[s].colour == "white"]
            elif self.kind == "turn":
                options = {facts.things[self.shape].colour} - {usual[self.shape], "white"}
            else:
                options = set(facts.visitor or ()) & set(self.question.options)
            if options:
                return "both" if len(options) == 2 else options.pop()
        return "neither" if self.kind == "white" else ""

    def _matters(self, frame: Frame) -> bool:
        return any(start_s <= frame.time_s <= end_s for start_s, end_s in self.windows)

    def _see(self, frame: Frame) -> Facts:
        """The facts of a frame, one colour confused with another where the teacher misreads."""
        scene = self.scene
        if frame.made == "generated":
            scene = edited(scene, frame.time_s, self.edit)
        facts = scene.facts(frame.time_s)
        # Outside `static` no answer is in the overview: only evidence is worth misreading.
        evidence = any(frame is f for s in self.trace.steps for f in s.frames)
        if self.mistake != "misread" or not (evidence or self.question.family == "static"):
            return facts
        places = NEXT_PLACE if self.edit else {place: place for place in NEXT_PLACE}
        things = {s: Look(self.misread[x.colour], places[x.place]) for s, x in facts.things.items()}
        visitor = facts.visitor and Visitor(facts.visitor.shape, self.misread[facts.visitor.colour])
        return Facts(facts.wall, things, visitor)

    def timeline(self, kind: str, frames: list[Frame]) -> str:
        """What the frames show of this kind, in time order."""
        return language.timeline(kind, self.shape, [(f.time_s, self._see(f)) for f in frames])

    def _call(self, thinking: str, start_s: float, end_s: float) -> Reply:
        window = {"start_s": round(start_s, 1), "end_s": round(end_s, 1)}
        call = Step(kind="call", tool="retrieve_frames", arguments=window)
        return Reply(f"{thinking} {language.look(*window.values())}".strip(), [call])

    def _waste(self) -> Reply:
        """A call for what the overview shows."""
        return self._call("", 2.0, 4.0)

    def _wish(self, thinking: str) -> Reply:
        """The call for the frame that the question supposes."""
        time_s = self.question.truth["time_s"]
        arguments = {"time_s": round(time_s, 1), "prompt": self.edit.prompt()}
        call = Step(kind="call", tool=self.generates, arguments=arguments)
        return Reply(f"{thinking} {language.imagine(time_s)}", [call])

    def conclude(self, thinking: str, answer: str = "") -> Reply:
        """Answer with this option; where it is none of them, with one by chance."""
        options = self.question.options
        if answer not in options:
            answer = options[int(self.chance[0] * len(options))]
        letter = LETTERS[options.index(answer)]
        thinking = f"{thinking} {language.conclusion(answer, options)}"
        return Reply(thinking.strip(), answer=f"Answer: {letter}")
