"""Sixty forms of an answer and more, each with every letter: read, or at least not as another."""

import pytest

from act2see.letters import lenient_letter
from act2see.trace import LETTERS, read_letter

OPTIONS = ["a red disc", "a blue cross", "the green ring", "nothing happens"]
# @ is the letter, ~ a small one, Ｘ and Ⓧ ones of other scripts, {o} the option's text.
FORMS = r"""
Answer: @
answer: @
Answer：@
Answer: (@)
Answer: "@"
Answer: “@”
Answer: 「@」
**Answer:** @
**Answer: @**
Answer: **@**
Answer: @.
Answer: @. {o}
Answer: @ because the disc moves.
Answer: option @
Answer: Option (@)
Answer @
Answer\n\n@
### Answer\n**@**
Final answer: @
The answer is @.
The answer is (@).
The correct answer is **@**.
The correct option is @, since it moves.
So the answer is option (@).
Therefore, the answer must be @.
The answer to the question is @.
I choose @.
I would pick option @
I'd go with @.
My final answer is @.
option @
Option (@) fits.
It is @.
@ is correct.
@ is the right answer.
Option @ is correct
(@) is the best.
@
~
(@)
[@]
"@"
**@**
@.
@)
（Ｘ）
【@】
Ⓧ
Ｘ
~.
<answer>@</answer>
<answer> @ </answer>
<answer>(@)</answer>
<answer>@. {o}</answer>
\\boxed{@}
$\\boxed{@}$
\\boxed{\\text{@}}
The answer is $\\boxed{@}$.
{"answer": "@"}
@. {o}
@) {o}
(@) {o}
@: {o}
{o}
The answer is {o}.
答案：@
答案是@。
正确答案是（@）。
我选@
选择 @
答えは@です。
정답: @
정답은 @입니다
Réponse : @
La réponse est @.
Die Antwort ist @.
La respuesta correcta es @.
Ответ: @
الإجابة: @
A man opens the door at 2 s, so the answer is @.
I think it moves left. Answer: @
I see a disc; it turns. The answer is option @.
First I thought of A. But the right answer is @.
Answer: B. No, wait. Answer: @
The frames show a cup.\n\n@
the answer is ~
answer: ~.
option ~
@, because the disc moves.
@ because it falls
Answer: @, for it runs
Answer: @ (a dog)
The final answer is: (@)
Hence @
@ - {o}
~) {o}
<b>@</b>
So it must be @.
Answer:@
Answer: @\nThe disc is red.
B选项不对，@选项正确
The letter is @
→ @
""".strip().splitlines()
STRICT = r"""
Answer: @
Answer：@
Answer: (@)
Answer: “@”
**Answer:** @
Answer: @. {o}
Answer: @, for it runs
<answer> @ </answer>
@
(@)
【@】
**@**
@.
""".strip().splitlines()


def filled(form: str, place: int) -> str:
    """The form with a letter and its option's text."""
    letter = LETTERS[place]
    signs = {"@": letter, "~": letter.lower(), "\\n": "\n", "{o}": OPTIONS[place]}
    signs |= {"Ｘ": chr(ord("Ａ") + place), "Ⓧ": chr(ord("Ⓐ") + place)}
    for sign, said in signs.items():
        form = form.replace(sign, said)
    return form


@pytest.mark.parametrize("form", FORMS)
def test_a_stated_letter_is_read_and_no_other(form):
    for place, letter in enumerate("ABCD"):
        text = filled(form, place)
        assert lenient_letter(text, OPTIONS) == letter
        assert read_letter(text, 4) in (letter, "")


@pytest.mark.parametrize("form", STRICT)
def test_the_form_asked_for_is_read_strictly(form):
    for place, letter in enumerate("ABCD"):
        assert read_letter(filled(form, place), 4) == letter


@pytest.mark.parametrize(
    "text",
    [
        "A man opens the door",
        "not B",
        "It is not B.",
        "The answer is not B.",
        "Answer: A man walks",
        "answer: I think so",
        "A or B",
        "Answer: A and B",
        "Answer: A, B",
        "Answer: B or C",
        "A/B",
        "(A) and (B)",
        "both A and B are correct",
        "The answer is A or C.",
        "The answer is B and D",
        "option A is wrong",
        "I rule out option A.",
        "A is not correct",
        "Answer: not B",
        "Answer: E",
        "E",
        "",
        "I do not know",
        "The answer is in frame 3",
        "the answer is a dog that runs",
        "A woman sings",
        "I choose a dog",
        "None of the above",
        "answer: a man",
        "It is a.m.",
        "Answer: i.e. the dog",
        "Answer: Bob",
        "Answer: Do not know",
        "C'est la vie",
        "Answer: Á",
        "The answer is Vitamin C-like",
        "B isn't right",
        "Option B doesn't fit",
        "Answer:",
        "Answer: A B",
        "Could be A, could be B.",
        "A man asks: which? I see nothing",
        "A dog and a cat. I saw it.",
        "Answer: AB",
        "Answer: A/C",
        "option A or option B? option B.",
    ],
)
def test_no_letter_is_read_where_none_or_several_are_chosen(text):
    assert read_letter(text, 4) == lenient_letter(text, OPTIONS) == ""


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Not A, but B.", "B"),
        ("It is not A, B, or C; it is D.", "D"),
        ("neither A nor B, so C", "C"),
        ("The answer is not A but B", "B"),
        ("B rather than A", "B"),
        ("The answer is B, not A.", "B"),
        ("Answer: B. Option A shows nothing", "B"),
        ("The answer is B, since option A is wrong", "B"),
        ("A is wrong; B is right.", "B"),
        ("Between A and B, I choose B.", "B"),
        ("I do not choose A. I choose C", "C"),
        ("The answer is A? No, the answer is B", "B"),
        ("Answer: A. Wait, the answer is D.", "D"),
        ("The wrong options are A, C and D. The answer is B", "B"),
    ],
)
def test_the_last_letter_chosen_counts_and_none_that_is_ruled_out(text, letter):
    assert lenient_letter(text, OPTIONS) == letter
