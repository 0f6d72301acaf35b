"""Small folders of cut-outs and backgrounds."""

import numpy as np
from PIL import Image

COLOURS = [(200, 30, 30), (30, 160, 30), (30, 30, 200), (200, 180, 20), (150, 30, 180), (20, 170, 170)]


def cutout(colour, width=60, height=40):
    """A rectangle with a transparent margin of 5 pixels."""
    image = Image.new("RGBA", (width + 10, height + 10))
    image.paste((*colour, 255), (5, 5, 5 + width, 5 + height))
    return image


def write_groups(root, count=4, poses=2):
    """Groups `thing_0`, … of rectangles, of which no two are alike."""
    for number in range(count):
        folder = root / f"thing_{number}"
        folder.mkdir(parents=True)
        for pose in range(poses):
            colour = COLOURS[number % len(COLOURS)]
            cutout(colour, 60 + 2 * number, 40 + 10 * pose).save(folder / f"{pose}.png")
    return root


def write_backgrounds(root, count=3, size=(160, 128)):
    """Noise, so that no two are alike."""
    root.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"scene_{number}.png")
    return root
