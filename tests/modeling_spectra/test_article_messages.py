"""Chats of one user message: the article that they are, through the processor and transformers' own pipeline."""

import base64
import io

import pytest
import torch
from datasets import Dataset
from transformers import pipeline

from modeling_spectra import MultimodalSummarizationPipeline, SpectraSumProcessor
from tests.modeling_spectra.pipeline_setup import NEW_TOKENS
from tests.tiny import NUM_PATCHES, SENTENCES, picture, tiny_image_processor, tiny_processor

TASK = "image-text-to-text"


def text_part(text):
    return {"type": "text", "text": text}


def chat(*content, role="user"):
    return [{"role": role, "content": list(content)}]


def equal(inputs, expected):
    return set(inputs) == set(expected) and all(torch.equal(inputs[name], expected[name]) for name in expected)


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("with_template", [False, True])
def test_a_message_is_an_article(with_template, tmp_path):
    """Every shape of text and image part, in any order; the texts are paragraphs."""
    processor = tiny_processor(with_template)
    images = [picture(index) for index in range(3)]
    images[1].save(tmp_path / "b.png")
    uri = f"data:image/png;base64,{encoded(images[2])}"
    text = f"{SENTENCES[0]}\n\n{SENTENCES[1]}"
    expected = processor(text, images=images)
    first, second = text_part(SENTENCES[0]), text_part(SENTENCES[1])
    for shapes in (
        [{"image": images[0]}, {"path": str(tmp_path / "b.png")}, {"base64": encoded(images[2])}],
        [{"base64": encoded(images[0])}, {"url": str(tmp_path / "b.png")}, {"url": uri}],
        [{"image": images[0], "url": None}, {"image": str(tmp_path / "b.png")}, {"base64": uri}],
    ):
        one, two, three = ({"type": "image", **shape} for shape in shapes)
        for content in ((one, two, three, first, second), (first, one, two, second, three)):
            conversation = chat(*content)
            before = [dict(part) for part in content]
            inputs = processor.apply_chat_template(conversation, tokenize=True, return_dict=True)
            assert equal(inputs, expected)
            assert conversation == chat(*before)
    openai = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "image_url", "image_url": uri}]
    inputs = processor.apply_chat_template(chat(*openai, first), tokenize=True, return_dict=True)
    assert equal(inputs, processor(SENTENCES[0], images=[images[2]] * 2))
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": SENTENCES[0]}], tokenize=True, return_dict=True
    )
    assert equal(inputs, processor(SENTENCES[0]))


def test_options_go_to_the_processor():
    processor = tiny_processor()
    conversation = chat({"type": "image", "image": picture(1)}, text_part(SENTENCES[0]))
    options = {"title": "Ships", "max_length": 30, "padding": "max_length", "summary": "Rain."}
    expected = processor(SENTENCES[0], images=[picture(1)], **options)
    call = {"tokenize": True, "return_dict": True}
    assert equal(processor.apply_chat_template(conversation, processor_kwargs=options, **call), expected)
    # As transformers' pipelines still pass them.
    assert equal(processor.apply_chat_template(conversation, **options, **call), expected)
    ids = processor.apply_chat_template(conversation, tokenize=True)
    assert torch.equal(ids, processor(SENTENCES[0], images=[picture(1)])["input_ids"])
    lists = processor.apply_chat_template(conversation, tokenize=True, return_tensors=None)
    assert lists == ids.tolist()


def test_several_conversations_are_a_batch():
    processor = tiny_processor(True)
    conversations = [
        chat({"type": "image", "image": picture(1)}, text_part(SENTENCES[0])),
        [{"role": "user", "content": SENTENCES[1]}],
        chat(text_part(SENTENCES[2]), {"type": "image", "image": picture(2)}, {"type": "image", "image": picture(3)}),
    ]
    images = [[picture(1)], [], [picture(2), picture(3)]]
    titles = ["Harbour", None, "Cost"]
    options = {"tokenize": True, "return_dict": True, "processor_kwargs": {"title": titles}}
    expected = processor(SENTENCES[:3], images=images, title=titles)
    assert equal(processor.apply_chat_template(conversations, **options), expected)
    assert equal(processor.apply_chat_template(tuple(conversations), **options), expected)
    prompts = processor.apply_chat_template(conversations, processor_kwargs={"title": titles})
    ids = [row[mask.bool()] for row, mask in zip(expected["input_ids"], expected["attention_mask"], strict=True)]
    assert prompts == [processor.tokenizer.decode(row) for row in ids]
    # Without tensors in it a conversation may come from a data set, which fills in the keys of other parts.
    rows = Dataset.from_list([{"messages": chat({"type": "image", "url": encoded(picture(1))}, text_part("a"))}])
    assert rows[0]["messages"][0]["content"][1]["url"] is None
    inputs = processor.apply_chat_template(rows["messages"], tokenize=True, return_dict=True)
    assert equal(inputs, processor(["a"], images=[[picture(1)]]))


@pytest.mark.parametrize("images_first", [False, True])
def test_the_text_of_the_prompt_has_a_placeholder_per_image(images_first):
    """For the images that the summarizer sees, 3 of 4, as every processor's template writes them before expansion."""
    per_image = NUM_PATCHES + 1
    processor = tiny_processor(True, num_image_tokens=per_image, images_first=images_first)
    conversation = chat(*[{"type": "image", "image": picture(1)}] * 4, text_part(SENTENCES[0]))
    prompt = processor.apply_chat_template(conversation)
    assert isinstance(prompt, str) and prompt.count("<image>") == 3
    ids = processor.apply_chat_template(conversation, tokenize=True)[0]
    assert processor.tokenizer.decode(ids) == prompt.replace("<image>", "<image>" * per_image)


def test_a_chat_template_of_the_call():
    processor = tiny_processor()
    template = "{% for message in messages %}User: {{ message['content'] }}{% endfor %} Assistant:"
    for options in ({}, {"chat_template": template}):
        prompt = processor.apply_chat_template(chat(text_part("A storm.")), **options)
        assert prompt == ("User: A storm.\n\nSummary: Assistant:" if options else "A storm.\n\nSummary:")
        ids = processor.apply_chat_template(chat(text_part("A storm.")), tokenize=True, **options)[0]
        assert processor.tokenizer.decode(ids) == prompt
    assert processor.chat_template is None


USER = chat(text_part("a"))


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([], "a conversation is a list of one message"),
        ("a", "a conversation is a list of one message"),
        (
            USER + chat(text_part("b"), role="assistant"),
            r"the conversation has the turns \['user', 'assistant'\]: .*one user",
        ),
        (chat(text_part("b"), role="system") + USER, r"the turns \['system', 'user'\]"),
        (USER + USER, r"the turns \['user', 'user'\]"),
        (chat(text_part("b"), role="system"), r"the turns \['system'\]"),
        (
            [USER, USER + chat(text_part("b"), role="assistant")],
            r"conversation 1 has the turns \['user', 'assistant'\]",
        ),
        ([USER, []], r"conversation 1 has the turns \[\]"),
        ([USER, "a"], "conversation 1 must be a list of one message"),
        ([USER, [{"role": "user", "content": None}]], "conversation 1: the content of its message must be"),
        (chat(), "the conversation: the content of its message must be"),
        (chat("a"), "the content of its message must be"),
        (chat(text_part(3)), "part 0 is of type 'text'"),
        (chat(text_part("a"), {"type": "video", "url": "a.mp4"}), "the conversation: part 1 is of type 'video'"),
        ([USER, chat({"type": "image"})], r"conversation 1: part 0 is an image, and needs exactly one of image, path"),
        (chat({"type": "image", "url": "a", "path": "b"}), r"exactly one of .* it has \['path', 'url'\]"),
        (chat({"type": "image_url", "image_url": {}}), r"exactly one of .* it has \[\]"),
        (chat({"type": "image", "path": 3}), "part 0: 'path' must be a string, not int"),
        (chat({"type": "image", "path": "https://example.org/a.png"}), "image 0: .*No such file"),
        (chat({"type": "image", "url": "https://example.org/a.png"}), "image 0: .*fetch_images=True"),
        (chat({"type": "image", "base64": "setup.py"}), "image 0: .*it is no image in base64"),
    ],
)
def test_other_conversations_are_refused(conversation, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor().apply_chat_template(conversation, tokenize=True, return_dict=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tools": [{}]}, "tools is not possible"),
        ({"documents": [{}]}, "documents is not possible: pass the article as the user's message"),
        ({"add_generation_prompt": False}, "add_generation_prompt=False is not possible: a prompt ends where"),
        ({"continue_final_message": True}, "continue_final_message is not possible"),
        ({"return_assistant_tokens_mask": True}, "return_assistant_tokens_mask is not possible: .*labels"),
        ({"load_audio_from_video": True}, "load_audio_from_video is not possible"),
        ({"sanitize_control_tokens": False}, "sanitize_control_tokens=False is not possible: .*plain text"),
        ({"processor_kwargs": {"images": []}}, "images is not possible: text and images come from the conversation"),
        ({"padding_side": "right"}, "padding_side='right' is not possible"),
    ],
)
def test_what_a_chat_cannot_do_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor().apply_chat_template(USER, tokenize=True, **options)


@pytest.fixture(params=[False, True], ids=["plain", "chat"])
def summarizers(request, loaded):
    """A model with transformers' pipeline and our own, with the same processor."""
    model, own = loaded
    template = "{% for m in messages %}User: {{ m['content'] }}{% endfor %}\nAssistant:" if request.param else None
    processor = SpectraSumProcessor(
        tiny_image_processor(),
        own.tokenizer,
        template,
        num_image_tokens=own.num_image_tokens,
        max_images=2,
        max_candidate_images=4,
    )
    theirs = pipeline(TASK, model=model, processor=processor)
    return theirs, MultimodalSummarizationPipeline(model, processor, max_new_tokens=NEW_TOKENS)


def test_transformers_pipeline_gives_the_same_summaries(summarizers, tmp_path):
    theirs, ours = summarizers
    images = [picture(seed) for seed in range(3)]
    images[1].save(tmp_path / "b.png")
    articles = [
        {"text": SENTENCES[0], "images": images},
        {"text": SENTENCES[1]},
        {"text": f"{SENTENCES[2]}\n\n{SENTENCES[0]}", "images": [images[2]]},
    ]
    shapes = [{"image": images[0]}, {"path": str(tmp_path / "b.png")}, {"base64": encoded(images[2])}]
    parts = [{"type": "image", **shape} for shape in shapes]
    chats = [
        chat(*parts, text_part(SENTENCES[0])),
        chat(text_part(SENTENCES[1])),
        chat(text_part(SENTENCES[2]), parts[2], text_part(SENTENCES[0])),
    ]
    expected = [result["summary_text"] for result in ours(articles)]
    assert len(set(expected)) == 3
    options = {"generate_kwargs": {"do_sample": False, "max_new_tokens": NEW_TOKENS}}
    for conversation, summary in zip(chats, expected, strict=True):
        [result] = theirs(text=conversation, **options)
        assert result["input_text"] == conversation
        assert result["generated_text"][:-1] == conversation
        assert result["generated_text"][-1]["role"] == "assistant"
        assert result["generated_text"][-1]["content"].strip() == summary
        [result] = theirs(text=conversation, return_full_text=False, **options)
        assert result["generated_text"].strip() == summary
    results = theirs(text=chats, return_full_text=False, **options)
    assert [result["generated_text"].strip() for [result] in results] == expected
    titled = ours({**articles[0], "title": "Ships"})["summary_text"]
    [result] = theirs(text=chats[0], processor_kwargs={"title": "Ships"}, return_full_text=False, **options)
    assert result["generated_text"].strip() == titled != expected[0]


def test_chats_of_one_size_go_through_the_model_together(summarizers):
    """transformers' pipeline puts the prompts of a batch side by side, padded as the tokenizer pads."""
    theirs, ours = summarizers
    articles = [{"text": text, "images": [picture(seed)]} for seed, text in enumerate(SENTENCES[:3])]
    chats = [
        chat({"type": "image", "image": article["images"][0]}, text_part(article["text"])) for article in articles
    ]
    expected = [result["summary_text"] for result in ours(articles)]
    options = {"return_full_text": False, "generate_kwargs": {"do_sample": False, "max_new_tokens": NEW_TOKENS}}
    results = theirs(text=chats, batch_size=3, **options)
    assert [result["generated_text"].strip() for [result] in results] == expected


def test_text_and_images_beside_each_other(summarizers):
    """The pipeline's older way: a text and its image."""
    theirs, ours = summarizers
    options = {"return_full_text": False, "generate_kwargs": {"do_sample": False, "max_new_tokens": NEW_TOKENS}}
    expected = ours({"text": SENTENCES[0], "images": [picture(1)]})["summary_text"]
    for images in (picture(1), [picture(1)]):
        [result] = theirs(images=images, text=SENTENCES[0], **options)
        assert result["generated_text"].strip() == expected
    [result] = theirs(text=SENTENCES[1], **options)
    assert result["generated_text"].strip() == ours({"text": SENTENCES[1]})["summary_text"]


def test_other_turns_are_refused_by_the_pipeline(summarizers):
    theirs, _ = summarizers
    with pytest.raises(ValueError, match="the turns .*one user message"):
        theirs(text=chat(text_part("Be brief."), role="system") + USER)
    with pytest.raises(ValueError, match="continue_final_message is not possible"):
        theirs(text=USER + chat(text_part("It"), role="assistant"))


def test_decoding_is_the_tokenizers():
    processor = tiny_processor(True)
    ids = processor(SENTENCES[:2])["input_ids"]
    for skip in (False, True):
        expected = [processor.tokenizer.decode(row, skip_special_tokens=skip) for row in ids]
        assert processor.batch_decode(ids, skip_special_tokens=skip) == expected
        assert [processor.decode(row, skip_special_tokens=skip) for row in ids] == expected
        assert processor.post_process_image_text_to_text(ids, skip_special_tokens=skip) == expected
    assert processor.post_process_image_text_to_text(ids) == expected
    assert processor.post_process_multimodal_output(ids) == expected
