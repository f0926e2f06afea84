import base64
import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from act2see.dialects import dialect_of
from act2see.interleave import interleave
from act2see.pocket.environment import Action, PocketEnvironment, served
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import FOUNDATION, pocket_questions
from act2see.profiles import PAPER_POCKET, POCKET
from act2see.rewards import naive

FAULTLESS = OraclePolicy(wrong_window=0, misread=0, jump=0, wander=0)
ANSWER = "it may be green.\n</think>\n\nAnswer: {}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return PocketEnvironment(tmp_path_factory.mktemp("clips"), "validation", series=5)


def written(reply):
    """A turn of the dialect `calls` as a model would say it."""
    calls = [{"name": call.tool, "arguments": call.arguments} for call in reply.calls]
    tail = "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)
    return f"{reply.thinking}\n</think>\n\n{tail or reply.answer}"


def play(world, policy=FAULTLESS):
    """Turns of a policy until the end; the last observation."""
    while True:
        seen = world.step(Action(text=written(*policy.reply([world.state]))))
        if seen.done:
            return seen


def call(**window):
    call = {"name": "retrieve_frames", "arguments": window}
    return Action(text=f"hm.\n</think>\n\n<tool_call>\n{json.dumps(call)}\n</tool_call>")


def texts(seen):
    return [p["text"] for m in seen.messages for p in m["content"] if p["type"] == "text"]


@pytest.mark.parametrize("number", range(4))
def test_the_oracle_earns_1_and_its_dialogue_is_that_of_the_loop(world, number):
    assert world.reset(seed=number).reward is None
    question = world.state.question
    last = play(world)
    assert (last.done, last.reward) == (True, 1.0)
    (trace,) = interleave([question], FAULTLESS, POCKET.tools, POCKET.budget, progress=False)
    assert world.state.model_dump(exclude={"policy"}) == trace.model_dump(exclude={"policy"})


def test_a_seed_asks_the_question_of_that_number(world):
    questions = pocket_questions("validation", 5, 6, world.folder, FOUNDATION)
    for number in (4, 1, 4):
        world.reset(seed=number)
        assert world.state.question == questions[number]
    world.reset()
    assert world.state.question == questions[0]


def test_frames_are_in_the_messages_pixel_by_pixel_and_the_answer_is_not(world):
    seen = world.reset(seed=1)
    (message,) = seen.messages
    parts = [part for part in message["content"] if part["type"] == "image_url"]
    assert len(parts) == 8
    for part, frame in zip(parts, world.state.overview, strict=True):
        data = part["image_url"]["url"].removeprefix("data:image/png;base64,")
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.tobytes() == frame.image().tobytes()
    assert seen.tools == [tool.schema() for tool in POCKET.tools]
    words = texts(seen)
    assert words[-1] == world.state.question.prompt()
    assert world.state.question.reasoning not in seen.model_dump_json()


def test_a_call_brings_only_what_is_new(world):
    world.reset(seed=1)
    seen = world.step(call(start_s=1, end_s=3))
    assert [m["role"] for m in seen.messages] == ["tool"]
    assert texts(seen) == [f.label() for f in world.state.steps[-1].frames] != []
    assert not seen.done


@pytest.mark.parametrize(
    ("window", "text"),
    [
        ({"start_s": 5}, "retrieve_frames needs end_s."),
        ({"start_s": 9, "end_s": 5}, "start_s is 9; it must be less than end_s, 5."),
        ({"start_s": "noon", "end_s": 5}, "start_s is 'noon'; it must be a number."),
    ],
)
def test_a_bad_call_gets_its_error_text(world, window, text):
    world.reset(seed=1)
    assert texts(world.step(call(**window))) == [text]


def test_a_call_that_is_not_json_gets_its_error_text_and_the_dialogue_goes_on(world):
    world.reset(seed=1)
    seen = world.step(Action(text="hm.\n</think>\n\n<tool_call>\n{oops\n</tool_call>"))
    assert texts(seen)[0].startswith("the call is not JSON") and not seen.done
    right = "ABCD"[world.state.question.answer]
    assert world.step(Action(text=ANSWER.format(right))).reward == 1


def test_a_letter_is_asked_for_where_a_turn_has_none_and_ends_the_dialogue(world):
    world.reset(seed=1)
    seen = world.step(Action(text="i do not know", truncated=True))
    assert not seen.done and texts(seen) == [dialect_of(world.state).answer_now]
    right = "ABCD"[world.state.question.answer]
    last = world.step(Action(text=ANSWER.format(right)))
    assert (last.done, last.reward) == (True, 1.0) and world.state.forced


def test_a_wrong_letter_earns_what_the_reward_says_and_nothing_follows_it(world):
    shaped = replace(world, reward=naive)
    shaped.reset(seed=0)
    wrong = "ABCD"[shaped.state.question.answer - 1]
    assert shaped.step(Action(text=ANSWER.format(wrong))).reward == 0.5
    with pytest.raises(ValueError, match="reset asks one"):
        shaped.step(Action(text=ANSWER.format(wrong)))


def test_the_papers_tags_are_played_too(tmp_path):
    profile = replace(PAPER_POCKET, tools=(), families=("static",))
    tags = PocketEnvironment(tmp_path, profile=profile)
    tags.reset(seed=2)
    right = "ABCD"[tags.state.question.answer]
    last = tags.step(Action(text=f"it is so.\n</think>\n<answer>{right}</answer>"))
    assert last.reward == 1


def test_the_token_that_ends_a_turn_may_stand_or_not(world):
    for end in ("", "<|im_end|>"):
        world.reset(seed=0)
        right = "ABCD"[world.state.question.answer]
        assert world.step(Action(text=ANSWER.format(right) + end)).reward == 1
        assert world.state.answer() == f"Answer: {right}"


def test_openenv_serves_it(tmp_path):
    pytest.importorskip("openenv.core.env_server")
    testing = pytest.importorskip("fastapi.testclient")
    client = testing.TestClient(served(tmp_path, split="validation"))
    with client.websocket_connect("/ws") as session:
        session.send_json({"type": "reset", "data": {"seed": 2}})
        seen = session.receive_json()["data"]
        assert seen["observation"]["messages"][0]["role"] == "user" and not seen["done"]
        session.send_json({"type": "step", "data": call(start_s=1, end_s=3).model_dump()})
        seen = session.receive_json()["data"]
        parts = seen["observation"]["messages"][0]["content"]
        assert parts[1]["image_url"]["url"].startswith("data:image/png")
        session.send_json({"type": "step", "data": {"text": ANSWER.format("A")}})
        seen = session.receive_json()["data"]
        assert seen["done"] and seen["reward"] in (0, 1)
        session.send_json({"type": "state"})
        assert session.receive_json()["data"]["policy"] == "environment"
    assert "text" in client.get("/schema").json()["action"]["properties"]
