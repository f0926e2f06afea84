"""Fonts for text of any script in a figure, and lines that are no longer than the page is wide.

Works on strings, on the texts of a figure, and on the fonts that this machine has. Knows nothing of
what is drawn. DejaVu Sans, which comes with matplotlib, has Latin, Greek, Cyrillic, Arabic and
more, but not Chinese, Japanese, Korean or most emoji; other fonts are looked for when a text needs
them. Our choice.
"""

import io
import re
from base64 import b64encode
from functools import lru_cache
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font
from matplotlib.text import Text

# A word with the space behind it, or one letter of a script that is written without spaces.
WIDE = (
    "\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uffee\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
FIRST = "DejaVu Sans"
TOKEN = re.compile(rf"[{WIDE}]\s*|[^\s{WIDE}]+\s*|\s+")


class Readable(Figure):
    """A figure that takes the fonts which its texts need, and words for those who do not see it."""

    alt = ""

    def draw(self, renderer: RendererBase) -> None:
        """Draws it, as matplotlib does."""
        for axes in self.findobj(Axes):
            # Ticks take their words only when they are asked for.
            axes.get_xticklabels()
            axes.get_yticklabels()
        texts = self.findobj(Text)
        families, _ = font_families("".join(text.get_text() for text in texts))
        for text in texts:
            # DejaVu alone is what they have, unless the caller chose another.
            if families[1:] and text.get_fontfamily() == ["sans-serif"]:
                text.set_fontfamily(families)
        super().draw(renderer)

    def _repr_mimebundle_(self, **more: object) -> tuple[dict, dict]:
        file = io.BytesIO()
        self.savefig(file, format="png", bbox_inches="tight")
        return {"image/png": b64encode(file.getvalue()).decode()}, {"image/png": {"alt": self.alt}}


def font_families(text: str) -> tuple[list[str], str]:
    """Names of fonts that have the letters of a text between them, and the letters that none has.

    DejaVu Sans stands first, so that a text which it has whole looks the same on every machine. A
    letter that no font of this machine has is drawn as a box.
    """
    letters = frozenset(filter(str.isprintable, text)) - _letters(findfont(FIRST))
    families, missing = _found(letters)
    return [FIRST, *families], missing


def wrap(text: str, width: float, **font: str) -> list[str]:
    """The text in lines at most `width` times as long as its letters are high.

    font: family or weight, which decide how wide a letter is. Where a word alone is longer, it is
    cut.
    """
    lines = [""]
    path = findfont(FontProperties(**font))
    for token in TOKEN.findall(text.expandtabs(4)):
        if _width(lines[-1] + token.rstrip(), path) > width and lines[-1]:
            lines.append("")
        for letter in token:
            if letter != " " and _width(lines[-1] + letter, path) > width:
                lines.append("")
            lines[-1] += letter
    return [line.rstrip() for line in lines if line.strip()]


def folded(text: str, width: float) -> str:
    """The text with line breaks, each part of it as `wrap` cuts it.

    >>> folded("key frames by change", 8.0)
    'key frames by\\nchange'
    """
    return "\n".join(line for part in text.splitlines() for line in wrap(part, width))


def _width(text: str, path: str) -> float:
    return sum(_advance(letter, path) for letter in text)


@lru_cache(maxsize=10_000)
def _advance(letter: str, path: str) -> float:
    """How wide a letter is, as a share of the font's size; of one from another font, at most."""
    if letter not in _letters(path):
        # Ideographs are squares, and so is the box where no font has one, but larger; emoji are
        # wider in some fonts.
        return 1.15 if letter < "\U00010000" else 1.4
    font = get_font(path)
    font.set_size(100, 72)
    return font.load_char(ord(letter)).linearHoriAdvance / 65536 / 100


@lru_cache(maxsize=8)
def _letters(path: str) -> frozenset[str]:
    """What a font file can draw; nothing where it holds pictures, such as coloured emoji."""
    try:
        font = get_font(path)
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()


@lru_cache(maxsize=64)
def _found(letters: frozenset[str]) -> tuple[list[str], str]:
    """Installed fonts that have these letters, the plain ones first, and the letters left over."""
    families = []
    known = {Path(font.fname).name for font in fontManager.ttflist}
    # By kind, then by name, so that a figure is the same whenever it is drawn.
    order = sorted(
        findSystemFonts() if letters else [], key=lambda p: ("Sans" not in p, "Regular" not in p, p)
    )
    for path in order:
        if letters & _letters(path):
            letters -= _letters(path)
            families.append(get_font(path).family_name)
            if Path(path).name not in known:
                # matplotlib remembers the fonts of its first run.
                fontManager.addfont(path)
    return families, "".join(sorted(letters))
