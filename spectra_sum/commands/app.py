"""`spectra-sum app`: the demo in the browser, on this machine."""

import argparse
import importlib.util
import socket
import tempfile
import threading
from pathlib import Path

from ..models.sources import check_model
from .arguments import UsageError, add_quantize_argument, check_quantize_argument, positive, share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the command, and adds its arguments to its parser."""
    parser.description = (
        "Starts the demo on this machine and prints its address; Ctrl-C ends it. None of the model "
        "repository's code runs."
    )
    parser.add_argument(
        "--model", required=True, metavar="FOLDER_OR_ID", help="folder or Hub id of a trained SPeCTrA-Sum model"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this machine only); there is no login",
    )
    parser.add_argument("--port", type=_port, help="port (default: the first free one from 7860)")
    parser.add_argument("--max-new-tokens", type=positive, default=128, help="most tokens of a summary (default: 128)")
    parser.add_argument("--num-beams", type=positive, default=1, help="beams of the search (default: 1, greedy)")
    parser.add_argument("--threshold", type=share, help="least probability of a selected image (default: none)")
    add_quantize_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the command until it is interrupted.

    Returns:
        0.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UsageError("the app needs gradio; install it with: pip install 'spectra-sum[app]'")
    check_model(arguments.model)
    check_quantize_argument(arguments.quantize, arguments.model)
    _check_address(arguments.host, arguments.port)

    # Torch, transformers and gradio take seconds to import, which --help and a wrong argument need not cost.
    from modeling_spectra import MultimodalSummarizationPipeline
    from spectra_sum.app.examples import write_examples
    from spectra_sum.app.interface import build_interface, launch

    from ..models.loading import load_model

    loaded = load_model(arguments.model, quantize=arguments.quantize)
    pipeline = MultimodalSummarizationPipeline(loaded.model, processor=loaded.processor)
    options = {"max_new_tokens": arguments.max_new_tokens, "num_beams": arguments.num_beams}
    if arguments.threshold is not None:
        options["threshold"] = arguments.threshold
    with tempfile.TemporaryDirectory() as folder:
        examples = Path(folder) / "examples"
        write_examples(examples, loaded.model.config.to_dict())
        interface = build_interface(pipeline, model=arguments.model, examples=examples, **options)
        try:
            url = launch(interface, host=arguments.host, port=arguments.port)
        except OSError as error:
            raise UsageError(f"the server cannot start: {error}") from None
        print(f"{url} (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("Stopped.")
        finally:
            interface.close(verbose=False)
    return 0


def _check_address(host: str, port: int | None) -> None:
    """Before the model is loaded: whether the server can listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As the server does: an address whose connections have just ended is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise UsageError(f"--host {host}: this is no address of this machine.") from None
    except OSError as error:
        if port is None:
            raise UsageError(f"--host {host}: {error.strerror}; use 127.0.0.1.") from None
        raise UsageError(
            f"--port {port} on {host}: {error.strerror}; choose another port, or leave --port out."
        ) from None


def _port(text: str) -> int:
    value = positive(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 65535")
    return value
