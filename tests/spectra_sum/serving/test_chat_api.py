"""`POST /v1/chat/completions` by OpenAI's own client, plain and streamed, and what it raises."""

import base64
import io

import openai
import pytest

from tests.spectra_sum.serving.live import scripted
from tests.tiny import picture


def image_part(seed: int, **fields):
    buffer = io.BytesIO()
    picture(seed, (30, 28)).save(buffer, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": uri, **fields}}


def text_part(text: str):
    return {"type": "text", "text": text}


def user(content):
    return [{"role": "user", "content": content}]


@pytest.fixture(scope="module")
def server():
    with scripted(max_wait=0) as (script, http):
        yield script, openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="none", max_retries=0)


def test_models(server):
    _, client = server
    [model] = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "spectra-sum")
    assert client.models.retrieve("tiny") == model
    for other in ("tin", "me/tiny"):
        with pytest.raises(openai.NotFoundError, match="GET /v1/models names the one that is served"):
            client.models.retrieve(other)


def test_a_completion(server):
    script, client = server
    content = [text_part("One."), image_part(1, caption="A ship"), text_part("Two."), image_part(2, detail="auto")]
    answer = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "system", "content": ""}, *user(content)],
        n=1,
        top_p=0.5,
        seed=4,
        frequency_penalty=0,
        response_format={"type": "text"},
        user="someone",
        metadata={"a": "b"},
    )
    assert (answer.object, answer.model) == ("chat.completion", "tiny") and answer.id.startswith("chatcmpl-")
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Summary of One.\n\nTwo..")
    assert choice.finish_reason == "stop"
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
    }
    summary = answer.model_extra["spectra_sum"]
    assert [(image["caption"], image["selected"], image["rank"]) for image in summary["images"]] == [
        ("A ship", True, 2),
        ("", True, 1),
    ]
    assert not {"id", "object"} & summary.keys() and summary["summary"] == choice.message.content
    # Greedy without a temperature.
    assert script.options[-1].to_dict().keys() & {"temperature", "top_p", "seed"} == set()


def test_sampling_and_lengths(server):
    script, client = server

    def options_of(**fields):
        answer = client.chat.completions.create(model="tiny", messages=user("cut"), **fields)
        assert answer.choices[0].finish_reason == "length"
        return script.options[-1]

    made = options_of(temperature=0.7, top_p=0.9, seed=5, max_tokens=9)
    assert (made.do_sample, made.temperature, made.top_p, made.seed, made.max_new_tokens) == (True, 0.7, 0.9, 5, 9)
    made = options_of(temperature=0, max_completion_tokens=8)
    assert (made.do_sample, made.max_new_tokens) == (False, 8)


def test_a_stream_is_the_summary(server):
    script, client = server
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=user("the rain"), stream=True, stream_options={"include_usage": True}
        )
    )
    assert len({chunk.id for chunk in chunks}) == 1 and {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    *pieces, last, usage = chunks
    assert pieces[0].choices[0].delta.role == "assistant" and len(pieces) == 5
    assert "".join(chunk.choices[0].delta.content for chunk in pieces) == "Summary of the rain."
    assert {chunk.choices[0].finish_reason for chunk in pieces} == {None} and last.choices[0].finish_reason == "stop"
    assert last.model_extra["spectra_sum"]["summary"] == "Summary of the rain."
    assert (usage.choices, usage.usage.completion_tokens) == ([], 3)
    assert all(chunk.usage is None for chunk in chunks[:-1])

    chunks = list(client.chat.completions.create(model="tiny", messages=user("cut"), stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"
    # The degenerate text gave way after something of it had been sent: the answer has what stands.
    chunks = list(client.chat.completions.create(model="tiny", messages=user("loops"), stream=True))
    assert chunks[-1].choices[0].finish_reason == "content_filter"
    assert chunks[-1].model_extra["spectra_sum"]["summary"] == "Another text."


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError, "model"),
        ({"n": 2}, openai.BadRequestError, "n"),
        ({"stop": ["x"]}, openai.BadRequestError, "stop"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "tools"),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "response_format"),
        ({"logprobs": True}, openai.BadRequestError, "logprobs"),
        ({"presence_penalty": 0.5}, openai.BadRequestError, "presence_penalty"),
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, openai.BadRequestError, "max_tokens"),
        ({"max_tokens": 5000}, openai.BadRequestError, "options.max_new_tokens"),
        ({"extra_body": {"beams": 3}}, openai.BadRequestError, "beams"),
        ({"stream_options": {"include_usage": True}}, openai.BadRequestError, "stream_options"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": user("a") + user("b")}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, openai.BadRequestError, "messages"),
        (
            {"messages": [{"role": "system", "content": "Be brief."}, *user("a")]},
            openai.BadRequestError,
            "messages[0]",
        ),
        ({"messages": user("")}, openai.BadRequestError, None),
        ({"messages": user([{"type": "input_audio"}])}, openai.BadRequestError, "messages[0].content[0]"),
        (
            {"messages": user([image_part(1, detail="high")])},
            openai.BadRequestError,
            "messages[0].content[0].image_url.detail",
        ),
        (
            {"messages": user([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}])},
            openai.BadRequestError,
            "messages[0].content[0].image_url.url",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_summary_has_not_is_refused_by_name(server, fields, kind, param, stream):
    _, client = server
    if stream and "stream_options" in fields:
        pytest.skip("it belongs to a stream")
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": "tiny", "messages": user("a"), "stream": stream, **fields})
    assert caught.value.param == param and caught.value.body["message"].endswith(".")


def test_errors_of_the_server_are_the_clients(server):
    _, client = server
    with pytest.raises(openai.InternalServerError, match="its log tells why") as caught:
        client.chat.completions.create(model="tiny", messages=user("it breaks"))
    assert caught.value.request_id in str(caught.value)
    with scripted(keys=(b"key",)) as (_, http):
        wrong = openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="other", max_retries=0)
        with pytest.raises(openai.AuthenticationError, match="asks for a key"):
            wrong.models.list()
        assert openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="key").models.list().data[0].id == "tiny"


def test_an_error_in_the_middle_of_a_stream_is_raised():
    with scripted(max_wait=0, timeout=0.6) as (script, http):
        client = openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="none", max_retries=0)
        stream = client.chat.completions.create(model="tiny", messages=user("forever"), stream=True)
        with pytest.raises(openai.APIError, match="within 0.6 seconds"):
            list(stream)
        script.wait_for(lambda script: script.stopped == ["forever"])
