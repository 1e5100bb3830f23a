"""What is wrong with a configuration, in words: from pydantic's errors to file, line, key, value and the remedy."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from annotated_types import Ge, Le
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sipd.config_peers import Mistakes

#: What `--listen` takes.
wanted_listener = "TRANSPORT:ADDRESS:PORT is wanted, such as udp:0.0.0.0:5060 or tls:[::1]:5061"

_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_\"'.@-]+)\s*\]\]?")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')\s*[=.]")

#: Sections of which there are several, each with a name.
_NAMED = frozenset({"peers", "templates", "acls", "groups", "forward"})

Place = tuple[str | int, ...]


def describe(
    root: type[BaseModel], failure: ValidationError, path: str, text: str, origins: Mapping[Place, str]
) -> list[str]:
    """One line for each mistake, in the order of the file's sections: where, what stands there, what would be right.

    `path` and `text` are the file's ("" without one); `origins` names places that came from the command line.
    """
    lines = _key_lines(text)
    messages = []
    for error in _one_by_one(failure.errors(include_url=False)):
        place: Place = tuple(part for part in error["loc"] if isinstance(part, int) or part != "[key]")
        where = next((origins[place[:size]] for size in range(len(place), 0, -1) if place[:size] in origins), "")
        if not where:
            line = next((lines[place[:size]] for size in range(len(place), 0, -1) if place[:size] in lines), 0)
            file = f"{path}:{line}: " if line else f"{path}: " if path else ""
            where = f"{file}{_key_text(place)}{_value_text(place, error)}"
        messages.append(f"{where}: {_wanted(root, place, error)}")
    return messages


def placed(messages: Iterable[str], path: str) -> list[str]:
    """Messages that begin with a section and key, such as `[forward.1003] busy = "x": ...`, with file and line before
    them; those about what the file at `path` ("" for none) does not have stay as they are."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = {_key_text(place): line for place, line in _key_lines(file.read()).items()}
    except (OSError, UnicodeDecodeError):
        return list(messages)
    told = []
    for message in messages:
        key = message.partition(": ")[0].partition(" = ")[0]
        line = lines.get(key) or lines.get(key.rpartition(" ")[0])
        told.append(f"{path}:{line}: {message}" if line else message)
    return told


def _one_by_one(errors: Iterable[Any]) -> Iterator[Any]:
    """Mistakes that were found together, each as one of its own."""
    for error in errors:
        together = error["ctx"]["error"] if error["type"] == "value_error" else None
        if isinstance(together, Mistakes):
            for mistake in together.mistakes:
                yield {"type": "value_error", "loc": mistake.place, "input": mistake.value,
                       "ctx": {"error": ValueError(mistake.text)}}
        else:
            yield error


def _key_lines(text: str) -> dict[Place, int]:
    """Where each section and key begins, counted from 1. A multi-line value may add places that are not keys: they
    are only looked up for keys that exist."""
    lines: dict[Place, int] = {}
    section: Place = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header is not None:
            parts: list[str | int] = [part.strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", header[2])]
            if header[1] == "[[":
                counts[header[2]] = counts.get(header[2], -1) + 1
                parts.append(counts[header[2]])
            section = tuple(parts)
            lines.setdefault(section, number)
            continue
        key = _KEY.match(line)
        if key is not None:
            lines.setdefault((*section, key[1].strip("\"'")), number)
    return lines


def _key_text(place: Place) -> str:
    """`[registrar] min_expires`, `[[listen]] port`, `[users] 1001.ha1`."""
    if not place:
        return "the file"
    section, rest = str(place[0]), place[1:]
    header = f"[[{section}]]" if section in ("listen", "routes") else f"[{section}]"
    if section in _NAMED and rest:
        header, rest = f"[{section}.{rest[0]}]", rest[1:]
    if rest and isinstance(rest[0], int):
        header, rest = f"[[{section}]] (number {rest[0] + 1})", rest[1:]
    return f"{header} {'.'.join(str(part) for part in rest)}".rstrip()


def _value_text(place: Place, error: Any) -> str:
    """` = value` as far as it may be shown: what stands under [users] is a secret, and so is a password."""
    value = error["input"]
    if place[:1] == ("users",) or place[-1:] == ("password",) or place == ("listen",) or error["type"] == "missing":
        return ""
    if isinstance(value, (dict, BaseModel)):
        return ""
    if value is None:
        return ""
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return f" = {shown if len(shown) <= 60 else shown[:60] + '...'}"


def _wanted(root: type[BaseModel], place: Place, error: Any) -> str:
    """What would be right."""
    kind = error["type"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "extra_forbidden":
        known = list(_options(_model(root, place[:-1])))
        near = difflib.get_close_matches(str(place[-1]), known, 1)
        what = "section" if len(place) == 1 else "option"
        dotted = "; a name with a dot in it is written in quotation marks" if place[0] == "users" else ""
        return f"no such {what}; " + (f"{near[0]} is meant?" if near else f"there are {', '.join(known)}{dotted}")
    if kind == "string_type" and isinstance(place[-1], int):
        return "text in quotation marks is wanted"
    if kind == "missing":
        return "is needed"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"a section is wanted: [{place[0]}] and its options below it"
    if kind == "tuple_type" and place in (("listen",), ("routes",)):
        return f"a section is wanted: [[{place[0]}]], in double brackets, and its options below it"
    field = _field(root, place)
    if field is not None:
        return _kind_of(field)
    return str(error["msg"])


def _kind_of(field: FieldInfo) -> str:
    """The kind of value a field takes, with its range."""
    least = next((rule.ge for rule in field.metadata if isinstance(rule, Ge)), None)
    most = next((rule.le for rule in field.metadata if isinstance(rule, Le)), None)
    if least is not None:
        return f"a {'whole ' if field.annotation is int else ''}number from {least} to {most} is wanted"
    if field.annotation is bool:
        return "true or false is wanted"
    choices = [repr(choice).replace("'", '"') for choice in get_args(field.annotation) if isinstance(choice, str)]
    if choices:
        return f"{' or '.join(choices)} is wanted"
    if "Literal" in repr(field.annotation):
        inner = get_args(get_args(field.annotation)[-2 if get_args(field.annotation)[-1] is ... else 0])
        return f"out of {', '.join(repr(choice).replace(chr(39), chr(34)) for choice in inner)}, in square brackets"
    if "tuple" in repr(field.annotation):
        return 'a list is wanted: ["...", "..."]'
    longest = next((rule.max_length for rule in field.metadata if hasattr(rule, "max_length")), None)
    return "text in quotation marks is wanted" + (f", at most {longest} characters" if longest else "")


def _field(root: type[BaseModel], place: Place) -> FieldInfo | None:
    """The field at `place`, or the one that holds the element there."""
    for size in range(len(place), 0, -1):
        model = _model(root, place[: size - 1])
        field = _options(model).get(str(place[size - 1]))
        if field is not None and not isinstance(place[size - 1], int):
            return field
    return None


def _options(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """What may be written in a section."""
    return {option_name(model, name): field for name, field in model.model_fields.items()}


def option_name(model: type[BaseModel], name: str) -> str:
    """What a field is called in the file: some words of the file are taken in a class."""
    alias = model.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else name


def _model(root: type[BaseModel], place: Place) -> type[BaseModel]:
    """The model that validates what is at `place`: through lists and tables of models too."""
    model = root
    for part in place:
        field = model.model_fields.get(str(part))
        if field is None or isinstance(part, int):
            continue
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
                break
    return model
