"""What newcomers type that does not work: each answer says expected, got, and what to do.

A row: the words after ``suture``, and pieces that the one line on stderr must have. Files are those
of ``wrong_files``. No answer may show torch's own text or a traceback, or leave anything behind.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli import wrong_files
from tests.cli.conftest import Suture

DIGITS = "--data digits --n 4"
TABLE: list[tuple[str, tuple[str, ...]]] = [
    # images that do not fit the model
    ("audit digits --data colour", ("(n, 3, 8, 8)", "made for (1, 8, 8)", "grey images")),
    ("audit cifar-net --data digits", ("(n, 1, 8, 8)", "(3, 32, 32)", "colour images")),
    ("audit mnist-net --data large", ("(1, 28, 28)", "--size")),
    ("audit own.py:number --data digits --trust-code", ("an nn.Module", "got int")),
    ("audit digits --data mixed", ("pictures of one size", "--size 32")),
    ("audit digits --data mixed --size big", ("--size", "'big'", "--size 32")),
    ("audit digits --data digits --size 16", ("only for pictures", "Leave it out")),
    ("audit digits --data flat", ("class subfolders", "no subfolders", "subfolder named")),
    ("audit digits --data folder", ("class subfolders", "no subfolders")),
    ("audit digits --data many.npz", ("labels from 0 to 9", "got the label 1")),
    # data that is none, or not as it should be
    ("audit digits --data digitss", ("did you mean digits", "suture data list")),
    ("audit digits --data nowhere/pictures", ("nothing there", "current directory")),
    ("audit digits --data text.txt", (".npz", "text.txt", "numpy.savez")),
    ("audit digits --data plain.npy", (".npz", "plain.npy", "numpy.savez")),
    ("audit digits --data no-labels.npz", ("images and labels", "numpy.savez(")),
    ("audit digits --data bytes.npz", ("[0, 1]", "Divide by 255")),
    ("audit digits --data normalised.npz", ("[0, 1]", "--mean and --std")),
    ("audit digits --data one-hot.npz", ("integers", "argmax")),
    ("audit digits --data short.npz", ("one per image", "(7,)")),
    ("audit digits --data alpha.npz", ("c = 1 or 3", "(40, 8, 8, 4)", "alpha")),
    ("audit digits --data train-only.npz", ("test images", "empty test split", "x_test")),
    ("train digits_cnn --data test-only.npz", ("training images", "x_train")),
    ("repair digits --data test-only.npz", ("training images", "x_train")),
    ("slice digits --data test-only.npz --class 3", ("training images", "x_train")),
    # models that are none
    (f"audit digitscnn {DIGITS}", ("did you mean digits_cnn", "Check the name")),
    (f"audit nets/mine.onnx {DIGITS}", ("no such file", "Check the path")),
    (f"audit folder {DIGITS}", ("manifest.json", "suture train")),
    (f"audit whole.pt {DIGITS}", ("class tests.cli.wrong_files.Own", "suture.wrap(net")),
    (f"audit state.pt {DIGITS}", ("weights alone", "--weights state.pt")),
    (f"audit script.pt {DIGITS}", ("TorchScript", "torch.export.save")),
    (f"audit text.onnx {DIGITS}", ("ONNX", "text.onnx")),
    (f"audit text.txt {DIGITS}", ("text.txt, a .txt file", "--weights")),
    (f"audit own:make {DIGITS}", ("--trust-code",)),
    (f"audit own:make {DIGITS} --trust-code", ("name 'missing'", "own.py, line 2")),
    (f"audit own:mak {DIGITS} --trust-code", ("no attribute 'mak'",)),
    (f"audit own:broken {DIGITS} --trust-code", ("missing 1 required", "options the factory")),
    (f"audit nowhere:make {DIGITS} --trust-code", ("No module named 'nowhere'", "current folder")),
    # weights
    (
        f"audit digits_cnn {DIGITS} --weights cnn.safetensors",
        ("weights that match", "architecture", "1.weight"),
    ),
    (f"audit digits_cnn {DIGITS} --weights nowhere.pt", ("no such file", "nowhere.pt")),
    (f"audit digits_cnn {DIGITS} --weights whole.pt", ("weights alone", "pickled by torch.save")),
    (f"audit digits_cnn {DIGITS} --weights text.txt", ("state dict", "no file of weights")),
    # normalisation
    (f"audit digits {DIGITS} --mean a,b", ("numbers with commas", "--mean 0.485")),
    (f"audit digits {DIGITS} --mean 0.1,0.2,0.3 --std 1,1,1", ("one value per channel (1)",)),
    (f"audit digits {DIGITS} --std 0", ("every std > 0",)),
    (f"audit digits {DIGITS} --preset imagnet", ("did you mean imagenet",)),
    (f"audit digits {DIGITS} --preset mnist --mean 0.5", ("a preset, or mean", "leave")),
    (f"audit digits {DIGITS} --range 255", ("low and high", "0-255")),
    # radii, norms, numbers
    (f"audit digits {DIGITS} --eps 8", ("8/255 = 0.03137",)),
    (f"audit digits {DIGITS} --eps 8/", ("a radius", "'8/'", "8/255")),
    (f"audit digits {DIGITS} --eps 0,1", ("a radius", "'0,1'", "0.1")),
    (f"audit digits {DIGITS} --eps -0.1", ("at least 0", "'-0.1'")),
    (f"audit digits {DIGITS} --norm l2 --eps 8", ("below 4", "plain grey", "0.5 to 3")),
    (f"audit digits {DIGITS} --norm l7", ("linf, l2", "'l7'")),
    (f"attack digits {DIGITS} --attack sqare", ("did you mean square",)),
    (f"attack digits {DIGITS} --attack pgd --queries 9", ("--queries", "suture methods")),
    (f"attack digits {DIGITS} --attack deepfool --norm l0", ("norm in", "l0")),
    ("audit digits --data digits --n none", ("a whole number for --n", "'none'")),
    ("audit digits --data digits --n 0", ("at least 1 for --n",)),
    (f"audit digits {DIGITS} --batch-size 0", ("at least 1 for --batch-size",)),
    (f"audit digits {DIGITS} --tier thorough", ("quick", "standard", "deep", "thorough")),
    (f"repair digits {DIGITS}", ("an option", "--n")),
    ("repair digits --data digits --method defensin", ("did you mean defensyn",)),
    ("repair digits --data digits --set temperature", ("--set field=value",)),
    ("repair digits --data digits --temperatur hot", ("temperature", "'hot'", "float")),
    ("train digits_cnn --data digits --epochs many", ("epochs", "'many'", "whole number")),
    ("train digits_cnn --data digits --lr -1", ("lr", "-1")),
    ("slice digits --data digits --class zebra", ("a class from 0 to 9", "'zebra'")),
    (f"evaluate digits {DIGITS} --protocol papr", ("paper", "adaptive", "papr")),
    # where it runs, and what is written
    (f"audit digits {DIGITS} --device gpu", ("--device", "'gpu'", "cpu")),
    (f"audit digits {DIGITS} --engine threads", ("inline", "processes", "ray")),
    (f"audit digits {DIGITS} --workers 4", ("--engine processes",)),
    (f"audit digits {DIGITS} --out full", ("a new or empty folder", "--out")),
    (f"audit digits {DIGITS} --out text.txt", ("text.txt", "--out")),
    ("export digits --out there.onnx", ("no file at there.onnx", "--force")),
    ("export digits --out net.bin", (".onnx or .pt2", "--to onnx")),
    ("export digits --out net.onnx --to onxx", ("onnx, pt2, bundle", "'onxx'")),
    ("export own:make --out net.onnx", ("--trust-code",)),
    ("export digits --out net.onnx --part encoder", ("a part out of", "--part")),
    ("export state.pt --out net.onnx", ("weights alone",)),
    # the command line itself
    ("adit digits --data digits", ("did you mean audit", "suture --help")),
    ("audit digits", ("--data", "got nothing", "For example")),
    ("audit --data digits", ("MODEL", "got nothing", "For example")),
    ("audit digits digits", ("--data", "got nothing")),
    ("audit digits mnist --data digits", ("no more words", "mnist")),
    (f"audit digits {DIGITS} --espilon 0.1", ("the unknown option '--espilon'", "--help")),
    ("audit digits --data", ("--data", "got nothing")),
    ("runs shwo", ("did you mean show",)),
    ("runs show digits", ("a run folder", "suture command has written")),
    ("resume folder", ("a run folder",)),
    ("report folder", ("folder",)),
    ("methods defensin", ("did you mean defensyn",)),
    ("bench vncomp", ("did you mean vnncomp",)),
    ("certify digits", ("certificates", "--data")),
    ("certify digits --data digits --method deeppoly", ("crown", "'deeppoly'")),
    ("data show", ("NAME", "got nothing")),
]

TORCH = re.compile(
    r"weights_only|RuntimeError|ValueError|Given groups|mat1 and mat2|Expected one of cpu"
    r"|not compiled|privateuse|size mismatch|Traceback|torch\.serialization|Input should be"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newcomer")
    wrong_files.write(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("words", "pieces"), TABLE, ids=[words for words, _ in TABLE])
def test_a_wrong_input_is_answered(suture: Suture, place: Path, monkeypatch, words, pieces):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    answer = suture(*words.split())
    assert answer.status == 2 and answer.out == "", answer
    assert re.fullmatch(r"error: expected .+; got .+\. .+\n", answer.err), answer.err
    for piece in pieces:
        assert piece in answer.err, answer.err
    assert not TORCH.search(answer.err), answer.err
    after = [path for path in sorted(place.rglob("*")) if "__pycache__" not in path.parts]
    assert set(after) == set(before), "nothing is left behind"


def test_there_are_fifty():
    assert len({words for words, _ in TABLE}) == len(TABLE) >= 50
