"""Pictures on disk, each once, named by its content.

Works on RGB pictures and paths. Knows nothing of frames or traces. Our choice.
"""

import hashlib
import os
import re
import zlib
from pathlib import Path

from PIL import Image

NAMED = re.compile(r"[0-9a-f]{20}\.png")
MOST_PIXELS = 50_000_000  # more than 8K video has


def digest(*images: Image.Image) -> str:
    """20 hex digits that tell a picture, or several, from any other."""
    content = b"".join(image.tobytes() + str(image.size).encode() for image in images)
    return hashlib.sha1(content).hexdigest()[:20]


def read_picture(path: Path) -> Image.Image:
    """The RGB picture in a file.

    Raises FileNotFoundError where there is none, and OSError where it is damaged, too large, or not
    the picture that it is named after.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the picture is gone")  # a pipe of that name would wait
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"{picture.width} × {picture.height} pixels are too many")
            image = picture.convert("RGB")
        if NAMED.fullmatch(path.name) and digest(image) != path.stem:
            raise ValueError("it is not the picture that it is named after")
    # Besides OSError, a PNG's own faults: PIL has no class for all of them.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, zlib.error) as error:
        again = "delete it and ask again: its trace counts as missing then"
        raise OSError(f"{path} is damaged ({error}); {again}") from error
    return image


def write_picture(folder: Path, image: Image.Image) -> str:
    """The name of the file that holds the picture, written unless it is there and whole."""
    name = f"{digest(image)}.png"
    try:
        read_picture(folder / name)
    except OSError:
        partial = folder / f"{name}.{os.getpid()}.partial"
        image.save(partial, "PNG", compress_level=1)
        partial.replace(folder / name)
    return name
