"""Which device a request gets."""

from __future__ import annotations

from typing import Literal

from bigsvd.devices.base import Device
from bigsvd.devices.cpu import CpuDevice
from bigsvd.devices.cuda import find_gpu
from bigsvd.errors import DeviceError


def choose_device(asked: Literal["auto", "cpu", "gpu"]) -> tuple[Device, str]:
    """The device for a request and why, in words; `DeviceError` if a GPU was asked for and none works."""
    if asked == "cpu":
        return CpuDevice(), "asked for"
    gpu, reason = find_gpu()
    if gpu is not None:
        return gpu, "asked for" if asked == "gpu" else reason
    if asked == "gpu":
        raise DeviceError(
            f"device='gpu' but {reason}", "install the gpu extra on a machine with a GPU, or use device='cpu'"
        )
    return CpuDevice(), reason
