import math

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from modeling_spectra import SpectraSumForConditionalGeneration
from spectra_sum.documents.parts import Document, DocumentError, DocumentImage
from spectra_sum.models.loading import LoadedModel
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from tests.double_precision import double_precision

NUM_LATENTS = 3
pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """A tiny vision tower, and a tiny language model whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("backbones")
    with double_precision():
        return save_backbones(folder)


def save_backbones(folder):
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    SiglipVisionModel(SiglipVisionConfig(**size, image_size=16, patch_size=8)).save_pretrained(folder / "vision")
    SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder / "vision")

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", "<image>", *alphabet])}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only, pad_token="<pad>", eos_token="<eos>", additional_special_tokens=["<image>"]
    )
    tokenizer.save_pretrained(folder / "text")
    text = {**size, "num_hidden_layers": 3, "num_key_value_heads": 2, "vocab_size": len(vocabulary)}
    text_config = Qwen2Config(**text, max_position_embeddings=512, eos_token_id=1, pad_token_id=0, bos_token_id=None)
    Qwen2ForCausalLM(text_config).save_pretrained(folder / "text")
    return folder


def load(backbones, **config):
    torch.manual_seed(1)
    small = {"num_latents": NUM_LATENTS, "dvp_num_layers": 3, "gate_layers": [1, 3], "vrp_context": "article_set"}
    config = {**small, "max_images": 2, "max_candidate_images": 4, "max_selected_images": 2, **config}
    model, processor = SpectraSumForConditionalGeneration.from_backbones(
        str(backbones / "vision"), str(backbones / "text"), gate_init=0.7, **config
    )
    # Weights of the usual size would make attention so even that a mistake could hide.
    for parameter in model.visual_path.parameters():
        parameter.data.mul_(6) if parameter.dim() > 1 else None
    return LoadedModel(model, processor, trained=True)


def document(num_images, body="A body with some words.", title="A title"):
    generator = torch.Generator().manual_seed(3)
    images = [
        DocumentImage(
            f"{index}.png",
            "",
            Image.fromarray(torch.randint(256, (16, 16, 3), generator=generator).to(torch.uint8).numpy()),
        )
        for index in range(num_images)
    ]
    return Document("doc", "doc.md", title, body, images)


def force_summary(monkeypatch, loaded, text, end=True):
    tokens = loaded.processor.tokenizer(text)["input_ids"] + [1] * end
    summary = torch.tensor([tokens])
    monkeypatch.setattr(
        loaded.model, "generate", lambda input_ids, **kwargs: torch.cat([input_ids, summary], dim=1), raising=True
    )
    return tokens[: len(tokens) - end]


@pytest.mark.parametrize("fusion", ["sampler", "dvp"])
def test_evidence_is_the_mean_gated_attention_of_the_sentence(backbones, monkeypatch, fusion):
    loaded = load(backbones, fusion=fusion)
    # Gates of different openings: the evidence weighs them.
    loaded.model.visual_path.cross_attentions["3"].gate.alpha.data.fill_(0.2)
    # É is two tokens: each token's sentence is known without decoding.
    tokens = force_summary(monkeypatch, loaded, "Éa is it. Two.")
    sentences = {"Éa is it.": range(0, 10), "Two.": range(11, 15)}
    assert len(tokens) == 15
    result = Summarizer(loaded).summarize(document(4))

    inputs = loaded.processor(
        text=["A body with some words."], title=["A title"], images=[[i.image for i in document(4).images]]
    )
    prompt_length = inputs["input_ids"].shape[1]
    loaded.model.set_attn_implementation("eager")
    outputs = loaded.model(
        input_ids=torch.cat([inputs["input_ids"], torch.tensor([tokens])], dim=1),
        article_mask=inputs["article_mask"],
        pixel_values=inputs["pixel_values"],
        image_mask=inputs["image_mask"],
        output_attentions=True,
    )
    gates = loaded.model.visual_path.cross_attentions.values()
    openings = [abs(math.tanh(gate.gate.alpha.item())) for gate in gates]
    seen = outputs.summarizer_images[0].tolist()
    assert len(seen) == 2 and outputs.cross_attentions[0].shape[-1] == 2 * NUM_LATENTS
    assert result.summary == "Éa is it. Two."
    assert [entry.sentence for entry in result.evidence] == list(sentences)
    for entry, positions in zip(result.evidence, sentences.values(), strict=True):
        assert [index for index, weight in enumerate(entry.image_weights) if weight is not None] == seen
        assert sum(entry.image_weights[index] for index in seen) == pytest.approx(1, abs=1e-9)
        for place, image in enumerate(seen):
            terms = [
                opening * gate[0, head, prompt_length + position, place * NUM_LATENTS + latent].item()
                for opening, gate in zip(openings, outputs.cross_attentions, strict=True)
                for head in range(gate.shape[1])
                for position in positions
                for latent in range(NUM_LATENTS)
            ]
            expected = sum(terms) / (sum(openings) * gate_heads(outputs) * len(positions))
            assert entry.image_weights[image] == pytest.approx(expected, abs=1e-9)
    first, second = (entry.image_weights[seen[0]] for entry in result.evidence)
    assert abs(first - second) > 1e-3


def gate_heads(outputs):
    return outputs.cross_attentions[0].shape[1]


def test_selection_is_the_models(backbones):
    loaded = load(backbones)
    summarizer = Summarizer(loaded, SummaryOptions(max_new_tokens=5))
    result = summarizer.summarize(document(6))
    assert result.probabilities[4:] == [None, None]
    scored = result.probabilities[:4]
    assert result.selected == sorted(range(4), key=lambda index: -scored[index])[:2]
    assert [(p.kind, p.detail[:8]) for p in result.problems if p.kind == "image_limit"] == [
        ("image_limit", "2 images")
    ]

    between = (sorted(scored)[-1] + sorted(scored)[-2]) / 2
    strict = Summarizer(loaded, SummaryOptions(max_new_tokens=5, threshold=between)).summarize(document(6))
    assert strict.selected == result.selected[:1]


def test_closed_gates_and_concat_have_no_evidence(backbones, monkeypatch):
    for config in ({"fusion": "concat"}, {"fusion": "dvp"}):
        loaded = load(backbones, **config)
        for name, parameter in loaded.model.named_parameters():
            if name.endswith("gate.alpha"):
                parameter.data.zero_()
        force_summary(monkeypatch, loaded, "Some text.")
        result = Summarizer(loaded).summarize(document(2))
        assert result.evidence == [] and len(result.selected) == 2


def test_a_document_without_images(backbones):
    result = Summarizer(load(backbones), SummaryOptions(max_new_tokens=3)).summarize(document(0))
    assert (result.selected, result.probabilities, result.evidence) == ([], [], [])


def test_the_text_ends_at_the_end_token_or_is_reported(backbones, monkeypatch):
    loaded = load(backbones)
    force_summary(monkeypatch, loaded, " Whole.")
    whole = Summarizer(loaded).summarize(document(1))
    assert (whole.summary, whole.problems) == ("Whole.", [])
    force_summary(monkeypatch, loaded, "Cut of", end=False)
    cut = Summarizer(loaded, SummaryOptions(max_new_tokens=6)).summarize(document(1))
    assert cut.summary == "Cut of"
    assert [str(problem) for problem in cut.problems] == [
        "summary cut: the summary was stopped at 6 tokens, before its first sentence ended"
    ]


@pytest.mark.parametrize("fusion", ["concat", "dvp"])
def test_a_long_body_is_cut_and_counted(backbones, fusion):
    loaded = load(backbones, fusion=fusion)
    summarizer = Summarizer(loaded, SummaryOptions(max_new_tokens=12))
    # The prompt has 19 bytes beside the body: the title 7, two line breaks, "\n\nSummary:" 10.
    visual = 2 * 5 if fusion == "concat" else 0
    fits = 512 - 12 - visual - 19
    assert "body_cut" not in [p.kind for p in summarizer.summarize(document(3, body="x" * fits)).problems]
    problems = summarizer.summarize(document(3, body="x" * (fits + 4))).problems
    assert f"body cut: the last 4 of its {fits + 23} text tokens were not read" in map(str, problems)


def test_a_title_without_end_names_the_document(backbones):
    with pytest.raises(DocumentError, match="doc.md: the title leaves no room"):
        Summarizer(load(backbones), SummaryOptions(max_new_tokens=5)).summarize(document(0, title="t" * 600))


def test_images_are_not_ranked_by_an_untrained_predictor(backbones):
    loaded = load(backbones)._replace(trained=False)
    result = Summarizer(loaded, SummaryOptions(max_new_tokens=2)).summarize(document(1))
    assert (result.selected, result.scores, result.probabilities) == ([], [None], [None])
    assert "not_ranked" in [problem.kind for problem in result.problems]
