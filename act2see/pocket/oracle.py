"""The pocket world's scripted teacher: it knows the scene, reasons in words, and errs on purpose.

Works on traces about pocket questions, in the dialect that each is in. It stands for Gemini 2.5
Pro, with a teacher's mistakes at a stated rate for the filter to find. It keeps no state: a turn
follows from the trace and the seed alone. Knows nothing of tools but their names. Our choice.
"""

from dataclasses import dataclass

from act2see.pocket.search_turn import SearchTurn
from act2see.pocket.turn import MISTAKES, Turn
from act2see.trace import Reply, Trace

__all__ = ["MISTAKES", "OraclePolicy", "mistake"]


@dataclass(frozen=True)
class OraclePolicy:
    """The scripted teacher. Rates are chances per question; what remains is done right.

    searches: the most frames that it asks for by a text before it answers. slips: the chance that
    its first or second turn has a call that is refused for its form; the turn is then taken again.
    """

    seed: int = 0
    wrong_window: float = 0.08
    misread: float = 0.08
    jump: float = 0.08
    wander: float = 0.08
    name: str = "oracle"
    searches: int = 1
    slips: float = 0.0

    def reply(self, traces: list[Trace]) -> list[Reply]:
        """The next turn of every trace."""
        return [self.turn(trace).reply() for trace in traces]

    def force(self, traces: list[Trace]) -> list[str]:
        """A guess from the trace's own seed."""
        return [self.turn(trace).conclude("").answer for trace in traces]

    def turn(self, trace: Trace) -> Turn:
        """The next turn, by windows of time or, in the paper's tags, by texts."""
        if trace.dialect == "tags":
            return SearchTurn(trace, self, self.searches)
        return Turn(trace, self)


def mistake(trace: Trace, policy: object) -> str:
    """The mistake made on purpose in this trace; "unknown" where the policy is not an oracle."""
    return Turn(trace, policy).mistake if isinstance(policy, OraclePolicy) else "unknown"
