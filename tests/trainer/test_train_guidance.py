"""Training on an InstructBLIP model, and of the guidance between images alone: arguments, counts, two steps."""

import json

import pytest
import torch
from transformers import InstructBlipQFormerConfig, InstructBlipVisionConfig, LlamaConfig

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration
from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.tiny import tiny_model
from tests.tiny_instructblip import save_instructblip_folder
from tests.trainer.training_setup import write_settings
from trainer.building import build_trainer
from trainer.checkpoints.run_record import write_run_record
from trainer.parameter_counts import TRAINED, count_parameters
from trainer.train import parse_arguments
from trainer.trainable import set_guidance_trainable

# MM '24, in the text: 4.3 M parameters.
PUBLISHED_COUNT = 4_332_417
GUIDED = ("--image_guidance", "bidirectional", "--train", "guidance")
WITHOUT_LOSSES = ("--align_weight", "0", "--distill_weight", "0")


def parse(tmp_path, *argv):
    # What the checkpoint decides is left out.
    own = dict.fromkeys(("freeze_language_model", "fusion", "num_latents", "sampler_depth"))
    config = write_settings(tmp_path / "config.yaml", predict_with_generate=False, **own)
    return parse_arguments(["--config", str(config), "--output_dir", str(tmp_path / "run"), *argv])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--text_backbone", "t"], "takes the place of text_backbone"),
        (["--vision_backbone", "v"], "takes the place of vision_backbone"),
        (["--model_name_or_path", "m"], "takes the place of model_name_or_path"),
        (["--llava_onevision", "l"], "takes the place of llava_onevision"),
        (["--train", "guidance", "--use_peft", "true"], "leave use_peft out"),
        (["--train", "guidance", "--freeze_language_model", "false"], "freeze_language_model true"),
    ],
)
def test_impossible_combinations_are_refused(tmp_path, argv, message):
    with pytest.raises(SpectraSumError, match=message):
        parse(tmp_path, "--instructblip", "i", *argv)


def test_what_sam_trains_is_what_the_paper_counts():
    vicuna = LlamaConfig(
        vocab_size=32001,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
    )
    config = SpectraSumConfig(
        vision_config=InstructBlipVisionConfig(),
        text_config=vicuna,
        qformer_config=InstructBlipQFormerConfig(),
        qformer_text=True,
        sampler_type="qformer",
        fusion="concat",
        concat_tokens="latents",
        num_latents=32,
        patch_position_embedding=False,
        add_pooled_embedding=False,
        image_guidance="bidirectional",
        align_weight=0.0,
        distill_weight=0.0,
        image_token_id=32000,
    )
    assert config.guidance_span == (12, 12)
    with torch.device("meta"):
        model = SpectraSumForConditionalGeneration(config)
    set_guidance_trainable(model)
    counts = {name: value.numel() for name, value in model.named_parameters() if value.requires_grad}
    parts = {"visual_path.image_guidance": 2 * 590_592 + 1_409, "visual_path.latent_projection": 3_149_824}
    for part, expected in parts.items():
        assert sum(count for name, count in counts.items() if name.startswith(part)) == expected
    assert sum(counts.values()) == PUBLISHED_COUNT
    assert sum(part[TRAINED] for part in count_parameters(model).values()) == PUBLISHED_COUNT


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"align_weight": 0.0, "distill_weight": 0.0}, "set image_guidance"),
        ({"image_guidance": "bidirectional"}, "set align_weight and distill_weight to 0"),
    ],
)
def test_a_model_whose_guidance_cannot_train_is_refused(fields, message):
    with pytest.raises(SpectraSumError, match=message):
        set_guidance_trainable(tiny_model("sampler", **fields))


@pytest.mark.parametrize("train", ["guidance", "visual_path"])
def test_two_steps_on_instructblip_leave_what_is_frozen(tmp_path, train):
    folder = save_instructblip_folder(tmp_path / "instructblip")
    argv = ("--instructblip", str(folder), *GUIDED[:2], "--train", train, *WITHOUT_LOSSES)
    data_args, architecture, args, model_args = parse(tmp_path, *argv, "--learning_rate", "0.01")
    records = closed_world_dataset({"train": 8, "validation": 2}, seed=5)
    trainer = build_trainer(data_args, architecture, args, model_args, records)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    moved = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    trained = {name for name, value in trainer.model.named_parameters() if value.requires_grad}
    guidance = {
        name for name in before if name.startswith(("visual_path.image_guidance.", "visual_path.latent_projection."))
    }
    assert len(guidance) == 8
    # The softmax over images does not see the bias of their weights, but for rounding.
    unmoved = {"visual_path.image_guidance.weight_proj.bias"}
    if train == "guidance":
        assert trained == guidance and guidance - unmoved <= moved <= guidance
    else:
        assert guidance - unmoved <= moved and any("sampler.former" in name for name in moved)
    assert all(name.startswith("visual_path.") for name in moved)

    write_run_record(data_args, architecture, args, model_args, {"train": 8}, None)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    source = {"name": str(folder), "source": "folder"}
    assert record["backbones"] == {"text": source, "vision": source}
