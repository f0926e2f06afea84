"""The pocket world's language: how a frame is put into words, in one fixed form per fact.

Works on `Facts`. Does not know questions or models. The same short sentence stands wherever a fact
is put into words (description, thinking, answer), because that is what a model of a few million
parameters learns binding from quickly. Our choice.
"""

from collections.abc import Iterable

from act2see.pocket.world import SHAPES, Facts

UNSEEN = "the frames do not show it."
SEARCH = "i search for it."
IMAGINE = "i imagine it."


def description(facts: Facts) -> str:
    """The whole frame in words: wall, shapes in a fixed order, visitor."""
    things = " ".join(thing(facts, shape) for shape in SHAPES if shape in facts.things)
    return f"{wall(facts)} {things} {visitor(facts)}"


def thing(facts: Facts, shape: str) -> str:
    """`the disc is red, top.`"""
    return f"the {shape} is {facts.things[shape].colour}, {facts.things[shape].place}."


def wall(facts: Facts) -> str:
    """`the wall is dark.`"""
    return f"the wall is {facts.wall}."


def colour(facts: Facts, shape: str) -> str:
    """`the disc is red.`"""
    return f"the {shape} is {facts.things[shape].colour}."


def visitor(facts: Facts) -> str:
    """`the visitor is a green cross.` or `no visitor.`"""
    if facts.visitor is None:
        return "no visitor."
    return f"the visitor is a {facts.visitor.colour} {facts.visitor.shape}."


def white(facts: Facts) -> str:
    """`the disc is white.`, `the disc and the cross are white.` or `none is white.`"""
    # In the order of SHAPES, so that the same pair never has two names.
    things = [s for s in SHAPES if s in facts.things and facts.things[s].colour == "white"]
    if not things:
        return "none is white."
    return f"the {' and the '.join(things)} {'is' if len(things) == 1 else 'are'} white."


def reading(kind: str, shape: str, facts: Facts) -> str:
    """What to note of a frame for a question of this kind about this shape ("" for the visitor)."""
    match kind:
        case "place" | "colour":
            return thing(facts, shape)
        case "turn":
            return colour(facts, shape)
        case "visit":
            return visitor(facts)
        case "search":
            return f"{wall(facts)} {visitor(facts)}"
    return wall(facts) if kind == "wall" else white(facts)


def timeline(kind: str, shape: str, moments: Iterable[tuple[float, Facts]]) -> str:
    """`at 7.0 the disc is red. at 7.5 the disc is green.`: the readings in time order."""
    return " ".join(f"at {time_s:.1f} {reading(kind, shape, facts)}" for time_s, facts in moments)


def conclusion(answer: str, options: list[str], opening: str = "so it is") -> str:
    """`so it is green.` and then the options, one a line, `no` after each up to the `yes`."""
    # Walking through them turns finding the letter into comparing two words at a time.
    right = options.index(answer)
    walk = [
        f"{letter}) {option} no" for letter, option in zip("ABC", options[:right], strict=False)
    ]
    return "\n".join([f"{opening} {answer}.", *walk, f"{'ABCD'[right]}) {answer} yes"])


def imagine(time_s: float) -> str:
    """`i imagine it at 7.0.`"""
    return f"i imagine it at {time_s:.1f}."


def span(start_s: float, end_s: float) -> str:
    """`between 7.0 and 9.0`"""
    return f"between {start_s:.1f} and {end_s:.1f}"


def look(start_s: float, end_s: float) -> str:
    """`i look between 7.0 and 9.0.`"""
    return f"i look {span(start_s, end_s)}."
