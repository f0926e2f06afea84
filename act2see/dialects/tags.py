"""Dialect `tags`: the paper's form. The model asks inside its thinking, in text between tags.

Works on `Trace`, a chat template and text. Knows nothing of tools but their names, nor of tokens.
The assistant's one turn reads `<think>…<retrieve> query </retrieve><frame>…</frame>…</think>` and
then `<answer>…</answer>`; the frame between its tags is supplied, everything else is said (as
reported in a third party's note on the paper, section on the method; the wording around a frame,
and one form of spaces, are our choice).
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from act2see.dialects.dialect import (
    PICTURE,
    Picture,
    Segment,
    frame_parts,
    hints,
    question_parts,
    spaced,
)
from act2see.trace import Frame, Reply, Step, Trace

OPENED = re.compile(r"<(retrieve|generate)>|</(?:retrieve|generate)>")
CALL = re.compile(r"<(retrieve|generate)>((?:(?!<(?:retrieve|generate)>).)*?)</\1>", re.S)
ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.S)
FRAMING = re.compile(r"</?(?:think|answer)>")
FORM = (
    " Think inside <think></think>. Where the frames do not settle the question, stop in the "
    "middle of a thought and write what picture you want, in words and without a time: <retrieve> "
    "what it shows </retrieve> for a frame of the video, <generate> what would be different "
    "</generate> for a hypothetical one. The frame follows between <frame> and </frame>; think on. "
    "End with <answer> and the letter of the right option </answer>."
)
STUDENT = (
    "Answer the question about a video. You see some of its frames, each behind its time." + FORM
)


class Tags:
    """Thinking, calls and frames in one turn of the assistant."""

    name = "tags"
    no_calls_left = "no calls are left: answer now."
    answer_now = "Look no further. Answer now: <answer> and a letter </answer>."
    stops = ("</retrieve>", "</generate>", "</answer>")
    bad_calls = tuple(
        f"i search for it.\n{call}"
        for call in (
            "<retrieve> </retrieve>",
            "<retrieve> there is a visitor.",
            "<retrieve> a frame <generate> without the disc </generate>",
            "there is a visitor. </retrieve>",
            f"<retrieve> {' '.join(['the visitor is red.'] * 20)} </retrieve>",
        )
    )

    def messages(self, trace: Trace, merged: bool = True) -> list[dict[str, Any]]:
        """The dialogue as chat messages, for a server: what is supplied comes from the user.

        The tags that a template or the loop would write stand in the words, as the model was told.
        """
        messages = [{"role": "user", "content": question_parts(trace, merged)}]
        for text, frames, spoken in _moves(trace):
            if spoken:
                # All that the assistant says between two frames is one message.
                if messages[-1]["role"] != "assistant":
                    opening = "<think>\n" if len(messages) == 1 else ""
                    messages.append({"role": "assistant", "content": opening})
                messages[-1]["content"] += text
            else:
                parts = frame_parts(frames) if frames else [{"type": "text", "text": text}]
                tags = [{"type": "text", "text": tag} for tag in ("<frame>", "</frame>")]
                messages.append({"role": "user", "content": [tags[0], *parts, tags[1]]})
        return messages

    def render(
        self, trace: Trace, template: Callable[..., str], reply_next: bool = False, system: str = ""
    ) -> tuple[list[Segment], list[Picture]]:
        """The template's text up to its generation prompt, then the turn, and the pictures."""
        question = question_parts(trace)
        opening = [{"role": "user", "content": question}]
        if system:
            opening.insert(0, {"role": "system", "content": system})
        prompt = template(opening, tokenize=False, add_generation_prompt=True)
        if not prompt.endswith("<think>\n"):
            prompt += "<think>\n"
        segments = [Segment(prompt, False)]
        pictures = [part["image"] for part in question if part["type"] == "image"]
        for text, frames, spoken in _moves(trace):
            if spoken:
                segments.append(Segment(text, True))
                continue
            if not frames:  # nobody is to learn a call that was refused
                segments[-1] = Segment(segments[-1].text, False)
            supplied = "".join(frame.label() + PICTURE for frame in frames) or text
            segments.append(Segment(f"<frame>{supplied}</frame>\n", False))
            pictures += [frame.image() for frame in frames]
        if not reply_next:
            segments += [Segment("<|im_end|>", True), Segment("\n", False)]
        return segments, pictures

    def render_forced(
        self, trace: Trace, template: Callable[..., str], system: str = ""
    ) -> tuple[list[Segment], list[Picture]]:
        """The same up to the `<answer>` behind what was thought, whatever the last turn called."""
        segments, pictures = self.render(trace, template, True, system)
        return [*segments, Segment("\n</think>\n\n<answer>", False)], pictures

    def read_reply(self, text: str, truncated: bool = False) -> Reply:
        """What a model said since it was last shown a frame, taken apart.

        >>> TAGS.read_reply("hm. <retrieve> a red disc </retrieve>").calls[0].arguments
        {'query': 'a red disc'}
        """
        opened = OPENED.search(text)
        if opened and "</answer>" in text[: opened.start()]:
            # The turn ended there: what was called behind it was never asked.
            text = text[: opened.start()]
        elif opened:
            call = CALL.match(text, opened.start())
            if call:
                step = Step(kind="call", tool=call[1], arguments={"query": call[2].strip()})
            else:  # not closed, nested, or closed without being opened
                step = Step(kind="call", text=text[opened.start() :].strip())
            return Reply(_words(text[: opened.start()]), [step], "", truncated and not call)
        if stated := [*ANSWER.finditer(text)]:
            thinking = text[: stated[-1].start()]
            answer = f"Answer: {stated[-1][1].strip()}".strip()
            return Reply(_words(thinking), [], answer, truncated)
        thinking, _, rest = text.removeprefix("<think>").partition("</think>")
        return Reply(_words(thinking), [], _words(rest), truncated)

    def unreadable(self, text: str) -> str:
        """What is wrong with a call between tags."""
        opened = OPENED.match(text)
        if not opened or not opened[1]:
            return "a tag closes a call that was not opened."
        name = opened[1]
        return f"the call must be <{name}> query </{name}>, with no other tag in it."

    def instruction(
        self, trace: Trace, reveal_answer: bool = False, human_reasoning: bool = False
    ) -> str:
        """What a teacher is told first; answer and human reasoning are in it only on demand."""
        return STUDENT + hints(trace.question, reveal_answer, human_reasoning)


TAGS = Tags()


def _words(text: str) -> str:
    """A thought without the tags around thoughts and answers, which its place in a trace tells."""
    return FRAMING.sub("", text).strip()


def _moves(trace: Trace) -> Iterator[tuple[str, list[Frame], bool]]:
    """Text, frames and whether the assistant said it, move by move."""
    for step in trace.steps:
        text = spaced(step.text)
        if step.kind == "think":
            # A frame ends with a line break, a call begins on a line: one form, read and written.
            if text:
                yield text, [], True
        elif step.kind == "call":
            if step.tool:
                query = spaced(step.arguments.get("query", ""))
                text = f"<{step.tool}> {query} </{step.tool}>"
            yield f"\n{text}", [], True
        elif step.kind == "evidence":
            yield text, step.frames, False
        else:
            letter = text.removeprefix("Answer:").strip()
            yield f"\n</think>\n\n<answer> {letter} </answer>", [], True
