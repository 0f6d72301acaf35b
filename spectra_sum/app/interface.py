"""The page and its server: layout, queue, and what happens when a visitor presses the button."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio_client.utils import is_http_url_like
from starlette.middleware import Middleware

from spectra_sum.documents.parts import DocumentError
from spectra_sum.documents.reading import DOCUMENT_SUFFIXES, read_document
from spectra_sum.errors import SpectraSumError
from spectra_sum.summaries.remarks import model_remarks, summary_remarks

from .article_input import Limits, read_article
from .request_limit import RequestLimit
from .summary_view import render_error, render_model, render_notice, render_summary, render_welcome

TITLE = "SPeCTrA-Sum: multimodal summarization"
# Visitors that may wait; summaries are made one at a time.
QUEUE_SIZE = 16
# Seconds between looks at the uploaded files, and their age when they are deleted.
UPLOAD_LIFETIME = 3600
FORM_SIZE = 1_000_000

Respond = Callable[[str, str, str | None, list[str] | None], str]


class Example(NamedTuple):
    """An article that a visitor may try."""

    label: str
    title: str
    text: str
    images: list[str]


def read_examples(folder: Path) -> list[Example]:
    """The examples of a folder: a folder each, with an `article.md` that names its images."""
    examples = []
    for place in sorted(folder.glob("*/article.md")):
        article = read_document(place)
        images = [str(place.with_name(image.name)) for image in article.images]
        examples.append(Example(article.title, article.title, article.body, images))
    return examples


def make_respond(pipeline: Callable[..., Mapping[str, Any]], limits: Limits, **options: Any) -> Respond:
    """
    The function behind the button.

    Args:
        pipeline (`Callable`): A `multimodal-summarization` pipeline, or a [`DocumentPipeline`], which has its own options.
        limits (`Limits`): What is accepted.
        options: Of the pipeline's call, such as `max_new_tokens`.

    Returns:
        A function of title, text, path of a document, and paths of images, that returns HTML: the summary with what must
        be known of it and of the model, or a message that says why there is none.
    """

    def respond(title: str, text: str, document: str | None, images: list[str] | None) -> str:
        try:
            article = read_article(title or "", text or "", document, images or [], limits)
            if hasattr(pipeline, "summarize_document"):
                return render_summary(article, *pipeline.summarize_document(article))
            with _remarks_of(pipeline) as remarks:
                result = pipeline(
                    {
                        "text": article.body,
                        "title": article.title,
                        "images": [image.image for image in article.images],
                    },
                    return_evidence=True,
                    **options,
                )
        except (DocumentError, SpectraSumError) as error:
            return render_error(str(error))
        except ValueError as error:
            # Of a checked article the pipeline refuses but one whose title leaves no room for the text.
            return render_error(f"The model cannot read this: {error}")
        known = model_remarks(
            pipeline.model.config, pipeline.processor.tokenizer, with_images=bool(article.images)
        ) + summary_remarks(result["summary_text"])
        return render_summary(article, result, [*remarks, *map(str, known)])

    return respond


def build_interface(
    pipeline: Callable[..., Mapping[str, Any]],
    *,
    model: str,
    examples: Path | None = None,
    limits: Limits | None = None,
    notice: str = "",
    **options: Any,
) -> gr.Blocks:
    """
    The app.

    Args:
        pipeline (`Callable`): A `multimodal-summarization` pipeline, or a [`DocumentPipeline`], which has its own options.
        model (`str`): The model's name, for the page.
        examples (`Path`, *optional*): A folder for [`read_examples`].
        limits (`Limits`, *optional*): What is accepted from a visitor; `Limits()` by default.
        notice (`str`, *optional*): What the model is and what it cannot do, for the page.
        options: Of the pipeline's call, such as `max_new_tokens`.
    """
    limits = limits or Limits()
    size = f"{limits.image_size / 1e6:g} MB"
    shown_limits = (
        f"At most {limits.images} images of {size} each, and {limits.text_length:,} characters. "
        f"Documents: {', '.join(DOCUMENT_SUFFIXES)}."
    )
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        delete_cache=(UPLOAD_LIFETIME, UPLOAD_LIFETIME),
    ) as interface:
        gr.Markdown(
            "# SPeCTrA-Sum\nAn article and its images go in; a summary and the images that belong to it come out."
        )
        with gr.Row(equal_height=False):
            with gr.Column(min_width=340):
                # Inputs are bounded on the server as well; a client need not use this page.
                title = gr.Textbox(
                    label="Title (optional)", max_lines=2, elem_id="title", max_length=limits.title_length
                )
                text = gr.Textbox(
                    label="Text",
                    lines=8,
                    max_lines=16,
                    placeholder="Paste an article …",
                    elem_id="text",
                    max_length=limits.text_length,
                )
                document = _uploads(
                    label="Document instead of text",
                    file_types=list(DOCUMENT_SUFFIXES),
                    height=150,
                    elem_id="document",
                )
                images = _uploads(
                    label="Images (drop them here)",
                    file_count="multiple",
                    file_types=["image"],
                    height=160,
                    elem_id="images",
                )
                button = gr.Button("Summarize", variant="primary", elem_id="summarize")
                shown = read_examples(examples) if examples else []
                if shown:
                    gr.Markdown("**Examples**")
                with gr.Row(elem_id="examples"):
                    load = [gr.Button(example.label, size="sm", variant="secondary") for example in shown]
            with gr.Column(min_width=340):
                output = gr.HTML(
                    render_welcome(shown_limits),
                    apply_default_css=False,
                    js_on_load=None,
                    elem_id="output",
                    elem_classes="spectra-block",
                )
        gr.HTML(render_model(model, notice), apply_default_css=False, js_on_load=None, elem_classes="spectra-block")

        button.click(
            make_respond(pipeline, limits, **options),
            inputs=[title, text, document, images],
            outputs=output,
            api_name="summarize",
            api_description="Summarizes a text or a document with its images; returns HTML.",
            concurrency_limit=1,
            # On a phone the summary stands below the inputs.
            scroll_to_output=True,
        )
        for example, example_button in zip(shown, load, strict=True):
            example_button.click(
                _loader(example),
                outputs=[title, text, document, images, output],
                api_visibility="private",
                show_progress="hidden",
                # Those who wait for a summary do not keep others from trying an example.
                queue=False,
            )
    return interface.queue(max_size=QUEUE_SIZE, api_open=False)


def build_notice(message: str) -> gr.Blocks:
    """A page that says why there is no app."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as interface:
        gr.Markdown("# SPeCTrA-Sum")
        gr.HTML(render_notice(message), apply_default_css=False, js_on_load=None, elem_classes="spectra-block")
    return interface


def launch(
    interface: gr.Blocks, *, limits: Limits | None = None, host: str | None = None, port: int | None = None
) -> str:
    """
    Starts the app's server and returns at once.

    Args:
        interface (`gr.Blocks`): Of [`build_interface`] or [`build_notice`].
        limits (`Limits`, *optional*): Those of the interface; larger files, and requests with more of them than an
            article can have, are refused while they are uploaded.
        host (`str`, *optional*): Address to bind; Gradio's own default, 127.0.0.1, or what a Space sets.
        port (`int`, *optional*): Port; the first free one from 7860 by default.

    Returns:
        The app's URL.

    Raises:
        OSError: The port is taken.
    """
    limits = limits or Limits()
    # The fields around the files of a form, and everything but the files of other requests.
    request_size = limits.images * limits.image_size + limits.document_size + FORM_SIZE
    _, url, _ = interface.launch(
        server_name=host,
        server_port=port,
        max_file_size=max(limits.image_size, limits.document_size),
        css_paths=Path(__file__).with_name("app.css"),
        theme=_theme(),
        footer_links=[],
        app_kwargs={"middleware": [Middleware(RequestLimit, size=request_size)]},
        share=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        run_history=False,
        enable_monitoring=False,
        prevent_thread_lock=True,
        quiet=True,
    )
    return url


def _uploads(**settings: Any) -> gr.File:
    """A field for files from the visitor's browser. An address in the place of a file is refused; Gradio would fetch it."""
    # Gradio writes a .pyi file beside the module of a subclass, so the method is replaced on the component itself.
    component = gr.File(**settings)
    move = component.async_move_resource_to_block_cache

    async def refuse_addresses(place: str | Path | None) -> str | None:
        if place is not None and is_http_url_like(str(place)):
            raise gr.Error("Addresses are not fetched; upload the file.")
        return await move(place)

    component.async_move_resource_to_block_cache = refuse_addresses
    return component


def _theme() -> gr.themes.Base:
    """Fonts of the visitor's system; a button whose text has contrast enough."""
    fonts = [gr.themes.Font(name) for name in ("system-ui", "sans-serif")]
    theme = gr.themes.Default(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=fonts)
    shades = {f"button_primary_background_fill{mode}": "*primary_700" for mode in ("", "_dark")}
    return theme.set(**shades, **{name.replace("fill", "fill_hover"): "*primary_800" for name in shades})


def _loader(example: Example) -> Callable[[], tuple[Any, ...]]:
    return lambda: (example.title, example.text, None, example.images, "")


@contextmanager
def _remarks_of(pipeline: Callable[..., Any]) -> Iterator[Sequence[str]]:
    """What the pipeline's module warns of meanwhile, such as text that was cut."""
    remarks: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: remarks.append(record.getMessage())
    logger = logging.getLogger(type(pipeline).__module__)
    logger.addHandler(handler)
    try:
        yield remarks
    finally:
        logger.removeHandler(handler)
