"""One question about one video: here, of a chat server, and what the shell prints."""

import json

import pytest

from act2see import ask, example_question, example_video
from act2see.__main__ import main
from act2see.face import own_question
from act2see.profiles import PROFILES
from act2see.store import write_traces
from tests.policies.conftest import server

CALL = {"name": "retrieve_frames", "arguments": json.dumps({"start_s": 7, "end_s": 9})}
LOOK = {"role": "assistant", "content": "<think>not shown.</think>"}
LOOK |= {"tool_calls": [{"id": "a", "type": "function", "function": CALL}]}
ANSWER = {"role": "assistant", "content": "<think>there it is.</think>Answer: B"}


def chat(body, number):
    """A model that looks once and answers, as Ollama, llama.cpp and LM Studio send it."""
    message = LOOK if number == 0 else ANSWER
    return 200, {}, {"model": body["model"], "choices": [{"index": 0, "message": message}]}


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_chat_server_answers_about_a_video_without_a_student(monkeypatch):
    monkeypatch.setattr("act2see.student.load_student", None)
    question = example_question()
    with server(chat) as (url, bodies):
        trace = ask(
            example_video(), question.text, question.options, model="qwen3-vl", base_url=url
        )
    budget = PROFILES["served"].budget
    assert (trace.answer(), trace.policy, trace.served) == ("Answer: B", "qwen3-vl", "qwen3-vl")
    assert len(trace.overview) == budget.overview_frames and len(trace.calls()) == 1
    frames = [frame for step in trace.steps for frame in step.frames]
    assert frames and all(7 <= frame.time_s <= 9 for frame in frames)
    pictures = [p for m in bodies[1]["messages"] for p in m["content"] if "image_url" in p]
    assert len(pictures) == len(trace.frames()) and "Answer: B" in trace._repr_html_()


def test_an_address_without_a_model_is_refused():
    with pytest.raises(ValueError, match="model is empty; it must name one of those on http://x"):
        ask(example_video(), "who comes?", base_url="http://x")


def test_the_shell_asks_a_chat_server(capsys, tmp_path):
    words = ["ask", str(example_video()), "who comes?", "--option", "a", "--option", "b"]
    with server(chat) as (url, _):
        words += ["--model", "m", "--base-url", f"{url}/v1", "--html", str(tmp_path / "page.html")]
        assert main(words) == 0
    assert "Answer: B" in capsys.readouterr().out
    assert "retrieve_frames" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_shell_exports(traces, tmp_path, capsys):
    write_traces(tmp_path / "kept.jsonl", [t.model_copy(deep=True) for t in traces[:2]])
    assert main(["export", "traces", str(tmp_path / "kept.jsonl"), str(tmp_path / "set")]) == 0
    assert "2 of 2 traces" in capsys.readouterr().out
    adapter = PROFILES["pocket"].adapter
    assert main(["export", "adapter", adapter, str(tmp_path / "adapter")]) == 0
    assert main(["export", "merged", adapter, str(tmp_path / "merged")]) == 0
    names = capsys.readouterr().out.split()
    assert {"README.md", "model.safetensors", "chat_template.jinja", "config.json"} <= set(names)


def test_the_shell_says_what_is_wrong_with_an_export(tmp_path, capsys):
    assert main(["export", "merged", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "holds no adapter" in capsys.readouterr().err


def test_options_keep_their_own_letters_and_show_them_once():
    question = own_question(example_video(), "what colour?", ["B. blue", "A. red"])
    assert question.prompt() == "what colour?\nA) red\nB) blue"
    assert question.duration_s == 24


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (" ", [], "question is empty"),
        ("what?", ["one"], r"options are \['one'\]; they must be 2 to 10, or none"),
        ("what?", ["x"] * 11, "they must be 2 to 10"),
    ],
)
def test_what_is_wrong_with_a_question_of_ones_own_is_named(text, options, reason):
    with pytest.raises(ValueError, match=reason):
        own_question(example_video(), text, options)
