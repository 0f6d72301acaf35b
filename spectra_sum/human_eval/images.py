"""Images as raters get them: encoded anew, so that no metadata of the original file tells where it comes from."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

MAX_SIDE = 640
# Images up to this side are drawn pixel by pixel: they are renderings, and JPEG would smear them.
PIXELATED_SIDE = 96


@dataclass(frozen=True)
class EncodedImage:
    """The bytes of a PNG or JPEG file; `width` and `height` in pixels."""

    content: bytes
    kind: str
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The image as a `data:` URI."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.content).decode('ascii')}"

    @property
    def suffix(self) -> str:
        """The ending of a file that holds the image."""
        return ".png" if self.kind == "png" else ".jpg"

    @property
    def pixelated(self) -> bool:
        """Whether the image is so small that it should be enlarged without smoothing."""
        return max(self.width, self.height) <= PIXELATED_SIDE


def encode_image(image: Image.Image) -> EncodedImage:
    """Encodes an image as the model sees it, by the rule of [`modeling_spectra.rgb_images.flat_rgb`] and without metadata:
    up to 96 pixels a side as PNG, larger ones as JPEG of at most 640.

    Raises:
        OSError, ValueError or DecompressionBombError: Its pixels cannot be decoded.
    """
    # Not at the top: reading ratings needs no images, and must not load torch for them.
    from modeling_spectra.rgb_images import flat_rgb

    image = flat_rgb(image)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    kind = "png" if max(image.size) <= PIXELATED_SIDE else "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=82, optimize=True)
    return EncodedImage(buffer.getvalue(), kind, *image.size)
