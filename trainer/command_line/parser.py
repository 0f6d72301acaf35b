"""The parser of training: TRL's, with a help for reading, full names only, and one-line errors that name the argument."""

import argparse
import difflib
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import TrlParser

from spectra_sum.errors import SpectraSumError
from trainer.command_line.docstrings import ArgumentHelp, argument_help

# Of the file itself, beside the arguments: environment variables that TRL sets.
ENVIRONMENT = "env"
CONFIG_HELP = "YAML file with values of the arguments below; what the command line says wins"


class OneLineParser(argparse.ArgumentParser):
    """A parser that takes no abbreviated options and raises its errors, instead of printing its usage and leaving."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """
        Raises:
            SpectraSumError: In any case.
        """
        raise SpectraSumError(message)


class TrainingParser(TrlParser):
    """
    Parses dataclasses from `--config FILE.yaml` and the command line, as TRL's parser does.

    Beyond that, arguments must be given by their full names, keys and values of the file are checked like those of the
    command line, and `--help` has a sentence for each argument, with its choices and its default, in groups.

    Args:
        dataclass_types (`Iterable[type]`): The dataclasses that are filled.
        groups (`Mapping[str, Iterable[str]]`): Names of arguments by the group's title, in the order of the help. An
            argument that is in no group is parsed, but not shown.
        docstrings (`Iterable[str]`): Those that describe the arguments. What they do not describe has its `help`.
        kwargs: Of `argparse.ArgumentParser`.
    """

    def __init__(
        self,
        dataclass_types: Iterable[type],
        *,
        groups: Mapping[str, Iterable[str]],
        docstrings: Iterable[str],
        **kwargs: Any,
    ):
        super().__init__(tuple(dataclass_types), allow_abbrev=False, **kwargs)
        self.groups = {title: tuple(names) for title, names in groups.items()}
        self._described: dict[str, ArgumentHelp] = {}
        for docstring in docstrings:
            self._described |= argument_help(docstring)
        # TRL takes it off the command line before anything is parsed; without a default it leaves nothing behind.
        self.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help=CONFIG_HELP)

    def parse(self, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
        """
        The dataclasses, filled.

        Args:
            argv (`Sequence[str]`, *optional*): Defaults to the arguments of the process.

        Raises:
            SpectraSumError: for an argument, key or value that cannot be taken; the message names it, and its file.
        """
        tokens = _with_separate_config(sys.argv[1:] if argv is None else argv)
        if "--config" in tokens:
            index = tokens.index("--config")
            self._check_config(tokens[index + 1] if index + 1 < len(tokens) else None)
        try:
            *arguments, _, unknown = self.parse_args_and_config(
                tokens, return_remaining_strings=True, separate_remaining_strings=True
            )
        except SpectraSumError:
            raise
        except (ValueError, ImportError) as error:
            # The dataclasses check their own values.
            raise SpectraSumError(" ".join(str(error).split())) from error
        if unknown:
            name = next((token for token in unknown if token.startswith("-")), unknown[0]).partition("=")[0]
            raise SpectraSumError(f"unrecognized argument {name}{self._suggestion(name)}")
        return tuple(arguments)

    def error(self, message: str) -> NoReturn:
        """
        Raises:
            SpectraSumError: In any case: a usage of all arguments would hide what is wrong.
        """
        raise SpectraSumError(message)

    def format_help(self) -> str:
        """The help by groups: option, sentence, default."""
        width = max(shutil.get_terminal_size().columns - 2, 40)
        parts = [
            f"usage: {self.prog} --config FILE [--ARGUMENT VALUE ...]",
            textwrap.fill(self.description or "", width),
        ]
        # Of a boolean that is true by default, --no_NAME is the second.
        actions = {action.dest: action for action in reversed(self._actions)}
        for title, names in {"options": ("help", "config"), **self.groups}.items():
            lines = [f"{title}:"]
            for name in names:
                lines += [
                    f"  {_invocation(actions[name])}",
                    textwrap.fill(self._sentence(actions[name]), width, **INDENT),
                ]
            parts.append("\n".join(lines))
        return "\n\n".join(parts) + "\n"

    def _sentence(self, action: argparse.Action) -> str:
        described = self._described.get(action.dest)
        # argparse's own mark of a percent sign.
        text = " ".join((described.text if described else (action.help or "").replace("%%", "%")).split())
        text = text if text.endswith((".", ")")) else f"{text}."
        default = action.default
        if default is None or default is argparse.SUPPRESS:
            # What is None is decided later: the docstring may know.
            default = described.default if described else None
        if action.required:
            return f"{text} (required)"
        if default in (None, "", []):
            return text
        if isinstance(default, list | tuple):
            default = ", ".join(map(str, default))
        return f"{text} (default: {default})".replace("(default: True)", "(default: true)").replace(
            "(default: False)", "(default: false)"
        )

    def _check_config(self, config: str | None) -> None:
        if config is None:
            raise SpectraSumError("--config: name a YAML file after it.")
        path = Path(config)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SpectraSumError(f"--config {path}: the file cannot be read ({error.strerror}).") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SpectraSumError(f"--config {path}: the file is no YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise SpectraSumError(f"--config {path}: the file must be a YAML mapping, one 'argument: value' a line.")
        if not isinstance(content.get(ENVIRONMENT, {}), dict):
            raise SpectraSumError(f"--config {path}: env must be a mapping of environment variables to values.")
        actions = {action.dest: action for action in reversed(self._actions) if action.dest not in ("help", "config")}
        unknown = [str(key) for key in content if key not in actions and key != ENVIRONMENT]
        if unknown:
            told = ", ".join(f"{key}{self._suggestion(f'--{key}', '')}" for key in unknown)
            raise SpectraSumError(f"--config {path}: unknown keys: {told}")
        for key, value in content.items():
            problem = None if key == ENVIRONMENT else _problem(actions[key], value)
            if problem:
                raise SpectraSumError(f"--config {path}: {key} is {value!r}, but {problem}")

    def _suggestion(self, name: str, prefix: str = "--") -> str:
        known = [action.dest for action in self._actions]
        close = difflib.get_close_matches(name.lstrip("-").replace("-", "_"), known, n=1)
        return f" (did you mean {prefix}{close[0]}?)" if close else ""


INDENT = {"initial_indent": " " * 8, "subsequent_indent": " " * 8}


def _with_separate_config(argv: Sequence[str]) -> list[str]:
    """`--config=FILE` as the two arguments that TRL looks for."""
    return [part for token in argv for part in (token.split("=", 1) if token.startswith("--config=") else [token])]


def _invocation(action: argparse.Action) -> str:
    option = action.option_strings[0] if len(action.option_strings) == 1 else _longest(action.option_strings)
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    if action.metavar:
        return f"{option} {action.metavar}"
    if action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        value = {"string_to_bool": "{true,false}", "str": "TEXT"}.get(_type_name(action), _type_name(action).upper())
    return f"{option} {value} ..." if action.nargs == "+" else f"{option} {value}"


def _longest(options: Sequence[str]) -> str:
    """The name with underscores, as configs have it; `--num-latents` is taken, too."""
    return next((option for option in options if "_" in option), options[0])


def _type_name(action: argparse.Action) -> str:
    return getattr(action.type, "__name__", "str")


def _problem(action: argparse.Action, value: Any) -> str | None:
    """What is wrong with a value of a file. argparse looks at text alone, and not at the choices."""
    values = value if isinstance(value, list) else [value]
    kind = _type_name(action)
    if value is None:
        return None if action.default is None else "it must have a value."
    if isinstance(value, list) and action.nargs != "+" and kind != "str":
        return "it takes one value."
    if action.nargs == "+" and not isinstance(value, list) and kind != "str":
        return "it takes a list."
    if action.choices:
        choices = [str(choice) for choice in action.choices]
        if any(str(part) not in choices for part in values):
            # YAML's own: no, off, yes and on are booleans.
            quoting = '; YAML reads no and off as false: quote them ("no")' if isinstance(value, bool) else ""
            return f"it must be one of {', '.join(choices)}{quoting}."
        return None
    if any(not _is_of_kind(part, kind, action.type) for part in values):
        return f"it must be {EXPECTED[kind]}."
    return None


EXPECTED = {"int": "a whole number", "float": "a number", "string_to_bool": "true or false"}


def _is_of_kind(value: Any, kind: str, convert: Any) -> bool:
    if isinstance(value, str) and kind in EXPECTED:
        # As on the command line; 1e-4 is text in YAML, which wants 1.0e-4.
        try:
            convert(value)
        except (ValueError, argparse.ArgumentTypeError):
            return False
        return True
    types = {"int": int, "float": int | float, "string_to_bool": bool}
    return kind not in types or (
        isinstance(value, types[kind]) and (kind == "string_to_bool") == isinstance(value, bool)
    )
