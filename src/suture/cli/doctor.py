"""``suture doctor``: what is installed and what this machine has, with a way to mend the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from suture import __version__
from suture.cli.common import Json, emit

EXTRAS = {
    "timm": ("timm", "architectures of timm"),
    "onnxscript": ("export", "suture export to ONNX"),
    "onnxruntime": ("export", "running exported ONNX files"),
    "ray": ("ray", "--engine ray, several machines"),
    "gurobipy": ("gurobi", "another solver for linear programs"),
    "pyscipopt": ("scip", "another solver for integer programs"),
    "kornia": ("camera", "physical objects through a camera (A5/P)"),
    "starlette": ("studio", "suture studio, a local page"),
    "uvicorn": ("studio", "suture studio, a local page"),
    "lightning_fabric": ("ddp", "training by several processes"),
    "pytorch_lightning": ("lightning", "callbacks for Lightning's trainer"),
    "tensorboard": ("tensorboard", "runs in TensorBoard"),
    "mlflow": ("mlflow", "runs in MLflow"),
    "huggingface_hub": ("hub", "bundles on the Hugging Face Hub"),
}
"""Module → the extra that brings it, and what it is for."""
_NEEDED = ("torch", "torchvision", "numpy", "scipy", "numba", "highspy", "onnx", "safetensors")
_DISK = 2 * 2**30


@dataclass(frozen=True)
class Checkup:
    """One thing that was looked at.

    Attributes:
        group: install, devices, extras, data, or threads.
        name: what.
        state: "ok", "missing" (nothing is wrong without it), or "problem".
        found: in words.
        remedy: what to do; "" where nothing is to be done.
    """

    group: str
    name: str
    state: str
    found: str
    remedy: str = ""


def command(as_json: Json = False) -> None:
    """What is installed, what this machine has, and how to mend what is missing.

    Example: suture doctor
    """
    findings = [*_install(), *_devices(), *_extras(), *_data(), *_threads()]
    problems = sum(one.state == "problem" for one in findings)
    facts = {"problems": problems, "findings": [asdict(one) for one in findings]}
    emit(as_json, facts, _text(findings, problems))


def _install() -> Iterator[Checkup]:
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Checkup(
        "install",
        "python",
        "ok" if supported else "problem",
        f"{platform.python_version()} ({sys.executable})",
        "" if supported else "Make an environment with Python 3.11, 3.12 or 3.13.",
    )
    yield Checkup("install", "suture", "ok", f"{__version__} ({Path(__file__).parents[1]})")
    for name in _NEEDED:
        try:
            yield Checkup("install", name, "ok", version(name))
        except PackageNotFoundError:
            remedy = f"pip install {name}, or install suture anew: its dependencies bring it."
            yield Checkup("install", name, "problem", "not installed", remedy)
    yield _writable("folder", Path.cwd(), "Work in a folder of your own; runs go to --out.")
    yield _writable("temporary", Path(tempfile.gettempdir()), "Set TMPDIR to a folder with space.")


def _writable(name: str, folder: Path, remedy: str) -> Checkup:
    free = shutil.disk_usage(folder).free
    fine = os.access(folder, os.W_OK) and free > _DISK
    found = f"{folder}, {free / 2**30:.1f} GiB free"
    found += "" if os.access(folder, os.W_OK) else ", not writable"
    return Checkup("install", name, "ok" if fine else "problem", found, "" if fine else remedy)


def _devices() -> Iterator[Checkup]:
    import torch

    yield Checkup("devices", "cpu", "ok", f"{_cores()} cores, torch {torch.__version__}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            name = torch.cuda.get_device_name(index)
            yield Checkup("devices", f"cuda:{index}", "ok", f"{name}; --device cuda:{index}")
        return
    built = torch.version.cuda
    found = "torch sees none" if built else "torch was built without CUDA"
    remedy = (
        f"If there is one: check its driver (nvidia-smi), which must know CUDA {built} or later."
        if built
        else "If there is one: install torch's CUDA build."
    )
    yield Checkup("devices", "cuda", "missing", found, remedy)


def _extras() -> Iterator[Checkup]:
    for module, (extra, purpose) in EXTRAS.items():
        there = find_spec(module) is not None
        yield Checkup(
            "extras",
            module,
            "ok" if there else "missing",
            purpose,
            "" if there else f"pip install 'suture[{extra}]'",
        )


def _data() -> Iterator[Checkup]:
    from suture.data import catalogue, folder

    place = folder()
    yield Checkup(
        "data",
        "SUTURE_DATA",
        "ok" if place is not None else "missing",
        str(place) if place is not None else "no data folder",
        ""
        if place is not None
        else "Set SUTURE_DATA to a folder with .npz files, if you have one.",
    )
    for entry in catalogue():
        state = "ok" if entry.available else "missing"
        remedy = "" if entry.available else "Fetched at the first use, where there is a network."
        yield Checkup("data", entry.name, state, entry.source, remedy)


def _threads() -> Iterator[Checkup]:
    import torch

    asked, cores = os.environ.get("OMP_NUM_THREADS"), _cores()
    threads = torch.get_num_threads()
    many = threads > cores
    found = f"{threads} of torch for {cores} cores"
    found += f", OMP_NUM_THREADS={asked}" if asked else ""
    remedy = f"export OMP_NUM_THREADS={cores}: more threads than cores slow each other down."
    yield Checkup("threads", "threads", "problem" if many else "ok", found, remedy if many else "")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_MARKS = {"ok": "✓", "missing": "–", "problem": "✗"}


def _text(findings: list[Checkup], problems: int) -> str:
    width = max(len(one.name) for one in findings)
    lines: list[str] = []
    for group in dict.fromkeys(one.group for one in findings):
        lines += ["", group] if lines else [group]
        for one in findings:
            if one.group == group:
                lines.append(f"  {_MARKS[one.state]} {one.name:{width}}  {one.found}")
                lines += [f"    {'':{width}}  → {one.remedy}"] if one.remedy else []
    end = "nothing is wrong" if not problems else f"{problems} problems (✗)"
    return "\n".join([*lines, "", f"{end}; what is missing (–) is needed for its purpose alone"])
