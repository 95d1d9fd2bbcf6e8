"""The page in a real browser: from a submission to a result, its numbers, and whoever can use it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from obstore.store import HTTPStore
from zarr.storage import ObjectStore

import bigsvd
from bigsvd.distill.predicting import predict
from bigsvd.results.rank import percent
from tests.browser import (
    CHROMEDRIVER,
    CHROMIUM,
    CONTROL,
    DOWN,
    ENTER,
    ESCAPE,
    LEFT,
    RELEASE,
    RIGHT,
    UP,
    Browser,
    browser,
)
from tests.picture import waves
from tests.servers import Running, running
from tests.students import Law, by_hand, gaps
from tests.vendored import AXE, fetch

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or CHROMEDRIVER is None, reason="chromium or chromedriver is not installed"
)
K = 12


@dataclass(frozen=True)
class Service:
    """A server with data below its root."""

    root: Path
    running: Running

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def token(self) -> str:
        return self.running.token

    def submit(self, **body: Any) -> str:
        """The id of a job that has just been taken in."""
        answer = self.running.post("/v1/jobs", body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    root = tmp_path_factory.mktemp("root")
    data = zarr.create_array(root / "waves.zarr", shape=(2400, 1200), chunks=(600, 600), dtype="f4")
    data[:] = waves(2400, 1200, K)
    # A chunk for each few rows, and many values that lie close: passes that can be seen and stopped.
    slow = zarr.create_array(root / "slow.zarr", shape=(8000, 1000), chunks=(4, 1000), dtype="f4")
    rng = np.random.default_rng(1)
    falling = np.arange(1, 401) ** -0.6
    slow[:] = (rng.standard_normal((8000, 400)) * falling) @ rng.standard_normal((400, 1000))
    gap = np.ones((50, 20), dtype="f4")
    gap[17, 3] = np.nan
    np.save(root / "gap.npy", gap)
    with running(root, "--state", tmp_path_factory.mktemp("state")) as found:
        yield Service(root, found)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def page(chromium: Browser, server: Service) -> Browser:
    """A browser that is signed in, as wide as a screen, in light colours."""
    chromium.size(1280, 900)
    chromium.prefer("light")
    chromium.go(f"{server.url}/#token={server.token}")
    chromium.see("main h1", "Submit")
    chromium.complaints()
    chromium.hosts()
    return chromium


@pytest.fixture(scope="module")
def result(server: Service) -> str:
    """The id of a job that is done."""
    body = {"source": "waves.zarr", "k": K, "out": "waves.k12", "name": "waves", "labels": {"project": "sea"}}
    return str(server.running.done(body)["id"])


def ranks(path: Path, *args: str) -> dict[str, Any]:
    """What ``bigsvd rank --json`` prints."""
    command = [sys.executable, "-m", "bigsvd", "rank", str(path), "--json", *args]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def clean(page: Browser, server: Service) -> None:
    """Nothing was refused by the policy, went wrong, or left the host."""
    assert page.refused == []
    assert page.complaints() == []
    assert page.hosts() <= {server.url.removeprefix("http://")}


def certificates(page: Browser) -> list[tuple[float, float]]:
    """Errors and residuals by pass, as the table beside the chart has them."""
    script = """return [...document.querySelectorAll("#main details table tbody tr")].map(
        (row) => [...row.querySelectorAll("data")].map((each) => Number(each.value)))"""
    return [(error, residual) for error, residual in page.js(script)]


def test_from_a_submission_to_a_result(page: Browser, server: Service) -> None:
    assert "token" not in page.url
    assert page.js("return document.cookie") == ""

    page.fill("[name=source]", "slow.zarr")
    page.see(".plan", "about")
    first = page.text(".plan-line")
    summary = server.running.post("/v1/plans", {"source": "slow.zarr", "k": 20}).json()["summary"]
    assert summary["method"] in first
    page.fill("[name=k]", "five")
    page.see(".rank .field-error", "E_")
    assert page.js("return document.querySelector('[name=k]').getAttribute('aria-invalid')") == "true"
    page.fill("[name=k]", "5")
    page.until(lambda: page.text(".plan-line") not in ("", first))
    page.see(".field.free .hint", "free")
    assert page.js("return document.querySelector('[name=out]').value") == "slow.k5"
    assert "bigsvd svd" in page.text(".commands")
    page.click(".fold summary")
    page.fill("[name=tol]", "1e-9")
    page.fill("[name=memory]", "40MB")
    page.click("button.main")

    page.see(".status-line", "running", 60)
    page.until(lambda: len(certificates(page)) >= 3, 60)
    page.click(".verbs button.main")
    page.see(".status-line", "done", 60)
    found = certificates(page)
    assert found[-1][1] < found[0][1], "the residual falls"
    clean(page, server)

    page.click(".verbs a.main")
    page.see("h1", "slow.k5")
    numbers_are_those_of_the_command(page, ranks(server.root / "slow.k5"))
    clean(page, server)


def numbers_are_those_of_the_command(page: Browser, told: dict[str, Any]) -> None:
    """At every k the slider shows what the command prints: whole in the title, rounded for the eye."""
    page.see(".slider .at-k", "error")
    for row in told["rows"]:
        page.choose(".slider input", row["k"])
        page.see(".slider .of", f"{row['k']} of {len(told['rows'])}")
        script = "return [...document.querySelectorAll('.slider data')].map((e) => [e.value, e.textContent])"
        (error, shown), (energy, kept), (size, _), (ratio, _) = page.js(script)
        whole = [float(error), float(energy), int(size), float(ratio)]
        assert whole == [row[name] for name in ("relative_error", "energy", "bytes", "compression_ratio")]
        assert float(shown) == float(f"{row['relative_error']:.4g}")
        assert kept == percent(row["energy"])
    listed = page.js("return [...document.querySelectorAll('.rules li')].map((e) => e.textContent)")
    for choice, line in zip(told["choices"], listed, strict=True):
        assert f"{choice['rule']}: {choice['note']}" in line


def test_without_a_token_there_is_a_login(chromium: Browser, server: Service) -> None:
    chromium.go(server.url)
    chromium.cdp("Network.clearBrowserCookies")
    chromium.go(f"{server.url}/jobs")
    chromium.see("main h1", "Sign in")
    chromium.fill("[name=token]", "wrong")
    chromium.press(ENTER)
    chromium.see(".field-error", "E_AUTH")
    chromium.fill("[name=token]", server.token)
    chromium.press(ENTER)
    chromium.see("main h1", "Jobs")
    chromium.click("header button")
    chromium.see("main h1", "Sign in")


def test_the_heat_map_shows_exact_values_at_every_zoom(page: Browser, server: Service, result: str) -> None:
    factors = bigsvd.open(server.root / "waves.k12")
    page.go(f"{server.url}/results/{result}?k={K}")
    page.see(".heat .level", "exact mean of 2 × 2", 30)
    block = np.asarray(factors[1200:1202, 600:602], dtype=np.float64)
    said = page.see("#heat-value", "mean of rows 1200:1202, columns 600:602")
    assert float(said.rsplit(" ", 1)[1]) == pytest.approx(block.mean(), rel=1e-5)
    page.js("document.querySelector('.heat canvas').focus()")
    for _ in range(3):
        page.press("+")
    page.see(".heat .level", "every entry")
    said = page.until(lambda: matched(page.text("#heat-value"), "row 1200, column 600: "))
    assert float(said) == float(f"{factors[1200, 600]:.6g}")
    page.press(RIGHT)
    page.until(lambda: "column 600" not in page.text("#heat-value"))
    for kind in ("original", "difference"):
        page.js(f"document.querySelector('.heat [value={kind}]').click()")
        page.see(".heat .over", "Zoom in")
        page.click(".heat .over button")
        page.until(lambda: not page.has(".heat .over"))
        page.until(lambda: ", column" in page.text("#heat-value"))
        i, j = map(int, re.findall(r"(?:row|column) (\d+)", page.text("#heat-value")))
        data = np.asarray(zarr.open_array(server.root / "waves.zarr")[i, j], dtype=np.float64)
        expected = data if kind == "original" else data - float(factors[i, j])
        assert float(page.text("#heat-value").rsplit(" ", 1)[1]) == pytest.approx(
            expected, rel=1e-4, abs=1e-6
        )
        page.click(".window button[type=button]")
    clean(page, server)


def matched(text: str, before: str) -> str:
    """What comes behind; empty where the text does not have that."""
    return text.partition(before)[2]


def test_components_are_the_singular_vectors(page: Browser, server: Service, result: str) -> None:
    page.go(f"{server.url}/results/{result}")
    page.see(".components-head", f"of {K}")
    page.js("document.querySelector('.components-head').scrollIntoView()")
    page.see(".lazy .chart figcaption", "V, column 1", 20)
    page.js("document.querySelector('.components-head [value=image]').click()")
    page.see(".component-image figcaption", "×")
    clean(page, server)


def test_a_link_is_made_used_and_revoked(page: Browser, server: Service, result: str) -> None:
    page.go(f"{server.url}/results/{result}?k=3")
    page.see("#share", "Share")
    page.fill(".share input[type=text]", "Ada")
    page.click(".share button")
    url = page.see(".made code", "/v1/links/")
    factors = bigsvd.open(server.root / "waves.k12")
    array = zarr.open_array(
        ObjectStore(HTTPStore.from_url(url, client_options={"allow_http": True})), mode="r"
    )
    np.testing.assert_allclose(np.asarray(array[:5, :5]), factors[:5, :5], rtol=1e-5, atol=1e-6)
    page.see(".links", "Ada")
    page.click(".links button")
    page.until(lambda: not page.has(".links"))
    clean(page, server)


def test_what_is_said_about_opening_it_does_so(
    page: Browser, server: Service, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.go(f"{server.url}/results/{result}?k=3")
    page.see(".open-it", "zarr")
    script = """return Object.fromEntries([...document.querySelectorAll(".open-it .copyable")].map(
        (each) => [each.querySelector("span").textContent, each.querySelector("code").textContent]))"""
    told = page.js(script)
    monkeypatch.setenv("BIGSVD_TOKEN", server.token)
    expected = bigsvd.open(server.root / "waves.k12").truncate(3)[:10, :10]
    found: dict[str, Any] = {}
    for name in ("bigsvd", "zarr", "xarray"):
        *before, last = told[name].splitlines()
        exec("\n".join([*before, f"read = {last}"]), found)  # noqa: S102 - what a reader would paste
        np.testing.assert_allclose(found["read"], expected, rtol=1e-5, atol=1e-6)


def test_events_are_asked_for_where_no_stream_comes_through(
    page: Browser, server: Service, result: str
) -> None:
    broken = """window.EventSource = class {
        constructor() { setTimeout(() => this.onerror()); }
        addEventListener() {}
        close() {}
    };"""
    added = page.cdp("Page.addScriptToEvaluateOnNewDocument", source=broken)
    try:
        page.go(f"{server.url}/jobs/{result}")
        page.see(".events li", "attempt 1 ends: done")
    finally:
        page.cdp("Page.removeScriptToEvaluateOnNewDocument", **added)


def test_verify_says_that_all_holds(page: Browser, server: Service, result: str) -> None:
    page.go(f"{server.url}/results/{result}")
    page.see("#verify", "Verify")
    page.js("document.querySelector('#verify').parentElement.querySelector('button').click()")
    page.see("section[aria-labelledby=verify] .state", "all that is promised holds", 60)


def test_a_job_that_failed_says_why_and_what_to_do(page: Browser, server: Service) -> None:
    name = "<img src=x onerror=alert(1)>"  # which is a text and nothing else
    job = server.submit(source="gap.npy", k=3, out="gap.k3", name=name)
    page.go(f"{server.url}/jobs/{job}")
    page.see("h1", name)
    page.see(".trouble", "E_NONFINITE", 60)
    page.see(".trouble .remedy", "missing")
    page.click(".verbs a.button")
    page.see("h1", "Submit")
    source = "return document.querySelector('[name=source]').value"
    page.until(lambda: page.js(source).endswith("gap.npy"))
    page.click("header nav a")  # the same page again, which begins anew
    page.until(lambda: page.js(source) == "")
    clean(page, server)


def test_an_error_stands_at_its_field(page: Browser, server: Service, result: str) -> None:
    page.fill("[name=source]", "nothing.zarr")
    page.see(".field.wrong .field-error", "E_")
    page.fill("[name=source]", "waves.zarr")
    page.see(".plan", "about")
    page.fill("[name=out]", "waves.k12")
    page.see(".field.taken .hint", "lies there already")
    assert not page.has(".fold[open]")
    page.click(".fold summary")
    page.fill("[name=tol]", "5")
    said = page.see(".fold .field.wrong .field-error", "E_REQUEST")
    assert "tol=5" in said
    described = page.js(
        """const id = document.querySelector("[name=tol]").getAttribute("aria-describedby").split(" ").pop();
        return document.getElementById(id).textContent"""
    )
    assert described.strip() == said


def test_the_list_filters_and_follows(page: Browser, server: Service, result: str) -> None:
    page.go(f"{server.url}/jobs")
    page.see("table.jobs", "waves")
    page.fill(".label-filter", "project=sea")
    page.until(lambda: page.js("return document.querySelectorAll('table.jobs tbody tr').length") == 1)
    assert "label=project%3Dsea" in page.url
    page.fill("[type=search]", "no such job")
    page.see(".none", "No job")
    clean(page, server)


def test_a_cancel_is_asked_about(page: Browser, server: Service) -> None:
    job = server.submit(source="slow.zarr", k=6, out="slow.k6", tol=1e-10, memory="40MB")
    page.go(f"{server.url}/jobs/{job}")
    page.see(".status-line", "running", 60)
    page.click(".verbs .danger")
    page.see("dialog[open] h2", "Cancel")
    page.press(ESCAPE)
    page.until(lambda: not page.has("dialog[open]"))
    page.click(".verbs .danger")
    page.see("dialog[open] .danger")
    page.click("dialog[open] .danger")
    page.see(".status-line", "cancelled", 60)
    clean(page, server)


def test_by_keyboard_alone(page: Browser, server: Service) -> None:
    page.tab_to("Skip to the content")
    page.press(ENTER)
    page.tab_to("source")
    page.press("waves.zarr")
    page.see(".plan", "about")
    page.tab_to("rule")
    page.press(DOWN)
    page.see(".rank .hint", "share of the squared norm")
    page.press(UP)
    page.tab_to("k")
    page.press(CONTROL, "a", RELEASE, "4")
    page.until(lambda: page.js("return document.querySelector('[name=out]').value") == "waves.k4")
    page.tab_to("Submit")
    page.press(ENTER)
    page.see(".status-line", "done", 60)
    assert page.focus() == "waves.k4"
    page.tab_to("See the result")
    page.press(ENTER)
    page.see(".slider .of", "4 of 4")
    page.js("document.querySelector('.slider input').focus()")
    page.press(LEFT)
    page.see(".slider .of", "3 of 4")


PAGES = ("/", "/jobs", "/jobs/{}", "/results/{}")


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_wider_than_a_phone(page: Browser, server: Service, result: str, path: str) -> None:
    page.size(360, 740)
    open_whole(page, server, path.format(result))
    assert page.js("return document.documentElement.scrollWidth") <= 360


def open_whole(page: Browser, server: Service, path: str) -> None:
    """Open an address and wait until all that comes when it is seen has come."""
    page.go(server.url + path)
    page.see("main h1")
    page.until(lambda: page.has(".plan, table.jobs, .steps, .slider"))
    page.js("document.querySelectorAll('.lazy, .chart').forEach((each) => each.scrollIntoView())")
    if path.startswith("/results"):
        page.see(".heat .level", "exact mean", 30)
        page.until(lambda: page.has(".chart .uplot"))
    page.js("scrollTo(0, 0)")


def brightness(page: Browser) -> float:
    """Of the paper, from 0 to 255."""
    found = page.js("return getComputedStyle(document.documentElement).backgroundColor")
    return float(np.mean([int(part) for part in found.strip("rgb()").split(",")]))


def test_dark_as_the_system_or_as_chosen(page: Browser, server: Service) -> None:
    assert brightness(page) > 200
    page.prefer("dark")
    assert brightness(page) < 60
    page.choose(".theme select", "light")
    assert brightness(page) > 200
    page.go(f"{server.url}/jobs")
    assert brightness(page) > 200
    page.choose(".theme select", "")
    assert brightness(page) < 60


@pytest.fixture(scope="module")
def axe() -> Iterator[str]:
    """What looks for barriers: fetched, since it is no part of the page."""
    if shutil.which("npm") is None:
        pytest.skip("npm, which fetches axe-core, is not installed")
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield (fetch(AXE, Path(folder)) / "axe.min.js").read_text(encoding="utf-8")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"npm cannot fetch {AXE}: {error.stderr.strip()[-200:]}")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_no_barrier(page: Browser, server: Service, result: str, axe: str, path: str, theme: str) -> None:
    page.prefer(theme)
    open_whole(page, server, path.format(result))
    page.js(axe)
    found = page.soon("axe.run(document, {resultTypes: ['violations']}).then(arguments[0])")
    serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    told = [f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']]}" for each in serious]
    assert told == []


def test_a_result_that_was_predicted_says_so_first(page: Browser, server: Service) -> None:
    law = Law.of()
    complete = law.rows(200, 2)
    zarr.create_array(server.root / "new.zarr", data=np.where(gaps(complete.shape, 0.4), np.nan, complete))
    by_hand(law.rows(1000, 1), server.root / "student")
    predict(server.root / "student", server.root / "new.zarr", server.root / "predicted", k=3, stage="ridge")
    found = server.running.get("/v1/results?path=predicted").json()
    page.go(f"{server.url}/results/{found['id']}")
    told = page.see(".status-line", "predicted, not computed")
    assert "nothing here is certified" in told
    assert "tolerance" not in told
    page.see(".warnings", "student")
    page.see(".rank-table", "3")
    clean(page, server)
