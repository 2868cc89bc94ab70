"""Recipes as text: YAML read with the line of every key, and written with comments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from suture.errors import ArgumentError

Place = tuple[str | int, ...]
MOST = 1 << 20


def read(path: Path) -> tuple[dict[str, Any], dict[Place, int]]:
    """``(content, line of every key and item, counted from 1)`` of a recipe.

    Plain values only: no tags that make objects, no anchors.

    Raises:
        ArgumentError: no such file, no YAML, or something other than a mapping; with the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = _composed(text[:MOST])
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _refused(path, "bytes that are no text") from error
    except yaml.YAMLError as error:
        raise _refused(path, _where(error)) from error
    lines: dict[Place, int] = {}
    content = _plain(node, (), lines) if node is not None else None
    if not isinstance(content, dict):
        raise _refused(path, "no keys" if content is None else f"a {type(content).__name__}")
    return content, lines


def _composed(text: str) -> yaml.Node | None:
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.AliasToken):
            raise yaml.MarkedYAMLError(problem="an alias (*)", problem_mark=token.start_mark)
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _plain(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Any:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        made: dict[str, Any] = {}
        for key, value in node.value:
            name = str(getattr(key, "value", ""))
            if name in made:
                raise ArgumentError(
                    expected="every key once",
                    got=f"{name!r} again in line {key.start_mark.line + 1}",
                    remedy="Take one of them out.",
                )
            lines[(*place, name)] = key.start_mark.line + 1
            made[name] = _plain(value, (*place, name), lines)
        return made
    if isinstance(node, yaml.SequenceNode):
        return [_plain(one, (*place, i), lines) for i, one in enumerate(node.value)]
    if node.tag == "tag:yaml.org,2002:timestamp":
        return node.value
    return yaml.SafeLoader("").construct_object(node)


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "no YAML"
    return problem if mark is None else f"{problem} in line {mark.line + 1}"


def _refused(path: Path, got: str) -> ArgumentError:
    return ArgumentError(
        expected=f"a recipe, YAML with keys and values, at {path}",
        got=got,
        remedy="`suture init` writes one to begin with; tabs do not indent in YAML.",
    )


def written(content: Mapping[str, Any], comment: str = "") -> str:
    """A recipe as YAML, in the order of its keys; ``comment`` before it."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    body = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=96)
    return head + body


EXAMPLE = """\
# A recipe: what to do, step by step. Run it with: suture run {name}
# Run it again after Ctrl-C, or after adding steps: what is finished is not done again.

suture: 1              # the form of this file
folder: {folder}   # every step writes its run here, in a folder of the step's name
seed: 0                # root of all randomness

# What several steps share; a step may say otherwise.
data: digits           # a name (suture data list), an .npz file, or a folder of pictures
# size: 32             # resize the pictures of a folder
# model: net.onnx      # your own network: .onnx, .pt2, a bundle, or own.py:make with --trust-code
# preset: imagenet     # its normalisation, where that is not a part of it (or mean:, std:, range:)
# device: cuda

steps:                 # each takes the model of the step before, unless it names one
  - train: {{arch: digits_cnn, epochs: 10}}        # leave it out with a model of your own
  - audit: {{tier: quick, eps: 0.1, n: 50}}        # how fragile is it? 8/255 is understood
  - repair:
      method: pgd-training                        # suture methods lists them, and their fields
      eps: 0.1
      epochs: 20
  - evaluate: {{n: 100, repeats: 1}}               # what that was worth
  # - export: {{out: repaired.onnx}}
"""
