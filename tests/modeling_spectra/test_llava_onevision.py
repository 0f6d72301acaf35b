"""from_llava_onevision: transformers' own logits and pixels, and every tensor the files'."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    CLIPModel,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    Qwen2ForCausalLM,
    SiglipModel,
)
from transformers.image_utils import PILImageResampling

import modeling_spectra.llava_onevision
from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor
from tests.bare_process import WITHOUT_THE_PROJECT
from tests.double_precision import EXACT
from tests.modeling_spectra.parity_setup import positions
from tests.tiny import (
    NUM_PATCHES,
    SENTENCES,
    picture,
    pixels,
    save_vision_folder,
    tiny_image_processor,
)
from tests.tiny_llava_onevision import FIELDS, rename_keys, save_llava_onevision_folder

pytestmark = pytest.mark.usefixtures("preloaded_python")

load = SpectraSumForConditionalGeneration.from_llava_onevision
# Two articles of two and three images, none of them square.
IMAGES = [
    [picture(0, (20, 14)), picture(1, (13, 30))],
    [picture(2, (9, 31)), picture(3, (16, 16)), picture(4, (41, 7))],
]


# What a user runs who has torch, transformers and pillow, and the folder.
USER_SCRIPT = (
    WITHOUT_THE_PROJECT
    + """
import hashlib, json
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

torch.set_num_threads(1)
job = json.loads(sys.stdin.read())
processor = AutoProcessor.from_pretrained(job["folder"], trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(job["folder"], trust_remote_code=True).eval()
images = job["images"]
data = processor(text=job["text"], title=job["title"], images=[images, [], images[:1]])
print("RESULT" + json.dumps({
    "module": type(model).__module__,
    "hashes": {
        key: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        for key, tensor in model.state_dict().items()
    },
    "tokens": model.generate(**data, max_new_tokens=5, num_beams=2, do_sample=False).tolist(),
    "selected": model.select_images(**data).indices,
    "loaded": sorted(PROJECT & set(sys.modules)),
}))
"""
)


def reference(folder, **options):
    return LlavaOnevisionForConditionalGeneration.from_pretrained(folder, **options).eval()


def file_keys(folder):
    return {key for file in folder.glob("*.safetensors") for key in load_file(file)}


@torch.no_grad()
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("layout", "sharded"), [(None, False), (None, True), ("4", False), ("5", False)])
@pytest.mark.parametrize("tied", [False, True])
def test_concat_computes_what_llava_onevision_computes(siglip_folder, tmp_path, tied, layout, sharded):
    """The same pixels and the same logits on several images; each key of the files is accounted for."""
    folder = save_llava_onevision_folder(
        tmp_path, siglip_folder, tied=tied, trained_tower=not tied, max_shard_size="30KB" if sharded else "1GB"
    )
    assert (folder / "model.safetensors.index.json").is_file() == sharded
    if layout:
        keys = rename_keys(folder, layout)
        expected = "language_model.model.norm.weight" if layout == "4" else "model.language_model.norm.weight"
        assert expected in keys
    exact = {"dtype": torch.float64}
    options = {"fusion": "concat", "max_images": 3, "output_loading_info": True}
    model, processor, report = load(str(folder), str(siglip_folder), **options, **exact)
    own = reference(folder, **exact)
    assert (
        model.config.image_token_id
        == own.config.image_token_index
        == processor.tokenizer.convert_tokens_to_ids("<image>")
    )

    data = processor(SENTENCES[:2], images=IMAGES)
    assert (data["input_ids"] == own.config.image_token_index).sum(1).tolist() == [
        2 * NUM_PATCHES + 2,
        3 * NUM_PATCHES + 3,
    ]
    theirs = LlavaOnevisionImageProcessor.from_pretrained(folder)(IMAGES, return_tensors="pt")
    assert torch.equal(data["pixel_values"][data["image_mask"]], theirs["pixel_values"][:, 0])
    assert theirs["batch_num_images"].tolist() == [2, 3] and theirs["pixel_values"].shape[1] == 1
    text = {name: data[name] for name in ("input_ids", "attention_mask")}
    text["position_ids"] = positions(data["attention_mask"])
    expected = own(**text, **theirs).logits
    torch.testing.assert_close(model(**data).logits, expected, **EXACT)
    # The images matter for these logits.
    blank = theirs | {"pixel_values": torch.zeros_like(theirs["pixel_values"])}
    changed = own(**text, **blank).logits
    assert (changed - expected).abs().max() > 0.1

    assert file_keys(folder) == set(report.used) | set(report.unused)
    assert {key.rpartition("post_layernorm.")[2] for key in report.unused} == {"weight", "bias"}
    new = {name for name in model.state_dict() if name.startswith("visual_path.") and ".projector." not in name}
    assert set(report.newly_initialized) == new
    own_head = model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    assert own_head == (not tied) == (model.config.text_config.tie_word_embeddings is False)


@torch.no_grad()
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("whole_tower", [False, True])
def test_concat_does_without_a_second_tower(llava_onevision_folders, siglip_folder, tmp_path, whole_tower):
    """The same summaries as with one, and nothing that ranks images: not even a checkpoint's own head does."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(llava_onevision_folders["untied"], folder)
    if whole_tower:
        config = json.loads((folder / "config.json").read_text())
        config["vision_config"]["vision_use_head"] = True
        (folder / "config.json").write_text(json.dumps(config))
    options = {"fusion": "concat", "max_images": 2, "max_candidate_images": 3, "output_loading_info": True}
    model, processor, report = load(str(folder), dtype=torch.float64, **options)
    assert "the checkpoint's tower alone" in report.summary() and report.additional_parameters == 0
    assert model.embedding_tower is None and not model.config.has_image_embeddings
    assert file_keys(folder) == set(report.used) | set(report.unused)
    data = processor(SENTENCES[:2], images=IMAGES)
    theirs = LlavaOnevisionImageProcessor.from_pretrained(folder)(IMAGES, return_tensors="pt")
    assert torch.equal(data["pixel_values"][data["image_mask"]], theirs["pixel_values"][:, 0])
    # Of three images the first two are read, since none is better than another.
    first = processor(SENTENCES[:2], images=[IMAGES[0], IMAGES[1][:2]])
    expected = model(**first).logits
    torch.testing.assert_close(model(**data).logits, expected, **EXACT)
    second, _ = load(str(folder), str(siglip_folder), dtype=torch.float64, fusion="concat", max_images=2)
    torch.testing.assert_close(second(**first).logits, expected, **EXACT)
    features = model.image_features(data["pixel_values"], data["image_mask"])
    text = {name: data[name] for name in ("input_ids", "attention_mask", "image_mask")}
    again = model.generate(**text, **features, max_new_tokens=4)
    assert again.tolist() == model.generate(**data, max_new_tokens=4).tolist()
    with pytest.raises(ValueError, match="no pooling head, so that it ranks no images"):
        model.select_images(**data)
    model.save_pretrained(tmp_path / "saved")
    saved = SpectraSumForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(saved(**data).logits, model(**data).logits)
    with pytest.raises(ValueError, match="pass as embedding_vision the SigLIP that it was made from"):
        load(str(folder), **FIELDS)


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["sampler", "dvp"])
@pytest.mark.parametrize("name", ["untied", "tied"])
def test_closed_gates_leave_the_language_model_alone(llava_onevision_folders, siglip_folder, name, fusion):
    model, processor, report = load(
        str(llava_onevision_folders[name]), str(siglip_folder), fusion=fusion, output_loading_info=True, **FIELDS
    )
    assert processor.num_image_tokens == 0 and model.config.image_token_id is None
    data = processor(SENTENCES[:2], images=IMAGES)
    text = {name: data[name] for name in ("input_ids", "attention_mask")}
    expected = reference(llava_onevision_folders[name])(**text, position_ids=positions(data["attention_mask"])).logits
    assert torch.equal(model(**data).logits, expected)
    projector = {
        key for key in file_keys(llava_onevision_folders[name]) if "projector" in key or "image_newline" in key
    }
    assert len(projector) == 5
    assert projector < set(report.unused) and {report.unused[key] for key in projector} == {
        'only read with fusion="concat"'
    }
    assert set(report.newly_initialized) == {key for key in model.state_dict() if key.startswith("visual_path.")}


@torch.no_grad()
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["untied", "tied"])
def test_patches_are_the_checkpoints_and_embeddings_the_full_siglips(llava_onevision_folders, siglip_folder, name):
    exact = {"dtype": torch.float64}
    model, _, report = load(
        str(llava_onevision_folders[name]), str(siglip_folder), output_loading_info=True, **exact, **FIELDS
    )
    full = SiglipModel.from_pretrained(siglip_folder, **exact).eval()
    own = reference(llava_onevision_folders[name], **exact).model.vision_tower
    count = {
        tower: sum(value.numel() for value in module.parameters())
        for tower, module in {"full": full.vision_model, "own": own}.items()
    }
    values, mask = pixels(2, 1)
    patches, embeds = model.embed_images(values, mask)
    for row, images in ((0, 2), (1, 1)):
        expected = own(values[row, :images], output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(patches[row, :images], expected, **EXACT)
        features = full.get_image_features(values[row, :images]).pooler_output
        expected = features / features.norm(dim=-1, keepdim=True)
        torch.testing.assert_close(embeds[row, :images], expected, **EXACT)
    assert report.compared_tower_tensors == 19
    if name == "tied":
        assert report.one_tower and model.embedding_tower is None and model.config.embedding_vision_config is None
        assert model.config.vision_feature_layer == -2 and report.differing_tower_tensors == []
        assert report.additional_parameters == count["full"] - count["own"]
        assert "one tower" in report.summary()
    else:
        assert not report.one_tower and model.config.vision_feature_layer == -1
        assert report.differing_tower_tensors == [
            "embeddings.position_embedding.weight",
            "encoder.layers.0.mlp.fc1.weight",
        ]
        assert report.additional_parameters == count["full"]
        assert (
            "2 differences in 19 shared tensors, the first in embeddings.position_embedding.weight" in report.summary()
        )
        assert all(key.startswith(("text_model.", "logit_")) for key in report.embedding_unused)
        assert set(report.embedding_used.values()) == {
            key for key in model.state_dict() if key.startswith("embedding_tower.")
        }


@torch.no_grad()
def test_an_equal_tower_of_other_settings_is_a_second_one(siglip_folder, tmp_path):
    """Equal tensors do not make equal towers: here the epsilon of the norms differs."""
    folder = save_llava_onevision_folder(tmp_path, siglip_folder, trained_tower=False)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["layer_norm_eps"] = 1e-3
    (folder / "config.json").write_text(json.dumps(config))
    model, _, report = load(str(folder), str(siglip_folder), output_loading_info=True, **FIELDS)
    assert report.differing_tower_tensors == ["config.layer_norm_eps"] and model.embedding_tower is not None
    assert model.vision_tower.config.layer_norm_eps == 1e-3 != model.embedding_tower.config.layer_norm_eps


@torch.no_grad()
@pytest.mark.usefixtures("float64")
def test_a_clip_can_give_the_embeddings(llava_onevision_folders, tmp_path):
    """Where it reads the same pixels; none of its layers is LLaVA-OneVision's."""
    clip = save_vision_folder(tmp_path, "clip")
    tiny_image_processor().save_pretrained(clip)
    model, _, report = load(
        str(llava_onevision_folders["tied"]), str(clip), dtype=torch.float64, output_loading_info=True, **FIELDS
    )
    assert report.differing_tower_tensors[0] == "config.model_type" and not report.one_tower
    assert set(report.embedding_used.values()) == {
        name for name in model.state_dict() if name.startswith("embedding_tower.")
    }
    values, mask = pixels(2)
    features = CLIPModel.from_pretrained(clip).eval().get_image_features(values[0]).pooler_output
    expected = features / features.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(model.pool_images(values, mask)[0], expected, **EXACT)


def test_the_language_model_is_taken_without_a_copy(llava_onevision_folders):
    for name, folder in llava_onevision_folders.items():
        llava = reference(folder)
        taken = modeling_spectra.llava_onevision._causal_language_model(llava)
        own = {id(value) for value in (*llava.model.language_model.parameters(), *llava.lm_head.parameters())}
        assert {id(value) for value in taken.parameters()} == own, name


@torch.no_grad()
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("layer", [0, -2])
def test_an_earlier_layer_is_read_as_the_checkpoint_says(siglip_folder, tmp_path, layer):
    folder = save_llava_onevision_folder(tmp_path, siglip_folder, trained_tower=False, vision_feature_layer=layer)
    model, _, report = load(str(folder), str(siglip_folder), dtype=torch.float64, output_loading_info=True, **FIELDS)
    assert report.one_tower and model.config.vision_feature_layer == -3
    values, mask = pixels(2)
    own = reference(folder, dtype=torch.float64).model.vision_tower
    expected = own(values[0], output_hidden_states=True).hidden_states[0]
    torch.testing.assert_close(model.patch_images(values, mask)[0], expected, **EXACT)
    assert sum("encoder.layers.0." in key for key in report.unused) == 16


@torch.no_grad()
@pytest.mark.parametrize(("saved", "asked"), [(torch.float16, None), (torch.float32, torch.bfloat16)])
def test_every_tensor_is_the_files_after_the_cast(siglip_folder, tmp_path, saved, asked):
    folder = save_llava_onevision_folder(tmp_path, siglip_folder, dtype=saved)
    model, _, report = load(str(folder), str(siglip_folder), dtype=asked, fusion="concat", output_loading_info=True)
    dtype = asked or saved
    assert model.dtype == dtype
    state, files = model.state_dict(), load_file(folder / "model.safetensors")
    for key, name in report.used.items():
        assert torch.equal(state[name], files[key].to(dtype)), name
    assert len(set(report.used.values())) == len(report.used)
    files = load_file(siglip_folder / "model.safetensors")
    for key, name in report.embedding_used.items():
        assert torch.equal(state[name], files[key].to(dtype)), name
    assert not torch.isnan(torch.cat([state[name].flatten().float() for name in report.newly_initialized])).any()


def test_the_interpolation_is_llava_onevisions(siglip_folder, tmp_path):
    folder = save_llava_onevision_folder(tmp_path, siglip_folder)
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"resample": int(PILImageResampling.NEAREST)}))
    _, processor = load(str(folder), str(siglip_folder), **FIELDS)
    theirs = LlavaOnevisionImageProcessor.from_pretrained(folder)(IMAGES, return_tensors="pt")["pixel_values"][:, 0]
    data = processor(SENTENCES[:2], images=IMAGES)
    assert torch.equal(data["pixel_values"][data["image_mask"]], theirs)


@pytest.mark.parametrize("template", ["chat_template.jinja", "chat_template.json", ""])
def test_the_prompt_is_the_template_of_the_checkpoint(siglip_folder, tmp_path, template):
    """Templates of parts render the article; one of the tokenizer takes strings; without any the prompt is plain."""
    folder = save_llava_onevision_folder(tmp_path, siglip_folder, template=template)
    _, processor = load(str(folder), str(siglip_folder), prompt_template="Sum up: {title} | {body} !", **FIELDS)
    data = processor("A storm.", title="Ships", summary="Rain.")
    prompt = processor.tokenizer.decode(data["input_ids"][0][data["labels"][0] == -100])
    if template:
        assert prompt == "<|im_start|>user \nSum up: Ships | A storm. !<|im_end|><|im_start|>assistant\n"
    else:
        assert prompt == "Sum up: Ships | A storm. !"
    article = processor.tokenizer.decode(
        data["input_ids"][0, : data["article_mask"].shape[1]][data["article_mask"][0]]
    )
    assert article == "ShipsA storm."
    with pytest.raises(ValueError, match="neither a text nor a list of parts"):
        broken = SpectraSumProcessor(processor.image_processor, processor.tokenizer, chat_template="{{ 'Hello' }}")
        broken("A storm.")


def test_end_tokens_and_generation(llava_onevision_folders, siglip_folder):
    model, processor = load(str(llava_onevision_folders["untied"]), str(siglip_folder), fusion="concat", max_images=3)
    end = processor.tokenizer.eos_token_id
    assert end in model.generation_config.eos_token_id
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id
    assert not model.training
    data = processor([SENTENCES[0], SENTENCES[1], SENTENCES[2]], images=[IMAGES[0], [], IMAGES[1]])
    generated = model.generate(**data, max_new_tokens=4, do_sample=False)
    # The text-only article is written as the language model alone writes it.
    alone = processor(SENTENCES[1])
    language_model = Qwen2ForCausalLM(AutoConfig.from_pretrained(llava_onevision_folders["untied"]).text_config)
    language_model.load_state_dict(model.language_model.state_dict())
    expected = language_model.eval().generate(
        **{name: alone[name] for name in ("input_ids", "attention_mask")},
        generation_config=model.generation_config,
        max_new_tokens=4,
        do_sample=False,
    )[:, alone["input_ids"].shape[1] :]
    assert generated[1, data["input_ids"].shape[1] :][: expected.shape[1]].tolist() == expected[0].tolist()


@torch.no_grad()
def test_saved_models_load_here_and_in_a_fresh_process(llava_onevision_folders, siglip_folder, tmp_path):
    """With one tower and with two; by the folder's own code the latter, which no other test has."""
    images = []
    for index in range(2):
        picture(index, (20, 14)).save(tmp_path / f"{index}.png")
        images.append(str(tmp_path / f"{index}.png"))
    for name, fields in (("tied", {"fusion": "concat", "max_images": 3}), ("untied", FIELDS)):
        model, processor = load(str(llava_onevision_folders[name]), str(siglip_folder), **fields)
        for module in (model.visual_path.cross_attentions or {}).values():
            module.gate.alpha.fill_(0.7)
        saved = tmp_path / name
        model.save_pretrained(saved)
        processor.save_pretrained(saved)
        data = processor(text=SENTENCES[:3], title=["", "Storm", "Ships"], images=[images, [], images[:1]])
        again = SpectraSumForConditionalGeneration.from_pretrained(saved).eval()
        assert (again.embedding_tower is None) == (name == "tied")
        state = model.state_dict()
        assert set(again.state_dict()) == set(state)
        assert all(torch.equal(again.state_dict()[key], value) for key, value in state.items())
        reread = SpectraSumProcessor.from_pretrained(saved)(
            text=SENTENCES[:3], title=["", "Storm", "Ships"], images=[images, [], images[:1]]
        )
        assert all(torch.equal(reread[key], data[key]) for key in data) and set(reread) == set(data)
    job = {"folder": str(saved), "text": SENTENCES[:3], "title": ["", "Storm", "Ships"], "images": images}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HOME": str(tmp_path / "home")}
    run = subprocess.run(
        [sys.executable, "-I", "-c", USER_SCRIPT],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    result = json.loads(run.stdout.rpartition("RESULT")[2])
    assert result["module"].startswith("transformers_modules.") and result["loaded"] == []
    assert result["hashes"] == {
        key: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest() for key, value in state.items()
    }
    assert any(key.startswith("embedding_tower.") for key in result["hashes"])
    assert result["tokens"] == model.generate(**data, max_new_tokens=5, num_beams=2, do_sample=False).tolist()
    assert result["selected"] == model.select_images(**data).indices
