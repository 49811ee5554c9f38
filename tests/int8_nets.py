"""Networks of 8-bit integers, as python:int8_nets:FACTORY and as an ONNX file."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn


class Net(nn.Module):
    """A convolution and a linear layer, with the stubs of static quantisation around them."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.quant, self.dequant = torch.ao.quantization.QuantStub(), nn.Identity()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(8), nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(32, 10)
        self.dequant = torch.ao.quantization.DeQuantStub()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.conv(self.quant(x))))
        return self.dequant(self.head(torch.flatten(self.pool(x), 1)))


def static(channels: int = 3) -> nn.Module:
    """Weights and activations of 8 bits, for whichever library this CPU has."""
    tools = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is to move to another package
        net = tools.fuse_modules(Net(channels).eval(), [["conv", "norm", "relu"]])
        net.qconfig = tools.get_default_qconfig(torch.backends.quantized.engine)
        tools.prepare(net, inplace=True)
        generator = torch.Generator().manual_seed(1)
        net(torch.rand(8, channels, 32, 32, generator=generator))
        return tools.convert(net)


def grey() -> nn.Module:
    """Of one channel."""
    return static(1)


def dynamic() -> nn.Module:
    """Linear layers with weights of 8 bits, and activations quantised as they come."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 16), nn.ReLU(), nn.Linear(16, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(net.eval(), {nn.Linear}, dtype=torch.qint8)


class Rounded(nn.Module):
    """The float network with activations rounded to 8 bits: QuantizeLinear, DequantizeLinear."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.net.quant = self.net.dequant = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.net(torch.fake_quantize_per_tensor_affine(x, 1 / 255, 0, 0, 255))
        return torch.fake_quantize_per_tensor_affine(x, 0.01, 0, -128, 127)


def onnx_file(file: Path, net: nn.Module, *, free: bool = True) -> Path:
    """Write a network of 32 x 32 images, for any number of them or for one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter needs no further package
        torch.onnx.export(
            net.eval(),
            (torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)),),
            str(file),
            dynamo=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "n"}} if free else None,
        )
    return file
