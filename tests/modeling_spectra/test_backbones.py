"""from_backbones: every weight is the checkpoint's, embeddings are the dual encoder's, unfit checkpoints are refused."""

from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPModel,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    SiglipModel,
    SiglipVisionModel,
)

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration
from modeling_spectra.visual_layers import VisualRMSNorm
from tests.double_precision import EXACT
from tests.tiny import (
    CLIP_PROJECTION,
    NUM_PATCHES,
    SENTENCES,
    VISION_WIDTH,
    VOCABULARY,
    picture,
    pixels,
    save_text_folder,
    save_vision_folder,
    tiny_image_processor,
    tokens,
    vision_config,
)
from tests.tiny_gguf import save_gguf

FIELDS = {"dvp_num_layers": 3, "gate_layers": [1, 3], "num_latents": 2, "max_images": 3, "max_candidate_images": 6}
DUAL_ENCODERS = {"siglip": SiglipModel, "clip": CLIPModel}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    folders = {kind: str(save_vision_folder(root / kind, kind)) for kind in ("siglip", "clip")}
    for kind, tower in (("siglip", SiglipVisionModel), ("clip", CLIPVisionModelWithProjection)):
        folders[f"{kind} alone"] = str(root / f"{kind}_alone")
        tower.from_pretrained(folders[kind], config=tower_config(kind)).save_pretrained(folders[f"{kind} alone"])
        tiny_image_processor(kind).save_pretrained(folders[f"{kind} alone"])
    for kind in ("qwen2", "llama"):
        folders[kind] = str(save_text_folder(root / kind, kind))
    folders["tied"] = str(save_text_folder(root / "tied", tie_word_embeddings=True, chat=True))
    return folders


def tower_config(kind):
    config = vision_config(kind)
    if kind == "clip":
        config.projection_dim = CLIP_PROJECTION
    return config


@torch.no_grad()
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("text", ["qwen2", "llama", "tied"])
@pytest.mark.parametrize("vision", ["siglip", "siglip alone", "clip", "clip alone"])
def test_weights_and_embeddings_are_the_checkpoints(folders, vision, text):
    exact = {"dtype": torch.float64}
    model, processor = SpectraSumForConditionalGeneration.from_backbones(
        folders[vision], folders[text], **exact, **FIELDS
    )
    assert not model.training

    language = AutoModelForCausalLM.from_pretrained(folders[text], **exact)
    expected = language.state_dict()
    assert set(model.language_model.state_dict()) == set(expected)
    assert all(torch.equal(model.language_model.state_dict()[name], tensor) for name, tensor in expected.items())
    input_ids = tokens(2, 6)
    values, mask = pixels(2, 1)
    output = model(input_ids=input_ids, pixel_values=values, image_mask=mask)
    assert torch.equal(output.logits, language(input_ids).logits)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (text == "tied")

    kind = vision.split()[0]
    dual = DUAL_ENCODERS[kind].from_pretrained(folders[kind], **exact)
    dual_state, tower_state = dual.state_dict(), model.vision_tower.state_dict()
    shared = {name for name in dual_state if name.startswith("vision_model.") or name == "visual_projection.weight"}
    assert len(tower_state) == len(shared)
    for name in shared:
        own = name if name in tower_state else name.removeprefix("vision_model.")
        assert torch.equal(tower_state[own], dual_state[name]), name
    for row, count in ((0, 2), (1, 1)):
        features = dual.get_image_features(values[row, :count]).pooler_output
        expected_embeds = features / features.norm(dim=-1, keepdim=True)
        assert expected_embeds.shape[1] == (VISION_WIDTH if kind == "siglip" else CLIP_PROJECTION)
        torch.testing.assert_close(output.image_embeds[row, :count], expected_embeds, **EXACT)
    data = processor("A storm.", images=[picture()], summary="Rain.")
    assert model(**{name: data[name] for name in data}).loss.isfinite()


@torch.no_grad()
@pytest.mark.parametrize("vocabulary", [VOCABULARY, None])
@pytest.mark.parametrize("chat", [False, True])
def test_concat_gets_an_image_token_and_loses_nothing(folders, tmp_path, chat, vocabulary):
    """The embedding table grows only when it has no free row; the tokenizer's special tokens stay special."""
    tokenizer = AutoTokenizer.from_pretrained(save_text_folder(tmp_path / "probe", chat=chat))
    size = vocabulary or len(tokenizer)
    text = str(save_text_folder(tmp_path / "text", chat=chat, vocab_size=size))
    model, processor = SpectraSumForConditionalGeneration.from_backbones(
        folders["siglip"], text, fusion="concat", max_images=2
    )
    rows = model.get_input_embeddings().num_embeddings
    assert rows == model.config.text_config.vocab_size == max(size, len(tokenizer) + 1)
    original = AutoModelForCausalLM.from_pretrained(text)
    assert torch.equal(model.get_input_embeddings().weight[:size], original.get_input_embeddings().weight)
    assert torch.equal(model.get_output_embeddings().weight[:size], original.get_output_embeddings().weight)
    assert model.config.image_token_id == processor.tokenizer.convert_tokens_to_ids("<image>") == len(tokenizer)
    assert set(processor.tokenizer.all_special_tokens) == {*tokenizer.all_special_tokens, "<image>"}
    assert (processor.num_image_tokens, processor.max_images) == (NUM_PATCHES + 1, 2)
    data = processor(SENTENCES[:2], images=[[picture(1), picture(2), picture(3)], []])
    generated = model.generate(**data, max_new_tokens=3, do_sample=False)
    assert generated.shape[0] == 2
    prompt = tokenizer("<|im_end|> a <|end|>")["input_ids"]
    assert processor.tokenizer("<|im_end|> a <|end|>")["input_ids"] == prompt


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["concat", "dvp"])
def test_backbones_and_new_modules_have_one_dtype(folders, tmp_path, fusion):
    """By default the language model's own; the checkpoints of backbones often differ."""
    text = save_text_folder(tmp_path, seed=5)
    AutoModelForCausalLM.from_pretrained(text, dtype=torch.bfloat16).save_pretrained(text)
    fields = FIELDS if fusion == "dvp" else {}
    for dtype, expected in ((None, torch.bfloat16), (torch.float32, torch.float32)):
        model, processor = SpectraSumForConditionalGeneration.from_backbones(
            folders["siglip"], str(text), dtype=dtype, fusion=fusion, **fields
        )
        # Relevance predictor, norms, gates and temperature stay in float32.
        exact = ("visual_path.relevance_predictor.", "visual_path.alignment_head.log_temperature")
        norms = {
            f"{name}.weight" for name, module in model.visual_path.named_modules() if isinstance(module, VisualRMSNorm)
        }
        assert bool(norms) == (fusion == "dvp")
        exact += tuple(f"visual_path.{name}" for name in norms)
        named = {name: value.dtype for name, value in model.named_parameters() if not name.endswith("gate.alpha")}
        rest = {dtype for name, dtype in named.items() if not name.startswith(exact)}
        assert rest == {expected} == {model.dtype}
        assert {dtype for name, dtype in named.items() if name.startswith(exact)} == {torch.float32}
        data = processor("A storm.", images=[picture()], summary="Rain.")
        assert model(**data).loss.isfinite()


def test_fields_reach_the_configuration_and_unknown_ones_are_refused(folders):
    model, processor = SpectraSumForConditionalGeneration.from_backbones(
        folders["clip"], folders["llama"], **FIELDS, vrp_context="article", prompt_template="{title}: {body} ="
    )
    config = model.config
    assert (config.vrp_context, config.gate_layers, config.num_latents) == ("article", [1, 3], 2)
    assert (config.text_config.model_type, config.vision_config.model_type) == ("llama", "clip_vision_model")
    assert (processor.max_images, processor.max_candidate_images) == (3, 6)
    assert processor.prompt_template == "{title}: {body} ="
    for derived in ("vision_config", "embedding_vision_config", "text_config", "image_token_id"):
        value = 3 if derived == "image_token_id" else getattr(config, derived)
        with pytest.raises(TypeError, match=rf"\['{derived}'\] .* come from the backbones"):
            SpectraSumForConditionalGeneration.from_backbones(
                folders["clip"], folders["llama"], **FIELDS, **{derived: value}
            )
    with pytest.raises(TypeError, match="gate_layer"):
        SpectraSumForConditionalGeneration.from_backbones(folders["clip"], folders["llama"], gate_layer=[1])
    with pytest.raises(StrictDataclassError, match="dvp_num_layers"):
        SpectraSumForConditionalGeneration.from_backbones(folders["clip"], folders["llama"])


def test_a_chat_template_is_taken_over(folders):
    processor = SpectraSumForConditionalGeneration.from_backbones(folders["siglip"], folders["tied"], **FIELDS)[1]
    assert processor.chat_template == processor.tokenizer.chat_template is not None
    assert processor.tokenizer.decode(processor("A storm.")["input_ids"][0]).startswith("<|im_start|>user\n")


def test_checkpoints_of_another_type_are_refused(folders):
    with pytest.raises(ValueError, match="'qwen2' model; the vision backbone must be one of.*siglip"):
        SpectraSumForConditionalGeneration.from_backbones(folders["qwen2"], folders["llama"])
    with pytest.raises(ValueError, match="SiglipConfig.*AutoModelForCausalLM"):
        SpectraSumForConditionalGeneration.from_backbones(folders["siglip"], folders["siglip"], **FIELDS)


def drop(folder, target, part):
    """A copy of a checkpoint without the tensors whose names hold `part`."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if part not in name}
    assert len(kept) < len(tensors)
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return str(target)


@pytest.mark.parametrize(
    ("backbone", "part"),
    [
        ("siglip", "head.attention"),
        ("clip", "visual_projection"),
        ("siglip", "vision_model.encoder.layers.1."),
        ("qwen2", "lm_head"),
        ("llama", "layers.2."),
    ],
)
def test_checkpoints_that_lack_weights_are_refused(folders, tmp_path, backbone, part):
    broken = drop(Path(folders[backbone]), tmp_path / "broken", part)
    vision, text = (folders["siglip"], broken) if backbone in ("qwen2", "llama") else (broken, folders["qwen2"])
    with pytest.raises(ValueError, match=f"broken lacks weights.*{part.removeprefix('vision_model.')}"):
        SpectraSumForConditionalGeneration.from_backbones(vision, text, **FIELDS)


def test_a_clip_tower_without_its_projection_is_refused(folders, tmp_path):
    CLIPVisionModel.from_pretrained(folders["clip"], config=tower_config("clip")).save_pretrained(tmp_path)
    tiny_image_processor("clip").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lacks weights.*visual_projection"):
        SpectraSumForConditionalGeneration.from_backbones(str(tmp_path), folders["qwen2"], **FIELDS)


def test_a_siglip_tower_without_pooling_head_is_refused():
    """SigLIP can be built without its head; there is no image embedding then."""
    config = vision_config("siglip")
    config.vision_use_head = False
    with pytest.raises(StrictDataclassError, match="vision_use_head"):
        SpectraSumConfig(vision_config=config, text_config={"model_type": "qwen2", "num_hidden_layers": 24})


def test_a_gguf_text_model(folders, tmp_path):
    """Its weights are those that the gguf library reads; saves and loads."""
    pytest.importorskip("gguf", reason="needs the package gguf")
    from gguf import GGUFReader, dequantize

    file = save_gguf(tmp_path / "tiny.gguf", save_text_folder(tmp_path / "text", chat=True))
    model, processor = SpectraSumForConditionalGeneration.from_backbones(folders["siglip"], str(file), **FIELDS)
    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    decoder = model.get_decoder()
    for name, weight in (
        ("token_embd.weight", decoder.embed_tokens.weight),
        ("blk.2.ffn_down.weight", decoder.layers[2].mlp.down_proj.weight),
        ("output_norm.weight", decoder.norm.weight),
    ):
        expected = torch.tensor(dequantize(stored[name].data, stored[name].tensor_type))
        torch.testing.assert_close(weight, expected, msg=name)
    assert processor.tokenizer.decode(processor("Rain.")["input_ids"][0]).endswith("<|im_start|>assistant\n")
    model.save_pretrained(tmp_path)
    loaded = SpectraSumForConditionalGeneration.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())
