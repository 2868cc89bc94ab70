"""Certificates for other people's verifiers: an ONNX network and a VNN-LIB property each.

A property is written the way competitions do: it asks for a counterexample, so that "unsat" means
that the certificate's claim holds.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from suture.certify.certificate import Certificate
from suture.certify.proving import parts_of
from suture.errors import DependencyError
from suture.storage import write_bytes, write_text


def export(certificate: Certificate, model: nn.Module, folder: Path, name: str) -> list[Path]:
    """Write ``NAME.vnnlib`` and an ONNX file for each network that may answer in the box.

    Returns:
        the property, then the networks (``NAME.onnx``, or ``NAME-0.onnx``, … if several answer).
    """
    folder = Path(folder)
    parts = parts_of(model, certificate.lower, certificate.upper)
    written = [folder / f"{name}.vnnlib"]
    write_text(written[0], vnnlib(certificate))
    for index, part in enumerate(parts):
        path = folder / (f"{name}.onnx" if len(parts) == 1 else f"{name}-{index}.onnx")
        write_bytes(path, onnx_bytes(part, tuple(certificate.lower.shape)))
        written.append(path)
    return written


def vnnlib(certificate: Certificate) -> str:
    """The claim's negation as VNN-LIB: some row is not positive, somewhere in the box.

    Numbers are written with all their digits, so that nothing is lost.
    """
    lower, upper = certificate.lower.flatten().tolist(), certificate.upper.flatten().tolist()
    outputs = certificate.rows.shape[1]
    lines = [
        f"; {certificate.method}, margin {certificate.margin!r}",
        f"; network {certificate.network}",
    ]
    lines += [f"(declare-const X_{i} Real)" for i in range(len(lower))]
    lines += [f"(declare-const Y_{j} Real)" for j in range(outputs)]
    for i, (low, high) in enumerate(zip(lower, upper, strict=True)):
        lines += [f"(assert (>= X_{i} {low!r}))", f"(assert (<= X_{i} {high!r}))"]
    rows = zip(certificate.rows.tolist(), certificate.add.tolist(), strict=True)
    cases = [f"(and (<= {_sum(row)} {-add!r}))" for row, add in rows]
    lines.append(f"(assert (or {' '.join(cases)}))")
    return "\n".join(lines) + "\n"


def _sum(row: list[float]) -> str:
    """``rows · Y`` in prefix form; coefficients of 1 are left out."""
    terms = [f"Y_{j}" if c == 1 else f"(* {c!r} Y_{j})" for j, c in enumerate(row) if c]
    return terms[0] if len(terms) == 1 else f"(+ {' '.join(terms)})"


def onnx_bytes(model: nn.Module, in_shape: tuple[int, ...], output: str = "logits") -> bytes:
    """A network as ONNX with a free batch axis; its input is called "images".

    Args:
        output: what its output is called.

    Raises:
        DependencyError: onnxscript is missing.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise DependencyError(
            expected="the package onnxscript",
            got="an environment without it",
            remedy="pip install 'suture[export]'",
        ) from None
    example = torch.zeros(2, *in_shape)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=[output],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
