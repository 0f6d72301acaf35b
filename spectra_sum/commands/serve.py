"""`spectra-sum serve`: summaries over HTTP, by an API of their own and by OpenAI's."""

import argparse
import importlib.util
import re
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..models.kinds import check_any
from ..models.sources import DEFAULT_TEXT_ENCODER, check_text_encoder
from ..summaries.options import OptionsError, SummaryOptions
from .addresses import bound_socket, is_loopback, port
from .arguments import (
    UsageError,
    add_model_arguments,
    add_quantize_argument,
    add_summary_arguments,
    check_quantize_argument,
    named_model,
    natural,
    options_error,
    positive,
    summary_options,
)

if TYPE_CHECKING:
    from ..serving.answers import ServedModel
    from ..serving.settings import Settings
    from ..summaries.summarizer import Summarizer

_PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")
_HOST = re.compile(r"[a-z0-9.-]+(:\d+)?|\[[0-9a-f:]+\](:\d+)?", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the command, and adds its arguments to its parser."""
    parser.description = (
        "Serves summaries over HTTP: POST /v1/summarize, POST /v1/chat/completions as OpenAI's clients send it, GET "
        "/v1/models, /health, /ready, /metrics and /docs. SIGTERM or Ctrl-C ends it after the requests that it has."
    )
    add_model_arguments(parser.add_mutually_exclusive_group())
    group = parser.add_argument_group("address and access")
    group.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)"
    )
    group.add_argument("--port", type=_port, default=8000, help="port; 0: a free one, printed (default: %(default)s)")
    group.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="keys, one in each line; a request must bring one as Authorization: Bearer KEY (default: no key is asked for)",
    )
    group.add_argument(
        "--allow-remote",
        nargs="+",
        default=[],
        type=_host,
        metavar="HOST",
        help="fetch images at addresses of these hosts, HOST or HOST:PORT (default: no address is fetched)",
    )
    group = parser.add_argument_group("batches and waiting")
    group.add_argument(
        "--max-batch",
        type=positive,
        default=8,
        help="most requests that are written at once; 1: no batches (default: %(default)s)",
    )
    group.add_argument(
        "--max-wait",
        type=natural,
        default=20,
        metavar="MS",
        help="milliseconds that the first request of a batch waits for others (default: %(default)s)",
    )
    group.add_argument(
        "--queue-size",
        type=positive,
        default=64,
        help="most requests that wait; others are answered 429 with Retry-After (default: %(default)s)",
    )
    group.add_argument(
        "--timeout",
        type=positive,
        default=120,
        metavar="SECONDS",
        help="from a request's arrival to its answer; then 504, and it is given up (default: %(default)s)",
    )
    group.add_argument(
        "--body-timeout",
        type=positive,
        default=30,
        metavar="SECONDS",
        help="for a request's body to arrive; then 408 (default: %(default)s)",
    )
    group = parser.add_argument_group("limits of a request, beyond which it is answered 413 or 400")
    for option, default, text in (
        ("--max-request-bytes", 32_000_000, "bytes of the whole request"),
        ("--max-image-bytes", 10_000_000, "bytes of an image's file"),
        ("--max-pixels", 50_000_000, "pixels that an image may declare; more is not decoded"),
        ("--max-images", 20, "images"),
        ("--max-text", 50_000, "characters of the text"),
        ("--max-title", 300, "characters of the title"),
        ("--max-caption", 5_000, "characters of a caption or alternative text"),
        ("--most-new-tokens", 1_024, "tokens of a summary that it may ask for"),
        ("--most-beams", 8, "beams that it may ask for"),
    ):
        group.add_argument(option, type=positive, default=default, help=f"{text} (default: %(default)s)")
    add_summary_arguments(parser)
    add_quantize_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the command until a signal ends it.

    Returns:
        0.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"the server needs {missing[0]}; install it with: pip install 'spectra-sum[serve]'")
    options = summary_options(arguments)
    _check_model(arguments, options)
    settings = _settings(arguments)
    with bound_socket(arguments.host, arguments.port) as place:
        if not is_loopback(place) and not settings.keys:
            print(
                f"spectra-sum: warning: --host {arguments.host} can be reached from other machines, and no key is asked "
                "for; pass --api-key-file",
                file=sys.stderr,
            )
        return _serve(arguments, options, settings, place)


def _serve(arguments: argparse.Namespace, options: SummaryOptions, settings: "Settings", place: socket.socket) -> int:
    # Torch, transformers and fastapi take seconds to import, which --help and a wrong argument need not cost.
    from PIL import Image
    from transformers.utils import logging

    from ..serving.application import create_app
    from ..serving.own_thread import in_own_thread
    from ..serving.running import serve

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Pillow's own bound also holds for images that lie inside a page.
    Image.MAX_IMAGE_PIXELS = arguments.max_pixels
    make, summarizer = in_own_thread(partial(_load, arguments, options))
    app = create_app(make, options, settings, _served_model(arguments, summarizer), version=__version__)
    host, number = place.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    serve(app, place, lambda: print(f"http://{shown}:{number} (Ctrl-C ends it)", flush=True))
    print("Stopped.")
    return 0


def _load(
    arguments: argparse.Namespace, options: SummaryOptions
) -> tuple[Callable[[SummaryOptions], "Summarizer"], "Summarizer"]:
    from ..models.loading import load_any
    from ..summaries.on_demand.encoder import EncoderOnDemand
    from ..summaries.on_demand.vision import choose_vision

    written = options.mode == "write"
    loaded = load_any(named_model(arguments), quantize=arguments.quantize) if written else None
    if loaded is not None and loaded.notice:
        print(f"spectra-sum: note: {loaded.notice}", file=sys.stderr)
    encoder = EncoderOnDemand(arguments.text_encoder)
    make = partial(_summarizer, loaded, encoder, choose_vision(arguments.vision))
    try:
        summarizer = make(options)
    except OptionsError as error:
        raise options_error(error) from None
    if loaded is None or loaded.support_threshold is not None:
        # Every request needs it; the first one need not wait for it.
        encoder.embed(["A sentence."])
    return make, summarizer


def _summarizer(loaded: Any, encoder: Any, vision: Any, options: SummaryOptions) -> "Summarizer":
    from ..summaries.summarizer import Summarizer

    return Summarizer(loaded, options, encoder, vision=vision.encoder, pixels=vision.pixels)


def _served_model(arguments: argparse.Namespace, summarizer: "Summarizer") -> "ServedModel":
    from ..serving.answers import ServedModel

    if summarizer.loaded is None:
        name, revision = summarizer.text_encoder.name, summarizer.text_encoder.revision
    else:
        name, revision = named_model(arguments), summarizer.loaded.revision
    path = Path(name)
    # Where it lies on this machine is nobody else's business.
    return ServedModel(path.resolve().name if path.exists() else name, revision)


def _settings(arguments: argparse.Namespace) -> "Settings":
    from ..serving.keys import read_keys
    from ..serving.settings import Settings
    from ..uploads.article_input import Limits

    limits = Limits(
        text_length=arguments.max_text,
        title_length=arguments.max_title,
        caption_length=arguments.max_caption,
        images=arguments.max_images,
        image_size=arguments.max_image_bytes,
        document_size=max(4 * arguments.max_text, Limits.document_size),
    )
    return Settings(
        limits=limits,
        request_size=arguments.max_request_bytes,
        new_tokens=arguments.most_new_tokens,
        beams=arguments.most_beams,
        remote_hosts=frozenset(arguments.allow_remote),
        max_batch=arguments.max_batch,
        max_wait=arguments.max_wait / 1000,
        queue_size=arguments.queue_size,
        timeout=arguments.timeout,
        body_timeout=arguments.body_timeout,
        keys=() if arguments.api_key_file is None else read_keys(arguments.api_key_file),
    )


def _check_model(arguments: argparse.Namespace, options: SummaryOptions) -> None:
    if options.mode == "extractive":
        for option, value in (
            ("--model", arguments.model),
            ("--text-model", arguments.text_model),
            ("--quantize", arguments.quantize),
        ):
            if value is not None:
                raise UsageError(f"{option} is for summaries that are written; leave it or --mode extractive out.")
    else:
        check_any(named_model(arguments))
        check_quantize_argument(arguments.quantize, arguments.model)
    if options.mode == "extractive" or arguments.text_encoder != DEFAULT_TEXT_ENCODER:
        check_text_encoder(arguments.text_encoder)
    if arguments.vision:
        from ..models.dual_encoder import check_dual_encoder

        check_dual_encoder(arguments.vision)


def _port(text: str) -> int:
    return 0 if text == "0" else port(text)


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no host; write HOST or HOST:PORT, without a scheme")
    return text.lower()
