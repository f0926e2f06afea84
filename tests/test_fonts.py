"""Lines as long as the page is wide, and fonts for what DejaVu does not have."""

import pytest

from act2see import fonts
from act2see.fonts import font_families, wrap


def slow_wrap(text, width):
    """Words are put on a line until it is too long: by the widths of whole lines."""
    path = fonts.findfont("DejaVu Sans")
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        fits = sum(fonts._advance(letter, path) for letter in longer) <= width
        lines = [*lines[:-1], longer] if fits else [*lines, word]
    return lines


def test_words_are_wrapped_by_their_width():
    text = "When the wall turns dark, WHO IS THE VISITOR, and iiiiiiiiiiiii is it narrow? " * 5
    assert wrap(text, 20) == slow_wrap(text, 20)
    assert len(wrap("W" * 400, 20)) > 3 * len(wrap("i" * 400, 20))


@pytest.mark.parametrize(
    "text", ["W" * 99, "第三个画面里的女人在做什么？" * 9, "🤔" * 50, "a  b " * 30]
)
def test_a_line_is_cut_where_no_space_is_and_nothing_is_lost(text):
    lines = wrap(text, 12)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(len(line) <= 12 * 4 for line in lines)
    assert len(lines) > 1


def test_nothing_has_no_lines():
    assert wrap("", 10) == wrap(" \n ", 10) == []


def test_dejavu_is_enough_for_its_own_letters_and_asks_for_no_other(monkeypatch):
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: pytest.fail("fonts were looked for"))
    assert font_families("what? ✓ ✗ éß Ж λ\n\t") == (["DejaVu Sans"], "")


def test_a_letter_is_missing_where_no_font_is_installed_that_has_it(monkeypatch):
    fonts._found.cache_clear()
    _, missing = font_families("画🤔 a")
    assert {*missing} <= {*"画🤔"}
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [fonts.findfont("DejaVu Serif")])
    fonts._found.cache_clear()
    assert font_families("画🤔 a") == (["DejaVu Sans"], "画🤔")
    fonts._found.cache_clear()
