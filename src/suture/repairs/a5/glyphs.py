"""The 62 letters and digits as small pictures, from the font that comes with Matplotlib."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
import torch

from suture.errors import ArgumentError
from suture.types import Batch

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif")


def glyphs(side: int = 128, font: str = "DejaVuSans", fill: float = 0.7) -> Batch:
    """White characters on black, ``(62, 1, side, side)``, labelled 0 to 61.

    Args:
        side: of the pictures, in pixels.
        font: one of ``FONTS``.
        fill: height of a line of text, as a share of the side.

    Raises:
        ArgumentError: an unknown font, or a picture too small to read.
    """
    if font not in FONTS or side < 16 or not 0 < fill <= 1:
        raise ArgumentError(
            expected=f"a font out of {', '.join(FONTS)}, side >= 16, fill in (0, 1]",
            got=f"font={font!r}, side={side!r}, fill={fill!r}",
            remedy="The paper's letters have 128 × 128 pixels; 32 × 32 can be read too.",
        )
    import matplotlib as mpl  # slow to import, and needed here alone
    from PIL import ImageFont

    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    letters = ImageFont.truetype(str(path), round(side * fill))
    pictures = np.stack([_picture(character, letters, side) for character in CHARACTERS])
    images = torch.from_numpy(pictures).float()[:, None] / 255
    return Batch(images, torch.arange(len(CHARACTERS)))


def _picture(character: str, font: Any, side: int) -> np.ndarray:
    """One character; all share a base line, and each is centred from left to right."""
    from PIL import Image, ImageDraw

    picture = Image.new("L", (side, side), 0)
    ImageDraw.Draw(picture).text(
        (side / 2, side * 0.72), character, fill=255, font=font, anchor="ms"
    )
    return np.asarray(picture)
