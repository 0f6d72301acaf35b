"""The texts of a record's images, and that whoever writes summaries hands them to a model that reads captions."""

import pytest
from datasets import Dataset, List, Value
from datasets import Image as ImageFeature

from spectra_sum.errors import SpectraSumError
from spectra_sum.records.article_images import ReadImages
from spectra_sum.records.image_texts import captions_for, image_texts
from spectra_sum.summaries.prediction import predict_summaries
from tests.tiny import picture, tiny_model, tiny_processor

RECORD = {
    "id": "a",
    "title": "Ships",
    "article": "Two ships left the harbour.",
    "images": [picture(0), picture(1), picture(2), picture(3)],
    "captions": ["A storm.", "", " ", "The harbour."],
    "alt_texts": ["Waves.", "A bridge.", "", None],
}
TEXTS = ["A storm.", "A bridge.", "", "The harbour."]


def without(*names):
    return {name: value for name, value in RECORD.items() if name not in names}


def test_captions_come_before_alternative_texts():
    assert image_texts(RECORD) == TEXTS
    assert image_texts(RECORD, [3, 1]) == ["The harbour.", "A bridge."]
    assert image_texts(without("alt_texts")) == ["A storm.", "", "", "The harbour."]
    assert image_texts(without("captions", "images"), [1]) == ["A bridge."]
    assert image_texts({**RECORD, "captions": None}) == ["Waves.", "A bridge.", "", ""]
    assert image_texts(without("captions", "alt_texts"), [0, 1]) == []
    assert image_texts({"id": "b", "images": [], "captions": [], "alt_texts": []}) == []


def test_as_many_texts_as_images():
    for changed in ({"captions": ["One."]}, {"alt_texts": [""] * 5}, {"images": RECORD["images"][:2]}):
        with pytest.raises(SpectraSumError, match="article a has .*: give one text per image"):
            image_texts({**RECORD, **changed})


def test_a_processor_is_given_what_it_reads():
    read = [ReadImages([], [0, 3], []), ReadImages([], [], [])]
    records = [RECORD, {**RECORD, "id": "b"}]
    assert captions_for(tiny_processor(), records, read) is None
    for fields in ({"captions": "prompt"}, {"image_text_length": 8}):
        processor = tiny_processor(**fields)
        assert captions_for(processor, records, read) == [["A storm.", "The harbour."], []]
        assert captions_for(processor, records, None) == [TEXTS, TEXTS]


def stored():
    texts = List(Value("string"))
    features = {"id": Value("string"), "title": Value("string"), "article": Value("string"), "captions": texts}
    dataset = Dataset.from_list([{name: RECORD[name] for name in features} | {"images": RECORD["images"]}])
    return dataset.cast_column("images", List(ImageFeature()))


@pytest.mark.parametrize("records", [[RECORD], stored()], ids=["list", "dataset without alt_texts"])
@pytest.mark.parametrize("use_images", [True, False])
def test_predictions_read_captions(records, use_images):
    fields = {"vrp_context": "article_set", "vrp_image_texts": True, "captions": "prompt", "align_weight": 0.0}
    model = tiny_model(gate=0.8, **fields)
    processor = tiny_processor(captions="prompt", image_text_length=16, max_candidate_images=6)
    options = {"use_images": use_images, "progress": False, "max_new_tokens": 5}
    [found] = predict_summaries(model, processor, records, **options)
    captions = TEXTS if isinstance(records, list) else ["A storm.", "", "", "The harbour."]
    images = RECORD["images"] if use_images else None
    inputs = processor(RECORD["article"], title="Ships", images=images, captions=captions)
    written = processor.tokenizer.decode(inputs["input_ids"][0])
    # Of four images the summarizer sees three; without images there is a line for every caption.
    assert ("Figure 1: A storm." in written, "Figure 4: The harbour." in written) == (True, not use_images)
    tokens = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert found["summary"] == processor.decode_summaries(tokens, inputs["input_ids"].shape[1])[0]
    if use_images:
        assert found["probabilities"] == pytest.approx(
            model.select_images(**inputs).probabilities[0].tolist(), abs=1e-6
        )
    [plain] = predict_summaries(tiny_model(gate=0.8, vrp_context="article_set"), tiny_processor(), records, **options)
    [again] = predict_summaries(
        tiny_model(gate=0.8, vrp_context="article_set"),
        tiny_processor(),
        [without("captions", "alt_texts")],
        **options,
    )
    assert plain == again
