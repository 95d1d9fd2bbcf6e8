"""What a machine allows one run: memory, cores, and a device, as an executor offers them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psutil

from bigsvd.devices import bfloat16
from bigsvd.devices.base import Device
from bigsvd.devices.choose import choose_device
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import travels
from bigsvd.facts import Machine
from bigsvd.request import Request

_BUDGET_SHARE = 0.5  # of the memory that is free, unless a run is told; others may need the rest
_DEVICE_SHARE = 0.8  # of what is free of a GPU's memory, unless a run is told; others may need the rest
_LANES_ON_DEVICE = 4  # at a time: while one waits for its products or its disk, others go on


@dataclass(frozen=True)
class Offer:
    """A machine that an executor has for a run, and the device that multiplies there."""

    machine: Machine
    device: Device

    def because(self, reason: str) -> Offer:
        """The same, with another reason why its device is taken."""
        return replace(self, machine=replace(self.machine, device_reason=reason))


@dataclass(frozen=True)
class DeviceOffer:
    """A device of one process, why that, its free bytes, and what tells it from other devices."""

    device: Device
    reason: str
    free_bytes: int
    identity: str

    def granted(self, asked: int | None = None) -> int:
        """Bytes of its own memory that a run may take: what is asked for, of what is free."""
        return min(asked or int(_DEVICE_SHARE * self.free_bytes), self.free_bytes)


def on_cpu(reason: str) -> DeviceOffer:
    """The cores, which every process has."""
    return DeviceOffer(CpuDevice(), reason, 0, "")


@travels
def device_here(asked: Literal["auto", "cpu", "gpu"]) -> DeviceOffer:
    """The device of this process, which may be a worker's."""
    device, reason = choose_device(asked)
    return DeviceOffer(device, reason, device.free_bytes(), device.identity())


@travels
def rough_dtypes_here() -> tuple[str, ...]:
    """Precisions below float32 in which the cores of this process, which may be a worker's, can multiply."""
    return (bfloat16.NAME,) if bfloat16.is_installed() else ()


def best_first(request: Request, found: DeviceOffer) -> list[DeviceOffer]:
    """The device that was found; after a GPU that nobody insists on, the cores."""
    if found.device.has_own_memory and request.device == "auto":
        return [found, on_cpu("asked for")]
    return [found]


def offer_of(
    request: Request,
    budget_bytes: int,
    cores: int,
    found: DeviceOffer,
    rough_dtypes: tuple[str, ...] = (),
) -> Offer:
    """A machine with so many cores. On a GPU few lanes run at a time, and the cores read for them.

    `rough_dtypes`: see `Machine`; of the cores.
    """
    device = found.device
    if not device.has_own_memory:
        machine = Machine(budget_bytes, cores, device.name, found.reason, rough_dtypes=rough_dtypes)
        return Offer(machine, device)
    lanes = min(cores, _LANES_ON_DEVICE)
    machine = Machine(
        budget_bytes=budget_bytes,
        threads=lanes,
        device=device.name,
        device_reason=found.reason,
        has_own_memory=True,
        device_budget_bytes=found.granted(request.device_memory),
        device_free_bytes=found.free_bytes,
        readers=cores // lanes,
    )
    return Offer(machine, device)


# A control group's limits, its use, and the part of that which is files, by version of the interface.
_GROUP_FILES = (
    (("memory.max", "memory.high"), "memory.current", ("active_file", "inactive_file")),
    (("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
)


def budget_here() -> int:
    """Bytes that a run in this process may hold unless it is told."""
    return int(_BUDGET_SHARE * available_memory())


def available_memory(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may still take, on this machine and within its control groups (Linux).

    What holds files that can be read again counts as free. (psutil knows no control groups, and distributed
    the topmost alone, which outside a container is not that of a Slurm job or a systemd service.)
    """
    free = int(psutil.virtual_memory().available)
    for folder in _control_groups(groups, mounted):
        for limits, used, files in _GROUP_FILES:
            known = [limit for name in limits if (limit := _number(folder / name)) is not None]
            taken = _number(folder / used)
            if known and taken is not None:
                free = min(free, min(known) - taken + _of_files(folder / "memory.stat", files))
    return max(0, free)


def _number(file: Path) -> int | None:
    """What a file of one number says; None where it is not there, or says "max"."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _of_files(stat: Path, names: tuple[str, ...]) -> int:
    """The sum of these lines; 0 of a file that cannot be read."""
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
    except OSError:
        return 0
    return sum(int(words[1]) for words in lines if len(words) == 2 and words[0] in names)


def _control_groups(groups: Path, mounted: Path) -> Iterator[Path]:
    """Folders of the groups that limit this process's memory, and of those that these are in."""
    try:
        lines = groups.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        top = mounted / "memory" if controllers else mounted
        folder = top / path.strip("/")
        yield folder
        yield from (parent for parent in folder.parents if parent.is_relative_to(top))
