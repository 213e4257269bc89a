"""From the fields of a pydantic model to flags, and from flags and a YAML file to a validated model.

Every field becomes `--kebab-case` (a bool also `--no-kebab-case`), with its description, choices and default
in the help, grouped by the class that declares it. Flags win over the file, the file over the defaults.
"""

import argparse
import difflib
import inspect
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from penstock.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one sentence, and takes no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **options)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")

    def values(self, arguments: list[str]) -> dict[str, Any]:
        """The values that are given, by name.

        Raises:
            InputError: an unknown argument, or a flag without its value.
        """
        # Flags may stand between positional arguments, except where `--` ends the flags: argparse has it so.
        parse = self.parse_known_args if "--" in arguments else self.parse_known_intermixed_args
        namespace, unknown = parse(arguments)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            close = difflib.get_close_matches(unknown[0].split("=")[0], flags, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            self.error(f"unknown argument {unknown[0]}{hint}")
        return vars(namespace)


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


def add_options(
    parser: argparse.ArgumentParser, model: type[BaseModel], otherwise: Mapping[str, str | None] | None = None
) -> None:
    """Add a flag (or a positional argument) to `parser` for every field of `model`.

    Args:
        parser: gets a group for every class that declares fields.
        model: the class, or one that inherits from it.
        otherwise: field -> its description where the field's own does not hold; None leaves the field out.
    """
    otherwise = otherwise or {}
    groups: dict[type, Any] = {}
    for name, field in model.model_fields.items():
        description = otherwise.get(name, field.description)
        if description is None:
            continue
        owner = next(base for base in reversed(model.__mro__) if name in inspect.get_annotations(base))
        if owner not in groups:
            groups[owner] = parser.add_argument_group(
                (owner.__doc__ or name).strip().split("\n")[0].rstrip(".").lower()
            )
        _add_option(groups[owner], name, field, description)


def _add_option(group: Any, name: str, field: FieldInfo, description: str) -> None:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    kind, many = _kind(field)
    shared = {"default": argparse.SUPPRESS, "help": _help(field, description)}
    if metavar := extra.get("positional"):
        group.add_argument(name, nargs="*" if many else "?", metavar=metavar, **shared)
    elif kind is bool:
        group.add_argument(flag(name, field), dest=name, action=argparse.BooleanOptionalAction, **shared)
    else:
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        metavar = "{" + ",".join(map(str, choices)) + "}" if choices else _metavar(kind, many)
        convert = (lambda text: text.split(",")) if many else str
        group.add_argument(flag(name, field), dest=name, type=convert, metavar=metavar, **shared)


def flag(name: str, field: FieldInfo) -> str:
    """The flag of a field: `--kebab-case` of its alias or name."""
    return "--" + (field.alias or name).replace("_", "-")


def _kind(field: FieldInfo) -> tuple[Any, bool]:
    """The type of one value of a field, without None, and whether the field holds a list of them."""
    kind: Any = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(option for option in get_args(kind) if option is not type(None))
    return (get_args(kind)[0], True) if get_origin(kind) is list else (kind, False)


def _metavar(kind: Any, many: bool) -> str:
    name = {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")
    return f"{name},{name},..." if many else name


def _help(field: FieldInfo, description: str) -> str:
    text = description.replace("%", "%%")
    if field.default in (None, PydanticUndefined, [], False):
        return text
    default = {True: "on", False: "off"}[field.default] if isinstance(field.default, bool) else field.default
    if isinstance(default, list):
        default = ",".join(map(str, default))
    return f"{text} (default: {default})"


def resolve(model: type[Model], flags: dict[str, Any], config: Path | None = None) -> Model:
    """A validated `model` from command-line values and, below them, a YAML file.

    Raises:
        InputError: naming the flag, or the file and key, with what was expected and what was given.
    """
    file = read_yaml(config, model) if config else {}
    try:
        return model.model_validate({**file, **flags})
    except ValidationError as error:
        raise InputError(_sentence(model, error, flags, config)) from None


def read_yaml(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    """The keys and values of a YAML file, all of them fields of `model`."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        _check_keys_once(path, yaml.compose(text))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else f"{path}"
        raise InputError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(values, dict):
        found = "an empty file" if values is None else type(values).__name__
        raise InputError(f"{path}: expected `key: value` lines, got {found}")
    for key in values:
        if key not in model.model_fields:
            close = difflib.get_close_matches(str(key), model.model_fields, n=1)
            raise InputError(
                f"{path}: unknown key {key!r}" + (f" (did you mean {close[0]!r}?)" if close else "")
            )
    return values


def _check_keys_once(path: Path, tree: Any) -> None:
    """Raise InputError for a key that stands twice in a YAML mapping: the library takes the last one."""
    seen = set()
    for node, _ in tree.value if tree is not None and tree.id == "mapping" else ():
        if node.value in seen:
            raise InputError(f"{path}, line {node.start_mark.line + 1}: the key {node.value!r} appears twice")
        seen.add(node.value)


def _sentence(
    model: type[BaseModel], error: ValidationError, flags: dict[str, Any], config: Path | None
) -> str:
    """The first mistake that pydantic found, as one sentence."""
    first = error.errors()[0]
    if not first["loc"]:
        return str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
    key = str(first["loc"][0])
    name = next(name for name, field in model.model_fields.items() if key in (name, field.alias))
    field = model.model_fields[name]
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    shown = extra.get("positional") or flag(name, field)
    if first["type"] == "missing":
        return f"{shown} is missing: {field.description}"
    where = shown if name in flags or config is None else f"{config}: {name}"
    return f"{where}: expected {expected(field)}, got {first['input']!r}"


def expected(field: FieldInfo) -> str:
    """What a field takes, in words: 'a number above 0, at most 1'."""
    kind, many = _kind(field)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    nouns = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", str: "text"}
    lists = {int: "a list of whole numbers", float: "a list of numbers"}
    words = lists.get(kind, "a list of texts") if many else nouns.get(kind, str(kind))
    limits = []
    for rule in field.metadata:
        for test, word in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most")):
            if isinstance(rule, getattr(annotated_types, test.capitalize())):
                limits.append(f"{word} {getattr(rule, test)}")
    return " ".join([words, " and ".join(limits)]).strip()
