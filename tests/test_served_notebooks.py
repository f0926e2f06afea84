"""Notebooks 04 and 05 with the student on a server, and a chat model for a video of one's own."""

import pandas as pd
import pytest

from act2see import example_question, example_video
from act2see.profiles import PROFILES
from act2see.store import read_traces
from act2see.student import load_processor, load_student
from tests.policies.conftest import server
from tests.policies.token_servers import StudentServer, listening
from tests.test_face import chat
from tests.test_notebooks import run

POCKET = PROFILES["pocket"]


@pytest.fixture(scope="module")
def student():
    model = load_student(POCKET.student, POCKET.adapter, four_bit=False)
    with listening(StudentServer(model, load_processor(POCKET.student))) as url:
        yield {"student_url": url, "student_name": "tuned"}


def test_04_asks_a_served_student_and_a_chat_model(tmp_path, student):
    asked = example_question()
    own = {"video": str(example_video()), "question": asked.text}
    own |= {"options": "|".join(asked.options), "chat_model": "m"}
    with server(chat) as (url, _):
        run("04_interleaved_inference", tmp_path, questions=3, chat_url=url, **own, **student)
    traces = [t for file in (tmp_path / "inference").glob("*.jsonl") for t in read_traces(file)]
    served = {(t.policy, t.served) for t in traces}
    assert served == {("act2see", "tuned"), ("base", "base"), ("m", "m")}
    assert not any(t.failed for t in traces)


def test_05_scores_a_served_student_and_its_base(tmp_path, student):
    run("05_evaluation", tmp_path, questions=4, **student)
    results = pd.read_csv(tmp_path / "results.csv").set_index(["system", "family"])
    assert results.n["act2see", "all"] == results.n["base", "all"] == 4
    assert "greedy, served" in results.protocol["act2see", "all"]
