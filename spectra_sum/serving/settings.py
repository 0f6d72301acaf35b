"""What a server accepts, and how it batches."""

from dataclasses import dataclass, field

from ..uploads.article_input import Limits


@dataclass(frozen=True)
class Settings:
    """
    Settings of a server.

    Args:
        limits (`Limits`, *optional*): Of texts and images.
        request_size (`int`, *optional*, defaults to `32_000_000`): Most bytes of a request's body.
        new_tokens (`int`, *optional*, defaults to `1_024`): Most tokens that a request may ask for.
        beams (`int`, *optional*, defaults to `8`): Most beams that a request may ask for.
        remote_hosts (`frozenset[str]`, *optional*): Hosts from which images are fetched, in lower case, each with its port
            where that is not its scheme's own; none by default.
        max_batch (`int`, *optional*, defaults to `8`): Most requests that are written at once.
        max_wait (`float`, *optional*, defaults to `0.02`): Seconds that the first request of a batch waits for others.
        queue_size (`int`, *optional*, defaults to `64`): Most requests that are read or wait at a time.
        timeout (`float`, *optional*, defaults to `120`): Seconds from a request's arrival to its answer.
        body_timeout (`float`, *optional*, defaults to `30`): Seconds for a request's body to arrive.
        readers (`int`, *optional*, defaults to `2`): Requests whose documents and images are decoded at a time.
        silence (`float`, *optional*, defaults to `15`): Seconds after which a stream without news sends a comment, so that
            proxies keep it open.
        keys (`tuple[bytes, ...]`, *optional*): One of them must come with a request; without any, none is asked for.
    """

    limits: Limits = field(default_factory=Limits)
    request_size: int = 32_000_000
    new_tokens: int = 1_024
    beams: int = 8
    remote_hosts: frozenset[str] = frozenset()
    max_batch: int = 8
    max_wait: float = 0.02
    queue_size: int = 64
    timeout: float = 120.0
    body_timeout: float = 30.0
    readers: int = 2
    silence: float = 15.0
    keys: tuple[bytes, ...] = ()
