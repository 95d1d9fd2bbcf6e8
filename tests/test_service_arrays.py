"""Results as Zarr groups by URL: what is in them, who may read, and that nothing is ever read as zeros."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import uvicorn
import xarray as xr
import zarr
from obstore.store import HTTPStore
from starlette.types import ASGIApp, Receive, Scope, Send
from zarr.storage import FsspecStore, ObjectStore

import bigsvd
from bigsvd.errors import FactorStoreError
from bigsvd.results.factors import Factors, open_factors
from bigsvd.service.app import create_app
from bigsvd.service.arrays.open_results import TILE, Arrays, multiscales, tile
from bigsvd.service.arrays.recent import Recent
from bigsvd.service.results.lookup import id_of_path
from tests.services import Served, serving
from tests.test_pooled import block_means
from tests.waiting import wait_until

M, N, K = 1300, 700, 5
GONE = 410


def publish(path: Path, m: int = M, n: int = N, seed: int = 0, **options: Any) -> Factors:
    A = np.random.default_rng(seed).standard_normal((m, n)).astype(np.float32) + 3
    return bigsvd.svd(A, K, path, method="gram", **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result that nobody changes."""
    path = tmp_path_factory.mktemp("made") / "f"
    publish(path, center=True, scale="std")
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("service")) as found:
        shutil.copytree(made, found.root / "f")
        yield found


@pytest.fixture(scope="module")
def base(served: Served) -> str:
    return f"/v1/results/{id_of_path(str(served.root / 'f'))}"


@pytest.fixture(scope="module")
def job(served: Served) -> str:
    """A job whose result is `of-job`."""
    A = np.random.default_rng(2).standard_normal((M, N)).astype(np.float32)
    zarr.create_array(str(served.root / "data"), data=A, chunks=(M, N))
    done = served.done(source=str(served.root / "data"), k=K, method="gram", out=str(served.root / "of-job"))
    found: str = done["id"]
    return found


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """The URL of a server of this process, on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, 30, "a server listens")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def url(served: Served) -> Iterator[str]:
    with listening(create_app(served.service)) as found:
        yield found


def by_fsspec(url: str) -> Any:
    return FsspecStore.from_url(url, read_only=True)


def by_obstore(url: str) -> Any:
    options: Any = {"allow_http": True}
    once: Any = {"max_retries": 0}
    return ObjectStore(HTTPStore.from_url(url, client_options=options, retry_config=once), read_only=True)


READERS = [pytest.param(by_fsspec, id="fsspec"), pytest.param(by_obstore, id="obstore")]


def boxes(array: Any) -> Iterator[tuple[slice, slice]]:
    """The part of an array that each of its chunks holds."""
    height, width = array.chunks
    for i in range(0, array.shape[0], height):
        for j in range(0, array.shape[1], width):
            yield slice(i, min(i + height, array.shape[0])), slice(j, min(j + width, array.shape[1]))


def assert_same_bits(actual: Any, expected: Any) -> None:
    assert actual.dtype == expected.dtype
    assert np.asarray(actual).tobytes() == np.ascontiguousarray(expected).tobytes()


# What is in the group


@pytest.mark.parametrize("reader", READERS)
def test_readers_of_zarr_open_it_by_url(
    reader: Callable[[str], Any], url: str, base: str, made: Path
) -> None:
    factors = open_factors(made)
    group = zarr.open_group(reader(f"{url}{base}/zarr"), mode="r")
    assert sorted(group.array_keys()) == ["U", "Vt", "mean", "reconstruction", "s", "scale"]
    assert_same_bits(group["U"][:], factors.U[:])  # type: ignore[index]
    assert_same_bits(group["Vt"][:], factors.Vt[:])  # type: ignore[index]
    assert_same_bits(group["s"][:], factors.s)  # type: ignore[index]
    assert_same_bits(group["mean"][:], factors.mean)  # type: ignore[index]
    array = zarr.open_array(reader(f"{url}{base}/zarr/reconstruction"), mode="r")
    assert array.shape == (M, N)
    for box in boxes(array):
        assert_same_bits(array[box], factors[box])


def test_zarr_opens_a_plain_url(url: str, base: str, made: Path) -> None:
    array = zarr.open_array(f"{url}{base}/zarr@2/reconstruction", mode="r")
    few = open_factors(made).truncate(2)
    for box in boxes(array):
        assert_same_bits(array[box], few[box])
    group = zarr.open_group(f"{url}{base}/zarr@2", mode="r")
    assert group["U"].shape == (M, 2)  # type: ignore[union-attr]
    assert_same_bits(group["U"][:], open_factors(made).U[:, :2])  # type: ignore[index]
    assert_same_bits(group["Vt"][:], open_factors(made).Vt[:2])  # type: ignore[index]
    assert group.attrs["bigsvd"]["k"] == 2  # type: ignore[index, call-overload]


def test_dask_and_xarray_open_it(url: str, base: str, made: Path) -> None:
    whole = open_factors(made)
    lazy = da.from_zarr(f"{url}{base}/zarr", component="reconstruction")
    np.testing.assert_allclose(lazy.compute(scheduler="threads"), whole[:], atol=1e-5)
    with xr.open_zarr(f"{url}{base}/zarr") as dataset:
        assert dataset["reconstruction"].dims == ("row", "column")
        assert dataset["U"].dims == ("row", "component")
        assert dataset["scale"].dims == ("column",)
        assert_same_bits(dataset["reconstruction"].to_numpy(), whole[:])  # which is one chunk


def test_zarrita_reads_the_same_bits(
    url: str, base: str, made: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = with_zarrita(tmp_path_factory)
    whole = open_factors(made)
    for name, box in (("reconstruction", None), ("U", whole.U[:]), ("levels/2", None)):
        address = f"{url}{base}/zarr/{name}"
        ended = subprocess.run([_program("node"), script, address], capture_output=True, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
        array = zarr.open_array(address, mode="r")
        found = np.frombuffer(ended.stdout, array.dtype).reshape(array.shape)
        assert_same_bits(found, array[:] if box is None else box)


def test_zarrita_is_refused_and_reads_no_zeros(
    url: str, served: Served, made: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = with_zarrita(tmp_path_factory)
    address = f"{url}/v1/results/{id_of_path(str(served.root / 'none'))}/zarr/reconstruction"
    ended = subprocess.run([_program("node"), script, address], capture_output=True, check=False)
    assert ended.returncode == 3
    assert ended.stdout == b""


def with_zarrita(factory: pytest.TempPathFactory) -> str:
    """The path of `zarrita_reader.mjs` in a folder where zarrita is installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm, which are not here")
    folder = factory.getbasetemp() / "zarrita"
    script = folder / "reader.mjs"
    if not script.exists():
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), "zarrita@0.7.5"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            pytest.skip(f"needs zarrita, which npm cannot install here: {ended.stderr[-200:]}")
        shutil.copy(Path(__file__).with_name("zarrita_reader.mjs"), script)
    return str(script)


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found
    return found


def test_levels_are_block_means_and_say_so(served: Served, base: str, made: Path) -> None:
    document = served.client.get(f"{base}/zarr/levels/zarr.json").json()
    said = document["attributes"]
    assert said["ome"]["version"] == "0.5"
    [image] = said["ome"]["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["y", "x"]
    assert [each["path"] for each in image["datasets"]] == ["0", "1", "2"]
    assert image["datasets"][2]["coordinateTransformations"] == [
        {"type": "scale", "scale": [4.0, 4.0]}, {"type": "translation", "translation": [1.5, 1.5]}
    ]  # fmt: skip
    assert [each["asset"] for each in said["multiscales"]["layout"]] == ["0", "1", "2"]
    whole = open_factors(made)[:]
    for number in (1, 2):
        about = document["consolidated_metadata"]["metadata"][str(number)]
        assert about["dimension_names"] == ["y", "x"]
        assert about["fill_value"] == "NaN"
        expected = block_means(whole, number)
        assert about["shape"] == list(expected.shape)
        height, width = about["chunk_grid"]["configuration"]["chunk_shape"]
        answer = served.client.get(f"{base}/zarr/levels/{number}/c/0/0")
        found = np.frombuffer(answer.content, "<f4").reshape(height, width)
        part = expected[:height, :width]
        np.testing.assert_allclose(found[: part.shape[0], : part.shape[1]], part, atol=1e-5)
        assert np.isnan(found[part.shape[0] :]).all()


def test_a_reader_finds_the_levels(url: str, base: str) -> None:
    group = zarr.open_group(f"{url}{base}/zarr/levels", mode="r")
    assert sorted(group.array_keys()) == ["0", "1", "2"]
    root = zarr.open_group(f"{url}{base}/zarr", mode="r")
    assert sorted(root["levels"].array_keys()) == ["0", "1", "2"]  # type: ignore[union-attr]


def test_lines_that_were_left_out_have_axes_of_their_own(tmp_path: Path) -> None:
    publish(tmp_path / "root" / "f", 60, 40, rows="0:60:2")
    with serving(tmp_path) as served, listening(create_app(served.service)) as url:
        address = f"{url}/v1/results/{id_of_path(str(served.root / 'f'))}/zarr"
        with xr.open_zarr(address) as dataset:
            assert dict(dataset.sizes) == {"row": 60, "column": 40, "kept_row": 30, "component": K}
            assert np.isnan(dataset["reconstruction"][1].to_numpy()).all()
            assert_same_bits(dataset["reconstruction"].to_numpy(), open_factors(served.root / "f")[:])


def test_chunks_are_squares_or_as_many_entries() -> None:
    assert tile((10**6, 10**6), 512) == (512, 512)
    assert tile((10**6, 10), 512) == (512 * 512 // 10, 10)
    assert tile((10, 10**6), 512) == (10, 512 * 512 // 10)
    assert tile((3, 4), 512) == (3, 4)
    assert tile((1, 10**9), 512) == (1, 512 * 512)


def test_positions_of_levels_are_the_middles_of_blocks() -> None:
    [image] = multiscales(4)["ome"]["multiscales"]
    for number, level in enumerate(image["datasets"]):
        scale, shift = (list(each.values())[1][0] for each in level["coordinateTransformations"])
        block = np.arange(3 * 2**number, 4 * 2**number)
        assert scale * 3 + shift == block.mean()


# Answers


def test_answers_say_what_they_are(served: Served, base: str) -> None:
    key = f"{base}/zarr/levels/0/c/0/0"
    whole = served.client.get(key)
    assert whole.status_code == 200
    assert len(whole.content) == TILE * TILE * 4
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["cache-control"] == "private, no-cache, no-transform"
    assert "content-encoding" not in whole.headers
    head = served.client.head(key)
    assert head.content == b""
    for name in ("content-length", "etag", "accept-ranges", "content-type"):
        assert head.headers[name] == whole.headers[name]
    document = served.client.get(f"{base}/zarr/zarr.json", headers={"Accept-Encoding": "gzip"})
    assert document.headers["content-type"] == "application/json"
    assert served.client.head(f"{base}/zarr/zarr.json").headers["content-length"] == str(
        len(document.content)
    )


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-19", slice(10, 20)),
        ("bytes=1048570-", slice(1048570, None)),
        ("bytes=-6", slice(-6, None)),
        ("bytes=-99999999", slice(None)),
        ("bytes=10-99999999", slice(10, None)),
    ],
)
def test_a_range_is_a_part_of_it(served: Served, base: str, asked: str, part: slice) -> None:
    key = f"{base}/zarr/levels/0/c/0/0"
    whole = served.client.get(key)
    found = served.client.get(key, headers={"Range": asked})
    assert found.status_code == 206
    assert found.content == whole.content[part]
    start, stop, _ = part.indices(len(whole.content))
    assert found.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole.content)}"
    tag = whole.headers["etag"]
    same = served.client.get(key, headers={"Range": asked, "If-Range": tag})
    assert same.content == found.content
    other = served.client.get(key, headers={"Range": asked, "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, whole.content)


def test_ranges_that_are_none(served: Served, base: str) -> None:
    key = f"{base}/zarr/levels/0/c/0/0"
    behind = served.client.get(key, headers={"Range": "bytes=1048576-"})
    assert (behind.status_code, behind.headers["content-range"]) == (416, "bytes */1048576")
    assert served.client.get(key, headers={"Range": "bytes=-0"}).status_code == 416
    for text in ("bytes=0-1,4-5", "bytes=5-4", "lines=0-1", "bytes=a-b", "bytes=-", "bytes"):
        assert served.client.get(key, headers={"Range": text}).status_code == 200


def test_what_a_client_has_is_not_computed_again(served: Served, base: str) -> None:
    key = f"{base}/zarr@3/levels/1/c/0/0"
    tag = served.client.head(key).headers["etag"]
    cache = served.service.arrays.cache
    before = cache.hits + cache.misses
    for listed in (tag, f'"a", W/{tag}', "*"):
        answer = served.client.get(key, headers={"If-None-Match": listed})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert cache.hits + cache.misses == before
    assert served.client.get(key, headers={"If-None-Match": '"other"'}).status_code == 200


def test_tags_differ_where_bytes_may(served: Served, base: str) -> None:
    keys = ("zarr/levels/0/c/0/0", "zarr/levels/0/c/0/1", "zarr@2/levels/0/c/0/0")
    assert len({served.client.head(f"{base}/{key}").headers["etag"] for key in keys}) == 3


@pytest.mark.parametrize("key", ["", ".zarray", "reconstruction", "reconstruction/c/3/0", "x/zarr.json"])
def test_what_is_in_no_grid_is_not_there(served: Served, base: str, key: str) -> None:
    assert served.client.get(f"{base}/zarr/{key}").status_code == 404


def test_more_triplets_than_there_are(served: Served, base: str) -> None:
    served.problem("GET", f"{base}/zarr@{K + 1}/levels/0/c/0/0", 422, "E_K")
    served.problem("GET", f"{base}/zarr@0/levels/0/c/0/0", 422, "E_REQUEST")


def test_a_result_that_is_nowhere_is_never_a_missing_chunk(served: Served) -> None:
    for result in (id_of_path(str(served.root / "nothing")), "0123456789"):
        for key in ("levels/0/c/0/0", "levels/1/c/0/0", "U/c/0/0", "s/c/0", "reconstruction/c/9/9"):
            for zarr_ in ("zarr", "zarr@2"):
                assert served.client.get(f"/v1/results/{result}/{zarr_}/{key}").status_code == GONE
    for key in ("levels/0/c/0/0", "s/c/0"):
        assert served.client.get(f"/v1/links/nothing/zarr/{key}").status_code == GONE
    assert served.client.get("/v1/results/0123456789/zarr/zarr.json").status_code == 404
    assert served.client.get("/v1/links/nothing/zarr/zarr.json").status_code == 404


# Who may read


def test_a_token_or_a_link_is_needed(tmp_path: Path) -> None:
    with serving(tmp_path, trusted=False) as served:
        path = served.root / "f"
        factors = publish(path, 60, 40)
        base = f"/v1/results/{id_of_path(str(path))}/zarr"
        key = f"{base}/levels/0/c/0/0"
        served.problem("GET", key, 401, "E_AUTH")
        secret, token = served.service.tokens.make("t", "ada", ("read",))
        bearer = {"Authorization": f"Bearer {secret}"}
        answer = served.client.get(key, headers=bearer)
        assert_same_bits(np.frombuffer(answer.content, "<f4").reshape(60, 40), factors[:])
        served.service.tokens.revoke(token.id)
        served.problem("GET", key, 401, "E_AUTH", headers={**bearer, "X-Another": "reader"})

        def refused() -> bool:
            return served.client.get(key, headers=bearer).status_code == 401

        wait_until(refused, 20, "a reader is looked at again, once a second")


def test_a_link_shows_as_many_triplets_as_it_says(served: Served, job: str) -> None:
    factors = open_factors(served.root / "of-job")
    secret, link = served.service.links.make(job, "ada", "", 3600.0, 3)
    base = f"/v1/links/{secret}"
    for address, k in ((f"{base}/zarr", 3), (f"{base}/zarr@2", 2)):
        answer = served.client.get(f"{address}/levels/0/c/0/0")
        part = factors.truncate(k)[:TILE, :TILE]
        assert_same_bits(np.frombuffer(answer.content, "<f4").reshape(TILE, TILE), part)
    served.problem("GET", f"{base}/zarr@4/zarr.json", 422, "E_K")
    assert str(served.root) not in served.client.get(f"{base}/zarr/zarr.json").text
    served.service.links.revoke(link.id)
    another = {"X-Another": "reader"}
    served.problem("GET", f"{base}/zarr/levels/0/c/0/0", GONE, "E_FACTORS", headers=another)


# What changes below a reader


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Served, str, Factors]]:
    """A service with a result that a test may change, and the address of that."""
    with serving(tmp_path) as served:
        factors = publish(served.root / "f")
        yield served, f"/v1/results/{id_of_path(str(served.root / 'f'))}/zarr", factors


def test_a_result_that_is_deleted_leaves_the_cache(own: tuple[Served, str, Factors]) -> None:
    served, base, _ = own
    assert served.client.get(f"{base}/levels/0/c/0/0").status_code == 200
    assert served.service.arrays.cache.held_bytes > 0
    shutil.rmtree(served.root / "f")
    assert served.client.get(f"{base}/levels/0/c/0/0").status_code == GONE
    assert served.service.arrays.cache.held_bytes == 0


def test_a_result_that_is_overwritten_has_another_id(own: tuple[Served, str, Factors]) -> None:
    """A reader of the first gets none of the second."""
    served, base, _ = own
    assert served.client.get(f"{base}/levels/0/c/0/0").status_code == 200
    other = publish(served.root / "f", seed=1, overwrite=True)
    served.problem("GET", f"{base}/levels/0/c/0/0", GONE, "E_FACTORS")
    served.problem("DELETE", base.removesuffix("/zarr"), GONE, "E_FACTORS")
    again = served.ask("GET", "/v1/results", params={"path": str(served.root / "f")})["links"]["zarr"]
    assert again != base
    found = np.frombuffer(served.client.get(f"{again}/levels/0/c/0/0").content, "<f4")
    assert_same_bits(found.reshape(TILE, TILE), other[:TILE, :TILE])


def test_whatever_is_at_a_path_is_read_anew(own: tuple[Served, str, Factors]) -> None:
    served, marked, _ = own
    base = f"{marked.partition('.')[0]}/zarr"
    before = served.client.get(f"{base}/levels/0/c/0/0")
    other = publish(served.root / "f", seed=1, overwrite=True)
    after = served.client.get(f"{base}/levels/0/c/0/0", headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.headers["etag"] != before.headers["etag"]
    assert_same_bits(np.frombuffer(after.content, "<f4").reshape(TILE, TILE), other[:TILE, :TILE])


def test_a_result_of_another_job_is_none_of_this_one(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        zarr.create_array(str(served.root / "a"), data=np.random.default_rng(0).random((50, 30)))
        first = served.done(source=str(served.root / "a"), k=3, out=str(served.root / "f"))
        key = f"/v1/results/{first['id']}/zarr/levels/0/c/0/0"
        assert served.client.get(key).status_code == 200
        second = served.done(source=str(served.root / "a"), k=2, out=str(served.root / "f"), overwrite=True)
        served.problem("GET", key, GONE, "E_FACTORS")
        served.problem("DELETE", f"/v1/results/{first['id']}", GONE, "E_FACTORS")
        assert served.client.get(key.replace(first["id"], second["id"])).status_code == 200


def test_what_is_read_while_it_is_replaced_is_not_given(tmp_path: Path) -> None:
    path = tmp_path / "f"
    publish(path)
    result = Arrays(2**20).opened(path)
    publish(path, seed=1, overwrite=True)
    with pytest.raises(FactorStoreError, match="deleted or overwritten"):
        result.value(K, "levels/0/c/0/0")


def test_a_damaged_factor_is_refused(own: tuple[Served, str, Factors]) -> None:
    served, base, _ = own
    chunk = served.root / "f" / "U" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[5] ^= 1
    chunk.write_bytes(bytes(data))
    served.problem("GET", f"{base}/levels/0/c/0/0", GONE, "E_FACTORS")
    chunk.unlink()
    served.problem("GET", f"{base}/levels/0/c/0/0", GONE, "E_FACTORS")
    served.problem("GET", f"{base}/levels/1/c/0/0", GONE, "E_FACTORS")


class Proxy:
    """Between a reader and the application: says `status` to whatever asks for a chunk, once it is set."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.status: int | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.status is None or "/c/" not in scope["path"]:
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"\0" * 64})


def walked(array: Any, whole: np.ndarray, event: Callable[[], None]) -> list[str]:
    """What a reader got of each chunk; the event is before the third."""
    found = []
    for number, box in enumerate(boxes(array)):
        if number == 2:
            event()
        try:
            block = np.asarray(array[box])
        except Exception:  # noqa: BLE001 - whatever a reader raises, it is no number
            found.append("refused")
            continue
        equal = np.allclose(block, whole[box], atol=1e-5)
        found.append("equal" if equal else "nan" if np.isnan(block).all() else "wrong")
    return found


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("event", "then"), [("revoked", "refused"), (502, "refused"), (404, "nan")])
def test_a_reader_that_is_cut_off_never_sees_a_zero(
    served: Served,
    job: str,
    reader: Callable[[str], Any],
    event: str | int,
    then: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served.service.arrays, "recent", Recent(0.0, 1))
    secret, link = served.service.links.make(job, "ada", "", 3600.0)
    proxy = Proxy(create_app(served.service))

    def happen() -> None:
        if isinstance(event, int):
            proxy.status = event
        else:
            served.service.links.revoke(link.id)

    with listening(proxy) as url:
        array = zarr.open_array(reader(f"{url}/v1/links/{secret}/zarr/levels/0"), mode="r")
        found = walked(array, open_factors(served.root / "of-job")[:], happen)
    assert found == ["equal"] * 2 + [then] * 4


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_of_a_result_that_is_deleted_never_sees_a_zero(
    own: tuple[Served, str, Factors], reader: Callable[[str], Any]
) -> None:
    served, base, factors = own
    whole = factors[:]
    with listening(create_app(served.service)) as url:
        array = zarr.open_array(reader(f"{url}{base}/levels/0"), mode="r")
        found = walked(array, whole, lambda: shutil.rmtree(factors.path))
    assert found == ["equal"] * 2 + ["refused"] * 4


# The cache


def test_blocks_are_read_once_for_all_ranks_and_levels(own: tuple[Served, str, Factors]) -> None:
    served, base, _ = own
    cache = served.service.arrays.cache
    assert served.client.get(f"{base}/levels/0/c/0/0").status_code == 200
    misses = cache.misses
    for key in ("zarr@2/levels/0/c/0/0", "zarr/levels/0/c/0/0", "zarr@1/U/c/0/0"):
        assert served.client.get(f"{base.removesuffix('/zarr')}/{key}").status_code == 200
    assert cache.misses == misses
    assert served.client.get(f"{base}/levels/1/c/0/0").status_code == 200
    misses = cache.misses
    assert served.client.get(f"{base}@3/levels/1/c/0/0").status_code == 200
    assert cache.misses == misses
