"""One run on many machines: workers of a Ray cluster ask, and one file holds their traces.

Works on questions, tools and a function that makes a policy. Knows nothing of which policy it is: a
local student, a server's, a teacher's. Videos and models lie where every machine finds them under
the same path. Needs Ray, the extra `cluster`. Our choice.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from act2see import interleave
from act2see.interleave import Budget, Policy
from act2see.tools.tool import Tool
from act2see.trace import Question, Trace

TRIES = 3  # workers that a question may lose before it fails


class Worker:
    """What runs in another process, on any machine: a policy and the loop."""

    def __init__(self, make_policy: Callable[[], Policy], tools: Sequence[Tool], budget: Budget):
        self.policy = make_policy()
        self.how = self.policy, tools, budget

    def fact(self, name: str, default: Any, *given: Any) -> Any:
        """What the policy says of itself, `default` where it says nothing."""
        value = getattr(self.policy, name, default)
        return value(*given) if callable(value) else value

    def ask(self, questions: list[Question]) -> Iterator[Trace]:
        """Finished traces, as they finish."""
        yield from interleave.interleave(questions, *self.how, progress=False)


class Crew:
    """Workers that pull questions. To `interleave.collect` it is their policy, and its `ask`."""

    def __init__(self, make: Callable[[], Any], workers: int, budget: Budget):
        self.make = make
        self.workers = [make() for _ in range(workers)]
        self.budget = budget
        self.name = self._fact("name", "")
        self.setting = self._fact("setting", "")
        self.attempt = self._fact("attempt", 1)

    def instruction(self, trace: Trace) -> str:
        """What the policy is told first."""
        return self._fact("instruction", "", trace)

    def accepts(self, served: str) -> bool:
        """Whether the policy takes answers of the model that a server named."""
        return self._fact("accepts", True, served)

    def ask(self, questions: Sequence[Question], label: str = "") -> Iterator[Trace]:
        """Finished traces of all workers, as they come.

        A lost worker is replaced. Its questions are asked again in smaller shares, at last one by
        one: a question that takes its worker down fails alone.
        """
        import ray

        waiting = deque(questions)
        lost: Counter[str] = Counter()
        idle = list(self.workers)
        running: dict[Any, tuple[Any, dict[str, Question]]] = {}
        with tqdm(total=len(questions), desc=label or self.name, unit="question") as bar:
            while waiting or running:
                while waiting and idle:
                    worker = idle.pop()
                    share = self._share(waiting, lost)
                    stream = worker.ask.options(num_returns="streaming").remote(share)
                    running[stream] = worker, {question.id: question for question in share}
                [stream], _ = ray.wait(list(running), num_returns=1)
                worker, open_questions = running[stream]
                ended = []
                try:
                    ended.append(ray.get(next(stream)))
                    del open_questions[ended[0].question.id]
                except StopIteration:
                    del running[stream]
                    idle.append(worker)
                except ray.exceptions.RayActorError as error:
                    del running[stream]
                    idle.append(self.make())
                    lost.update(list(open_questions))
                    unanswered = open_questions.values()
                    waiting.extendleft(q for q in unanswered if lost[q.id] < TRIES)
                    ended = [self._failed(q, error) for q in unanswered if lost[q.id] >= TRIES]
                bar.update(len(ended))
                yield from ended

    def _share(self, waiting: deque[Question], lost: Counter[str]) -> list[Question]:
        """The next questions for a worker: fewer towards the end, and where a worker was lost."""
        losses = lost[waiting[0].id]
        alike = sum(lost[question.id] == losses for question in waiting)
        most = self.budget.open_dialogues // 8**losses if losses < TRIES - 1 else 1
        count = max(1, min(most, -(-alike // len(self.workers))))
        return [waiting.popleft() for _ in range(count)]

    def _failed(self, question: Question, error: Exception) -> Trace:
        reason = f"{TRIES} workers were lost that asked it: {str(error).strip().splitlines()[0]}"
        return Trace(question=question, policy=self.name, attempt=self.attempt, failed=reason)

    def _fact(self, name: str, default: Any, *given: Any) -> Any:
        import ray

        return ray.get(self.workers[0].fact.remote(name, default, *given))


def collect(
    path: Path,
    questions: Sequence[Question],
    make_policy: Callable[[], Policy],
    tools: Sequence[Tool],
    budget: Budget,
    label: str = "",
    models: Sequence[str | Path] = (),
    workers: int = 2,
    **needs: Any,
) -> list[Trace]:
    """As `interleave.collect`, by `workers` processes of a Ray cluster, or of this machine alone.

    make_policy: called once in each. needs: what one takes of its machine, in Ray's words:
    `num_gpus=1`. The file differs from one process's by the order of its lines.
    """
    import ray

    remote = ray.remote(**{"num_cpus": 1, **needs})(Worker)
    crew = Crew(lambda: remote.remote(make_policy, tools, budget), workers, budget)
    return interleave.collect(path, questions, crew, tools, budget, label, models, crew.ask)
