"""What a newcomer does in an empty folder, with the built wheel: ``make trial``.

Builds the wheel, puts it into a folder of its own (dependencies are those of this environment), and
runs every command of the first hour there: doctor, demo, an own network three ways with its
normalisation outside, audit, repair, evaluate, export, onnxruntime, a recipe with three mistakes,
Ctrl-C and resume. The transcript, with the CPU seconds of each command, is ``docs/trial.md``.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "trial.md"
_ENTRY = "from suture.cli import main; main()"
_PATHS = re.compile(r"(?<![\w.~])/(?:[\w.+-]+/)+[\w.+-]*")
_MOST = 24

OWN = """\
import suture
import torch
from torch import nn

digits = suture.data.load("digits")
images, labels = digits.train.batch().images, digits.train.labels
mean, std = digits.mean, digits.std
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(1024, 64),
    nn.ReLU(),
    nn.Linear(64, 10),
)
optimiser = torch.optim.Adam(net.parameters(), 1e-3)
for step in range(300):  # trained on 40 times the normalised pixels, as only its author knows
    rows = torch.randint(len(labels), (64,))
    x = 40 * (images[rows] - mean[0]) / std[0] - 100
    loss = nn.functional.cross_entropy(net(x), labels[rows])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
net.eval()

own = {"mean": [mean[0] + 2.5 * std[0]], "std": [std[0] / 40]}
suture.save(suture.wrap(net, in_shape=(1, 8, 8), **own), "mine")
example, free = (torch.rand(2, 1, 8, 8),), ({0: torch.export.Dim("batch")},)
torch.export.save(torch.export.export(net, example, dynamic_shapes=free), "net.pt2")
torch.onnx.export(net, example, "net.onnx", dynamo=True, dynamic_shapes=free, verbose=False)
print(f"--mean {own['mean'][0]:.4f} --std {own['std'][0]:.5f}")
"""

RUNTIME = """\
import numpy as np
import onnxruntime
import suture

batch = suture.data.load("digits").test.batch(200)
session = onnxruntime.InferenceSession("repaired.onnx")
(logits,) = session.run(None, {session.get_inputs()[0].name: batch.images.numpy()})
print("onnxruntime: right on", int((logits.argmax(1) == batch.labels.numpy()).sum()), "of 200")
"""

BAD = """\
suture: 1
folder: runs/recipe
data: digits
steps:
  - train: {arch: digits_cnn, epochs: 3}
  - audit: {epss: 0.2, n: 20}
  - repair: {method: defensin, eps: 0.2}
  - evaluate: {n: many}
"""

GOOD = """\
suture: 1
folder: runs/recipe
data: digits
steps:
  - train: {arch: digits_cnn, epochs: 3}
  - audit: {eps: 0.2, n: 20}
"""


class Trial:
    """A folder, and everything that was typed and answered there."""

    def __init__(self, folder: Path, packages: Path) -> None:
        self.folder, self.lines = folder, list[str]()
        self.failed: list[str] = []
        own = {"PYTHONPATH": str(packages), "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
        self.environment = {**os.environ, **own}

    def say(self, text: str) -> None:
        """A heading or a sentence of the transcript."""
        print(f"\n{text}", flush=True)
        self.lines += ["", text, ""]

    def suture(self, line: str, status: int = 0) -> str:
        """Run ``suture LINE``; note it where the exit status is another."""
        return self._run(["-c", _ENTRY, *shlex.split(line)], f"suture {line}", status)

    def python(self, name: str, text: str) -> str:
        """Write a script, show it, and run it."""
        self.write(name, text, "py")  # a page's "python" blocks are run as one
        return self._run([name], f"python {name}", 0)

    def write(self, name: str, text: str, language: str) -> None:
        """Write a file, and show it."""
        (self.folder / name).write_text(text, encoding="utf-8")
        self.lines += [f"`{name}`:", "", f"```{language}", text.rstrip(), "```", ""]

    def _run(self, words: list[str], shown: str, status: int) -> str:
        before = _cpu()
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self._note(shown, done.stdout, done.returncode, _cpu() - before, status)
        return done.stdout

    def stopped(self, line: str, kept: str) -> str:
        """Run ``suture LINE`` and press Ctrl-C once a file of that pattern is there."""
        before, code = (
            _cpu(),
            f"import signal; signal.signal(2, signal.default_int_handler); {_ENTRY}",
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *shlex.split(line)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while not list(self.folder.glob(kept)) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
        self._note(f"suture {line}", "^C\n" + out, process.returncode, _cpu() - before, 130)
        return out

    def _note(self, shown: str, out: str, status: int, seconds: float, wanted: int) -> None:
        print(f"$ {shown}\n  status {status}, {seconds:.1f} s of CPU", flush=True)
        if status != wanted:
            self.failed.append(f"{shown}: status {status} in place of {wanted}\n{out}")
        text = _PATHS.sub("…", out).rstrip().splitlines()
        text = [line.rstrip() for line in text]
        if len(text) > _MOST:
            text = [*text[: _MOST // 2], "…", *text[-_MOST // 2 :]]
        ended = f"(status {status}, {seconds:.1f} s of CPU)"
        self.lines += ["```console", f"$ {shown}", *text, ended, "```", ""]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime


def wheel(place: Path) -> Path:
    """The built wheel, unpacked into a folder of its own."""
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "wheel", *quiet, "--wheel-dir", place, ROOT], check=True)
    (built,) = place.glob("suture-*.whl")
    subprocess.run([*pip, "install", *quiet, "--target", place / "packages", built], check=True)
    return place / "packages"


def first_hour(trial: Trial, demo: bool) -> None:
    """Everything, in order."""
    trial.say("## Is everything there?")
    trial.suture("--version")
    trial.suture("doctor")
    if demo:
        trial.say("## The demo")
        trial.suture("demo --n 50")
    else:
        trial.say("`suture demo` was left out this time (`--no-demo`).")
    trial.say("## An own network, its normalisation outside")
    outside = trial.python("own.py", OWN).strip().splitlines()[-1]
    audit = "--data digits --eps 0.1 --n 20"
    trial.suture(f"audit net.onnx {audit} --out runs/suspected")
    trial.suture(f"audit net.onnx {audit} {outside} --out runs/onnx")
    trial.suture(f"audit net.pt2 {audit} {outside} --out runs/pt2")
    trial.suture(f"audit mine {audit} --out runs/wrapped")
    trial.say("## Repair, evaluate, export")
    small = "--eps 0.1 --queries 100 --samples 300 --programs 5000 --temperature 20"
    trial.suture(f"repair mine --data digits {small} --out runs/repaired")
    evaluated = "--n 20 --repeats 1 --no-curve --tier quick"
    trial.suture(f"evaluate runs/repaired --data digits {evaluated} --out runs/measured")
    trial.suture("export runs/repaired --out repaired.onnx")
    trial.python("deployed.py", RUNTIME)
    trial.say("## A recipe with three mistakes")
    trial.write("recipe.yaml", BAD, "yaml")
    trial.suture("run recipe.yaml", status=2)
    trial.write("recipe.yaml", GOOD, "yaml")
    trial.suture("run recipe.yaml")
    trial.say("## Ctrl-C, and going on")
    said = trial.stopped(
        "train digits_cnn --data digits --epochs 40 --patience 0 --out runs/long",
        "runs/long/checkpoints/epoch-*.safetensors",
    )
    line = re.search(r"go on with: suture (.*)", said)
    trial.suture(line[1] if line else "resume runs/long")
    trial.suture("cite runs/measured")


HEAD = """# A newcomer's hour

<!-- Written by benchmarks/trial.py (make trial): what was typed and what was answered. -->

Everything below was typed in an empty folder, with the wheel that `make trial` builds, on two
shared cores without a GPU; long answers are cut in the middle, paths of the machine left out.
"""


def main() -> None:
    """Run the trial; fail where a command answers otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help="where the transcript goes")
    parser.add_argument("--no-demo", action="store_true", help="leave the demo out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "empty"
        folder.mkdir()
        trial = Trial(folder, wheel(Path(place)))
        first_hour(trial, demo=not given.no_demo)
    given.page.write_text("\n".join([HEAD, *trial.lines]).rstrip() + "\n", encoding="utf-8")
    if trial.failed:
        sys.exit("\n\n".join(trial.failed))


if __name__ == "__main__":
    main()
