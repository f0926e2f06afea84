"""The letter that a reply chooses, made out where it is not stated in the form asked for.

Works on a reply and its options. Knows nothing of questions or videos. `trace.read_letter` is the
strict parser; this one makes the best of a reply. Neither takes an article for an answer, and this
one no letter that is ruled out for one that is chosen. Our choice.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from act2see.trace import LETTERS, read_letter

# A letter between quotes, brackets, tags or stars of any script becomes one in brackets.
AROUND = r"[\[\](){}<>\"'`*_“”„‘’«»‹›「」『』【】〔〕《》〈〉]"
ENCLOSED = re.compile(rf"{AROUND}([A-Ja-j])\.?{AROUND}")
FORMAT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathsf)\b|</?(?:b|i|u|p|em|strong|code|span)>")
WORD = "0-9A-Za-zÀ-ɏ"
# Words that follow a letter, and never an article.
JOINED = (
    r"\s{1,9}(?i:because|since|as|isn?|aren?|wasn?|for|and|or|but|which|due|based|does|doesn"
    r"|seems|looks|fits|matches|shows|rather|instead|over)\b"
)
ONE = (
    rf"(?<![{WORD}])(?:[B-HJ](?![{WORD}'’]|-\w)"
    rf"|[AI](?![{WORD}'’]|-\w)(?:(?=\W*$)|(?={JOINED})|(?=\s*[^\s{WORD}]))"
    rf"|[a-j](?:(?=\s*$)|(?={JOINED})|(?=[^\s.({WORD}'’-]|\.(?!\w))))"
)
LETTER = rf"\(?\s?{ONE}\s?\)?"
SEPARATOR = r"\s?(?:[,/&+、]|(?i:and|or|und|oder|et|ou)\b|和|或|(?=\())\s?"
NAMES = r"(?i:option|choice|letter|alternative|选项|選項|選択肢)"
LIST = rf"{LETTER}(?:(?:{SEPARATOR}){{1,2}}(?:{NAMES}\s)?{LETTER}){{0,9}}"
BE = r"(?i:is|was|must be|should be|would be|has to be|ist|est|es|è|é)"
# A word that announces an answer, and what may stand between it and the letter.
ANSWERS = (
    r"(?i:answer|boxed|solution|réponse|respuesta|resposta|risposta|antwort|antwoord|svar|cevap"
    r"|jawaban|odpowiedź|ответ|答案|回答|答え|正解|정답|답|الإجابة|الجواب|उत्तर"
    r"|(?:correct|right|best|final|my)\s(?:option|choice|one|letter|alternative|response)"
    r"|(?:letter|option|choice)(?=\s(?:is|was|must|should|would)\b)"
    r"|\b(?:choose|chose|pick|picked|select|selected|go(?:ing)? (?:with|for)|settle on|opt for)\b"
    rf"|选择?|選)(?:(?:\s[^\W\d_]+){{0,5}}?\s{BE}\b)?"
)
BETWEEN = (
    rf"(?:[^\w\n(]|\n{{1,3}}|{BE}\b|{NAMES}|(?i:be|are|therefore|thus|so|then|clearly|probably"
    r"|likely|most|definitely|still|indeed|simply|just|again|now|the|to|but|rather|here|number"
    r"|la|le|die|der)\b|هي|[是为為项項应應は은는]){0,12}"
)
SO = (
    r"(?:\b(?i:so|thus|hence|therefore|but|it is|it's|(?:it|this|that|which) must be|it has to be)"
    r"[,:]?\s|=>|->|→|⇒|∴)\s?"
)
RIGHT = (
    r"(?:\s(?i:is|are|was|seems|looks|must be|should be|would be)\s(?:\w+\s){0,3}?"
    r"(?i:correct|right|answer|best|true)\b|\s?(?:选项|選項)?\s?[是最为為]?(?:正确|正確|对|正しい))"
)
NOT = (
    r"(?i:\b(?:not|never|neither|nor|cannot|than|unlike|except|over|against|instead of|wrong"
    r"|incorrect|false|(?:rul|cross)\w* out|eliminat\w*|exclud\w*|reject\w*|discard\w*|dismiss\w*)"
    r"|n['’]t|不是|不选|不選|排除)"
)
RULED_OUT = re.compile(
    rf"{NOT}[\s:]{{0,3}}(?:(?!(?i:but|so|then|and)\b)[^\W\d_]+\s){{0,3}}{LIST}"
    rf"|{LIST}\s(?i:(?:is|are|was|does|do|did|can|could|would|has|must|will|seems|looks)"
    r"(?:n['’]t|\snot|not)|(?:is|are|was|seems|looks|must be)\s(?:\w+\s)?"
    rf"(?:wrong|incorrect|false|excluded|impossible|unlikely|out|ruled)\b)|{LIST}\s?(?:不|错)",
    re.MULTILINE,
)
# From the surest to the weakest: named, between brackets, before the text of an option.
HINTS = tuple(
    re.compile(hint, re.MULTILINE)
    for hint in (
        rf"{NAMES}[^\w\n(]{{0,3}}(?P<said>{LIST})",
        rf"(?P<said>\(\s?{ONE}\s?\))",
        r"^[^\w\n]{0,9}(?P<said>[A-Ja-j]\)|[A-J][.:、])(?=\s|$)",
        rf"\A\W{{0,9}}(?P<said>{LIST})(?=\s?[,;–—-]\s|{JOINED})",
    )
)


def lenient_letter(text: str, options: Sequence[str]) -> str:
    """The letter that a reply chooses, "" where it chooses none or several.

    The last statement counts, such as `the answer is (C)`, `\\boxed{C}` or `C is correct`; an
    option's whole text stands for its letter. Without a statement: the only letter named, else the
    only option quoted. `Answer: A man walks` and `not A` do not choose A.

    >>> lenient_letter("Not A. I would choose option C here", ["a cup", "a cat", "a car"])
    'C'
    """
    plain = RULED_OUT.sub(" ", _plain(text))
    known = {option.rstrip(". ").casefold(): i for i, option in enumerate(options)}
    # The longest first: one may begin another. A text of one letter is not told from a letter.
    quotes = [re.escape(option) for option in sorted(known, key=len, reverse=True) if option[1:]]
    texts = rf"(?i:\b(?:{'|'.join(quotes)})(?!\w))" if quotes else r"(?!)"
    forms = (
        rf"{ANSWERS}{BETWEEN}(?P<said>{texts}|{LIST})",
        rf"{SO}(?P<said>{LIST})(?=\s?(?:[.,;!。]|$)|{JOINED})",
        rf"(?P<said>{LIST}){RIGHT}",
        rf"^[^\w\n]{{0,9}}(?P<said>{LIST})[^\w\n]{{0,9}}$",
    )
    said = [match for form in forms for match in re.finditer(form, plain, re.MULTILINE)]
    if said:
        return _chosen([max(said, key=lambda match: match.start("said"))["said"]], known)
    if letter := read_letter(text, len(options)):
        return letter
    for hint in HINTS:
        if named := [match["said"] for match in hint.finditer(plain)]:
            return _chosen(named, known)
    return _chosen(re.findall(texts, text), known)


def _plain(text: str) -> str:
    """The text in plain letters and signs, `(B)` for any B between brackets, quotes or tags."""
    text = FORMAT.sub("", unicodedata.normalize("NFKC", text))
    text = ENCLOSED.sub(lambda match: f"({match[1].upper()})", text)
    return re.sub(r"[*`#$_]", "", text)


def _chosen(said: Iterable[str], known: dict[str, int]) -> str:
    """The one letter that all of these say, "" for several or one of no option."""
    letters = set()
    for words in said:
        if words.casefold() in known and words[1:]:
            letters.add(LETTERS[known[words.casefold()]])
        else:
            letters |= set(re.findall(r"[A-J](?!\w)", words.upper()))
    letter = letters.pop() if len(letters) == 1 else ""
    return letter if letter in LETTERS[: len(known)] else ""
