"""The style of every figure and of the viewer: colours, dashes, and a colour for what made a frame.

Works on words. Knows nothing of traces or of what is drawn. The colours are Okabe and Ito's, which
colour-blind readers can tell apart. Our choice.
"""

from colorsys import hls_to_rgb
from hashlib import sha1

BLUE = "#0072B2"  # real frames of the overview
ORANGE = "#E69F00"  # real frames that a call brought
GREEN = "#009E73"  # generated frames
RED = "#D55E00"
GREY = "#7F7F7F"
PALETTE = ("#A6A6A6", "#56B4E9", BLUE, ORANGE, GREEN, "#CC79A7", RED, "#F0E442")
DASHED = (0, (4, 3))


def frame_colour(word: str, real: str) -> str:
    """The colour of a frame's border and tick: `real` for a real frame, else one for the word.

    word: of `Frame.made`, whatever it is. real: the colour that real frames have there.

    >>> frame_colour("real", BLUE), frame_colour("generated", BLUE)
    ('#0072B2', '#009E73')
    """
    # The word alone decides, so a kind of frame has the same colour in every figure of every run.
    hue, lightness = sha1(word.encode()).digest()[:2]
    # Violet to crimson only: blue, orange, green and red already mean something here.
    rgb = hls_to_rgb(0.7 + 0.26 * hue / 255, 0.3 + 0.35 * lightness / 255, 0.7)
    other = "#" + "".join(f"{round(255 * part):02X}" for part in rgb)
    return {"real": real, "generated": GREEN}.get(word, other)
