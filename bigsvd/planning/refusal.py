"""Why a request is refused for its memory, and what would do instead: pure arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from bigsvd.errors import MemoryBudgetError
from bigsvd.facts import Machine, SourceFacts
from bigsvd.planning.demands import SMALLEST, Question
from bigsvd.planning.layout import Layout
from bigsvd.planning.memory import device_terms, memory_terms
from bigsvd.planning.search import choose_layout
from bigsvd.units import human_bytes, round_up

# Entries of a chunk, below which chunks are not worth a file each.
_LEAST_CHUNK_ENTRIES = 2**12


def needed_bytes(question: Question) -> int:
    """The least host memory that is accepted, to two digits.

    Somewhat more may be taken of a larger budget, so it is what a plan with that very budget needs.
    """
    budget_bytes = 1
    while True:
        given = replace(question.machine, budget_bytes=budget_bytes)
        layout, threads = choose_layout(question.on(given))
        laid_out = question.on(replace(given, threads=threads, readers=layout.readers))
        needed = sum(memory_terms(laid_out, layout).values())
        if needed <= budget_bytes:
            return budget_bytes
        budget_bytes = round_up(needed)


def refusal(question: Question, layout: Layout) -> MemoryBudgetError:
    """Names the greatest terms, both numbers and what to change: on the device where that lacks memory."""
    name, machine = question.method.name, question.machine
    on_device = device_terms(question, layout)
    if sum(on_device.values()) > machine.device_budget_bytes:
        return _device_refusal(name, on_device, machine)
    terms = memory_terms(question, layout)
    raised = human_bytes(needed_bytes(question))
    return MemoryBudgetError(
        f"method {name} needs {human_bytes(sum(terms.values()))} ({_greatest(terms)}) but the budget is "
        f"{human_bytes(machine.budget_bytes)}",
        ", or ".join([*_cures(question), f"raise memory to {raised}"]),
    )


def _device_refusal(method: str, on_device: dict[str, int], machine: Machine) -> MemoryBudgetError:
    needed, free = sum(on_device.values()), machine.device_free_bytes
    cure = f"only {human_bytes(free)} of it are free: end what else uses it"
    if needed <= free:
        cure = f"raise device_memory to {human_bytes(round_up(needed))}"
    return MemoryBudgetError(
        f"method {method} needs {human_bytes(needed)} of {machine.device}'s memory "
        f"({_greatest(on_device)}) but the budget there is {human_bytes(machine.device_budget_bytes)}",
        f"{cure}, or use device='cpu'",
    )


def _cures(question: Question) -> list[str]:
    """What would do instead of more memory: only what a plan for it shows to fit, with what it needs."""
    method, request, facts = question.method, question.request, question.facts
    cures = []
    if method.name != SMALLEST and (size := _enough(question.by(SMALLEST))):
        cures.append(f"use method={SMALLEST!r} (needs {size})")
    smallest = replace(request, k=1, energy=None, error=None, max_bytes=None)
    if request.k != 1 and (size := _enough(replace(question, request=smallest))):
        cures.append(f"ask for a smaller k (k=1 needs {size})")
    return [*cures, *_chunk_cures(facts, lambda smaller: _enough(replace(question, facts=smaller)))]


def _enough(question: Question) -> str:
    """What memory is needed; empty where that is more than there is."""
    if not choose_layout(question)[0].fits:
        return ""
    size = needed_bytes(question)
    return human_bytes(size) if size <= question.machine.budget_bytes else ""


def _chunk_cures(facts: SourceFacts, enough: Callable[[SourceFacts], str]) -> list[str]:
    """The largest chunks that would do, if any; `enough` says what is needed with them."""
    if facts.reader == "memory":
        return []
    computed = facts.reader in ("foreign", "measured")
    stored = facts
    if computed:
        stored = replace(facts, reader="direct", spare_bytes=0, spare_ratio=0.0, held_bytes=0)
    for smaller in _smaller_chunks(stored):
        if size := enough(smaller):
            (rows, cols), (m, n) = smaller.chunks, facts.chunks
            if computed:
                how = f"store it as Zarr in chunks of {rows}x{cols} (x.to_zarr(path) of Dask and xarray)"
                return [f"{how} and give that path (needs {size})"]
            return [f"rechunk to {rows}x{cols}, now {m}x{n} (needs {size})"]
    return []


def _smaller_chunks(facts: SourceFacts) -> Iterator[SourceFacts]:
    """The same matrix in chunks of half the longer side, again and again down to about a square kilobyte."""
    rows, cols = facts.chunks
    while rows * cols > _LEAST_CHUNK_ENTRIES:
        rows, cols = (-(-rows // 2), cols) if rows >= cols else (rows, -(-cols // 2))
        stored_bytes = rows * cols * facts.itemsize
        spare_bytes = min(facts.spare_bytes, 2 * stored_bytes)
        yield replace(
            facts, chunks=(rows, cols), piece=(rows, cols), stored_bytes=stored_bytes, spare_bytes=spare_bytes
        )


def _by_size(terms: dict[str, int]) -> list[str]:
    return sorted(terms, key=lambda term: -terms[term])


def _greatest(terms: dict[str, int]) -> str:
    return ", ".join(f"{term} {human_bytes(terms[term])}" for term in _by_size(terms)[:3])
