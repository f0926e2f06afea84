"""Text that stays text, wherever it is shown: on a page, in a figure, in a terminal, in a file.

Works on strings that models, files or users wrote. Knows nothing of what they mean. Our choice.
"""

import re
from typing import Any

DOLLARS = "tex2jax_ignore mathjax_ignore"  # classes of a page's part in which "$" is a dollar
HALF = re.compile(r"[\ud800-\udfff]")  # half a character, which no file and no server takes
# Codes that a terminal obeys, and those that turn the direction of writing round.
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MARKUP = re.compile(r"[\\`*{}\[\]<>|$~&^]|(?<!\w)_|_(?!\w)")


def mended(value: Any) -> Any:
    """The value with a � for each half character, however deep in lists and dicts it is.

    >>> mended({"title": ["\\ud83d half"]}) == {"title": ["� half"]}
    True
    """
    if isinstance(value, str):
        return HALF.sub("�", value)
    if isinstance(value, list | tuple):
        return [mended(item) for item in value]
    return {mended(k): mended(v) for k, v in value.items()} if isinstance(value, dict) else value


def printable(text: str) -> str:
    """The text with a � for each code that a terminal would obey.

    >>> printable("a\\x1b[2Jb") == "a�[2Jb"
    True
    """
    return OBEYED.sub("�", text)


def markdown(text: str) -> str:
    """The text for a Markdown cell, where it shows as it is, on one line: no tag, link or formula.

    >>> markdown("<img> $5")
    '&#60;img&#62; &#36;5'
    """
    line = " ".join(printable(text).split())
    # Numbers, not backslashes: a formula is looked for once backslashes are gone.
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", line)


def drawn(text: str) -> str:
    """The text for a figure, where a "$" would begin a formula.

    >>> drawn("$5")
    '\\\\$5'
    """
    return printable(text).replace("$", r"\$")
