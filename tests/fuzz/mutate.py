"""Mutations: of bytes, of what archives hold, of JSON values, of numbers in headers.

A mutation of an archive's member or of a bundle's file is given a right checksum again, so that it
gets past the first gate.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from typing import Any

import numpy as np

from tests.fuzz.seeds import Files

NASTY = [
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    2**15,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**64 - 1,
]
VALUES: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1e308, -0.0, float("nan"), float("inf"),
    "", "x", "../../../escape", "/etc/passwd", "os:system", "a" * 10_000, "\u0000", "..", "C:\\x",
    [], {}, [[]], [1, 2], {"a": 1},
]  # fmt: skip


def mutated(files: Files, rng: np.random.Generator) -> Files:
    """Some of the files, changed in one to three ways."""
    changed = dict(files)
    for _ in range(int(rng.integers(1, 4))):
        names = sorted(changed)
        if not names:
            break
        name = names[int(rng.integers(len(names)))]
        if rng.random() < 0.03:
            del changed[name]
        else:
            changed[name] = _content(changed[name], rng)
    return _sealed(changed) if rng.random() < 0.7 else changed


def _content(content: bytes, rng: np.random.Generator) -> bytes:
    choice = rng.random()
    if content[:2] == b"PK" and choice < 0.8:
        return _archive(content, rng)
    if content[:1] in (b"{", b"[") and choice < 0.8:
        return _json(content, rng)
    if len(content) > 10 and content[8:9] == b"{" and choice < 0.6:
        return _headed(content, rng)
    return _bytes(content, rng)


def _bytes(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    at = int(rng.integers(max(1, len(data))))
    # Headers decide more than what they describe.
    at = at if rng.random() < 0.5 else int(at * rng.random() ** 3)
    kind = int(rng.integers(8))
    if kind == 0:
        return bytes(data[:at])
    if kind == 1 and data:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 2 and data:
        data[at] = int(rng.integers(256))
    elif kind == 3:
        value, size = NASTY[int(rng.integers(len(NASTY)))], int(rng.choice([1, 2, 4, 8]))
        order = "little" if rng.random() < 0.5 else "big"
        data[at : at + size] = (value % (1 << (8 * size))).to_bytes(size, order)  # type: ignore[arg-type]
    elif kind == 4:
        data[at:at] = rng.integers(0, 256, int(rng.integers(1, 40)), dtype=np.uint8).tobytes()
    elif kind == 5:
        del data[at : at + int(rng.integers(1, 40))]
    elif kind == 6:
        end = at + int(rng.integers(1, 200))
        data[at:at] = data[at:end] * int(rng.integers(1, 6))
    else:
        return bytes(data) + bytes(data[:at])
    return bytes(data)


def _archive(content: bytes, rng: np.random.Generator) -> bytes:
    """A ZIP file with a changed, renamed, missing or doubled member, and right checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, zlib.error):
        return _bytes(content, rng)
    if not members:
        return _bytes(content, rng)
    at, kind = int(rng.integers(len(members))), rng.random()
    name, inside = members[at]
    if kind < 0.75:
        members[at] = (name, _content(inside, rng))
    elif kind < 0.85:
        members[at] = (
            str(rng.choice(["../../escape", "/tmp/escape", "x", "a/b\\c", name])),
            inside,
        )
    elif kind < 0.92:
        del members[at]
    else:
        members.append((name, _content(inside, rng)))
    to = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED
    with zipfile.ZipFile(to, "w", how) as archive:
        for name, inside in members:
            archive.writestr(zipfile.ZipInfo(name), inside, how)
    return to.getvalue()


def _json(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON (one value, or one a line) with a changed value, key or length."""
    lines = content.decode(errors="replace").splitlines() if content.count(b"\n{") else [
        content.decode(errors="replace")
    ]  # fmt: skip
    at = int(rng.integers(len(lines)))
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return _bytes(content, rng)
    lines[at] = json.dumps(_value(value, rng))
    return "\n".join(lines).encode()


def _value(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        keys, changed = list(value), dict(value)
        key = keys[int(rng.integers(len(keys)))]
        if rng.random() < 0.1:
            del changed[key]
        elif rng.random() < 0.05:
            changed["surplus"] = 1
        else:
            changed[key] = _value(changed[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = int(rng.integers(len(value)))
        return [_value(part, rng) if i == at else part for i, part in enumerate(value)]
    if isinstance(value, str) and value and rng.random() < 0.3:
        return _bytes(value.encode(), rng).decode(errors="replace")
    if isinstance(value, (int, float)) and rng.random() < 0.5:
        return value * -1 + int(rng.choice([-1, 0, 1, 1000, 10**9]))
    return VALUES[int(rng.integers(len(VALUES)))]


def _headed(content: bytes, rng: np.random.Generator) -> bytes:
    """A safetensors file with another header, of the right length."""
    length = int.from_bytes(content[:8], "little")
    header, rest = content[8 : 8 + length], content[8 + length :]
    if rng.random() < 0.3:
        return content[: 8 + length] + _bytes(rest, rng)
    changed = _json(header, rng)
    return len(changed).to_bytes(8, "little") + changed + rest


def _sealed(files: Files) -> Files:
    """A bundle or history whose manifest has the right hashes of what lies beside it."""
    sealed = dict(files)
    for name in files:
        folder, _, last = name.rpartition("/")
        if last == "manifest.json":
            sealed[name] = _resealed(files, folder, files[name], "files")
    return sealed


def _resealed(files: Files, folder: str, content: bytes, key: str) -> bytes:
    try:
        body = json.loads(content)
        for name in body[key]:
            beside = files.get(f"{folder}/{name}")
            if beside is not None:
                body[key][name] = hashlib.sha256(beside).hexdigest()
        body.pop("checksum", None)
        text = json.dumps(body, sort_keys=True)
        return json.dumps(body | {"checksum": hashlib.sha256(text.encode()).hexdigest()}).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return content
