"""SpectraSumConfig: the method's numbers, errors that name the field, round trips."""

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForImageTextToText, CLIPVisionConfig, LlamaConfig, SiglipVisionConfig
from transformers.pipelines import clean_custom_task

from configuration_spectra import SpectraSumConfig
from tests.tiny import (
    CLIP_PROJECTION,
    NUM_PATCHES,
    TEXT_LAYERS,
    TEXT_WIDTH,
    VISION_WIDTH,
    text_config,
    tiny_config,
    vision_config,
)


def test_defaults_are_the_numbers_of_the_method():
    config = SpectraSumConfig(text_config={"model_type": "qwen2", "num_hidden_layers": 28})
    expected = {
        "fusion": "dvp",
        "max_images": 5,
        "max_candidate_images": 20,
        "max_selected_images": 3,
        "num_latents": 64,
        "sampler_depth": 2,
        "sampler_feed_forward_multiplier": 4,
        "dvp_num_layers": 24,
        "gate_layers": [8, 16, 24],
        "gate_init": 0.0,
        "gate_feed_forward": False,
        "cross_attention_init_scale": 2.0,
        "vrp_context": "none",
        "vrp_hidden_size": 256,
        "vrp_dropout": 0.1,
        "alignment_temperature": 0.1,
        "align_weight": 0.1,
        "distill_weight": 1.0,
        "distill_count_weight": 0.01,
        "negative_queue_size": 1024,
        "teacher_beta": 20.0,
        "teacher_sigma": 0.8,
        "teacher_kappa": 3.0,
        "teacher_epsilon": 1e-6,
        "teacher_long_summary": "sentences",
        "teacher_max_images": 3,
    }
    assert {name: getattr(config, name) for name in expected} == expected
    assert isinstance(config.vision_config, SiglipVisionConfig)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gate_layers": [0, 2]}, r"gate_layers.*1\.\.3.*dvp_num_layers"),
        ({"gate_layers": [2, 4]}, r"gate_layers.*1\.\.3.*dvp_num_layers"),
        ({"fusion": "sampler", "gate_layers": [5]}, r"gate_layers.*1\.\.4.*depth of the language model"),
        ({"gate_layers": []}, "gate_layers"),
        ({"gate_layers": [2, 2]}, "gate_layers.*twice"),
        ({"dvp_num_layers": TEXT_LAYERS + 1}, "dvp_num_layers.*at most 4"),
        ({"sampler_num_heads": 5}, "sampler_num_heads.*divisor of 32"),
        ({"dvp_num_heads": 3}, "dvp_num_heads.*divisor of 32"),
        ({"cross_attention_num_heads": 7}, "cross_attention_num_heads.*divisor of 32"),
        ({"max_images": 0}, "max_images"),
        ({"max_selected_images": 0}, "max_selected_images"),
        ({"num_latents": 0}, "num_latents"),
        ({"sampler_depth": 0}, "sampler_depth"),
        ({"dvp_num_layers": 0}, "dvp_num_layers"),
        ({"max_candidate_images": 2}, "max_candidate_images.*at least max_images"),
        ({"max_candidate_images": 3, "max_selected_images": 4}, "max_candidate_images.*max_selected_images"),
        ({"alignment_temperature": 0.0}, "alignment_temperature"),
        ({"teacher_sigma": -1.0}, "teacher_sigma"),
        ({"teacher_kappa": 0.99}, r"teacher_kappa is 0\.99;.*at least 1"),
        ({"teacher_kappa": -1.0}, "teacher_kappa"),
        ({"teacher_kappa": float("nan")}, "teacher_kappa"),
    ],
)
def test_contradicting_fields_are_named(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fusion", "early"),
        ("gate_type", "vector"),
        ("vrp_context", "title"),
        ("teacher_long_summary", "first"),
        ("max_images", "five"),
        ("gate_init", None),
    ],
)
def test_unknown_choices_and_wrong_types_are_named(field, value):
    with pytest.raises(StrictDataclassError, match=field):
        tiny_config(**{field: value})


def test_a_tower_of_another_kind_is_named():
    with pytest.raises(StrictDataclassError, match="vision_config.*'bert'.*siglip_vision_model"):
        SpectraSumConfig(vision_config={"model_type": "bert"}, text_config=text_config(), gate_layers=[1])


def test_gates_may_lie_deeper_than_the_visual_processor_when_there_is_none():
    assert tiny_config("sampler", gate_layers=[TEXT_LAYERS]).gate_layers == [TEXT_LAYERS]
    # The projector of "concat" has no gates: what the fields of the gates say is not read.
    assert tiny_config("concat", gate_layers=[99]).fusion == "concat"


def test_gate_layers_are_sorted_and_heads_follow_the_language_model():
    config = tiny_config(gate_layers=(3, 1), dvp_num_heads=None, sampler_num_heads=None)
    assert config.gate_layers == [1, 3]
    assert (config.dvp_num_heads, config.sampler_num_heads, config.cross_attention_num_heads) == (4, 4, 2)


@pytest.mark.parametrize("vision", ["siglip", "clip"])
@pytest.mark.parametrize("text", ["qwen2", "llama"])
def test_round_trip(tmp_path, vision, text):
    config = tiny_config("sampler", vision, text, gate_type="channel", vrp_context="article_set", teacher_beta=5.0)
    config.save_pretrained(tmp_path)
    loaded = SpectraSumConfig.from_pretrained(tmp_path)
    ignored = {"transformers_version", "_name_or_path"}
    assert {k: v for k, v in loaded.to_dict().items() if k not in ignored} == {
        k: v for k, v in config.to_dict().items() if k not in ignored
    }
    assert isinstance(loaded.vision_config, CLIPVisionConfig if vision == "clip" else SiglipVisionConfig)
    assert isinstance(loaded.text_config, LlamaConfig) == (text == "llama")
    assert loaded.text_config.hidden_size == TEXT_WIDTH and loaded.teacher_beta == 5.0
    assert loaded.get_text_config().hidden_size == TEXT_WIDTH
    assert set(loaded.auto_map) == {"AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoProcessor"}


def test_a_configuration_that_a_pipeline_has_read_can_be_saved(tmp_path):
    config = tiny_config()
    [task] = config.custom_pipelines
    clean_custom_task(config.custom_pipelines[task])
    assert config.custom_pipelines[task]["pt"] == (AutoModelForImageTextToText,)
    config.save_pretrained(tmp_path)
    saved = SpectraSumConfig.from_pretrained(tmp_path).custom_pipelines
    assert saved == tiny_config().custom_pipelines == {task: {**saved[task], "pt": ["AutoModelForImageTextToText"]}}


def test_sizes_that_follow_from_the_backbones():
    siglip, clip = tiny_config("concat"), tiny_config("dvp", "clip")
    assert (siglip.image_embedding_size, clip.image_embedding_size) == (VISION_WIDTH, CLIP_PROJECTION)
    assert siglip.num_patches == clip.num_patches == NUM_PATCHES
    assert (siglip.num_image_tokens, clip.num_image_tokens) == (NUM_PATCHES + 1, 0)


def test_sub_configs_may_be_given_as_dicts():
    config = tiny_config()
    rebuilt = SpectraSumConfig(
        vision_config=vision_config("clip").to_dict(),
        text_config=text_config("llama").to_dict(),
        gate_layers=[2],
        dvp_num_layers=2,
    )
    assert isinstance(rebuilt.vision_config, CLIPVisionConfig) and isinstance(rebuilt.text_config, LlamaConfig)
    assert config.text_config.model_type == "qwen2"
