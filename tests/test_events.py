"""What a run says is frozen, travels as JSON, and comes in the order in which things happen."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from distributed import Client

import bigsvd
from bigsvd.events import (
    KINDS,
    BytesRead,
    Certified,
    Event,
    GivenUp,
    PassEnded,
    PassStarted,
    PlanMade,
    Published,
    event_from_dict,
)

A = np.random.default_rng(0).standard_normal((900, 60)) @ np.diag(np.linspace(9, 0.1, 60))


@pytest.fixture(scope="module")
def seen(client: Client, tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """What a run says that needs several passes."""
    found: list[Event] = []
    out = tmp_path_factory.mktemp("out") / "u"
    bigsvd.svd(A, 3, out, method="krylov", tol=1e-9, client=client, progress=found.append)
    return found


def test_every_event_of_a_run_survives_json(seen: list[Event]) -> None:
    for event in seen:
        assert event_from_dict(json.loads(json.dumps(event.to_dict()))) == event
    assert {event.kind for event in seen} >= {"plan", "pass", "read", "pass-end", "certificate", "done"}


def test_a_tuple_survives_json() -> None:
    event = GivenUp("u.scratch", ("k=3 (now 4)", "seed=0 (now 1)"))
    assert event_from_dict(json.loads(json.dumps(event.to_dict()))) == event


def test_an_event_reads_as_the_mapping_that_it_is_in_json(seen: list[Event]) -> None:
    for event in seen:
        for name, value in event.to_dict().items():
            assert event[name] == value or name == "plan"
    with pytest.raises(FrozenInstanceError):
        seen[0].kind = "another"  # type: ignore[misc]


def test_kinds_are_named_once() -> None:
    assert all(KINDS[kind].kind == kind for kind in KINDS)
    assert set(KINDS.values()) == set(Event.__subclasses__())
    with pytest.raises(KeyError):
        event_from_dict({"event": "another-day"})


def test_they_come_in_order(seen: list[Event]) -> None:
    assert isinstance(seen[0], PlanMade)
    assert isinstance(seen[-1], Published)
    passes = [event for event in seen if isinstance(event, (PassStarted, PassEnded))]
    for started, ended in zip(passes[::2], passes[1::2], strict=True):
        assert isinstance(started, PassStarted)
        assert isinstance(ended, PassEnded)
        assert (started.name, started.total_bytes, started.sample) == (
            ended.name,
            ended.total_bytes,
            ended.sample,
        )
    certified = [event for event in seen if isinstance(event, Certified)]
    assert [event.passes for event in certified] == sorted({event.passes for event in certified})
    assert certified[-1].converged


def test_what_is_read_adds_up(seen: list[Event]) -> None:
    total = sum(event.total_bytes for event in seen if isinstance(event, PassEnded))
    assert sum(event.bytes for event in seen if isinstance(event, BytesRead)) == total
