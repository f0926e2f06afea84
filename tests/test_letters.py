"""Two hundred and twenty forms of an answer, each with every letter: read, and never as another."""

from itertools import permutations

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
The answer is: \boxed{\textbf{@}}
\[\boxed{@}\]
\boxed{\text{(@)}}
\boxed{@. {o}}
$@$
{'answer': '@'}
{"reasoning": "A disc moves", "answer": "@"}
{"final_answer": "@", "confidence": 0.9}
{"Answer": "(@)"}
```json\n{"answer": "@"}\n```
["@"]
<final_answer>@</final_answer>
<|begin_of_box|>@<|end_of_box|>
<answer>The answer is @</answer>
FINAL ANSWER: @
Answer = @
Ans: @
Response: @
Selection: @
Correct: @
I'd say @.
My guess is @.
It should be @.
Option @ it is.
Definitely @.
> @
**@. {o}**
✅ **@. {o}**
Answer: @ ✅
本题答案为@项。
答案应该是@。
故选：@．
選擇@。
答：@
@が正解です。
@가 정답입니다.
답은 @번입니다.
Верный вариант: @
Réponse finale : @
La respuesta es la opción @.
A resposta correta é a letra @.
Richtig ist @.
Option @ ist richtig.
Rätt svar är @.
Doğru cevap: @
Đáp án đúng là @.
คำตอบ: @
सही उत्तर @ है।
התשובה היא @
Απάντηση: @
Poprawna odpowiedź to @.
The answer, I think, is @.
The answer can only be @.
The answer's @.
Only @ fits.
@ it is.
<think>A or B?</think>@
option_@
That leaves @.
This corresponds to @.
...making @ the correct answer.
@ would be correct.
Answer: {o} (@)
A) a red disc - no\nB) a blue cross - no\nAnswer: @
""".strip().splitlines()
# @ is chosen, # and % are named and are not.
OTHERS = r"""
The answer is not #. The answer is not %. So @.
The answer can't be #, so it must be @
The answer isn't #; it's @
The answer is not # but @.
It's not #, it's @.
Answer: # (no, @)
~~Answer: #~~ Answer: @
Answer: #... actually, @.
Answer: #. Actually, the answer is @.
Answer: #. On second thought, @.
Answer: #\nCorrection: @
Answer: #. No, wait: @.
Answer: #. Hmm, that makes it @.
Answer: # — sorry, I mean @.
If the wall were red, the answer would be #, but it is dark, so the answer is @
The answer would have been # had the wall been red; it is @.
One might think the answer is #, but the answer is @.
Many would choose #. It is @.
Distractor: #. Correct answer: @
@ (not #)
Answer: @ (# is the opposite)
Answer: @\n\nWhy not #: the wall is light
Answer: @\n\n#: no disc\n%: no ring
Answer: @\n\n- #) never shown\n- %) never
Evidence: frame #\nAnswer: @
I choose @ over #.
@, not # or %
@ and not #
Neither # nor %; @.
Eliminate #, %. @ remains.
# is incorrect. Hence @.
# is wrong because it is blue. The right one is @
Is the answer #? No, it is @.
I don't believe that the answer is #. I believe it is @.
The wall is not dark\n@
The wall is not dark.\n\n@
Nothing is wrong\n@
The visitor is never shown\nAnswer @
不是#，是@
答案不是#，而是@
答案不是#而是@
#不对，@对
排除#和%，选@
#错误，@正确
#、%都错，选@
답은 #가 아니라 @입니다
정답은 #이 아니고 @이다
答えは#ではなく@です
#は間違い、@が正解
Die Antwort ist nicht #, sondern @.
La respuesta no es #, sino @.
A resposta não é #, mas @.
La risposta non è #, ma @.
Ответ не #, а @.
Answer: not # but @
Answer: @; # was my first thought
Answer: # or @, I choose @
My first answer was #. On reflection: @.
My initial guess was #. My answer: @
I first chose #. Now I choose @.
I thought it was # but it's @
The answer is # or @. Definitely @.
\boxed{#} is wrong. \boxed{@}
\boxed{#}\n\nWait.\n\n\boxed{@}
<answer>#</answer> no <answer>@</answer>
**#**\n\nHmm, no.\n\n**@**
Answer: #\nAnswer: @
Answer: #\n\nAnswer: #\n\nAnswer: @
{"answer": "#"}\n{"answer": "@"}
{"wrong": ["#", "%"], "answer": "@"}
{"answer": "@", "wrong": ["#", "%"]}
{"answer": "@", "reason": "# is never shown"}
{"answer": "@", "second_best": "#"}
Best: @. Second best: #.
The answer is @, although # is close.
The answer is @. # is also plausible.
The answer is @; option # is a distractor.
@ is right, # is wrong.
@ is right and # is wrong.
# is wrong and @ is right.
Only @ is consistent; # is not.
Instead of #, I choose @
I rule out # and choose @.
I ruled out #, %. Answer @.
I eliminated # first, then %. Answer: @.
Since # and % are excluded, the answer is @.
With # and % gone, @ is left.
The answer isn’t #, it’s @.
The correct answer is @ rather than #.
The correct answer is @ and not #.
The correct answer, contrary to #, is @.
I almost said #. Answer: @
Answer: @\n\nNote: # would be right if the wall were light.
Answer: @. (# would need a light wall.)
Answer: @, because # shows a cup
Team # wins, so the answer is @.
Answer: @\n\nOptions:\nA) a red disc\nB) a blue cross\nC) the green ring\nD) nothing happens
The frame labelled # shows it. Answer: @
# - wrong\n@ - right
# -> false, @ -> true
#: no\n@: yes
Were it dark, # would be the answer. It is light: @.
- [ ] #\n- [x] @
☐ # ☑ @
Answer: #. Scratch that: @.
Answer: #. Let me correct: @.
Answer: #. Oops, @.
Answer: #. Edit: @
# can be ruled out, leaving @.
Without the frames I would say #. The answer is @
I switch from # to @.
(#) is contradicted. (@) is supported.
While # looks good, @ is better.
Nicht #, sondern @.
Ce n'est pas #, c'est @.
不是#也不是%，所以是@。
Het antwoord is niet # maar @.
I compared # with @ and found that @ fits.
""".strip().splitlines()
# The bar: sixty forms of any script and markup, of which a few may stay unread.
SIXTY = r"""
Answer: $\mathbf{@}$
The answer is $\textbf{(@)}$.
$$\boxed{\mathrm{@}}$$
\(\boxed{@}\)
{"final": {"letter": "@"}}
{"correct_answer": "@", "explanation": "so"}
answer = "@"
print("@")
<answer letter="@"/>
<answer>\n@\n</answer>
<response>@</response>
<ANSWER>@</ANSWER>
[ANSWER] @
(Answer: @)
__Answer__: @
***@***
`Answer: @`
## Answer: @
1. Answer: @
| Answer | @ |
Answer : @
Answer — @
Answer: @!
Answer: (@
Answer: (@).
Answer∶ @
Answer﹕@
答案選@
所以选@。
综上，答案是 @。
したがって@が正しい。
정답은 (@)이다.
Правильный ответ — @.
Выбираю @.
الإجابة الصحيحة هي @
सही विकल्प @ है
La réponse correcte est la @.
A resposta é @.
Die richtige Antwort lautet @.
La risposta corretta è la @.
Správná odpověď je @.
Jawabannya adalah @.
Σωστή απάντηση: @
Chọn @.
I'll say @.
Must be @.
Most likely @.
The option that fits is @.
Of the four, @ fits best.
The frames support @.
Not sure, but @.
If forced: @
Answer:\n```\n@\n```
Answer: <span>@</span>
Answer: 🅧
Answer: @</s>
</think>@
@ (the red one)
A: @
Answer: &quot;@&quot;
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
    signs |= {sign: chr(ord(first) + place) for sign, first in zip("ＸⓍ🅧", "ＡⒶ🅐", strict=True)}
    for sign, said in signs.items():
        form = form.replace(sign, said)
    return form


@pytest.mark.parametrize("form", FORMS)
def test_a_stated_letter_is_read_and_no_other(form):
    for place, letter in enumerate("ABCD"):
        text = filled(form, place)
        assert lenient_letter(text, OPTIONS) == letter
        assert read_letter(text, 4) in (letter, "")


@pytest.mark.parametrize("form", OTHERS)
def test_another_letter_that_is_named_is_never_read(form):
    for chosen, other in permutations("ABCD", 2):
        third = next(letter for letter in "DCBA" if letter not in (chosen, other))
        text = form.replace("@", chosen).replace("#", other).replace("%", third)
        text = text.replace("\\n", "\n")
        assert lenient_letter(text, OPTIONS) == chosen
        assert read_letter(text, 4) in (chosen, "")


def test_of_sixty_forms_none_is_read_as_another_and_fifty_five_are_read():
    texts = {form: [filled(form, place) for place in range(4)] for form in SIXTY}
    letters = {form: [lenient_letter(t, OPTIONS) for t in texts[form]] for form in SIXTY}
    assert len(letters) == 60
    for form, found in letters.items():
        for letter, read, text in zip("ABCD", found, texts[form], strict=True):
            assert {read, read_letter(text, 4)} <= {letter, ""}
    assert sum(found == [*"ABCD"] for found in letters.values()) >= 55


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
        "There is no D.",
        "Could the answer be A? No.",
        "If the wall were red, the answer would be A. It is dark.",
        "I would not say the answer is B",
        "anything but A",
        "The winner is team B.",
        "The option that contradicts is B",
        "The frames do not support B.",
        "Most likely a disc",
        "It's a man.",
        "I say a lot",
        "[ ] A\n[ ] B",
        "The man in shirt B wins.",
    ],
)
def test_no_letter_is_read_where_none_or_several_are_chosen(text):
    assert read_letter(text, 4) == lenient_letter(text, OPTIONS) == ""


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Not A, but B.", "B"),
        ("option A or option B? option B.", "B"),
        ("A: ✗\nB: ✓\nC: ✗\nD: ✗", "B"),
        ("If I had to choose, the answer would be B", "B"),
        ("The answer is B, so I would stop.", "B"),
        ("The frames do not show it, so the answer is B", "B"),
        ("🅑", "B"),
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
