"""The importer on small made-up graphs: each operator against onnxruntime, and what is refused."""

import contextlib

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from suture import models
from suture.errors import ModelError

RNG = np.random.default_rng(0)


def _weight(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _save(path, nodes, weights=(), *, shape=("N", 3, 8, 8), opset=17, out=("N", "k"), **changes):
    """A file whose input is "x" and whose output is "y"."""
    initial = [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(weights).items()]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", changes.get("kind", TensorProto.FLOAT), shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path


def _node(kind, inputs, output="y", **attributes):
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


FLAT = _node("Flatten", "h")
I64 = np.int64

# name: (nodes, weights, opset)
CASES = {
    "conv, one-sided pads, groups": (
        [_node("Conv", "x w b", "h", pads=[1, 0, 0, 2], strides=[2, 1], group=3), FLAT],
        {"w": _weight(6, 1, 3, 3), "b": _weight(6)}, 17),
    "conv, SAME_UPPER": (
        [_node("Conv", "x w", "h", auto_pad="SAME_UPPER", strides=[2, 2]), FLAT],
        {"w": _weight(4, 3, 3, 3)}, 17),
    "conv, SAME_LOWER": (
        [_node("Conv", "x w", "h", auto_pad="SAME_LOWER"), FLAT],
        {"w": _weight(4, 3, 2, 2)}, 17),
    "conv, bias as an addition": (
        [_node("Conv", "x w", "a"), _node("Add", "a b", "h"), FLAT],
        {"w": _weight(4, 3, 3, 3), "b": _weight(4, 1, 1)}, 17),
    "gemm, alpha, beta, no transposition": (
        [_node("Flatten", "x", "a"), _node("Gemm", "a w b", alpha=0.5, beta=2.0)],
        {"w": _weight(192, 5), "b": _weight(1, 5)}, 17),
    "gemm, scalar bias, transposed": (
        [_node("Flatten", "x", "a"), _node("Gemm", "a w b", transB=1)],
        {"w": _weight(5, 192), "b": np.float32(0.7)}, 17),
    "matmul and addition": (
        [_node("Flatten", "x", "a"), _node("MatMul", "a w", "h"), _node("Add", "b h")],
        {"w": _weight(192, 5), "b": _weight(5)}, 17),
    "matmul used twice, one with a bias": (
        [_node("Flatten", "x", "a"), _node("MatMul", "a w", "h"), _node("Add", "b h", "g"),
         _node("Mul", "g h")],
        {"w": _weight(192, 5), "b": _weight(5)}, 17),
    "max pooling, ceil, one-sided pads": (
        [_node("MaxPool", "x", "a", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
         _node("MaxPool", "a", "h", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), FLAT], {}, 17),
    "average pooling, padded": (
        [_node("AveragePool", "x", "h", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), FLAT], {}, 17),
    "average pooling, pads counted": (
        [_node("AveragePool", "x", "h", kernel_shape=[3, 3], pads=[1, 1, 1, 1],
               count_include_pad=1), FLAT], {}, 17),
    "global pooling": (
        [_node("GlobalAveragePool", "x", "a"), _node("GlobalMaxPool", "x", "b"),
         _node("Concat", "a b", "h", axis=1), FLAT], {}, 17),
    "batch norm": (
        [_node("BatchNormalization", "x s b m v", "h", epsilon=1e-3), FLAT],
        {"s": _weight(3), "b": _weight(3), "m": _weight(3), "v": np.abs(_weight(3)) + 1}, 17),
    "layer norm": (
        [_node("LayerNormalization", "x s b", "h", axis=-2, epsilon=1e-4), FLAT],
        {"s": _weight(8, 8), "b": _weight(8, 8)}, 17),
    "activations": (
        [_node("LeakyRelu", "x", "a", alpha=0.2), _node("Elu", "a", "b", alpha=0.5),
         _node("Tanh", "b", "c"), _node("Softplus", "c", "d"), _node("Selu", "d", "e"),
         _node("HardSwish", "e", "h"), FLAT], {}, 17),
    "gelu written out": (
        [_node("Div", "x r", "a"), _node("Erf", "a", "b"), _node("Add", "b one", "c"),
         _node("Mul", "x c", "d"), _node("Mul", "d half", "h"), FLAT],
        {"r": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}, 17),
    "clip to constants": (
        [_node("Clip", "x lo hi", "h"), FLAT],
        {"lo": np.float32(0.2), "hi": np.float32(0.6)}, 17),
    "clip from below, old": ([_node("Clip", "x", "h", min=0.4), FLAT], {}, 9),
    "constants on the left": (
        [_node("Sub", "c x", "a"), _node("Mul", "c a", "b"), _node("Neg", "b", "h"), FLAT],
        {"c": _weight(3, 1, 1)}, 17),
    "two live operands": (
        [_node("Sigmoid", "x", "a"), _node("Sub", "x a", "b"), _node("Div", "b a", "c"),
         _node("Mul", "c x", "h"), FLAT], {}, 17),
    "pad channels and sides": (
        [_node("Pad", "x p v", "h"), FLAT],
        {"p": np.array([0, 1, 0, 2, 0, 2, 1, 0], I64), "v": np.float32(0.5)}, 17),
    "slice with steps": (
        [_node("Slice", "x s e a t", "h"), FLAT],
        {"s": np.array([1, 0], I64), "e": np.array([3, 8], I64), "a": np.array([1, 3], I64),
         "t": np.array([1, 2], I64)}, 17),
    "gather one and several": (
        [_node("Gather", "x i", "a", axis=1), _node("Gather", "a j", "h", axis=2), FLAT],
        {"i": np.array(1, I64), "j": np.array([0, 3, 3], I64)}, 17),
    "reductions": (
        [_node("ReduceMean", "x", "a", axes=[2, 3], keepdims=0),
         _node("ReduceMax", "x", "b", axes=[2, 3], keepdims=0),
         _node("ReduceMin", "x", "c", axes=[-1, -2], keepdims=0),
         _node("Concat", "a b c", "y", axis=1)], {}, 13),
    "squeeze and unsqueeze": (
        [_node("ReduceSum", "x ax", "a", keepdims=1), _node("Squeeze", "a ax", "b"),
         _node("Unsqueeze", "b u", "c"), _node("Flatten", "c")],
        {"ax": np.array([2], I64), "u": np.array([1, -1], I64)}, 17),
    "softmax over channels, new": ([_node("Softmax", "x", "h", axis=1), FLAT], {}, 13),
    "reshape by a computed target": (
        [_node("Shape", "x", "s"), _node("Gather", "s z", "n"), _node("Unsqueeze", "n z1", "n1"),
         _node("Concat", "n1 rest", "t", axis=0), _node("Reshape", "x t")],
        {"z": np.array(0, I64), "z1": np.array([0], I64), "rest": np.array([-1], I64)}, 17),
    "reshape that moves the batch axis and back": (
        [_node("Transpose", "x", "a", perm=[1, 0, 2, 3]), _node("Reshape", "a t", "b"),
         _node("Relu", "b", "c"), _node("Transpose", "c", "d", perm=[1, 0, 2]),
         _node("Flatten", "d")], {"t": np.array([3, -1, 64], I64)}, 17),
    "attention": (
        [_node("Reshape", "x t", "a"), _node("Transpose", "a", "b", perm=[0, 2, 1]),
         _node("MatMul", "a b", "c"), _node("Softmax", "c", "d", axis=-1),
         _node("MatMul", "d a", "e"), _node("Flatten", "e")],
        {"t": np.array([0, 3, 64], I64)}, 17),
    "constant matrix on the left": (
        [_node("MatMul", "w x", "h"), FLAT], {"w": _weight(2, 8)}, 17),
    "powers and roots": (
        [_node("Abs", "x", "a"), _node("Sqrt", "a", "b"), _node("Pow", "b p", "c"),
         _node("Exp", "c", "h"), FLAT], {"p": np.float32(3)}, 17),
}  # fmt: skip


def _run(path, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    return session.run(None, {"x": images.numpy()})[0]


@pytest.mark.parametrize("name", CASES)
def test_operator_agrees_with_onnxruntime(name, tmp_path, rand):
    nodes, weights, opset = CASES[name]
    path = _save(tmp_path / "net.onnx", nodes, weights, opset=opset)
    images = rand(5, 3, 8, 8)
    got = models.load(path)(images).detach().numpy()
    np.testing.assert_allclose(got, _run(path, images), rtol=1e-5, atol=1e-5)


def test_biases_join_their_layers(tmp_path):
    nodes, weights, _ = CASES["matmul and addition"]
    model = models.load(_save(tmp_path / "net.onnx", nodes, weights))
    assert [type(m).__name__ for m in model] == ["Flatten", "Linear"]
    np.testing.assert_array_equal(model[1].bias.detach().numpy(), weights["b"])


def test_permutations_that_cancel_disappear(tmp_path, rand):
    nodes = [_node("Transpose", "x", "a", perm=[0, 3, 1, 2]), _node("Conv", "a w", "h"), FLAT]
    path = _save(tmp_path / "net.onnx", nodes, {"w": _weight(2, 3, 3, 3)}, shape=("N", 8, 8, 3))
    model = models.load(path)
    assert [type(m).__name__ for m in model] == ["Conv2d", "Flatten"]
    assert models.spec_of(model)["layout"] == "hwc"
    images = rand(4, 3, 8, 8)
    expected = _run(path, images.permute(0, 2, 3, 1).contiguous())
    np.testing.assert_allclose(model(images).detach().numpy(), expected, atol=1e-5)


def test_a_fixed_batch_of_one_becomes_any(tmp_path, rand):
    nodes = [_node("Reshape", "x t", "a"), _node("Relu", "a", "b"), _node("Reshape", "b u")]
    weights = {"t": np.array([1, 24, 8], I64), "u": np.array([1, -1], I64)}
    path = _save(tmp_path / "net.onnx", nodes, weights, shape=(1, 3, 8, 8), out=(1, 192))
    images = rand(7, 3, 8, 8)
    assert torch.equal(models.load(path)(images), images.flatten(1))


@pytest.mark.parametrize("layout", ["chw", "hwc"])
def test_flat_input_needs_a_shape_and_obeys_the_layout(layout, tmp_path, rand):
    weights = {"w": _weight(192, 4)}
    path = _save(tmp_path / "net.onnx", [_node("MatMul", "x w")], weights, shape=("N", 192))
    with pytest.raises(ModelError, match="in_shape"):
        models.load(path)
    model = models.load(path, in_shape=(3, 8, 8), layout=layout, mean=[0.5], std=[0.25])
    images = rand(4, 3, 8, 8)
    moved = (images - 0.5) / 0.25
    flat = (moved.permute(0, 2, 3, 1) if layout == "hwc" else moved).reshape(4, -1)
    expected = flat.numpy() @ weights["w"]
    np.testing.assert_allclose(model(images).detach().numpy(), expected, rtol=1e-5, atol=1e-4)


def test_unsupported_operator_is_named(tmp_path):
    nodes = [helper.make_node("Det", ["x"], ["h"], name="odd one"), FLAT]
    path = _save(tmp_path / "net.onnx", nodes)
    with pytest.raises(ModelError, match="operator 'Det' in node 'odd one'"):
        models.load(path)


REFUSED = {
    "two images mixed": [_node("Reshape", "x t", "h"), FLAT],
    "the mean over the batch": [_node("ReduceMean", "x", "h", axes=[0], keepdims=1), FLAT],
    "a slice of the batch": [_node("Slice", "x s e", "h"), FLAT],
    "weights computed from the images": [
        _node("Flatten", "x", "a"),
        _node("Gemm", "a a", transB=1),
    ],
    "a constant output": [_node("Identity", "w")],
    "a cast to integers": [_node("Cast", "x", "a", to=7), _node("Cast", "a", "h", to=1), FLAT],
}


@pytest.mark.parametrize("name", REFUSED)
def test_graphs_that_do_not_treat_images_one_by_one(name, tmp_path):
    weights = {"t": np.array([1, -1], I64), "s": np.array([0], I64), "e": np.array([1], I64)}
    path = _save(tmp_path / "net.onnx", REFUSED[name], {**weights, "w": _weight(2, 2)}, opset=13)
    with pytest.raises(ModelError):
        models.load(path)


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    nodes = [_node("ConstantOfShape", "big", "c"), _node("Add", "x c", "h"), FLAT]
    path = _save(tmp_path / "net.onnx", nodes, {"big": np.array([1 << 20, 1 << 20], I64)})
    with pytest.raises(ModelError, match="1048576"):
        models.load(path)


def test_nan_weights_are_named(tmp_path):
    weight = _weight(192, 4)
    weight[3, 2] = np.nan
    path = _save(tmp_path / "n.onnx", [_node("Flatten", "x", "a"), _node("MatMul", "a w")],
                 {"w": weight})  # fmt: skip
    with pytest.raises(ModelError, match="NaN in layer 'linear1'"):
        models.load(path)


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\x08\x08\x12"])
def test_files_that_are_not_onnx(content, tmp_path):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError):
        models.load(tmp_path / "net.onnx")


@pytest.mark.parametrize("flip", range(20, 400, 61))
def test_a_damaged_file_loads_or_is_a_model_error(flip, tmp_path):
    nodes, weights, _ = CASES["gemm, alpha, beta, no transposition"]
    path = _save(tmp_path / "net.onnx", nodes, weights)
    content = bytearray(path.read_bytes())
    content[-flip] ^= 0x55
    path.write_bytes(bytes(content))
    with contextlib.suppress(ModelError):
        models.load(path)


def _external(tmp_path, location: str):
    nodes, weights = [_node("Flatten", "x", "a"), _node("MatMul", "a w")], {"w": _weight(192, 4)}
    path = _save(tmp_path / "net.onnx", nodes, weights)
    model = onnx.load(path)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location)
    content = model.graph.initializer[0].raw_data
    model.graph.initializer[0].ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    return path, content, weights["w"]


def test_external_data_in_the_same_folder_travels_into_the_bundle(tmp_path, rand):
    path, content, weight = _external(tmp_path, "net.data")
    (tmp_path / "net.data").write_bytes(content)
    model = models.load(path)
    np.testing.assert_array_equal(model[1].weight.detach().numpy(), weight.T)
    models.save(model, tmp_path / "bundle")
    path.unlink()
    (tmp_path / "net.data").unlink()
    images = rand(2, 3, 8, 8)
    assert torch.equal(models.load(tmp_path / "bundle")(images), model(images))


@pytest.mark.parametrize("kind", ["up", "absolute", "link", "missing"])
def test_external_data_elsewhere_is_never_read(kind, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    secret = tmp_path / "secret.data"
    location = {"up": "../secret.data", "absolute": str(secret)}.get(kind, "net.data")
    path, content, _ = _external(inner, location)
    secret.write_bytes(content)
    if kind == "link":
        (inner / "net.data").symlink_to(secret)
    with pytest.raises(ModelError, match="external data"):
        models.load(path)
