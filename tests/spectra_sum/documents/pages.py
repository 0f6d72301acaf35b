"""Pages and images that the tests of documents make."""

import base64
import io
from collections import Counter

from PIL import Image


def save_image(path, colour, size=(32, 24), **options):
    """An image of one colour in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def data_uri(colour, size=(32, 24), form="PNG"):
    """An image of one colour as an address."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, form)
    return f"data:image/{form.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()


def write(path, text):
    """A text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def colours(document):
    """The first pixel of each image."""
    return [image.image.getpixel((0, 0)) for image in document.images]


def kinds(document):
    """How many problems of each kind there are."""
    return Counter(problem.kind for problem in document.problems)
