"""The letter that a reply chooses, made out where it is not stated in the form asked for.

Works on a reply and its options. Knows nothing of questions or videos. `trace.read_letter` is the
strict parser; this one makes the best of a reply. Neither takes an article for an answer, and this
one no letter that is ruled out for one that is chosen. Our choice.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from act2see.trace import LETTERS, TAKEN_BACK, read_letter

# A letter between quotes, brackets, tags or stars of any script becomes one in brackets.
AROUND = r"[\[\](){}<>\"'`*_“”„‘’«»‹›「」『』【】〔〕《》〈〉]"
ENCLOSED = re.compile(rf"{AROUND}([A-Ja-j])\.?{AROUND}")
FORMAT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathsf)\b|</?(?:b|i|u|p|em|strong|code|span)>")
# Letters in filled circles, in filled squares and of flags, which NFKC leaves as they are.
SIGNS = {ord(first) + n: chr(65 + n) for first in "🅐🅰🇦" for n in range(26)}
WORD = "0-9A-Za-zÀ-ɏ"
# Words that follow a letter, and never an article.
JOINED = (
    r"\s{1,9}(?i:because|since|as|isn?|aren?|wasn?|for|and|or|but|which|due|based|does|doesn"
    r"|seems|looks|fits|matches|shows|rather|instead|over)\b"
)
ONE = (
    rf"(?<![{WORD}])(?:[B-HJ](?![{WORD}'’]|-\w)"
    rf"|[AI](?![{WORD}'’]|-\w)(?:(?=\W*$)|(?={JOINED})|(?=\s*[^\s{WORD}]))"
    r"|A(?=\s(?i:would|must|should|could|has|had|it|the|ist|est|remains)\b)"
    rf"|[a-j](?:(?=\s*$)|(?={JOINED})|(?=[^\s.({WORD}'’-]|\.(?!\w))))"
)
LETTER = rf"(?:\(\s?)?{ONE}(?:\s?\))?"
SEPARATOR = r"\s?(?:[,/&+、]|(?i:and|or|und|oder|et|ou)\b|和|或|(?=\(\s?[A-J]\s?\)))\s?"
NAMES = (
    r"(?i:option|choice|letter|alternativ[ae]|opci[oó]n|opção|letra|lettera|lettre|вариант|seçenek"
    r"|选项|選項|選択肢)"
)
LIST = rf"{LETTER}(?:(?:{SEPARATOR}){{1,2}}(?:{NAMES}\s)?{LETTER}){{0,9}}"
BE = r"(?i:is|was|be|ist|lautet|est|es|este|è|é|är|er|je|on|là|adalah|היא|הוא|คือ|هي)"
# A word that announces an answer, and what may stand between it and the letter.
ANSWERS = (
    r"(?i:answer|\bans\b|boxed|solution|réponse|respuesta|resposta|risposta|antwort|antwoord|svar"
    r"|richtig(?=\sist)|cevap|jawaban(?:nya)?|odpowiedź|odpověď|răspuns(?:ul)?|vastaus|ответ"
    r"|выбираю|відповідь|απάντηση|đáp án|chọn|คำตอบ|תשובה"
    r"|答案|回答|解答|答え?|正解|정답|답|الإجابة(?:\sالصحيحة)?|الجواب|उत्तर|जवाब|विकल्प|উত্তর"
    r"|(?:correct|right|best|final|my)\s(?:option|choice|one|letter|alternative|response|guess)"
    r"|(?:letter|option|choice)(?=\s(?:is|was|must|should|would)\b)"
    r"|\b(?:choose|chose|pick|picked|select|selected|go(?:ing)? (?:with|for)|settle on|opt for)\b"
    r"|\bI(?:['’](?:d|ll)|\swould|\swill)?\s(?:say|guess)\b|\b(?:we|I) conclude\b"
    r"|\b(?:change|switch) (?:my answer )?from [^.;\n]{1,20}? to\b"
    r"|\b(?:option|choice|one|letter|alternative) that (?:best )?(?:fits|matches|holds"
    r"|remains)(?:\s[^\W\d_]+){0,4}?(?=\sis\b)"
    rf"|选择?|選[擇択]?)(?:(?:,?\s[^\W\d_]+){{0,5}}?,?\s{BE}\b)?"
)
BETWEEN = (
    rf"(?:[^\w\n(]|\n{{1,3}}|{BE}\b|{NAMES}|(?i:be|are|therefore|thus|so|then|clearly|probably"
    r"|likely|most|definitely|still|indeed|simply|just|again|now|the|to|but|rather|here|number"
    r"|(?<=['’])s|la|le|die|der|n['’]est|mais|sondern|sino|mas|ma|а|بل)\b|هي"
    r"|[是为為项項应應该該而は은는]){0,12}"
)
SO = (
    r"(?:\b(?i:so|thus|hence|therefore|but|no(?=,)|only|definitely|probably|clearly|certainly|surely"
    r"|(?:it|that)['’]s|(?:it|this|that|which) (?:is|makes it|leaves(?: only)?)|it can only be"
    r"|leaving|(?:must|should|has to) be|(?:most )?likely|always|not (?:sure|certain)[,.](?: but)?"
    r"|we get|(?:corresponds|points|leads|comes down) to|(?:frames|evidence) supports?"
    r"|in conclusion|sondern|sino|mais|lecz|maar|utan|es ist|c['’]est)[,:]?\s"
    rf"|{TAKEN_BACK}[\s,:.…]{{0,3}}|,而?是|所以是|=>|->|→|⇒|∴|\[[xX]\]|☑)\s?"
)
RIGHT = (
    r"(?:\s(?i:is|are|was|seems|looks|must be|should be|would be|ist|est|es)\s(?:\w+\s){0,3}?"
    r"(?i:correct\w*|right|answer|best|true|richtig)\b"
    r"|\s(?i:remains|it is|is left(?! of)|the (?:right|correct))\b|\s?:?\s?[✓✔✅☑]"
    r"|\s(?i:fits|matches|holds)(?:\s(?i:best|all))?\s?(?=[.;!]|$)"
    r"|\s(?i:is|seems) (?i:better|best|closer)\b|\s?(?:[:=–—-]|->)\s?(?i:yes|true|right|correct)\b"
    r"|\s?(?:选项|選項)?\s?[是最为為がは가이]{0,2}\s?(?:正确|正確|对|正しい|正解|정답))"
)
NOT = (
    r"(?i:\b(?:not|never|neither|nor|cannot|than|unlike|except|over|against|instead of|wrong"
    r"|incorrect|false|(?:rul|cross)\w* out|eliminat\w*|exclud\w*|reject\w*|discard\w*|dismiss\w*"
    r"|nicht|kein\w*|pas|no es|não é|non è|не|ليس\w*"
    # What was thought before, or would be true of another video.
    r"|(?:first|initial|original|earlier|previous|tempting)\s(?:answer|guess|choice|thought)"
    r"|second (?:answer|choice|best)|at first I|I\s(?:first|initially|originally)"
    r"|would have been|(?:all|any\w*|every\w*) but"
    r"|if (?!I\b|forced)[^.;\n]{0,90}?\bwould be"
    r"|without (?:the|any)\b[^.;\n]{0,60}?\b(?:say|be|pick))\b"
    r"|n['’]t\b|\[ \]|[☐⬜]|不是|不选|不選|排除)"
)
# Words after which a denial has ended.
AGAIN = r"(?i:but|so|then|and|therefore|thus|hence|however|because|while|whereas|mais|sondern|sino)"
RULED_OUT = re.compile(
    rf"{NOT}[^\S\n]?:?[^\S\n]{{0,3}}(?:(?!{AGAIN}\b)[^\W\d_]+(?:['’]\w+)?[^\S\n]){{0,5}}{LIST}"
    rf"|{LIST}[^\S\n](?i:(?:is|are|was|does|do|did|can|could|would|has|must|will|seems|looks)"
    r"(?:n['’]t|\snot|not)|(?:is|are|was|seems|looks|must be)\s(?:\w+\s)?"
    r"(?:wrong|incorrect|false|excluded|contradicted|impossible|unlikely|out|ruled)\b|contradict"
    r"|fails\b|(?:would|could|might)\b[^.;\n]{0,40}\bif\b)"
    rf"|\b(?i:were|had)\b[^.;\n]{{1,60}}?,\s{LIST}\swould\b"
    rf"|{LIST}\s?(?:[:=–—-]|->)\s?(?i:no|false|wrong|incorrect|contradicted)\b|{LIST}\sdeğil\b"
    rf"|{LIST}\s?(?:\?(?=\s*\w)|:?\s?[✗✘❌×]|(?:选项|選項|都)*(?:不[是对對正]?|错|錯)"
    r"|(?:가|이|은|는)?\s?아니\w*|(?:ではな|じゃな|は間違|は違|は誤)\w)",
    re.MULTILINE,
)
# From the surest to the weakest: named, between brackets, before the text of an option.
HINTS = tuple(
    re.compile(hint, re.MULTILINE)
    for hint in (
        rf"{NAMES}[^\w\n(]{{0,3}}(?P<said>{LIST})",
        rf"(?P<said>\(\s?{ONE}\s?\))",
        r"^[^\w\n]{0,9}(?P<said>[A-Ja-j]\)|[A-J][.:、])(?=\s|$)(?!\s\W?[A-J]\W*$)",
        rf"^[^:\n]{{2,30}}:[^\S\n]{{0,3}}(?P<said>{LIST})\W*\Z",
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
        rf"{SO}(?P<said>(?![ai]\b){LIST})(?=\s?(?:[.,;!。)]|$)|{JOINED})",
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
    text = unicodedata.normalize("NFKC", text.translate(SIGNS)).replace("</think>", "\n")
    text = FORMAT.sub("", text)
    text = ENCLOSED.sub(lambda match: f"({match[1].upper()})", text)
    return re.sub(r"[*`#$]", "", text).replace("_", " ")


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
