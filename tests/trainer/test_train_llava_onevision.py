"""Training on a LLaVA-OneVision model: its arguments, two steps, and what run.json says of it."""

import json

import pytest
import torch
from transformers import LlavaOnevisionForConditionalGeneration, SiglipModel

from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.tiny_llava_onevision import save_llava_onevision_folder, save_siglip_folder
from tests.trainer.training_setup import write_settings
from trainer.building import build_trainer
from trainer.checkpoints.run_record import write_run_record
from trainer.train import parse_arguments


def parse(tmp_path, *argv):
    config = write_settings(tmp_path / "config.yaml", freeze_language_model=None, predict_with_generate=False)
    return parse_arguments(["--config", str(config), "--output_dir", str(tmp_path / "run"), *argv])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--text_backbone", "t", "--vision_backbone", "v"], "takes the place of text_backbone"),
        (["--model_name_or_path", "m", "--vision_backbone", "v"], "takes the place of model_name_or_path"),
        (["--closed_world_backbones", "b"], "takes the place of closed_world_backbones"),
        (["--random_vision", "true"], "takes the place of random_vision"),
        (["--vision_feature_layer", "-2", "--vision_backbone", "v"], "takes the place of vision_feature_layer"),
        ([], "llava_onevision needs vision_backbone"),
    ],
)
def test_impossible_combinations_are_refused(tmp_path, argv, message):
    with pytest.raises(ValueError, match=message):
        parse(tmp_path, "--llava_onevision", "l", *argv)


@pytest.mark.parametrize(("fusion", "trained_tower"), [("dvp", True), ("concat", False)])
def test_two_steps_train_the_visual_path_beside_frozen_towers(tmp_path, fusion, trained_tower):
    siglip = save_siglip_folder(tmp_path / "siglip")
    llava = save_llava_onevision_folder(tmp_path / "llava", siglip, trained_tower=trained_tower)
    argv = ["--llava_onevision", str(llava), "--vision_backbone", str(siglip), "--fusion", fusion]
    data_args, architecture, args, model_args = parse(tmp_path, *argv)
    records = closed_world_dataset({"train": 8, "validation": 2}, seed=5)
    trainer = build_trainer(data_args, architecture, args, model_args, records)
    model = trainer.model
    assert (model.embedding_tower is not None) == trained_tower
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.train()
    after = model.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("visual_path.") for name in moved)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {name for name in after if name.startswith("visual_path.")}
    projector = {name for name in moved if name.startswith("visual_path.projector.")}
    assert len(projector) == (5 if fusion == "concat" else 0)
    # The frozen parts are still the checkpoints', and the teacher is the whole SigLIP.
    own = LlavaOnevisionForConditionalGeneration.from_pretrained(llava)
    assert torch.equal(after["language_model.lm_head.weight"], own.lm_head.weight)
    full = SiglipModel.from_pretrained(siglip).state_dict()
    tower = "embedding_tower." if trained_tower else "vision_tower."
    pooling = [name for name in full if name.startswith("vision_model.head.")]
    assert pooling and all(
        torch.equal(after[tower + name.removeprefix("vision_model.")], full[name]) for name in pooling
    )
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(history) == 2
    for part in ("loss_lm", "loss_align", "loss_distill"):
        assert all(entry[part] > 0 for entry in history), part

    write_run_record(data_args, architecture, args, model_args, {"train": 8}, None)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["backbones"] == {
        "text": {"name": str(llava), "source": "folder"},
        "vision": {"name": str(siglip), "source": "folder"},
    }
    assert record["arguments"]["data"]["llava_onevision"] == str(llava)
