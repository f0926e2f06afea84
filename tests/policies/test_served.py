"""The served student against the local one: the same tokens in training, here and there."""

import os

import pytest

from act2see.encoding import encode
from act2see.interleave import Budget, interleave
from act2see.pocket.questions import pocket_questions
from act2see.policies.model_name import ServedModelError
from act2see.policies.qwen import QwenPolicy
from act2see.policies.served import ServedPolicy
from act2see.profiles import PROFILES
from act2see.student import load_student
from tests.policies.token_servers import StudentServer, listening

POCKET = PROFILES["pocket"]
DIALOGUES = int(os.environ.get("ACT2SEE_DIALOGUES", 4))


@pytest.fixture(scope="module")
def tuned():
    """The shipped student, not quantised: rows of a batch do not change each other's words."""
    return load_student(POCKET.student, POCKET.adapter, four_bit=False)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    families = ("static", "moment", "search", "order")
    return pocket_questions("test", 7, DIALOGUES, tmp_path_factory.mktemp("asked"), families)


def held(policy, questions, budget=POCKET.budget):
    """The policy's traces by question, and what it said in tokens, by question and turn."""
    said, read = {}, policy.turn.read

    def noted(tokens, trace, truncated):
        said.setdefault(trace.question.id, []).append(tokens)
        return read(tokens, trace, truncated)

    policy.turn.read = noted
    return {t.question.id: t for t in interleave(questions, policy, POCKET.tools, budget)}, said


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_training_inference_and_server_have_the_same_tokens(tuned, processor, asked, kind):
    limits = {"max_new_tokens": 256}
    local, said = held(QwenPolicy(tuned, processor, **limits), asked)
    student = StudentServer(tuned, processor, kind)
    with listening(student) as url:
        served, told = held(ServedPolicy("tuned", url, processor, **limits), asked)
    assert [t.failed for t in served.values()] == [""] * len(asked)
    assert told == said
    assert {k: t.steps for k, t in served.items()} == {k: t.steps for k, t in local.items()}
    read = student.read[2:]  # behind the proof
    for trace in served.values():
        learned = encode(trace, processor)
        turns = told[trace.question.id]
        starts = [ids for ids, words in read if ids == learned.ids[: len(ids)] and words in turns]
        assert len(starts) >= len(turns)
        spoken = [token for token in learned.labels if token != -100]
        assert trace.forced or spoken == [token for words in turns for token in words]


def test_a_forced_letter_is_the_local_one(tuned, processor, asked):
    budget = Budget(max_calls=0)
    limits = {"max_new_tokens": 6}
    local, _ = held(QwenPolicy(tuned, processor, **limits), asked, budget)
    with listening(StudentServer(tuned, processor)) as url:
        served, _ = held(ServedPolicy("tuned", url, processor, **limits), asked, budget)
    assert all(t.forced and t.truncated for t in served.values())
    assert {k: t.answer() for k, t in served.items()} == {k: t.answer() for k, t in local.items()}


def test_an_adapter_that_is_not_there_is_found_on_start(tuned, processor):
    for kind in ("vllm", "sglang"):
        with listening(StudentServer(tuned, processor, kind, bare=True)) as url:
            with pytest.raises(ServedModelError, match="'tuned' says what 'base' says"):
                ServedPolicy("tuned", url, processor)
            with pytest.raises(ServedModelError, match="'base' is no adapter"):
                ServedPolicy("base", url, processor)
            assert ServedPolicy("base", url, processor, tuned=False).server.kind == kind


def test_a_name_that_the_server_has_not_is_refused(tuned, processor):
    with listening(StudentServer(tuned, processor)) as url:
        with pytest.raises(ServedModelError, match=r"'act2see'; http.* serves: base, tuned"):
            ServedPolicy("act2see", url, processor)


def test_a_server_that_takes_no_ids_is_refused(tuned, processor):
    with listening(StudentServer(tuned, processor, "huggingface")) as url:
        with pytest.raises(ValueError, match="'huggingface'; it must be vLLM or SGLang"):
            ServedPolicy("tuned", url, processor)


def test_a_server_that_reads_other_tokens_fails_that_trace(tuned, processor, traces):
    trace = traces[0].model_copy(update={"steps": []})
    for kind in ("vllm", "sglang"):
        student = StudentServer(tuned, processor, kind)
        with listening(student) as url:
            policy = ServedPolicy("tuned", url, processor, max_new_tokens=4)
            generate = student._generate
            student._generate = lambda name, ids, *rest, g=generate: g(name, [*ids, ids[-1]], *rest)
            policy.reply([trace])
        assert "read other tokens" in trace.failed


def test_a_request_that_fails_ends_its_own_trace(tuned, processor, traces):
    good, bad = (t.model_copy(update={"steps": [], "failed": ""}) for t in traces[:2])
    student = StudentServer(tuned, processor)
    post = student.post
    with listening(student) as url:
        policy = ServedPolicy("tuned", url, processor, max_new_tokens=2)
        marked = len(encode(bad, processor, True).ids)
        images = len(bad.overview)
        shorter = marked - images * 8  # of nine tokens a frame, one is sent

        def refusing(path, body):
            wrong = len(body["token_ids"]) == shorter
            return {"error": "too long"} if wrong else post(path, body)

        student.post = refusing
        replies = policy.reply([good, bad])
    assert not good.failed and replies[0].thinking
    assert "400" in bad.failed and "too long" in bad.failed


def test_pairs_of_frames_are_refused(tuned, processor, traces):
    with listening(StudentServer(tuned, processor)) as url:
        policy = ServedPolicy("tuned", url, processor)
        with pytest.raises(ValueError, match="overview_as_video is True; it must be False"):
            policy.reply([traces[0].model_copy(update={"overview_as_video": True})])


def test_a_setting_names_what_shapes_the_answers(tuned, processor):
    with listening(StudentServer(tuned, processor)) as url:
        ask = lambda **speech: ServedPolicy("tuned", url, processor, **speech).setting  # noqa: E731
        settings = {ask(), ask(max_new_tokens=9), ask(system="be brief"), ask(temperature=0.6)}
        settings |= {ask(temperature=0.6, seed=1), ask(temperature=0.6, top_p=0.9)}
        settings |= {ask(temperature=0.6, top_k=20)}
    assert len(settings) == 7 and all("tuned on vllm" in text for text in settings)
