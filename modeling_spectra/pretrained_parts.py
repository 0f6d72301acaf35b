"""A model from pretrained parts: a vision tower and a language model, or a LLaVA-OneVision or InstructBLIP checkpoint."""

from dataclasses import fields
from typing import Any

import torch

from .backbones import generation_settings, load_backbones
from .configuration_spectra import DERIVED_FIELDS, SpectraSumConfig
from .instructblip import load_instructblip
from .llava_onevision import Source, load_llava_onevision
from .processing_spectra import SpectraSumProcessor


class PretrainedPartsMixin:
    """Makes models of pretrained parts; part of [`SpectraSumForConditionalGeneration`]."""

    @classmethod
    def from_backbones(
        cls, vision: str, text: str, *, gguf_file: str | None = None, dtype: torch.dtype | None = None, **config: Any
    ) -> tuple[Any, SpectraSumProcessor]:
        """A model with pretrained backbones and a fresh visual path, and its processor.

        It generates greedily: of the language model's generation settings the special tokens are kept, and no
        `repetition_penalty`, `temperature`, `top_p` or other setting. `model.generation_config` takes those that you want.

        Args:
            vision (`str`): Folder or Hub id of a SigLIP or CLIP model (the dual encoder or its vision part), or of a ViT,
                DeiT, DINOv2, ConvNeXt, ResNet or EfficientNet. Its image processor decides the size of the images.
            text (`str`): Folder or Hub id of a causal language model, or the path of a `.gguf` file.
            gguf_file (`str`, *optional*): Name of the GGUF file inside `text`, when `text` is a folder or Hub id.
            dtype (`torch.dtype`, *optional*): Of the whole model; the language model's own by default.
            config: Fields of [`SpectraSumConfig`], and `prompt_template` for the processor.

        Raises:
            ValueError: when a checkpoint lacks weights of its backbone, or its type is not supported.
            TypeError: for a field that the configuration does not have, or that comes from the backbones.
            StrictDataclassError: for fields that contradict each other, see [`SpectraSumConfig`].
        """
        prompt_template = config.pop("prompt_template", None)
        known = {field.name for field in fields(SpectraSumConfig)} - DERIVED_FIELDS
        if unknown := sorted(set(config) - known):
            raise TypeError(f"{unknown} are no fields of SpectraSumConfig, or fields that come from the backbones.")
        backbones = load_backbones(vision, text, gguf_file=gguf_file, dtype=dtype)
        tokenizer, language_model = backbones.tokenizer, backbones.language_model
        image_token = SpectraSumProcessor.default_image_token
        if config.get("fusion") == "concat":
            if tokenizer.convert_tokens_to_ids(image_token) in (None, tokenizer.unk_token_id):
                tokenizer.add_special_tokens(
                    {"extra_special_tokens": [image_token]}, replace_extra_special_tokens=False
                )
            if len(tokenizer) > language_model.get_input_embeddings().num_embeddings:
                language_model.resize_token_embeddings(len(tokenizer))
            config["image_token_id"] = tokenizer.convert_tokens_to_ids(image_token)
        spectra_config = SpectraSumConfig(
            vision_config=backbones.vision_tower.config,
            text_config=language_model.config,
            image_size=backbones.image_size,
            **config,
        )
        model = cls(spectra_config, vision_tower=backbones.vision_tower, language_model=language_model)
        # Backbones are often published in different dtypes.
        model.cast_parameters(dtype or language_model.dtype)
        model.generation_config = generation_settings(language_model.generation_config, tokenizer)
        processor = SpectraSumProcessor(
            image_processor=backbones.image_processor,
            tokenizer=tokenizer,
            chat_template=tokenizer.chat_template,
            prompt_template=prompt_template,
            **spectra_config.processor_options(),
        )
        return model.eval(), processor

    @classmethod
    def from_llava_onevision(
        cls,
        llava_onevision: str,
        embedding_vision: str | None = None,
        *,
        dtype: torch.dtype | None = None,
        revision: str = "main",
        embedding_vision_revision: str = "main",
        output_loading_info: bool = False,
        **config: Any,
    ) -> tuple[Any, ...]:
        """A model on a LLaVA-OneVision checkpoint, with a fresh visual path, and its processor.

        Tower and language model are the checkpoint's, for `fusion="concat"` projector and newline, too; image embeddings
        are those of a full SigLIP. One tower is held where the layers that both share are equal bit for bit. Each image is
        one tile, as LLaVA-OneVision reads several images; a single one, which it would cut into tiles, too. Images of up
        to 1024 pixels a side give its pixels exactly; larger ones are reduced to that first, see `rgb_images.py`. With
        `fusion="concat"` the prompt has its order, too: images, a line break, the text (`images_first` of the processor). Of the
        checkpoint's generation settings the special tokens are kept, as in [`from_backbones`].

        Args:
            llava_onevision (`str`): Folder or Hub id of a LLaVA-OneVision model in transformers' format (safetensors).
            embedding_vision (`str`, *optional*): Folder or Hub id of the SigLIP that its tower was made from, with its
                pooling head. With `fusion="concat"` it may be left out: the model then ranks no images.
            dtype (`torch.dtype`, *optional*): Of the whole model; the checkpoint's own by default.
            revision, embedding_vision_revision (`str`, *optional*, defaults to `"main"`): Of the two on the Hub.
            output_loading_info (`bool`, *optional*, defaults to `False`): Also return the [`LlavaOnevisionReport`].
            config: Fields of [`SpectraSumConfig`], and `prompt_template` for the processor.

        Returns:
            Model and processor, and the report if it is asked for.

        Raises:
            ValueError: when a checkpoint lacks tensors or has others after loading than in its files, when the two read
                other pixels, or when its architecture is not supported.
            TypeError: for a field that the configuration does not have, or that comes from the checkpoints.
            StrictDataclassError: for fields that contradict each other, see [`SpectraSumConfig`].
        """
        source = Source(llava_onevision, revision)
        embedding_source = None if embedding_vision is None else Source(embedding_vision, embedding_vision_revision)
        loaded = load_llava_onevision(cls, source, embedding_source, dtype=dtype, **config)
        return loaded if output_loading_info else loaded[:2]

    @classmethod
    def from_instructblip(
        cls,
        instructblip: str,
        *,
        dtype: torch.dtype | None = None,
        revision: str = "main",
        output_loading_info: bool = False,
        **config: Any,
    ) -> tuple[Any, ...]:
        """A model on an InstructBLIP checkpoint, and its processor (§9).

        Vision tower, Q-Former with its queries, projection and language model are the checkpoint's. Without `image_guidance`
        the logits on one image are those of `InstructBlipForConditionalGeneration`; several images stand one after the
        other before the prompt. Relevance predictor, alignment head and guidance are new. Of the checkpoint's generation
        settings the special tokens are kept, as in [`from_backbones`].

        Args:
            instructblip (`str`): Folder or Hub id of an InstructBLIP model on a decoder (as Vicuna), in safetensors.
            dtype (`torch.dtype`, *optional*): Of the whole model; the checkpoint's own by default.
            revision (`str`, *optional*, defaults to `"main"`): On the Hub.
            output_loading_info (`bool`, *optional*, defaults to `False`): Also return the [`InstructBlipReport`].
            config: Fields of [`SpectraSumConfig`], and `prompt_template` for the processor; `"{title}{body}"` is a prompt of
                an instruction alone, as InstructBLIP's.

        Returns:
            Model and processor, and the report if it is asked for.

        Raises:
            ValueError: when the checkpoint lacks tensors, has others after loading than in its files, or its architecture is
                not supported.
            TypeError: for a field that the configuration does not have, or that comes from the checkpoint.
            StrictDataclassError: for fields that contradict each other, see [`SpectraSumConfig`].
        """
        loaded = load_instructblip(cls, Source(instructblip, revision), dtype=dtype, **config)
        return loaded if output_loading_info else loaded[:2]


__all__ = ["PretrainedPartsMixin"]
