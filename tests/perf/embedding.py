"""The filter's embeddings against one call of the embedder for every text of every trace."""

import numpy as np

from act2see.profiles import PROFILES
from act2see.similarity import load_embedder, similarity
from act2see.trace import Question, Step, Trace
from tests.perf.report import compare

WORDS = "the disc is red and then it turns green while a visitor comes by at the top".split()


def texts(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, int(rng.integers(5, 60)))) for _ in range(count)]


if __name__ == "__main__":
    embed = load_embedder(PROFILES["pocket"].embedder)
    human = [
        Question(id=str(i), source="", family="", video="", duration_s=1.0, text="", reasoning=text)
        for i, text in enumerate(texts(0, 40))
    ]
    thoughts = texts(1, 120)  # three traces a question
    traces = [
        Trace(question=human[i % 40], steps=[Step(kind="think", text=text)])
        for i, text in enumerate(thoughts)
    ]

    def one_by_one():
        for trace in traces:
            embed([trace.reasoning()]) @ embed([trace.question.reasoning]).T

    compare("embedding", "120 traces", ">= 2", lambda: similarity(traces, embed), one_by_one)
