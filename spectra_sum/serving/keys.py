"""Keys: a file with one in each line, and the check of every request."""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from ..documents.parts import printable
from ..errors import SpectraSumError
from .errors import ApiError

# What asks whether the server is there has no key.
OPEN_PATHS = ("/health", "/ready")


class KeyFileError(SpectraSumError):
    """A key file that cannot be used. The message names it and the fix."""


def read_keys(path: Path) -> tuple[bytes, ...]:
    """
    The keys of a file: a line each, without what surrounds them; empty lines do not count.

    Raises:
        KeyFileError: It cannot be read, has no key, or one that no header can carry.
    """
    shown = printable(path)
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise KeyFileError(
            f"{shown}: the keys cannot be read ({error.strerror}); check path and permissions."
        ) from None
    except UnicodeDecodeError:
        raise KeyFileError(f"{shown}: a key has other characters than ASCII; make another.") from None
    keys = [line.strip() for line in lines if line.strip()]
    if not keys:
        raise KeyFileError(f"{shown}: there is no key; write one in each line.")
    for number, key in enumerate(keys, start=1):
        # The keys themselves are not shown.
        if not key.isprintable() or " " in key:
            raise KeyFileError(f"{shown}: key {number} has a space or a control character; make another.")
    return tuple(key.encode() for key in keys)


class KeyCheck:
    """
    Middleware that answers 401 to a request without one of the keys, as `Authorization: Bearer KEY`, before anything of
    its body is read.

    Args:
        app (`ASGIApp`): What it protects, `OPEN_PATHS` excepted.
        keys (`Sequence[bytes]`): The keys; none: every request passes.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[bytes]):
        self.app = app
        self._digests = [hashlib.sha256(key).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or refuses it."""
        if scope["type"] != "http" or not self._digests or scope["path"] in OPEN_PATHS or self._has_key(scope):
            await self.app(scope, receive, send)
            return
        refusal = ApiError(
            401,
            "This server asks for a key; send it as the header Authorization: Bearer KEY.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer", "Connection": "close"},
        )
        await refusal.response()(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        digest = hashlib.sha256(key.strip()).digest()
        # All are compared, and digests are of one length: time tells neither which key came near nor how long one is.
        equal = [hmac.compare_digest(digest, own) for own in self._digests]
        return scheme.lower() == b"bearer" and any(equal)
