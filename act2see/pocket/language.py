"""The pocket world's language: how a frame is put into words, in one fixed form per fact.

Works on `Facts`. Knows nothing of questions or models. The same short sentence stands wherever a
fact is said (description, thinking, answer), because that is what a model of a few million
parameters learns binding from quickly. Our choice.
"""

from act2see.pocket.world import SHAPES, Facts

UNSEEN = "the frames do not show it."


def description(facts: Facts) -> str:
    """The whole frame in words: wall, shapes in a fixed order, visitor."""
    things = " ".join(thing(facts, shape) for shape in SHAPES if shape in facts.things)
    return f"{wall(facts)} {things} {visitor(facts)}"


def thing(facts: Facts, shape: str) -> str:
    """`the disc is red, top.`"""
    return f"{colour(facts, shape)[:-1]}, {facts.things[shape][1]}."


def wall(facts: Facts) -> str:
    """`the wall is dark.`"""
    return f"the wall is {facts.wall}."


def colour(facts: Facts, shape: str) -> str:
    """`the disc is red.`"""
    return f"the {shape} is {facts.things[shape][0]}."


def visitor(facts: Facts) -> str:
    """`the visitor is a green cross.` or `no visitor.`"""
    if facts.visitor is None:
        return "no visitor."
    shape, shade = facts.visitor
    return f"the visitor is a {shade} {shape}."


def white(facts: Facts) -> str:
    """`the disc is white.`, `the disc and the cross are white.` or `none is white.`"""
    names = [f"the {s}" for s in SHAPES if s in facts.things and facts.things[s][0] == "white"]
    if not names:
        return "none is white."
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} white."


def reading(kind: str, shape: str, facts: Facts) -> str:
    """What to note of a frame for a question of this kind about this shape ("" for the visitor)."""
    if kind in ("place", "colour"):
        return thing(facts, shape)
    if kind == "turn":
        return colour(facts, shape)
    if kind == "visit":
        return visitor(facts)
    if kind == "search":
        return f"{wall(facts)} {visitor(facts)}"
    return wall(facts) if kind == "wall" else white(facts)


def timeline(kind: str, shape: str, moments: list[tuple[float, Facts]]) -> str:
    """`at 7.0 the disc is red. at 7.5 the disc is green.`: the readings in time order."""
    return " ".join(f"at {time_s:.1f} {reading(kind, shape, facts)}" for time_s, facts in moments)


def conclusion(answer: str, options: list[str], begin: str = "so it is") -> str:
    """`so it is green.` and then the options, one a line, `no` after each up to the `yes`.

    Walking through them makes finding the letter a matter of comparing two words at a time.
    """
    walk = [f"{letter}) {option} no" for letter, option in zip("ABCD", options, strict=False)]
    walk = walk[: options.index(answer) + 1]
    walk[-1] = walk[-1].removesuffix("no") + "yes"
    return "\n".join([f"{begin} {answer}.", *walk])


def imagine(time_s: float) -> str:
    """`i imagine it at 7.0.`"""
    return f"i imagine it at {time_s:.1f}."


def look(start_s: float, end_s: float) -> str:
    """`i look between 7.0 and 9.0.`"""
    return f"i look between {start_s:.1f} and {end_s:.1f}."
