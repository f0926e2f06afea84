from act2see.policies.last_evidence import GONE, LastEvidence, last_evidence
from act2see.trace import Frame, Question, Step, Trace


def trace(calls):
    steps = []
    for number in range(calls):
        steps.append(Step(kind="think", text=f"thought {number}"))
        steps.append(Step(kind="call", tool="frame_at", arguments={"time_s": number}))
        steps.append(Step(kind="evidence", frames=[Frame(time_s=number)]))
    question = Question(video="v.mp4", text="what?")
    return Trace(question=question, overview=[Frame(time_s=0)], steps=steps)


def shown(trace):
    return [len(step.frames) for step in trace.steps if step.kind == "evidence"]


def test_only_the_newest_evidence_keeps_its_frames():
    long = trace(3)
    view = last_evidence(long)
    assert shown(view) == [0, 0, 1] and shown(long) == [1, 1, 1]
    assert [s.text for s in view.steps if s.kind == "evidence"] == [GONE, GONE, ""]
    assert [s.words() for s in view.steps if s.kind in ("think", "call")] == [
        s.words() for s in long.steps if s.kind in ("think", "call")
    ]
    assert len(view.overview) == 1


def test_all_calls_of_the_newest_turn_keep_theirs():
    both = trace(1)
    both.steps += [step for step in trace(1).steps if step.kind != "think"]
    assert shown(last_evidence(both)) == [1, 1]


def test_an_error_text_stays_what_it_was():
    failed = trace(2)
    failed.steps[2] = Step(kind="evidence", text="time_s is -1; it must lie between 0 and 9.")
    assert last_evidence(failed).steps[2].text.startswith("time_s is -1")


def test_the_policy_is_shown_the_view_and_the_trace_stays():
    class Spy:
        name = "spy"

        def reply(self, traces):
            self.seen = traces
            return [None] * len(traces)

    spy = Spy()
    policy = LastEvidence(spy)
    long = trace(2)
    policy.reply([long])
    assert shown(spy.seen[0]) == [0, 1] and shown(long) == [1, 1] and policy.name == "spy"
