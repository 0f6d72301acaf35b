"""`spectra-sum app`: the demo in the browser, on this machine."""

import argparse
import importlib.util
import sys
import tempfile
import threading
from pathlib import Path

from ..models.kinds import check_any
from ..models.sources import DEFAULT_TEXT_ENCODER, check_text_encoder
from ..summaries.options import OptionsError
from .addresses import check_address, port
from .arguments import (
    UsageError,
    add_model_arguments,
    add_quantize_argument,
    add_summary_arguments,
    check_quantize_argument,
    named_model,
    options_error,
    summary_options,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the command, and adds its arguments to its parser."""
    parser.description = (
        "Starts the demo on this machine and prints its address; Ctrl-C ends it. None of the model "
        "repository's code runs. What is set here holds unless a visitor sets length, beams or captions. Programs get JSON "
        "from the endpoint /summarize_json, with gradio_client or curl."
    )
    add_model_arguments(parser.add_mutually_exclusive_group())
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this machine only); there is no login",
    )
    parser.add_argument("--port", type=port, help="port (default: the first free one from 7860)")
    add_summary_arguments(parser)
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
    options = summary_options(arguments)
    if options.mode == "extractive":
        raise UsageError("the app writes summaries; leave --mode out, or take extracts with spectra-sum summarize.")
    name = named_model(arguments)
    check_any(name)
    check_quantize_argument(arguments.quantize, arguments.model)
    if arguments.text_encoder != DEFAULT_TEXT_ENCODER:
        check_text_encoder(arguments.text_encoder)
    if arguments.vision:
        from ..models.dual_encoder import check_dual_encoder

        check_dual_encoder(arguments.vision)
    check_address(arguments.host, arguments.port)

    # Torch, transformers and gradio take seconds to import, which --help and a wrong argument need not cost.
    from spectra_sum.app.examples import write_examples
    from spectra_sum.app.interface import build_interface, launch
    from spectra_sum.app.summarizer_writer import SummarizerWriter

    from ..models.loading import load_any
    from ..summaries.on_demand.encoder import EncoderOnDemand
    from ..summaries.on_demand.vision import choose_vision
    from ..summaries.summarizer import Summarizer

    loaded = load_any(name, quantize=arguments.quantize)
    vision = choose_vision(arguments.vision)
    try:
        summarizer = Summarizer(
            loaded, options, EncoderOnDemand(arguments.text_encoder), vision=vision.encoder, pixels=vision.pixels
        )
    except OptionsError as error:
        raise options_error(error) from None
    if loaded.notice:
        print(f"spectra-sum: note: {loaded.notice}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        examples = Path(folder) / "examples"
        write_examples(examples, loaded.model.config.to_dict())
        interface = build_interface(SummarizerWriter(summarizer), model=name, examples=examples, notice=loaded.notice)
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
