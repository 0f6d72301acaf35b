"""What a sweep searches: a small YAML file with an objective and, for each parameter, the values to choose from."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from spectra_sum.errors import SpectraSumError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

KEYS = {"objective", "direction", "parameters"}
DIRECTIONS = ("minimize", "maximize")


@dataclass(frozen=True)
class SearchSpace:
    """The choices of a search.

    Args:
        objective (`str`): Name of the evaluation's metric, `eval_` included.
        direction (`str`): `"minimize"` or `"maximize"`.
        parameters (`dict[str, dict[Any, dict[str, Any]]]`): For each parameter its choices, and for each choice the
            arguments of training that it sets: the one of the parameter's name, or several at once.
    """

    objective: str
    direction: str
    parameters: dict[str, dict[Any, dict[str, Any]]]

    @property
    def arguments(self) -> list[str]:
        """Names of the arguments that the search sets."""
        return sorted({name for choices in self.parameters.values() for fields in choices.values() for name in fields})

    def suggest(self, trial: "BaseTrial") -> dict[str, Any]:
        """The arguments of training that the trial sets, with their values."""
        return self.fields(
            {name: trial.suggest_categorical(name, list(choices)) for name, choices in self.parameters.items()}
        )

    def fields(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of training that the choices, by parameter, set."""
        return {field: value for name in chosen for field, value in self.parameters[name][chosen[name]].items()}

    @property
    def size(self) -> int:
        """How many combinations of choices there are."""
        return math.prod(map(len, self.parameters.values()))

    def combinations(self, seed: int) -> list[dict[str, Any]]:
        """All combinations of choices, in an order drawn from the seed."""
        names = list(self.parameters)
        grid = [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*self.parameters.values())]
        random.Random(seed).shuffle(grid)
        return grid


def load_search_space(path: str | Path) -> SearchSpace:
    """Read a search file.

    Its keys are `objective`, `direction` and `parameters`, a mapping of names to `{values: [...]}`. A value that is a
    mapping sets several arguments at once, and the parameter's name is then a mere label::

        objective: eval_loss_lm
        direction: minimize
        parameters:
          num_latents: {values: [32, 64]}
          deep_visual_processor:
            values:
              - {dvp_num_layers: 16, gate_layers: [8, 16]}
              - {dvp_num_layers: 24, gate_layers: [8, 16, 24]}

    Raises:
        ValueError: naming the file and the key that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise SpectraSumError(f"search: there is no file {path}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SpectraSumError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or set(content) != KEYS:
        raise SpectraSumError(f"{path}: a search file has exactly the keys {', '.join(sorted(KEYS))}.")
    objective, direction, parameters = (content[key] for key in ("objective", "direction", "parameters"))
    if not isinstance(objective, str) or not objective.startswith("eval_"):
        raise SpectraSumError(
            f"{path}: objective is {objective!r}; name a metric of the evaluation, such as eval_loss_lm."
        )
    if direction not in DIRECTIONS:
        raise SpectraSumError(f"{path}: direction is {direction!r}; it must be one of {', '.join(DIRECTIONS)}.")
    if not isinstance(parameters, dict) or not parameters:
        raise SpectraSumError(f"{path}: parameters must name at least one parameter with its values.")
    space = SearchSpace(
        objective, direction, {name: _choices(path, name, entry) for name, entry in parameters.items()}
    )
    owners = Counter(
        field
        for choices in space.parameters.values()
        for field in {field for fields in choices.values() for field in fields}
    )
    twice = sorted(field for field, count in owners.items() if count > 1)
    if twice:
        raise SpectraSumError(f"{path}: more than one parameter sets {', '.join(twice)}; choose them jointly in one.")
    return space


def _choices(path: Path, name: str, entry: Any) -> dict[Any, dict[str, Any]]:
    values = entry.get("values") if isinstance(entry, dict) and set(entry) == {"values"} else None
    if not isinstance(values, list) or not values:
        raise SpectraSumError(f"{path}: parameter {name} must be {{values: [...]}} with at least one value.")
    choices = {_label(value): value if isinstance(value, dict) else {name: value} for value in values}
    if len({str(label) for label in choices}) < len(values):
        raise SpectraSumError(f"{path}: parameter {name} lists a value twice.")
    if len({frozenset(fields) for fields in choices.values()}) > 1:
        raise SpectraSumError(f"{path}: all values of parameter {name} must set the same arguments.")
    return choices


def _label(value: Any) -> Any:
    """Optuna stores plain values; lists and joint choices are known by their text."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_label(part)}" for name, part in value.items())
    return str(value) if isinstance(value, list) else value
