"""A row of boxes with arrows, as SVG: the diagram that opens a lesson.

Works on words. Knows nothing of traces, models or files. Our choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from act2see.style import BLUE, GREY

BOX_PX = (128, 58)
STEP_PX = 156  # from one box to the next
ARROW = "<path d='M{} 29h18m-6 -5l6 5l-6 5' fill='none' stroke='{}' stroke-width='2'/>"
BOX = (
    "<rect x='{x}' y='1' width='{width}' height='{height}' rx='8' fill='white' stroke='{colour}' "
    "stroke-width='2'/><text x='{middle}' y='{y}' font-weight='bold'>{name}</text>"
    "<text x='{middle}' y='43' font-size='11' fill='#555555'>{words}</text>"
)
PAGE = (
    "<svg xmlns='http://www.w3.org/2000/svg' role='img' viewBox='0 0 {width} 60' width='{width}' "
    "style='max-width:100%;height:auto' font-family='sans-serif' font-size='13' "
    "text-anchor='middle'><title>{title}</title>{parts}"
    "</svg>"
)


@dataclass(frozen=True)
class Diagram:
    """A picture that a notebook shows at the end of a cell."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


def flow(boxes: Mapping[str, str], here: str = "") -> Diagram:
    """Boxes from left to right with arrows between them: name -> a few words below it.

    here: the name of the box that is drawn in colour. The names, in order, are the words for
    readers who do not see the picture.

    >>> flow({"teacher": "thinks", "trace": "is written"}).svg.count("<rect")
    2
    """
    width, height = BOX_PX
    parts = []
    for i, (name, words) in enumerate(boxes.items()):
        x = 1 + i * STEP_PX
        colour = BLUE if name == here else GREY
        size = {"x": x, "width": width, "height": height, "middle": x + width // 2}
        y = 25 if words else 34
        parts.append(BOX.format(**size, y=y, colour=colour, name=escape(name), words=escape(words)))
        if i:
            parts.append(ARROW.format(x - 23, GREY))
    title = escape(" → ".join(boxes))
    page = PAGE.format(width=len(boxes) * STEP_PX - 26, title=title, parts="".join(parts))
    return Diagram(page)
