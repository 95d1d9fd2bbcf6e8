"""Every deliberate exception: a stable code, what is wrong with both numbers, and what to do.

An error prints on one line as ``error[E_CODE]: what is wrong; what to do``. `exit_status` is the command
line's exit code: 2 for input the user can correct, 3 for a run that failed.
"""

from __future__ import annotations

from typing import ClassVar


def first_line(error: BaseException) -> str:
    """What another library's exception says, in one line; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class BigsvdError(Exception):
    """A failure with a code, a message and a remedy; survives pickling across Dask workers."""

    code: ClassVar[str] = "E_BIGSVD"
    exit_status: ClassVar[int] = 3

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return " ".join(f"error[{self.code}]: {self.message}; {self.remedy}".splitlines())


class BadInputError(BigsvdError):
    """The request or the data cannot be used as they are; nothing was computed."""

    code = "E_INPUT"
    exit_status = 2


class RequestError(BadInputError):
    """An option has a value that means nothing, or two options contradict each other."""

    code = "E_REQUEST"


class RankError(BadInputError):
    """`k` is not an integer in 1..min(m, n)."""

    code = "E_K"


class RankZeroError(BadInputError):
    """``k="auto"`` found nothing above the noise."""

    code = "E_RANK_ZERO"


class ShapeError(BadInputError):
    """The input is not a matrix with at least one entry."""

    code = "E_SHAPE"


class DtypeError(BadInputError):
    """The input's element type has no supported arithmetic."""

    code = "E_DTYPE"


class SourceError(BadInputError):
    """The input cannot be found or is not something bigsvd can read."""

    code = "E_SOURCE"


class MetadataError(BadInputError):
    """The input's Zarr metadata cannot be understood."""

    code = "E_METADATA"


class ChunkMissingError(BadInputError):
    """Chunks of the input do not exist in its store."""

    code = "E_CHUNK_MISSING"


class ChunkCorruptError(BadInputError):
    """A chunk exists but cannot be decoded."""

    code = "E_CHUNK_CORRUPT"


class NonFiniteError(BadInputError):
    """The input has NaN or infinite entries."""

    code = "E_NONFINITE"


class PlanError(BadInputError):
    """A saved plan does not describe this source or request."""

    code = "E_PLAN"


class MemoryBudgetError(BadInputError):
    """The work does not fit the memory budget; refused before the first byte is read."""

    code = "E_MEMORY"


class DeviceError(BadInputError):
    """The asked-for device cannot be used."""

    code = "E_DEVICE"


class OutputExistsError(BadInputError):
    """The output already holds something and `overwrite` was not given."""

    code = "E_OUTPUT_EXISTS"


class FactorStoreError(BadInputError):
    """A path is not a published factor store, or the store is damaged."""

    code = "E_FACTORS"


class OutputBusyError(BigsvdError):
    """Another run holds the same output."""

    code = "E_OUTPUT_BUSY"


class SourceChangedError(BigsvdError):
    """The input changed between two passes."""

    code = "E_SOURCE_CHANGED"


class StorageError(BigsvdError):
    """Reading or writing a store failed: full disk, I/O error, permission."""

    code = "E_STORAGE"


class VerifyError(BigsvdError):
    """A factor store does not hold what its certificate promises."""

    code = "E_VERIFY"


class NoWorkersError(BigsvdError):
    """The cluster has had no workers for longer than the limit."""

    code = "E_NO_WORKERS"
