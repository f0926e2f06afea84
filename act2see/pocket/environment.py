"""The pocket world as an environment: a question, frames to call for, and what an answer earns.

Works on pocket questions and a profile; the loop's functions take a turn. Knows no models. Our
choice, in OpenEnv's form: observations are pydantic models, in whose messages frames can stand, and
verifiers (0.4), which has no reset, plays its environments. `served` needs openenv-core 0.3.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import create_model

from act2see.dialects import dialect_of
from act2see.interleave import open_trace, take_turn
from act2see.pocket.questions import FOUNDATION, pocket_questions
from act2see.policies.token_server import data_url
from act2see.profiles import POCKET, Profile
from act2see.rewards import Reward, accuracy
from act2see.trace import Step, Trace

# A model's turn behind the generation prompt, with or without its end; truncated: by a limit.
Action = create_model("Action", text=str, truncated=(bool, False))
# The messages that are new to the model, frames as PNG in `image_url` parts. reward: once `done`.
SEEN = {"messages": list[dict], "tools": list[dict], "done": bool, "reward": float | None}
Observation = create_model("Observation", **SEEN)


@dataclass
class PocketEnvironment:
    """Asks the questions of a split and series, and writes their clips into `folder`."""

    folder: Path
    split: str = "train"
    series: int = 0  # the seed of `pocket_questions`
    profile: Profile = POCKET
    reward: Reward = accuracy
    name: str = "environment"  # in its traces, as a policy's
    state: Trace | None = None  # the dialogue so far, with the answer: not for the model
    done: bool = True

    def reset(self, seed: int | None = None, **others: Any) -> Observation:
        """Question number `seed` (0) behind its overview. `others`, OpenEnv's, are not read."""
        where = (self.folder, self.profile.families or FOUNDATION, (seed or 0) % 1_000_000)
        (question,) = pocket_questions(self.split, self.series, 1, *where)
        self.state = open_trace(question, self, self.profile.tools, self.profile.budget)
        return self._seen(self.state, 0)

    def step(self, action: Action, **others: Any) -> Observation:
        """What answers the turn: frames, what is wrong with a call, or that a letter is due."""
        if self.done:
            raise ValueError("no question is open; reset asks one: call it first")
        dialect = dialect_of(self.state)
        known = len(dialect.messages(self.state))
        reply = dialect.read_reply(action.text.removesuffix("<|im_end|>"), action.truncated)
        if self.state.forced:
            self.state.steps.append(Step(kind="answer", text=reply.answer))
        else:
            take_turn(self.state, reply, self.profile.tools, self.profile.budget)
        return self._seen(self.state, known)

    def _seen(self, trace: Trace, known: int) -> Observation:
        messages = dialect_of(trace).messages(trace, merged=False)[known:]
        new = [message for message in messages if message["role"] != "assistant"]
        self.done = bool(trace.failed or "answer" in [step.kind for step in trace.steps])
        if trace.forced and not self.done:
            due = [{"type": "text", "text": dialect_of(trace).answer_now}]
            new.append({"role": "user", "content": due})
        for part in (part for message in new for part in message["content"] if "image" in part):
            part |= {"type": "image_url", "image_url": {"url": data_url(part.pop("image"))}}
        earned = self.reward(trace) if self.done else None
        return Observation(messages=new, tools=trace.tools, done=self.done, reward=earned)


def served(folder: Path, **options: Any) -> Any:
    """The environment as OpenEnv's web application, for uvicorn: one for each session."""
    from openenv.core.env_server import Environment, create_fastapi_app

    world = type("Served", (PocketEnvironment, Environment), {"SUPPORTS_CONCURRENT_SESSIONS": True})
    return create_fastapi_app(lambda: world(folder, **options), Action, Observation, 64)
