"""Every deliberate exception: it has a stable code, says what is wrong with both numbers, and what to do.

An error prints on one line as ``error[E_CODE]: what is wrong; what to do``. `exit_status` is the command
line's exit code: 2 for input the user can correct, 3 for a run that failed, 4 for a result that misses its
tolerance.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import wraps
from typing import ClassVar, ParamSpec, TypeVar

from bigsvd.floats import silent

# Characters of another library's text that an error keeps. Dask cuts the text of an exception at 10,000; this
# limit is chosen, not measured, to stay well below that.
_MOST_TEXT = 2000
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or the name of its type if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class BigsvdError(Exception):
    """A failure with a code, a message and a remedy; survives pickling across Dask workers.

    `infrastructure`: neither the data nor the request is the cause, and a new attempt may succeed.
    """

    code: ClassVar[str] = "E_BIGSVD"
    exit_status: ClassVar[int] = 3
    infrastructure: ClassVar[bool] = False

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return " ".join(f"error[{self.code}]: {self.message}; {self.remedy}".splitlines())

    def __reduce__(self) -> tuple[type[BigsvdError], tuple[str, str]]:
        return type(self), (self.message, self.remedy)


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


class DynamicRangeError(BadInputError):
    """Columns that are to be scaled vary too little beside the others for float64 to hold the squares."""

    code = "E_RANGE"


class PlanError(BadInputError):
    """A saved plan does not describe this source or request."""

    code = "E_PLAN"


class MemoryBudgetError(BadInputError):
    """The work does not fit the memory budget; refused before the first byte is read."""

    code = "E_MEMORY"


class DeviceError(BadInputError):
    """The asked-for device cannot be used."""

    code = "E_DEVICE"


class VersionsError(BadInputError):
    """A worker of the cluster computes with another version of a library than this process."""

    code = "E_VERSIONS"


class OutputExistsError(BadInputError):
    """The output already holds something and `overwrite` was not given."""

    code = "E_OUTPUT_EXISTS"


class FactorStoreError(BadInputError):
    """A path is not a published factor store, or the store is damaged."""

    code = "E_FACTORS"


class ColumnsError(BadInputError):
    """New data do not have the columns that a student was learnt from."""

    code = "E_COLUMNS"


class TeacherError(BadInputError):
    """Factors cannot teach a student: their data are not at hand, or they are of no use for new samples."""

    code = "E_TEACHER"


class StoppedError(BigsvdError):
    """Somebody has stopped the run before it had anything to publish; it can be continued."""

    code = "E_INTERRUPTED"


class OutputBusyError(BigsvdError):
    """Another run holds the same output."""

    code = "E_OUTPUT_BUSY"


class SourceChangedError(BigsvdError):
    """The input changed between two passes."""

    code = "E_SOURCE_CHANGED"


class StorageError(BigsvdError):
    """Reading or writing a store failed: full disk, I/O error, permission."""

    code = "E_STORAGE"
    infrastructure = True


class DamagedScratchError(StorageError):
    """A part of scratch is not what was written, as after a power cut; it is removed, to be made again."""


class NotConvergedError(BigsvdError):
    """With ``--strict``: the result is published and valid, and misses the tolerance that was asked for."""

    code = "E_NOT_CONVERGED"
    exit_status = 4


class VerifyError(BigsvdError):
    """A factor store does not hold what its certificate promises."""

    code = "E_VERIFY"


class NoWorkersError(BigsvdError):
    """The cluster has had no workers for longer than the limit."""

    code = "E_NO_WORKERS"
    infrastructure = True


class SupersededError(BigsvdError):
    """Another run has taken over what this one was doing, which writes nothing more."""

    code = "E_SUPERSEDED"


class JobError(BadInputError):
    """There is no such job, or it is not in a state for what is asked of it."""

    code = "E_JOB"


class JobLostError(BigsvdError):
    """A job's driver has ended or gone silent before the job had; it can be resumed."""

    code = "E_INTERRUPTED"


class CancelledError(BigsvdError):
    """Somebody has cancelled the job."""

    code = "E_CANCELLED"


class RuntimeLimitError(BigsvdError):
    """The job has not ended within the time that it was given, or that somebody would wait."""

    code = "E_TIMEOUT"


class ClusterBusyError(BigsvdError):
    """The run was stopped while it waited for others on its cluster; nothing was computed."""

    code = "E_CLUSTER_BUSY"


# The service


class AuthError(BadInputError):
    """Nobody knows who asks: there is no token, or it is wrong, has run out or was revoked."""

    code = "E_AUTH"


class CrowdedError(BigsvdError):
    """The server has as many connections as it may have."""

    code = "E_CROWDED"


class DatabaseError(BadInputError):
    """The database of the service cannot be used as it is."""

    code = "E_DATABASE"


class HostError(BadInputError):
    """The server is called by a name that is not its own."""

    code = "E_HOST"


class DiskFullError(StorageError):
    """A disk of the server has no room for anything new."""


class KeyReusedError(BadInputError):
    """The idempotency key belongs to another request."""

    code = "E_KEY_REUSED"


class LinkError(BadInputError):
    """There is no such link: it never was, has run out or was revoked."""

    code = "E_LINK"


class OriginError(BadInputError):
    """The page of another server asks for what only this server's own page may."""

    code = "E_ORIGIN"


class PathError(BadInputError):
    """A path of a request is malformed, or of a kind that this server does not open."""

    code = "E_PATH"


class OutsideRootsError(PathError):
    """A path of a request leads to where this server neither reads nor writes."""


class QuotaError(BadInputError):
    """Whoever asks has as many of these already as they may have."""

    code = "E_QUOTA"


class ScopeError(BadInputError):
    """Whoever asks may not do this."""

    code = "E_SCOPE"


class ServiceError(BigsvdError):
    """A service cannot be reached, or what answers there is none."""

    code = "E_SERVICE"


class SlowError(BadInputError):
    """A request has not arrived whole within the time that it has."""

    code = "E_SLOW"


class StateError(BadInputError):
    """A job or result is not in a state for what is asked of it."""

    code = "E_STATE"


class StateBusyError(BigsvdError):
    """Another server has the state folder."""

    code = "E_STATE_BUSY"


class TokenError(BadInputError):
    """There is no such token."""

    code = "E_TOKEN"


class TooLargeError(BadInputError):
    """What is asked for, or sent, is more than this server answers or takes at a time."""

    code = "E_TOO_LARGE"


class UrlError(BadInputError):
    """A URL of a request is none that this server opens."""

    code = "E_URL"


def by_code(code: str, message: str, remedy: str) -> BigsvdError:
    """The error of that code again, as a record or a service tells of it, of its own class.

    One that this version does not know is a `BigsvdError` whose message names the code.
    """
    kinds = {kind.code: kind for kind in reversed([*_kinds(BigsvdError)])}
    if code in kinds:
        return kinds[code](message, remedy)
    return BigsvdError(f"{message} ({code})", remedy)


def _kinds(kind: type[BigsvdError]) -> Iterator[type[BigsvdError]]:
    """A class of errors and those below it, each before its own."""
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def travels(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Decorates every function that Dask runs in a worker, so that its exceptions arrive as what they were.

    Dask pickles an exception together with its cause, context and attributes. If one of these cannot be
    restored, the driver gets a plain `Exception` with the text of all. The function's arithmetic is silent
    too (see `floats`), however the worker's threads are set.
    """
    calm = silent(function)

    @wraps(function)
    def run(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        try:
            return calm(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - raised again below, as what can travel
            portable = _portable(error)
        raise portable  # outside of `except`, so that it gets no context

    return run


def _portable(error: Exception) -> Exception:
    """The same error without anything that might not survive being pickled."""
    known = _own(error)
    if known is not None:
        return type(known)(known.message[:_MOST_TEXT], known.remedy)
    error.__cause__ = error.__context__ = None
    if _survives(error):
        return error
    said = str(error)[:_MOST_TEXT]
    parts = [first_line(part) for part in getattr(error, "exceptions", ())]
    text = ": ".join([type(error).__name__, said, *parts])
    return BigsvdError(f"a worker failed with {text}", "its log says where; run again to resume")


def _own(error: BaseException) -> BigsvdError | None:
    """The error itself if it is a `BigsvdError`, or the first such error in a group."""
    if isinstance(error, BigsvdError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((own for own in map(_own, error.exceptions) if own is not None), None)
    return None


def _survives(error: Exception) -> bool:
    """Whether pickling and restoring the error gives the same error."""
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own, a line ago
    except Exception:  # noqa: BLE001 - whatever its parts raise, it does not survive
        return False
    return type(again) is type(error) and len(str(error)) <= _MOST_TEXT
