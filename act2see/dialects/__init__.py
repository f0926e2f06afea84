"""How a dialogue is written for a model, and read back: one object a way, in one dict.

Works on the names in `Trace.dialect`. Knows nothing of models. Add an entry for one of your own.
"""

from act2see.dialects.calls import CALLS
from act2see.dialects.dialect import Dialect
from act2see.dialects.tags import TAGS
from act2see.trace import Trace

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (CALLS, TAGS)}


def dialect_of(trace: Trace) -> Dialect:
    """The dialect that a trace was had in. Raises ValueError for one that is not in `DIALECTS`."""
    if trace.dialect not in DIALECTS:
        known = ", ".join(DIALECTS)
        raise ValueError(f"dialect is {trace.dialect!r}; it must be one of: {known}")
    return DIALECTS[trace.dialect]
