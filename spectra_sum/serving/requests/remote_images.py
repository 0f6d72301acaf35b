"""Images at hosts that the server was told to allow; nothing else is ever fetched."""

import asyncio
from collections.abc import Sequence
from urllib.parse import unquote

import httpx2

from ..errors import ApiError
from ..settings import Settings
from .uploads import SentAddress, SentFile, file_name, too_large

SECONDS = 10.0
_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}


async def fetch_images(images: Sequence[SentFile | SentAddress], settings: Settings) -> list[SentFile]:
    """
    The images with those fetched that are addresses, one after the other.

    Raises:
        ApiError: 400, a host is not allowed, or does not give an image; 413, an image is too large.
    """
    addresses = [image for image in images if isinstance(image, SentAddress)]
    for address in addresses:
        _checked(address.url, address.param, settings.remote_hosts)
    if not addresses:
        return list(images)
    # Whatever this machine is told of proxies and passwords is not for addresses of strangers.
    async with httpx2.AsyncClient(follow_redirects=False, timeout=SECONDS, trust_env=False) as client:
        return [
            await _fetched(client, image, number, settings) if isinstance(image, SentAddress) else image
            for number, image in enumerate(images, start=1)
        ]


async def _fetched(client: httpx2.AsyncClient, image: SentAddress, number: int, settings: Settings) -> SentFile:
    param, most = image.param, settings.limits.image_size
    url = _checked(image.url, param, settings.remote_hosts)
    try:
        async with asyncio.timeout(SECONDS):
            for _ in range(_REDIRECTS + 1):
                async with client.stream("GET", url) as answer:
                    if answer.is_redirect:
                        url = _checked(str(url.join(answer.headers.get("location", ""))), param, settings.remote_hosts)
                        continue
                    if answer.status_code != 200:
                        raise _refusal(param, f"the host answers with status {answer.status_code}")
                    data = bytearray()
                    async for chunk in answer.aiter_bytes():
                        data += chunk
                        if len(data) > most:
                            raise too_large(param, most)
                    name = image.name or unquote(url.path)
                    return SentFile(file_name(name, f"image-{number}"), bytes(data), image.caption, image.alt)
    except TimeoutError:
        raise _refusal(param, f"the host did not send it within {SECONDS:g} seconds") from None
    except (httpx2.HTTPError, httpx2.InvalidURL):
        raise _refusal(param, "the host cannot be reached") from None
    raise _refusal(param, f"there are more than {_REDIRECTS} redirections")


def _checked(text: str, param: str, hosts: frozenset[str]) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, TypeError, ValueError):
        raise _refusal(param, "this is no valid address") from None
    if url.scheme not in _PORTS or url.userinfo:
        raise _refusal(param, "this is no data URI and no plain http or https address")
    port = "" if url.port in (None, _PORTS[url.scheme]) else f":{url.port}"
    if f"{url.host}{port}".lower() not in hosts:
        raise _refusal(param, "images at this host are not fetched; send the image itself, as base64 or a data URI")
    return url


def _refusal(param: str, reason: str) -> ApiError:
    return ApiError(400, f"{param}: {reason}.", param=param, code="image_not_fetched")
