"""Configuration of SPeCTrA-Sum: one place for every number of the method."""

from typing import Any, Literal

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec, strict

from .derived_sizes import DerivedSizesMixin
from .fusion_settings import check_fusion, check_tower_layers, default_gate_layers
from .sampler_settings import check_sampler, fresh_qformer
from .vision_grid import check_tower, declared_image_size

AUTO_MAP = {
    "AutoConfig": "configuration_spectra.SpectraSumConfig",
    "AutoModel": "modeling_spectra.SpectraSumForConditionalGeneration",
    "AutoModelForImageTextToText": "modeling_spectra.SpectraSumForConditionalGeneration",
    "AutoProcessor": "processing_spectra.SpectraSumProcessor",
}
# What the backbones and the tokenizer decide: nobody may choose these beside them.
DERIVED_FIELDS = frozenset(
    {
        *(
            "vision_config",
            "embedding_vision_config",
            "text_config",
            "image_size",
            "image_token_id",
            "tie_word_embeddings",
        ),
        *("qformer_config", "qformer_text"),
    }
)
PIPELINE_TASK = "multimodal-summarization"
PIPELINE = {"impl": "pipeline_spectra.MultimodalSummarizationPipeline", "pt": ["AutoModelForImageTextToText"]}


@strict
class SpectraSumConfig(DerivedSizesMixin, PreTrainedConfig):
    r"""Configuration of [`SpectraSumForConditionalGeneration`].

    The sections named below are those of the paper's method (arXiv 2605.11753). d is the width of the language model,
    d_img the width of the image embeddings.

    Args:
        vision_config (`dict` or `PreTrainedConfig`, *optional*, defaults to a SigLIP vision tower):
            The vision tower: of SigLIP or CLIP (`siglip_vision_model`, `clip_vision_model`), or `vit`, `deit`, `dinov2`,
            `dinov2_with_registers`, `convnext`, `convnextv2`, `resnet` or `efficientnet`. Its patches are the grid, row by
            row, without class and register tokens; those of InstructBLIP's (`instructblip_vision_model`) are its last hidden
            state after the norm, the class token first, as its Q-Former reads it. With `fusion="concat"` it may lack SigLIP's
            pooling head (`vision_use_head=False`), as LLaVA-OneVision's: the model then ranks no images.
        text_config (`dict` or `PreTrainedConfig`, *optional*, defaults to Qwen2):
            The language model: any decoder that hands keyword arguments on to its layers (Qwen2, Llama).
        embedding_vision_config (`dict` or `PreTrainedConfig`, *optional*):
            A second frozen tower, for the image embeddings alone: the vision part of the teacher's SigLIP or CLIP, where
            `vision_config` is a tower that was trained further or has lost its pooling head, as LLaVA-OneVision's. It
            reads the same pixels. By default the one tower gives patches and embeddings.
        fusion (`str`, *optional*, defaults to `"dvp"`):
            §7: `"concat"` puts visual tokens into the prompt (see `concat_tokens`), `"sampler"` lets the gates read the Vision
            Sampler's latents, `"dvp"` puts the Deep Visual Processor between the two. §10: `"adapter"` puts an adapter that
            reads latents or patches into the layers; §11: `"modulation"` changes the layers' norms by what latents say.
        image_size (`int`, *optional*):
            Side of the square images that the towers read, in pixels: what the image processor makes. Defaults to that of
            `vision_config`; ResNet's has none, and DINOv2 and convolutions read other sizes, too.
        image_token_id (`int`, *optional*): Placeholder of a visual token in the prompt; needed by `"concat"` only.
        vision_feature_layer (`int`, *optional*, defaults to `-1`):
            The vision tower's hidden state that is read as patches (before its last norm, as LLaVA does). Of ConvNeXt and
            ResNet the stem is 0 and the stages count from 1; EfficientNet has its last feature map alone.
        vision_feature_layers (`list[int]`, *optional*):
            §11, several hidden states in its place, best of different stages; finer grids are averaged to the coarsest one. By
            default `vision_feature_layer` alone.
        feature_fusion (`str`, *optional*, defaults to `"concat"`):
            §11, of `vision_feature_layers`: `"concat"` puts their channels side by side, `"query"` lets the last one, the deep
            one, query the others.
        max_images (`int`, *optional*, defaults to `5`): Most images of an article that the summarizer sees.
        max_candidate_images (`int`, *optional*, defaults to `20`): Most images that predictor and teacher score.
        max_selected_images (`int`, *optional*, defaults to `3`): Most images in a multimodal summary.
        captions (`str`, *optional*, defaults to `"none"`):
            `"prompt"` writes a line `Figure N: caption` behind the article's body for each image that the summarizer sees.
            The processor does it, whose option of this name must be the same.
        concat_tokens (`str`, *optional*, defaults to `"patches"`):
            What `fusion="concat"` puts into the prompt for an image: its projected `"patches"` and a newline, or the projected
            `"latents"` of the sampler (§9), which are fewer.
        sampler_type (`str`, *optional*, defaults to `"perceiver"`):
            What makes an image's latents of its patches: the `"perceiver"` of §1, a `"qformer"` (§9), transformers' own
            InstructBLIP Q-Former layers, or `"kmeans"` (§11), the means of `num_latents` clusters of the patches.
        qformer_config (`dict` or `PreTrainedConfig`, *optional*):
            Of the Q-Former (`instructblip_qformer`). By default it has the language model's width, `sampler_depth` layers of
            `sampler_num_heads` heads, the feed-forwards of `sampler_feed_forward_multiplier`, and no dropout.
        qformer_text (`bool`, *optional*, defaults to `False`):
            The Q-Former also reads the prompt's text, in tokens of its own (`qformer_input_ids`), as InstructBLIP's does.
        image_guidance (`str`, *optional*, defaults to `"none"`):
            §9, `"bidirectional"` lets the sampler read each image under the guidance of the article's others.
        guidance_layers (`list[int]`, *optional*):
            §9, [l, k], counted from 1: the layer at which the state of an image enters the reading of its context, and the
            layer that the context then guides. Defaults to the sampler's last layer, twice.
        guidance_context (`str`, *optional*, defaults to `"others"`):
            §9, the images that are merged to an image's context: the `"others"`, or `"all"`, itself included, where guidance also
            reaches the query's text, as in the authors' code. A single image has no context in either.
        guidance_weights (`str`, *optional*, defaults to `"adaptive"`):
            §9, how images are weighted when they are merged: `"adaptive"`, learned for each patch, or `"mean"`, equally.
        guidance_former (`str`, *optional*, defaults to `"shared"`):
            §9, what reads the merged context: the sampler's own layers (`"shared"`), or a single `"linear"` layer on the mean of
            its patches, for which l and k are the same.
        num_latents (`int`, *optional*, defaults to `64`): §1, latent queries per image (M).
        sampler_depth (`int`, *optional*, defaults to `2`): §1, blocks of the Vision Sampler; of a Q-Former, layers.
        sampler_feed_forward_multiplier (`int`, *optional*, defaults to `4`):
            §1, width of the Vision Sampler's feed-forwards, as a multiple of the sampler's own.
        sampler_num_heads (`int`, *optional*):
            Attention heads of the Vision Sampler. Defaults to the language model's number of heads.
        patch_position_embedding (`bool`, *optional*, defaults to `True`): §1, learned positions added to the patches.
        visual_norm (`bool`, *optional*, defaults to `True`): RMSNorm on the visual states that the gates read.
        add_pooled_embedding (`bool`, *optional*, defaults to `True`):
            §1, adds a projection of the image's pooled embedding to its latents: a shortcut past the sampler, and with
            `image_guidance` past the guidance.
        dvp_num_layers (`int`, *optional*, defaults to `24`): §2, blocks of the Deep Visual Processor (K).
        dvp_feed_forward_multiplier (`int`, *optional*, defaults to `4`):
            §2, width of the Deep Visual Processor's feed-forwards, as a multiple of the blocks' own.
        dvp_num_heads (`int`, *optional*):
            Attention heads of the Deep Visual Processor. Defaults to the language model's number of heads.
        dvp_output_init_scale (`float`, *optional*, defaults to `0.05`):
            Factor on the initial standard deviation of what a block adds to its input. With 1 the untrained blocks blur
            the latents, and the gates find the images later than without a Deep Visual Processor.
        visual_states (`str`, *optional*):
            What a fusion inside the language model reads: the latents of the `"sampler"`, the states of the `"dvp"`, or (§11)
            those of the `"tower"`: the layer of G numbered ℓ reads the patches of its hidden state ⌈ℓ · L_v / max G⌉, without a
            sampler. By default the DVP's for `fusion="dvp"`, and the latents for others.
        gate_layers (`list[int]`, *optional*):
            §3, language-model layers whose input is gated (G), counted from 1, or that have an adapter or a modulated norm.
            Defaults to 8, 16 and 24, with adapters to all layers.
        adapter_reads (`str`, *optional*, defaults to `"latents"`): §10, or the vision tower's `"patches"`, without a sampler.
        adapter_rank (`int`, *optional*, defaults to `64`): §10, width of an adapter (r).
        modulation_rank (`int`, *optional*, defaults to `64`): §11, width of the module that a modulation is conditioned by.
        cross_attention (`str`, *optional*, defaults to `"projected"`):
            §3, of the gates; or (§11) `"parameter_free"`, attention of hidden states over visual states without projections.
        keep_share (`float`, *optional*, defaults to `1.0`):
            §11, share of an article's visual states, the strongest, that a token attends to without parameters.
        gate_init (`float`, *optional*, defaults to `0.0`): §3, initial α; 0 gives the base model's own logits.
        gate_type (`str`, *optional*, defaults to `"scalar"`): §3, `"scalar"` has one α per gate, `"channel"` one per channel.
        gate_feed_forward (`bool`, *optional*, defaults to `False`): A second, gated feed-forward as in Flamingo.
        cross_attention_num_heads (`int`, *optional*):
            Attention heads of the gated cross-attention. Defaults to the language model's number of heads.
        cross_attention_init_scale (`float`, *optional*, defaults to `2.0`):
            Factor on the initial standard deviation of the cross-attention's query and key projections.
        vrp_context (`str`, *optional*, defaults to `"none"`):
            §4, what the Visual Relevance Predictor reads beside the image: `"none"`, `"article"` or `"article_set"`.
        vrp_image_texts (`bool`, *optional*, defaults to `False`):
            The Visual Relevance Predictor also reads each image's caption (or alternative text); needs
            `vrp_context="article_set"`.
        vrp_image_text_length (`int`, *optional*, defaults to `128`): Most tokens of a caption that it reads.
        vrp_hidden_size (`int`, *optional*, defaults to `256`): §4, width of the Visual Relevance Predictor.
        vrp_dropout (`float`, *optional*, defaults to `0.1`): §4, dropout of the Visual Relevance Predictor.
        vrp_warmup_steps (`int`, *optional*, defaults to `0`):
            Training steps in which the summarizer sees an article's first images instead of the predictor's best.
        alignment_temperature (`float`, *optional*, defaults to `0.1`): §6, initial temperature of the alignment loss (τ).
        align_weight (`float`, *optional*, defaults to `0.1`): §6, weight of the alignment loss (λ_align); 0: not computed.
        distill_weight (`float`, *optional*, defaults to `1.0`):
            §6, weight of the distillation loss (λ_distill); 0: not computed.
        distill_count_weight (`float`, *optional*, defaults to `0.01`):
            §6, weight of the difference in set size to the teacher within the distillation loss (γ).
        negative_queue_size (`int`, *optional*, defaults to `1024`): §6, entries of the memory queue of negatives.
        teacher_beta (`float`, *optional*, defaults to `20.0`):
            §5, how strongly the relevance of an image enters the teacher's kernel (β).
        teacher_sigma (`float`, *optional*, defaults to `0.8`): §5, bandwidth of the similarity of two images (σ).
        teacher_kappa (`float`, *optional*, defaults to `3.0`): §5, expected size of the teacher's set (κ), at least 1.
        teacher_epsilon (`float`, *optional*, defaults to `1e-6`):
            §5, what is added to the kernel's diagonal (ε), relative to its mean.
        teacher_long_summary (`str`, *optional*, defaults to `"sentences"`):
            §5, `"sentences"` embeds the summary sentence by sentence, `"truncate"` cuts it at the text tower's limit.
        teacher_text_scale (`float`, *optional*):
            The teacher counts an image as relevant by its pixels or by its caption, whichever is more, both counted from their
            mean over the article; this is what a difference between cosines of the summary and two captions is worth, as a
            difference between cosines of the summary and two images. By default captions do not count.
        teacher_max_images (`int`, *optional*, defaults to `3`): §6, the teacher's best images that make up v̄.
        projector_hidden_act (`str`, *optional*, defaults to `"gelu"`): Activation of the `"concat"` projector.
        hidden_act (`str`, *optional*, defaults to `"gelu"`): Activation of all other new feed-forwards.
        norm_eps (`float`, *optional*, defaults to `1e-6`): Epsilon of the new norms.
        initializer_range (`float`, *optional*, defaults to `0.02`): Standard deviation of the new weights.

    Raises:
        StrictDataclassError: (of huggingface_hub) when a field has the wrong type or fields contradict each other; the
            message names the field to change.
    """

    model_type = "spectra_sum"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="siglip_vision_model"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="qwen2"),
        "embedding_vision_config": SubConfigSpec(
            config_class=AutoConfig, model_type="siglip_vision_model", optional=True
        ),
        "qformer_config": SubConfigSpec(config_class=AutoConfig, model_type="instructblip_qformer", optional=True),
    }
    keys_to_ignore_at_inference = ["past_key_values", "visual_key_values"]
    _auto_class = "AutoConfig"

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    embedding_vision_config: dict | PreTrainedConfig | None = None
    fusion: Literal["concat", "sampler", "dvp", "adapter", "modulation"] = "dvp"
    image_size: int | None = None
    image_token_id: int | None = None
    vision_feature_layer: int = -1
    vision_feature_layers: list[int] | tuple[int, ...] | None = None
    feature_fusion: Literal["concat", "query"] = "concat"
    max_images: int = 5
    max_candidate_images: int = 20
    max_selected_images: int = 3
    captions: Literal["none", "prompt"] = "none"

    concat_tokens: Literal["patches", "latents"] = "patches"
    sampler_type: Literal["perceiver", "qformer", "kmeans"] = "perceiver"
    qformer_config: dict | PreTrainedConfig | None = None
    qformer_text: bool = False
    image_guidance: Literal["none", "bidirectional"] = "none"
    guidance_layers: list[int] | tuple[int, int] | None = None
    guidance_context: Literal["others", "all"] = "others"
    guidance_weights: Literal["adaptive", "mean"] = "adaptive"
    guidance_former: Literal["shared", "linear"] = "shared"

    num_latents: int = 64
    sampler_depth: int = 2
    sampler_feed_forward_multiplier: int = 4
    sampler_num_heads: int | None = None
    patch_position_embedding: bool = True
    visual_norm: bool = True
    add_pooled_embedding: bool = True

    dvp_num_layers: int = 24
    dvp_feed_forward_multiplier: int = 4
    dvp_num_heads: int | None = None
    dvp_output_init_scale: float = 0.05

    visual_states: Literal["sampler", "dvp", "tower"] | None = None
    gate_layers: list[int] | tuple[int, ...] | None = None
    adapter_reads: Literal["latents", "patches"] = "latents"
    adapter_rank: int = 64
    modulation_rank: int = 64
    cross_attention: Literal["projected", "parameter_free"] = "projected"
    keep_share: float = 1.0
    gate_init: float = 0.0
    gate_type: Literal["scalar", "channel"] = "scalar"
    gate_feed_forward: bool = False
    cross_attention_num_heads: int | None = None
    cross_attention_init_scale: float = 2.0

    vrp_context: Literal["none", "article", "article_set"] = "none"
    vrp_image_texts: bool = False
    vrp_image_text_length: int = 128
    vrp_hidden_size: int = 256
    vrp_dropout: float = 0.1
    vrp_warmup_steps: int = 0

    alignment_temperature: float = 0.1
    align_weight: float = 0.1
    distill_weight: float = 1.0
    distill_count_weight: float = 0.01
    negative_queue_size: int = 1024

    teacher_beta: float = 20.0
    teacher_sigma: float = 0.8
    teacher_kappa: float = 3.0
    teacher_epsilon: float = 1e-6
    teacher_long_summary: Literal["sentences", "truncate"] = "sentences"
    teacher_text_scale: float | None = None
    teacher_max_images: int = 3

    projector_hidden_act: str = "gelu"
    hidden_act: str = "gelu"
    norm_eps: float = 1e-6
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        # Literal fields are checked by @strict after this method; sub-configs must be built before they can be read.
        super().__post_init__(**kwargs)
        self.gate_layers = sorted(default_gate_layers(self) if self.gate_layers is None else self.gate_layers)
        if self.image_size is None:
            self.image_size = declared_image_size(self.vision_config)
        heads = self.text_config.num_attention_heads
        self.sampler_num_heads = self.sampler_num_heads or heads
        self.dvp_num_heads = self.dvp_num_heads or heads
        self.cross_attention_num_heads = self.cross_attention_num_heads or heads
        if self.sampler_type == "qformer" and self.qformer_config is None:
            check_tower_layers(self)
            self.qformer_config = fresh_qformer(self)
        # Saved folders must name every class; what the Auto classes register at run time knows only the last one.
        self.auto_map = dict(AUTO_MAP)
        self.custom_pipelines = {PIPELINE_TASK: dict(PIPELINE)}

    def to_dict(self) -> dict[str, Any]:
        """As in every configuration of transformers, whose `pipeline` puts classes in place of the names that it reads
        in `custom_pipelines`: the names are what can be saved.
        """
        return super().to_dict() | {"custom_pipelines": {PIPELINE_TASK: dict(PIPELINE)}}

    def validate_architecture(self):
        """Part of `@strict`'s validation: checks the fields against each other.

        Raises:
            ValueError: naming the field to change.
        """
        super().validate_architecture()
        width = self.text_config.hidden_size
        for name in ("vision_config", "embedding_vision_config"):
            tower = getattr(self, name)
            if tower is not None:
                check_tower(tower, name, self.image_size)
        check_fusion(self)
        pooling = "vision_config" if self.embedding_vision_config is None else "embedding_vision_config"
        needed = self.fusion != "concat" or self.embedding_vision_config is not None
        if not self.has_image_embeddings and (needed or (self.has_sampler and self.add_pooled_embedding)):
            raise ValueError(
                f"{pooling} has vision_use_head=False; image embeddings come from SigLIP's pooling head: "
                "use a checkpoint that has it, or give one as embedding_vision_config."
            )
        for name in ("sampler_num_heads", "dvp_num_heads", "cross_attention_num_heads"):
            if width % getattr(self, name):
                raise ValueError(
                    f"{name} is {getattr(self, name)}, which does not divide the language model's width {width}; "
                    f"set {name} to a divisor of {width}."
                )
        if self.vrp_image_texts and self.vrp_context != "article_set":
            raise ValueError(
                f"vrp_image_texts is true and vrp_context {self.vrp_context!r}; set vrp_context to 'article_set', the predictor "
                "that compares images with the article and with each other."
            )
        positive = ("max_images", "max_selected_images", "num_latents", "sampler_depth", "dvp_num_layers")
        for name in (*positive, "adapter_rank", "modulation_rank", "vrp_image_text_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        check_sampler(self)
        if self.max_candidate_images < max(self.max_images, self.max_selected_images):
            raise ValueError(
                f"max_candidate_images is {self.max_candidate_images}; it must be at least max_images "
                f"({self.max_images}) and max_selected_images ({self.max_selected_images})."
            )
        for name in ("alignment_temperature", "teacher_sigma"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive.")
        if self.teacher_text_scale is not None and not self.teacher_text_scale > 0:
            raise ValueError(
                f"teacher_text_scale is {self.teacher_text_scale}; it must be positive, or None for a teacher without captions."
            )
        if not self.teacher_kappa >= 1:
            raise ValueError(
                f"teacher_kappa is {self.teacher_kappa}; it is the number of images that the teacher expects to choose: set "
                "teacher_kappa to at least 1."
            )

    def processor_options(self) -> dict[str, Any]:
        """The options of [`SpectraSumProcessor`] that are the model's: what it makes must be what the model reads."""
        return {
            "num_image_tokens": self.num_image_tokens,
            "max_images": self.max_images,
            "max_candidate_images": self.max_candidate_images,
            "captions": self.captions,
            "image_text_length": self.vrp_image_text_length if self.vrp_image_texts else 0,
            "qformer_text_length": self.qformer_config.max_position_embeddings if self.qformer_text else 0,
        }


__all__ = ["SpectraSumConfig"]
