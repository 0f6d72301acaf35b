"""The page and its server: layout, queue and limits."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio_client.utils import is_http_url_like
from starlette.middleware import Middleware

from spectra_sum.documents.reading import DOCUMENT_SUFFIXES, read_document

from ..uploads.article_input import Limits
from ..uploads.request_limit import RequestLimit
from .pipeline_writer import PipelineWriter
from .responding import make_answer, make_show
from .settings import DEFAULT_LENGTH, SettingChoices
from .summary_view import render_model, render_notice, render_welcome
from .writer import Writer

TITLE = "SPeCTrA-Sum: multimodal summarization"
# Visitors that may wait; summaries are made one at a time.
QUEUE_SIZE = 16
# Seconds between looks at the uploaded files, and their age when they are deleted.
UPLOAD_LIFETIME = 3600
FORM_SIZE = 1_000_000


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


def build_interface(
    pipeline: Callable[..., Mapping[str, Any]] | Writer,
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
        pipeline (`Callable` or `Writer`): A `multimodal-summarization` pipeline, or another [`Writer`], which has its own
            options.
        model (`str`): The model's name, for the page.
        examples (`Path`, *optional*): A folder for [`read_examples`].
        limits (`Limits`, *optional*): What is accepted from a visitor; `Limits()` by default.
        notice (`str`, *optional*): What the model is and what it cannot do, for the page.
        options: Of the pipeline's call, such as `max_new_tokens`, for requests that set nothing else.
    """
    writer = pipeline if isinstance(pipeline, Writer) else PipelineWriter(pipeline, **options)
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
                settings = _settings(writer.choices)
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

        inputs = [title, text, document, images, *settings]
        # One summary at a time, whoever asks.
        queue = {"concurrency_id": "summaries", "concurrency_limit": 1}
        button.click(
            make_show(writer, limits),
            inputs=inputs,
            outputs=output,
            api_name="summarize",
            api_description="Summarizes a text or a document with its images; returns HTML.",
            # On a phone the summary stands below the inputs.
            scroll_to_output=True,
            **queue,
        )
        # An endpoint for programs needs an event, and the event a component.
        gr.Button(visible=False).click(
            make_answer(writer, limits),
            inputs=inputs,
            outputs=gr.JSON(visible=False),
            api_name="summarize_json",
            api_description="The same as JSON: summary, selected_images, images, sentences, remarks.",
            **queue,
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


def _settings(choices: SettingChoices) -> list[gr.Radio | gr.Slider]:
    """The fields for length, beams and captions, with what is taken without a choice."""
    default = DEFAULT_LENGTH if choices.tokens is None else f"{DEFAULT_LENGTH} ({choices.tokens})"
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        length = gr.Radio(
            [(default, DEFAULT_LENGTH), *((f"{name} ({tokens})", name) for name, tokens in choices.lengths.items())],
            value=DEFAULT_LENGTH,
            label="Length",
            info="Most tokens of the summary, about three words for four tokens.",
            elem_id="length",
        )
        beams = gr.Slider(
            1,
            choices.most_beams,
            value=choices.num_beams,
            step=1,
            precision=0,
            label="Beams",
            info="With 1 the text is shown as it is written. More search for longer, and it comes at once.",
            elem_id="beams",
        )
        captions = gr.Radio(
            list(choices.captions),
            value=choices.captions[0],
            label="Captions",
            info="prompt: the model reads captions, or else alternative texts, with the text.",
            visible=len(choices.captions) > 1,
            elem_id="captions",
        )
    return [length, beams, captions]


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
