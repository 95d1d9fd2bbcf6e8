"""`train`: a network learns, from the teacher's complete rows, to better the ridge's answer for gaps.

Each epoch draws other gaps for the same rows: the answer to learn is the row of the teacher's U·diag(s),
which no gap changes. Some rows are held out, and the weights that were best on those are kept; the ridge
is the first of the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib import import_module
from typing import Any

import numpy as np

from bigsvd.devices.bfloat16 import threads
from bigsvd.distill.basis import Basis
from bigsvd.distill.lessons import Chapters, Lesson, Lessons, Masks
from bigsvd.distill.network import Array, Network, Shape, Tensor, Whitened, corrections, device_named
from bigsvd.distill.observed import Observed, observe
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Stage
from bigsvd.errors import DamagedScratchError
from bigsvd.events import EpochEnded, Progress, unheard
from bigsvd.scratch import Scratch

FOLDER = "training"  # of scratch, that a killed training goes on from
_RECORDED = ("epochs_done", "error", "best_error", "best_epoch")
_ARRAYS = ("weights", "first", "second", "steps", "best")
_ORDER, _HELD_OUT, _SOME, _COLUMNS = 11, 12, 13, 14  # which random numbers: each purpose has its own
_MOST_COLUMNS = 256  # whose hidden entries intervals are judged by
_FIXED = 2**31  # the epoch whose gaps the held-out rows have, in all epochs
_ROW_BYTES = 16  # of a row's matrices for each entry: G in float64, G and C in float32
_BATCH_COPIES = 5  # of a row's matrices, in float64, while the ridge answers
_WEIGHT_COPIES = 7  # the best, those that are kept, their gradient, two moments, and what Adam makes of them
_TUTOR_ANSWERS = 5  # in full, of a mixture to a row, about
_TUTORED = 0.5  # of what the network is told is the tutor's
_WIDTHS_WEIGH = 0.05  # of the variances' likelihood beside the error of the mean
_MOST_SURPRISE = (
    100.0  # a squared error in units of its variance that counts no more: it is no unit of widths
)
_SPREADS = np.geomspace(1 / 4, 4, 65)  # among which the factor of the covariance is chosen
_MODESTY = 1e-9 * np.abs(np.log(_SPREADS))  # decides between factors that cover alike
_COVERED = 0.9
_NORMAL = 1.6448536269514722  # the half-width of a normal interval that covers 90 %


@dataclass(frozen=True)
class Course:
    """How a network is trained. All of it decides bits, and so does the number of threads.

    Attributes:
        steps, hidden: see `Shape`. epochs: over the rows. rows_per_epoch: no more are drawn, anew each time.
        batch: rows whose gradient is taken together. rate: of learning at first; it falls as a cosine does.
        held_out: share of the rows that are kept for validation, and no more than `most_held_out`.
        patience: epochs without a better validation after which training ends.
        seed: of weights, gaps, order and held-out rows. threads: of torch.
        held_bytes: of rows that are held at a time; those of larger data are read anew in each epoch.

    """

    steps: int = 4
    hidden: int = 256
    epochs: int = 60
    rows_per_epoch: int = 10_000
    batch: int = 64
    rate: float = 3e-3
    held_out: float = 0.1
    most_held_out: int = 1000
    patience: int = 20
    seed: int = 0
    threads: int = 1
    held_bytes: int = 2**28

    def bytes_for(self, samples: int, r: int) -> int:
        """What training holds beside the rows: statistics of those held out and of a batch, and weights."""
        shape = Shape(r, self.steps, self.hidden)
        rows = min(self.most_held_out, math.ceil(self.held_out * samples)) + self.batch
        batch = self.batch * (self.steps * shape.bytes_for(1) + _BATCH_COPIES * 8 * r * r)
        return rows * _ROW_BYTES * r * r + batch + _WEIGHT_COPIES * 4 * shape.numbers

    def flops_for(self, samples: int, n: int, r: int) -> dict[str, float]:
        """Of training, at the most, by the type of the numbers.

        In float64 what is seen of each row, n·r², and the answers to it: the ridge's of 4·r³, and the
        tutor's. In float32 the network, and twice as much for its gradient.
        """
        rows = float(self.epochs * min(samples, self.rows_per_epoch))
        answers = (1 + _TUTOR_ANSWERS) * 4 * r**3
        network = 3 * Shape(r, self.steps, self.hidden).flops
        return {"float64": rows * (n * r**2 + answers), "float32": rows * network}


@dataclass(frozen=True, eq=False)
class Trained:
    """A network, and how it did on the held-out rows.

    Attributes:
        error: Σ λ·(u − u*)²/Σ λ, the mean of squared errors as a share of the variance. ridge: that of
            the ridge. epochs: that were learnt from; 0 where the ridge was never beaten.

    """

    network: Network
    error: float
    ridge: float
    epochs: int


def train(
    basis: Basis,
    lessons: Lessons,
    samples: int,
    masks: Masks,
    course: Course,
    *,
    tutor: Stage | None = None,
    device: str = "cpu",
    scratch: Scratch | None = None,
    progress: Progress = unheard,
) -> Trained:
    """A network that has learnt from the teacher's rows.

    Args:
        basis: whose coordinates are inferred.
        lessons: all rows of the teacher.
        samples: how many these are.
        masks: gaps, as they are expected in new data.
        course: how.
        tutor: a better stage than the ridge, that costs more. The network is then told half of its answer and
            half of the truth: what a row's gaps leave open is less of a noise in what is learnt (Hinton,
            Vinyals & Dean 2015, "Distilling the knowledge in a neural network", sec. 2).
        device: of torch: "cpu", "cuda" or "auto".
        scratch: keeps each epoch; a training that was killed goes on from there with the same bits.
        progress: told of each epoch.

    Raises:
        DeviceError: torch, or the device, is not there.

    """
    device = device_named(device)
    with threads(course.threads):
        taught = _Class(basis, masks, course, device, samples, tutor)
        chapters = Chapters(lessons, course.held_bytes)
        study = _Study(taught, taught.exams(chapters), scratch)
        for epoch in range(study.epochs_done, course.epochs):
            if study.stale:
                break
            study.attend(epoch, chapters)
            progress(EpochEnded(epoch + 1, course.epochs, study.error, study.best_error, study.ridge))
        return study.graduate()


@dataclass(frozen=True, eq=False)
class _Exercise:
    """Rows with gaps, and what is to be found.

    Attributes:
        seen: of the rows. answer: u* (b, r). told: what the network is told that it is, (b, r), see `train`.
        variances: those of the ridge, (b, r) or (1, r).

    """

    seen: Whitened
    answer: Tensor
    told: Tensor
    variances: Tensor


@dataclass(frozen=True, eq=False)
class _Exam:
    """The held-out rows of a panel.

    Attributes:
        observed: what is seen of them. exercise: the same, with the answers.
        columns: numbers of some columns, (c,). values: entries of theirs, (b, c). hidden: which of these are
            not seen, and are known.

    """

    observed: Observed
    exercise: _Exercise
    columns: np.ndarray
    values: np.ndarray
    hidden: np.ndarray


@dataclass(frozen=True, eq=False)
class _Class:
    """What does not change while a network is trained: who teaches, and how exercises are made."""

    basis: Basis
    masks: Masks
    course: Course
    device: str
    samples: int
    tutor: Stage | None

    @property
    def shape(self) -> Shape:
        """Of the network."""
        return Shape(self.basis.r, self.course.steps, self.course.hidden)

    @property
    def rows_per_epoch(self) -> float:
        """As expected."""
        return min(self.samples, self.course.rows_per_epoch) * (1 - self._share_held_out)

    @property
    def _share_held_out(self) -> float:
        return min(self.course.held_out, self.course.most_held_out / self.samples)

    def rate(self, epoch: int, rows: int) -> float:
        """Of learning, after so many rows of an epoch: it falls as a cosine does to 0 at the end."""
        share = (epoch + min(1.0, rows / self.rows_per_epoch)) / self.course.epochs
        return 0.5 * self.course.rate * (1 + math.cos(math.pi * share))

    def random(self, purpose: int, epoch: int, start: int) -> np.random.Generator:
        """Numbers that depend on these alone (Salmon et al. 2011)."""
        return np.random.Generator(np.random.Philox(key=self.course.seed, counter=[0, purpose, epoch, start]))

    def is_held_out(self, rows: Rows) -> np.ndarray:
        """Which rows of a panel are for validation, (b,)."""
        return np.asarray(self.random(_HELD_OUT, 0, rows.start).random(len(rows)) < self._share_held_out)

    def is_drawn(self, rows: Rows, epoch: int) -> np.ndarray:
        """Which rows of a panel are learnt from in an epoch, (b,)."""
        share = self.course.rows_per_epoch / self.samples
        drawn = self.random(_SOME, epoch, rows.start).random(len(rows)) < share
        return np.asarray(drawn & ~self.is_held_out(rows))

    def seen(self, rows: Rows, epoch: int) -> Array:
        """What an epoch shows of a panel, (b, n)."""
        return rows.seen & self.masks.draw(self.course.seed, epoch, rows.start, *rows.seen.shape)

    def exercise(self, observed: Observed, coordinates: np.ndarray, told: np.ndarray) -> _Exercise:
        """From statistics of rows with gaps, the answers, and what is told of them."""
        torch, deviations = import_module("torch"), np.sqrt(self.basis.prior)
        closed = Ridge(self.basis.prior).infer(observed)
        seen = Whitened.of(observed, closed, deviations, self.basis.n, self.device)
        variances = np.diagonal(closed.covariance, axis1=1, axis2=2) / self.basis.prior
        there = partial(torch.tensor, dtype=torch.float32, device=self.device)
        answer, told = there(coordinates / deviations), there(told / deviations)
        return _Exercise(seen, answer, told, there(variances))

    def told(self, observed: Observed, coordinates: np.ndarray) -> np.ndarray:
        """The answers, or half of the way from them to the tutor's."""
        if self.tutor is None:
            return coordinates
        return np.asarray(coordinates + _TUTORED * (self.tutor.infer(observed).mean - coordinates))

    def exercises(self, chapter: list[Lesson], epoch: int, number: int) -> Iterator[_Exercise]:
        """Those of an epoch on a chapter: its rows in an order at random, a batch at a time."""
        seen = [self.seen(lesson.rows, epoch) for lesson in chapter]
        order = self.random(_ORDER, epoch, number).permutation(self._places(chapter, epoch))
        for first in range(0, len(order), self.course.batch):
            yield self._gathered(chapter, seen, order[first : first + self.course.batch])

    def _places(self, chapter: list[Lesson], epoch: int) -> np.ndarray:
        """The rows that are learnt from: number of the lesson, and of the row there, (rows, 2)."""
        drawn = [np.flatnonzero(self.is_drawn(lesson.rows, epoch)) for lesson in chapter]
        lessons = np.repeat(np.arange(len(chapter)), [len(rows) for rows in drawn])
        return np.stack([lessons, np.concatenate(drawn)], 1)

    def _gathered(self, chapter: list[Lesson], seen: list[np.ndarray], places: np.ndarray) -> _Exercise:
        """These rows in one exercise."""
        shown = np.stack([seen[lesson][row] for lesson, row in places])
        values = np.stack([chapter[lesson].rows.values[row] for lesson, row in places])
        answers = np.stack([chapter[lesson].coordinates[row] for lesson, row in places])
        observed = observe(self.basis, Rows(0, values * shown, shown))
        return self.exercise(observed, answers, self.told(observed, answers))

    def exams(self, chapters: Chapters) -> list[_Exam]:
        """All held-out rows, with the same gaps whenever they are asked."""
        columns = np.sort(self.random(_COLUMNS, 0, 0).permutation(self.basis.n)[:_MOST_COLUMNS])
        lessons = (lesson for chapter in chapters for lesson in chapter)
        found = (self._exam(lesson, columns) for lesson in lessons)
        return [exam for exam in found if len(exam.observed)]

    def _exam(self, lesson: Lesson, columns: np.ndarray) -> _Exam:
        rows, chosen = lesson.rows, np.flatnonzero(self.is_held_out(lesson.rows))
        seen = self.seen(rows, _FIXED)[chosen]
        observed = observe(self.basis, Rows(0, rows.values[chosen] * seen, seen))
        answers = lesson.coordinates[chosen]
        exercise = self.exercise(observed, answers, answers)
        some = np.ix_(chosen, columns)
        return _Exam(observed, exercise, columns, rows.values[some], rows.seen[some] & ~seen[:, columns])


class _Study:
    """The weights while they are learnt, the best so far, and their places in scratch."""

    def __init__(self, taught: _Class, exams: list[_Exam], scratch: Scratch | None) -> None:
        torch = import_module("torch")
        self._class, self._exams, self._scratch = taught, exams, scratch
        initial = _flat(taught.shape.initial(taught.course.seed))
        self._weights = torch.nn.Parameter(torch.tensor(initial, device=taught.device))
        self._optimizer = torch.optim.Adam([self._weights], lr=taught.course.rate)
        self._best = initial
        self.best_epoch = self.epochs_done = 0
        self.error = self.best_error = self.ridge = self._examined()
        self._resume()

    @property
    def stale(self) -> bool:
        """Whether it has not got better for as long as the course has patience."""
        return self.epochs_done - self.best_epoch >= self._class.course.patience

    def attend(self, epoch: int, chapters: Chapters) -> None:
        """Learn for an epoch, be examined, and have it kept."""
        done = 0
        for number, chapter in enumerate(chapters):
            for exercise in self._class.exercises(chapter, epoch, number):
                self._learn(exercise, self._class.rate(epoch, done))
                done += len(exercise.answer)
        self.epochs_done, self.error = epoch + 1, self._examined()
        if self.error < self.best_error:
            self.best_error, self.best_epoch = self.error, self.epochs_done
            self._best = _on_host(self._weights).copy()
        self._keep()

    def graduate(self) -> Trained:
        """The best network, its intervals calibrated."""
        taught = self._class
        weights = _named(self._best, taught.shape)
        network = Network(taught.basis.prior, taught.basis.n, weights, device=taught.device)
        network = replace(network, spread=_spread(network, taught.basis, self._exams))
        return Trained(network, self.best_error, self.ridge, self.best_epoch)

    def _learn(self, exercise: _Exercise, rate: float) -> None:
        """A step of Adam (Kingma & Ba 2015), the gradient no longer than 1; none where that is no number.

        Moments that are once no number stay so, and with them all weights.
        """
        torch = import_module("torch")
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        error, surprise = self._losses(exercise)
        (error.mean() + _WIDTHS_WEIGH * surprise.mean()).backward()
        if torch.nn.utils.clip_grad_norm_([self._weights], 1.0).isfinite():
            self._optimizer.step()

    def _losses(self, exercise: _Exercise) -> tuple[Tensor, Tensor]:
        """Of each row: its squared error beside what is told, and how unlikely its error is to the variances.

        Both are weighted by λ. The likelihood moves the variances alone: through the mean it would favour
        what is easy to find.
        """
        shape = self._class.shape
        added, widening = corrections(_views(self._weights, shape), shape, exercise.seen)
        u = exercise.seen.start + added
        squares = (u.detach() - exercise.answer) ** 2
        surprise = _surprise(squares, exercise.variances, widening)
        return ((u - exercise.told) ** 2 * self._weigh).sum(1), (surprise * self._weigh).sum(1)

    @cached_property
    def _weigh(self) -> Tensor:
        """λ/Σλ, (r,): an error of u weighs as that of z does."""
        torch, prior = import_module("torch"), self._class.basis.prior
        return torch.tensor(prior / prior.sum(), dtype=torch.float32, device=self._class.device)

    def _examined(self) -> float:
        """The mean squared error of the held-out rows."""
        torch = import_module("torch")
        with torch.no_grad():
            errors = [self._losses(exam.exercise)[0].to(torch.float64) for exam in self._exams]
        return float(torch.cat(errors).mean()) if errors else math.inf

    def _keep(self) -> None:
        """Write all that the next epoch needs; the record comes last, and only then the former one goes."""
        if self._scratch is None:
            return
        for name, values in self._arrays().items():
            self._scratch.write(f"{FOLDER}/epoch-{self.epochs_done}/{name}", values)
        said = {name: getattr(self, name) for name in _RECORDED}
        self._scratch.record(f"{FOLDER}/state", said | self._circumstances())
        self._scratch.remove(f"{FOLDER}/epoch-{self.epochs_done - 1}")

    def _arrays(self) -> dict[str, np.ndarray]:
        """The weights, the moments of Adam, the number of its steps, and the best weights."""
        state = self._optimizer.state[self._weights]
        parts = (self._weights, state["exp_avg"], state["exp_avg_sq"], state["step"].reshape(1))
        return dict(zip(_ARRAYS, (*map(_on_host, parts), self._best), strict=True))

    def _circumstances(self) -> dict[str, Any]:
        """What has to be the same for a training to go on."""
        taught = self._class
        return {
            "course": asdict(taught.course),
            "samples": taught.samples,
            "device": taught.device,
            "tutor": taught.tutor and taught.tutor.name,
        }

    def _resume(self) -> None:
        """Go on from what a killed training has left, if it is whole and of the same course."""
        if self._scratch is None:
            return
        said = self._scratch.recorded(f"{FOLDER}/state")
        if said is None or not self._circumstances().items() <= said.items():
            return
        folder = f"{FOLDER}/epoch-{said['epochs_done']}"
        try:
            found = {name: self._scratch.read(f"{folder}/{name}") for name in _ARRAYS}
        except DamagedScratchError:
            return  # its epochs are learnt again, with the same bits
        self._restore(found, said)

    def _restore(self, found: Mapping[str, np.ndarray], said: Mapping[str, Any]) -> None:
        torch = import_module("torch")
        weights, first, second = (
            torch.as_tensor(found[name], device=self._class.device) for name in _ARRAYS[:3]
        )
        with torch.no_grad():
            self._weights.copy_(weights)
        step = torch.tensor(found["steps"][0])
        self._optimizer.state[self._weights] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
        self._best = found["best"]
        for name in _RECORDED:
            setattr(self, name, said[name])


def _surprise(squares: Tensor, variances: Tensor, widening: Tensor) -> Tensor:
    """−log of a density with that variance times exp(widening), but for a constant; tame far from it."""
    relative = squares / (variances * widening.exp())
    return 0.5 * (_MOST_SURPRISE * (relative / _MOST_SURPRISE).log1p() + widening)


def _on_host(tensor: Tensor) -> np.ndarray:
    found: np.ndarray = tensor.detach().cpu().numpy()
    return found


def _flat(weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """All in one vector, so that the optimizer has one array for each of its moments."""
    return np.concatenate([values.ravel() for values in weights.values()])


def _views(flat: Tensor, shape: Shape) -> dict[str, Tensor]:
    """The weights that a vector holds, by name."""
    parts = flat.split([math.prod(size) for size in shape.sizes.values()])
    return {name: part.view(size) for (name, size), part in zip(shape.sizes.items(), parts, strict=True)}


def _named(flat: np.ndarray, shape: Shape) -> dict[str, np.ndarray]:
    """The same of a vector on the host, of which they are parts."""
    views = _views(import_module("torch").tensor(flat), shape)
    return {name: part.numpy() for name, part in views.items()}


def _spread(network: Network, basis: Basis, exams: list[_Exam]) -> float:
    """The factor of the covariance with which 90 % intervals cover 90 % of the hidden entries.

    An entry of column j is expected to err by ψ_j + v_jᵀCv_j. Of factors that cover alike it is the one
    nearest to 1.
    """
    parts = [_deviations(network, basis, exam) for exam in exams]
    if not any(len(squares) for squares, _, _ in parts):
        return 1.0
    squares, noise, variances = (np.concatenate(part) for part in zip(*parts, strict=True))
    covered = [np.mean(squares <= _NORMAL**2 * (noise + factor * variances)) for factor in _SPREADS]
    return float(_SPREADS[_nearest(np.array(covered))])


def _nearest(covered: np.ndarray) -> int:
    """The number of the factor of `_SPREADS` whose coverage is as promised."""
    return int(np.argmin(np.abs(covered - _COVERED) + _MODESTY))


def _deviations(network: Network, basis: Basis, exam: _Exam) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the hidden entries of an exam: squared errors, ψ_j and v_jᵀCv_j."""
    found = network.infer(exam.observed)
    V, hidden = basis.V[exam.columns], exam.hidden
    variances = np.einsum("jk,bkl,jl->bj", V, found.covariance, V, optimize=True)
    squares = (exam.values - found.mean @ V.T) ** 2
    noise = np.broadcast_to(basis.noise[exam.columns], squares.shape)
    return squares[hidden], noise[hidden], np.broadcast_to(variances, squares.shape)[hidden]
