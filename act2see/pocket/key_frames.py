"""Key frames of a pocket question by its truth: the best choice for `policies.key_frames`.

Works on the `truth` of pocket questions. Knows nothing of policies but the form of their calls.
It stands for key frames that a person has marked, as in ViTIB. Our choice.
"""

from act2see.policies.key_frames import retrieval
from act2see.trace import Question, Step


def by_truth(question: Question) -> list[Step]:
    """Calls for the windows that matter, none of `static`; of a hypothetical, for its frame."""
    truth = question.truth
    if "prompt" not in truth:
        return [retrieval(start_s, end_s) for start_s, end_s in truth["windows"]]
    wish = {"prompt": truth["prompt"], "time_s": truth["time_s"]}
    return [Step(kind="call", tool="generate_frame", arguments=wish)]
