"""How a model is rebuilt without pickle: a JSON-able ``suture_spec`` and a registry of builders.

A spec is a dict with at least ``kind``. Everything suture builds carries one as an attribute; a
spec may nest another (a repair nests its base model's), and may name files by content hash, whose
bytes travel in ``suture_files`` until a bundle writes them down.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import nn

from suture.errors import ArgumentError, BundleError, ModelError, SutureError, unknown_name

Spec = dict[str, Any]
Builder = Callable[[Spec, Path | None], nn.Module]

_BUILDERS: dict[str, Builder] = {}
_CODE_TRUSTED: ContextVar[bool] = ContextVar("suture_code_trusted", default=False)


def register_builder(kind: str, builder: Builder) -> None:
    """Teach ``build_from_spec`` a kind.

    Args:
        kind: the spec's ``kind``, for example "defensyn".
        builder: takes the spec and the folder that holds its files (``None`` if there is none)
            and returns the module with the right structure; weights are loaded afterwards. It may
            call ``build_from_spec`` on a nested spec.

    Raises:
        ArgumentError: if another builder holds that kind.
    """
    if _BUILDERS.get(kind, builder) is not builder:
        raise ArgumentError(
            expected="a kind that no other builder holds",
            got=repr(kind),
            remedy="Choose another name for the kind.",
        )
    _BUILDERS[kind] = builder


def build_from_spec(
    spec: Mapping[str, Any], folder: Path | None = None, *, trust_code: bool | None = None
) -> nn.Module:
    """The module that a spec describes, in eval mode, with unspecified weights.

    Args:
        spec: what ``spec_of`` returned, perhaps after a trip through JSON.
        folder: where the files that the spec names lie.
        trust_code: whether a "factory" spec may import code; ``None`` inherits from the caller.

    Raises:
        ModelError: for a spec without a known kind.
    """
    kind = spec.get("kind") if isinstance(spec, Mapping) else None
    if not isinstance(kind, str) or kind not in _BUILDERS:
        raise ModelError(
            expected=f"a spec whose kind is one of {', '.join(sorted(_BUILDERS))}",
            got=unknown_name("kind", str(kind), tuple(_BUILDERS)),
            remedy="Import the package that made the model, so that it registers its builder.",
        )
    with trusting(code_trusted() if trust_code is None else trust_code):
        module = _call(_BUILDERS[kind], kind, dict(spec), folder)
    return attach(module, spec, files_of(module)).eval()


def _call(builder: Builder, kind: str, spec: Spec, folder: Path | None) -> nn.Module:
    try:
        return builder(spec, folder)
    except SutureError:
        raise
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        ArithmeticError,
        RuntimeError,
    ) as error:
        raise ModelError(
            expected=f"a complete spec of kind {kind!r}",
            got=f"{type(error).__name__}: {error}",
            remedy="The manifest was altered or made by another version; save the model again.",
        ) from error


@contextlib.contextmanager
def trusting(trusted: bool) -> Iterator[None]:
    """Within this context, specs of kind "factory" may (or may not) import code."""
    token = _CODE_TRUSTED.set(trusted)
    try:
        yield
    finally:
        _CODE_TRUSTED.reset(token)


def code_trusted() -> bool:
    """Whether the caller allowed code to be imported."""
    return _CODE_TRUSTED.get()


def attach(
    module: nn.Module, spec: Mapping[str, Any], files: Mapping[str, bytes] | None = None
) -> nn.Module:
    """Hang a spec, and the bytes of the files it names, on a module; returns the module.

    Raises:
        ArgumentError: if the spec does not survive JSON unchanged.
    """
    plain = dict(spec)
    if json.loads(json.dumps(plain)) != plain:
        raise ArgumentError(
            expected="a spec of plain dicts, lists, strings and numbers",
            got=repr(plain),
            remedy="Turn tuples into lists before attaching the spec.",
        )
    module.suture_spec = plain  # type: ignore[assignment]
    module.suture_files = dict(files or {})  # type: ignore[assignment]
    return module


def without_spec(module: nn.Module) -> nn.Module:
    """A shallow copy that carries no spec; it shares the module's layers and weights."""
    bare = copy.copy(module)
    for name in ("suture_spec", "suture_files"):
        bare.__dict__.pop(name, None)
    return bare


def spec_of(module: nn.Module) -> Spec:
    """The spec a module carries.

    Raises:
        ModelError: if it has none, as a hand-made ``nn.Module``.
    """
    spec = getattr(module, "suture_spec", None)
    if not isinstance(spec, dict):
        raise ModelError(
            expected="a model that suture built or loaded, with a suture_spec",
            got=f"a {type(module).__name__} without one",
            remedy="suture.wrap(net, in_shape=(c, h, w)) makes one of any network that can be "
            "exported; for others write a function that makes it, and load it through "
            "suture.load('module:function', trust_code=True).",
        )
    return spec


def files_of(module: nn.Module) -> dict[str, bytes]:
    """The files that a module's spec names: file name to content."""
    return dict(getattr(module, "suture_files", None) or {})


def carried_shape(model: nn.Module) -> tuple[int, int, int] | None:
    """``(c, h, w)`` from a model's spec or its timm configuration, if it has either."""
    spec = getattr(model, "suture_spec", None)
    while isinstance(spec, dict):
        if "in_shape" in spec:
            c, h, w = spec["in_shape"]
            return c, h, w
        spec = spec.get("base")
    configuration = getattr(model, "pretrained_cfg", None) or {}
    size = configuration.get("input_size") if isinstance(configuration, dict) else None
    return tuple(size) if size else None


def spec_file(folder: Path | None, name: str) -> bytes:
    """The content of a file that a spec names, which must lie directly in ``folder``.

    Raises:
        BundleError: for a missing file or a name that leaves the folder.
    """
    if folder is None or Path(name).name != name or not (folder / name).is_file():
        raise BundleError(
            expected=f"the file {name!r} beside the manifest",
            got="no folder" if folder is None else f"nothing of that name in {folder}",
            remedy="Copy the bundle again, as a whole.",
        )
    return (folder / name).read_bytes()
