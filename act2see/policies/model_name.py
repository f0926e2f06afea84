"""Whether the model that answered is the one that was asked for.

Works on names, as users and servers write them. Knows no server. A name that is shut down may be
answered by another model without an error: Gemini 2.5 Pro, the paper's teacher, from 2026-12-01 on.
The rule is our choice: where it is too strict the run stops and says so, and a name can be allowed.
"""

import re

SNAPSHOT = re.compile(
    r"[-@:](?:(?:preview|exp)-\d\d-\d{2,4}|\d{4}-\d\d-\d\d|\d\d-\d{4}|\d{3,8}|latest)$"
)


class ServedModelError(ValueError):
    """A model that was not asked for has answered."""


def same_model(asked: str, served: str) -> bool:
    """Whether the name in an answer can be that of the model asked for.

    served: "" where the server does not tell; it passes. Case does not count, nor do folders before
    the name, nor an owner that only one of the two has. A snapshot (a date, `001`, `latest`,
    `preview-05-06`) is the same model as the name without one, and another than a second snapshot.
    Two digits are a version, not a snapshot.

    >>> same_model("gpt-4o", "gpt-4o-2024-08-06"), same_model("gpt-4o", "gpt-4o-mini")
    (True, False)
    >>> same_model("gemini-2.5-pro", "gemini-3.8-flash"), same_model("x", "models/X-001")
    (False, True)
    """
    if not served.strip():
        return True
    owners, stems, snapshots = zip(_parts(asked), _parts(served), strict=True)
    one_owner = "" in owners or owners[0] == owners[1]
    return one_owner and stems[0] == stems[1] and ("" in snapshots or snapshots[0] == snapshots[1])


def _parts(name: str) -> tuple[str, str, str]:
    """Owner, name and snapshot, each "" where there is none."""
    name = name.strip().casefold().replace("\\", "/")
    *folders, last = name.rstrip("/").split("/")
    # `models/x` is how Gemini writes any name, and in a longer path the last folder owns nothing.
    owner = folders[0] if len(folders) == 1 and folders[0] not in (".", "models") else ""
    found = SNAPSHOT.search(last)
    stem = last[: found.start()] if found else last
    return owner, stem, last[len(stem) + 1 :].removeprefix("latest")
