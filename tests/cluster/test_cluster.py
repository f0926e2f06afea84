"""Workers of a Ray cluster on this machine leave what one process leaves; `make cluster`."""

import os
import signal
from functools import partial

import pytest
import ray

from act2see.cluster import TRIES, Crew, Worker, collect
from act2see.interleave import Budget
from act2see.interleave import collect as collect_alone
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import pocket_questions
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import POCKET
from act2see.store import read_traces
from act2see.student import load_processor, load_student

BUDGET = Budget(open_dialogues=4)


class Watched(OraclePolicy):
    """Writes down which process asks what; the first to ask about `victim` is killed there."""

    def __init__(self, folder, victim="", always=False):
        super().__init__()
        self.folder = folder
        self.victim = victim
        self.always = always

    def reply(self, traces):
        for trace in traces:
            name = trace.question.id
            (self.folder / f"{os.getpid()} {name}").touch()
            killed = self.folder / "killed"
            if name == self.victim and (self.always or not killed.exists()):
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().reply(traces)


def student():
    model = load_student(POCKET.student, POCKET.adapter)
    return QwenPolicy(model, load_processor(POCKET.student), "student")


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return pocket_questions("validation", 321, 24, tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module", autouse=True)
def machine():
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def lines(path):
    return sorted(path.read_bytes().splitlines())


def pictures(path):
    return {p.name: p.read_bytes() for p in path.with_name("frames").iterdir()}


def asked(folder):
    return [path.name.split(" ", 1) for path in folder.glob("* *")]


def test_two_workers_leave_what_one_process_leaves(questions, tmp_path):
    one, two = tmp_path / "one" / "traces.jsonl", tmp_path / "two" / "traces.jsonl"
    alone = collect_alone(one, questions, student(), POCKET.tools, BUDGET, "", [POCKET.student])
    both = collect(two, questions, student, POCKET.tools, BUDGET, models=[POCKET.student])
    assert lines(one) == lines(two) and pictures(one) == pictures(two)
    assert [t.model_dump() for t in alone] == [t.model_dump() for t in both]


def test_a_killed_workers_questions_are_asked_again(questions, tmp_path):
    one, two = tmp_path / "one" / "traces.jsonl", tmp_path / "two" / "traces.jsonl"
    watch = tmp_path / "watch"
    watch.mkdir()
    collect_alone(one, questions, OraclePolicy(), POCKET.tools, BUDGET)
    make = partial(Watched, watch, questions[9].id)
    collect(two, questions, make, POCKET.tools, BUDGET)
    assert (watch / "killed").exists()
    assert len({process for process, _ in asked(watch)}) == 3
    assert lines(one) == lines(two) and pictures(one) == pictures(two)
    # The file is whole: nothing is asked again.
    for note in watch.glob("* *"):
        note.unlink()
    collect(two, questions, make, POCKET.tools, BUDGET)
    assert not asked(watch)


def test_a_question_that_takes_its_worker_down_fails_alone(questions, tmp_path):
    path = tmp_path / "traces.jsonl"
    make = partial(Watched, tmp_path, questions[5].id, always=True)
    traces = collect(path, questions, make, POCKET.tools, BUDGET)
    failed = [trace.question.id for trace in traces if trace.failed]
    assert failed == [questions[5].id]
    assert traces[5].failed.startswith(f"{TRIES} workers were lost that asked it: ")
    assert sum(trace.correct() for trace in traces) >= 20
    assert len(read_traces(path)) == len(questions)


def test_what_a_policy_lacks_has_the_loops_own_default():
    class Bare:
        name = "bare"

        def reply(self, traces):
            return []

    crew = Crew(lambda: ray.remote(Worker).remote(Bare, (), BUDGET), 1, BUDGET)
    assert (crew.name, crew.setting, crew.attempt) == ("bare", "", 1)
    assert crew.instruction(None) == "" and crew.accepts("anyone")


def test_an_error_of_a_policy_is_raised_here(questions, tmp_path):
    class Wrong(OraclePolicy):
        def reply(self, traces):
            raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper"):
        collect(tmp_path / "traces.jsonl", questions, Wrong, POCKET.tools, BUDGET)
