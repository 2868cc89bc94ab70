"""The zoo's residual networks for 32×32 images; any image size works (global average pooling)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

Shape = tuple[int, int, int]


def _conv3(cin: int, cout: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """ReLU(norm(conv(ReLU(norm(conv(x))))) + shortcut(x)) (He et al. 2016, Figure 2)."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv3(cin, cout, stride), nn.BatchNorm2d(cout)
        self.conv2, self.norm2 = _conv3(cout, cout), nn.BatchNorm2d(cout)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or cin != cout:
            project = nn.Conv2d(cin, cout, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        """``(n, cin, h, w)`` to ``(n, cout, h / stride, w / stride)``."""
        inner = self.relu1(self.norm1(self.conv1(x)))
        return self.relu2(self.norm2(self.conv2(inner)) + self.shortcut(x))


class WideBlock(nn.Module):
    """Pre-activation block of Wide-ResNet (Zagoruyko & Komodakis 2016, Figure 1c)."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(cin), _conv3(cin, cout, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(cout), _conv3(cout, cout)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        same = stride == 1 and cin == cout
        self.shortcut = None if same else nn.Conv2d(cin, cout, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, cin, h, w)`` to ``(n, cout, h / stride, w / stride)``."""
        active = self.relu1(self.norm1(x))
        inner = self.conv2(self.relu2(self.norm2(self.conv1(active))))
        return inner + (x if self.shortcut is None else self.shortcut(active))


def _group(block: type[nn.Module], cin: int, cout: int, stride: int, count: int) -> nn.Sequential:
    first = block(cin, cout, stride)
    return nn.Sequential(first, *(block(cout, cout, 1) for _ in range(count - 1)))


def resnet18(in_shape: Shape, classes: int) -> OrderedDict[str, nn.Module]:
    """ResNet-18 for 32×32 images: 3×3 stem without pooling, groups of 64, 128, 256, 512."""
    stem = nn.Sequential(_conv3(in_shape[0], 64), nn.BatchNorm2d(64), nn.ReLU())
    widths = (64, 64, 128, 256, 512)
    groups = {
        f"group{i}": _group(BasicBlock, widths[i - 1], widths[i], 1 if i == 1 else 2, 2)
        for i in range(1, 5)
    }
    return OrderedDict(stem=stem, **groups, **_tail(512, classes))


def wrn28_4(in_shape: Shape, classes: int) -> OrderedDict[str, nn.Module]:
    """Wide-ResNet-28-4 (about 5.8 M parameters): three groups of four blocks, 64-128-256."""
    widths = (16, 64, 128, 256)
    groups = {
        f"group{i}": _group(WideBlock, widths[i - 1], widths[i], 1 if i == 1 else 2, 4)
        for i in range(1, 4)
    }
    stem, norm = _conv3(in_shape[0], 16), nn.BatchNorm2d(256)
    return OrderedDict(stem=stem, **groups, norm=norm, relu=nn.ReLU(), **_tail(256, classes))


def _tail(width: int, classes: int) -> dict[str, nn.Module]:
    return {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(width, classes),
    }
