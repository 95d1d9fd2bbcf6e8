"""What a request may not do: lead out of the roots, come from anywhere, be of any size, come from anybody."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigsvd.errors import BadInputError, OutputExistsError, OutsideRootsError, PathError, UrlError
from bigsvd.jobs.bounds import Bounds
from bigsvd.jobs.driver import Driver
from bigsvd.jobs.record import Launch, Record, Terms
from bigsvd.jobs.submit import take_in
from bigsvd.request import Request
from bigsvd.service.roots import Roots
from bigsvd.service.settings import Settings
from bigsvd.service.users import User

FIELDS = (
    "source",
    "out",
    "stage",
    "warm_start",
    "offset",
    "scale",
    "weights",
    "row_weights",
    "rows",
    "cols",
)
# What is sent, and the errors that may answer it. {top} is the folder around the root.
ATTACKS: dict[str, tuple[str, type[BadInputError]]] = {
    "upwards": ("../secret", OutsideRootsError),
    "far upwards": ("../../../../../../../../etc/passwd", OutsideRootsError),
    "upwards inside": ("data/../../secret", OutsideRootsError),
    "upwards behind what is not there": ("nowhere/../../secret", OutsideRootsError),
    "absolute": ("/etc/passwd", OutsideRootsError),
    "the root of all": ("/", OutsideRootsError),
    "absolute neighbour": ("{top}/secret", OutsideRootsError),
    "a name that begins as the root's": ("{top}/root-of-another", OutsideRootsError),
    "two slashes": ("//etc/passwd", OutsideRootsError),
    "through proc": ("/proc/self/root/etc/passwd", OutsideRootsError),
    "a device": ("/dev/zero", OutsideRootsError),
    "escaped dots": ("%2e%2e/%2e%2e/secret", PathError),
    "escaped slashes": ("..%2fsecret", PathError),
    "escaped twice": ("%252e%252e%252fsecret", PathError),
    "an escaped NUL": ("data%00.zarr", PathError),
    "NUL": ("data\0/../../secret", PathError),
    "a line end": ("data\n/etc/passwd", PathError),
    "half a letter": ("data\ud800", PathError),
    "letters that turn the line": ("data\u202egnp", PathError),
    "a home": ("~/secret", PathError),
    "another's home": ("~root/secret", PathError),
    "a drive": ("C:\\Windows\\win.ini", PathError),
    "a drive with slashes": ("C:/Windows/win.ini", UrlError),
    "backslashes": ("..\\..\\secret", PathError),
    "a share": ("\\\\server\\share", PathError),
    "blank": ("  ", PathError),
    "a long name": ("a" * 300, PathError),
    "a long path": ("a/" * 3000, PathError),
    "a link out": ("link-out", OutsideRootsError),
    "a link out and in": ("link-up/root/../secret", OutsideRootsError),
    "a chain of links out": ("link-to-link", OutsideRootsError),
    "a link in a circle": ("circle", PathError),
    "the server's own folder": ("state/service.db", OutsideRootsError),
    "a file URL": ("file:///etc/passwd", UrlError),
    "a file URL with one slash": ("file:/etc/passwd", UrlError),
    "a file URL with a host": ("FILE://localhost/etc/passwd", UrlError),
    "a chain": ("simplecache::file:///etc/passwd", UrlError),
    "a chain of paths": ("zip::../secret.zip", UrlError),
    "a bucket": ("s3://another/data.zarr", UrlError),
    "a bucket that begins as an allowed one": ("s3://open-to-all/data.zarr", UrlError),
    "beside the allowed folder": ("s3://open/to-all/data.zarr", UrlError),
    "upwards in an allowed bucket": ("s3://open/to/../private", UrlError),
    "upwards at the end": ("s3://open/to/..", UrlError),
    "escaped, upwards, in an allowed bucket": ("s3://open/to/%2e%2e/private", UrlError),
    "an allowed bucket in a chain": ("zip::s3://open/to/a.zip", UrlError),
    "another endpoint": ("s3://open/to/a?endpoint=http://10.0.0.1", UrlError),
    "a password": ("https://user:pass@data.example/a.zarr", UrlError),
    "an allowed host as a user": ("https://data.example@10.0.0.1/a.zarr", UrlError),
    "link-local": ("http://169.254.169.254/latest/meta-data", UrlError),
    "private": ("http://10.0.0.1/a.zarr", UrlError),
    "this machine": ("http://localhost:8765/a.zarr", UrlError),
    "this machine, as a number": ("http://2130706433/a.zarr", UrlError),
    "this machine, mapped": ("http://[::ffff:127.0.0.1]/a.zarr", UrlError),
    "another protocol": ("gopher://data.example/a", UrlError),
    "code": ("python://os.system", UrlError),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A root with links of every kind, beside what nobody may reach."""
    root = tmp_path / "root"
    for name in ("secret", "root-of-another", "root/data", "stage/root"):
        (tmp_path / name).mkdir(parents=True)
    for folder in (root, tmp_path / "stage"):
        (folder / "link-out").symlink_to(tmp_path / "secret")
        (folder / "link-up").symlink_to(tmp_path)
        (folder / "link-to-link").symlink_to("link-out")
        (folder / "circle").symlink_to("circle")
    (root / "link-in").symlink_to("data")
    return Settings(
        state=root / "state",
        roots=(root,),
        stage=tmp_path / "stage",
        urls=("s3://open/to", "https://data.example"),
    )


@pytest.fixture
def roots(settings: Settings) -> Roots:
    return Roots(settings)


def request(**fields: Any) -> Request:
    given: dict[str, Any] = {"source": "data", "k": 2, "out": "result"} | fields
    return Request.of(**given)


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_leads_out_of_the_roots(roots: Roots, tmp_path: Path, field: str) -> None:
    for what, (text, refusal) in ATTACKS.items():
        attack = text.replace("{top}", str(tmp_path))
        if field == "out" and "://" in attack:
            with pytest.raises(BadInputError, match="is a URL"):  # no request at all
                request(out=attack)
            continue
        asked = request(**{field: attack})
        if field == "stage" and attack in ("state/service.db", "link-up/root/../secret"):
            continue  # there it is a name like others
        with pytest.raises((PathError, UrlError)) as caught:
            roots.request(asked)
        assert type(caught.value) is refusal, what
        assert str(tmp_path / "secret") not in str(caught.value).replace(attack, ""), what


def test_what_is_handed_on_has_no_links(roots: Roots, settings: Settings) -> None:
    root = settings.roots[0]
    asked = request(
        source="link-in/a.zarr.zip/inner", out="new/result", warm_start="data/../data/old", rows="0:10",
        cols="link-in/cols.npy", scale="std", weights="s3://open/to/weights", stage="panels",
    )  # fmt: skip
    found = roots.request(asked)
    assert found.source == str(root / "data/a.zarr.zip/inner")
    assert found.out == str(root / "new/result")
    assert found.warm_start == str(root / "data/old")
    assert (found.rows, found.cols) == ("0:10", str(root / "data/cols.npy"))
    assert (found.scale, found.weights) == (True, "s3://open/to/weights")
    assert found.stage == str(settings.stage) + "/panels"
    assert roots.request(found) == found


@pytest.mark.parametrize("name", ["%41", "a b", "ab:c", "Ärger", "‥/secret", "$HOME", "-", "a::".strip(":")])
def test_odd_names_below_a_root_are_names(roots: Roots, settings: Settings, name: str) -> None:
    assert Path(roots.source(name)).is_relative_to(settings.roots[0])


@pytest.mark.parametrize(
    "out", [".", "data/..", "other.job", "other.job/attempts", "a.scratch/b", ".hidden", "a/.b/c"]
)
def test_no_output_is_a_root_or_a_part_of_what_bigsvd_keeps(roots: Roots, out: str) -> None:
    with pytest.raises(PathError):
        roots.output(out)


def test_several_roots_each_hold_what_is_named_by_its_whole_path(tmp_path: Path) -> None:
    folders = (tmp_path / "one", tmp_path / "other")
    roots = Roots(Settings(state=tmp_path / "state", roots=folders))
    assert roots.source("a") == str(folders[0] / "a")
    assert roots.source(str(folders[1] / "a")) == str(folders[1] / "a")
    assert roots.source(f"../other/{'a'}") == str(folders[1] / "a")


def test_without_a_stage_nothing_is_staged(settings: Settings) -> None:
    with pytest.raises(PathError, match="nothing may be staged"):
        Roots(replace(settings, stage=None)).request(request(stage="panels"))


@pytest.mark.parametrize("url", ["s3://", "https:///a", "s3:bucket", "bucket"])
def test_an_allowed_url_names_a_host(settings: Settings, url: str) -> None:
    with pytest.raises(UrlError, match="names no bucket or host"):
        Roots(replace(settings, urls=(url,)))


def test_bounds_travel_as_json(roots: Roots) -> None:
    launch = Launch("tcp://somewhere:8786", bounds=roots.bounds)
    assert Launch.from_dict(asdict(launch)) == launch
    assert Launch.from_dict({}).bounds is None


def unheard(event: object) -> None:
    del event


def test_a_link_put_in_the_way_after_the_check_is_found_by_the_driver(
    roots: Roots, settings: Settings, tmp_path: Path
) -> None:
    """Checked at the door, swapped while the job waits in line: the driver refuses, and reads nothing."""
    root, secret = settings.roots[0], tmp_path / "secret"
    for folder in (root / "data", secret):
        np.save(folder / "a.npy", np.random.default_rng(0).standard_normal((30, 10)))
    asked = roots.request(request(source="data/a.npy", out="result"))
    take_in(asked, Terms(), secrets={})
    (root / "data").rename(root / "moved")
    (root / "data").symlink_to(secret)
    driver = Driver(Record(root / "result"), Launch(bounds=roots.bounds), {}, unheard)
    with pytest.raises(OutsideRootsError, match="outside of what this service may touch"):
        driver.drive()
    assert not (root / "result").exists()
    (root / "data").unlink()
    (root / "data").symlink_to("moved")  # inside, but not where it was
    again = Driver(Record(root / "result"), Launch(bounds=roots.bounds), {}, unheard)
    record = Record(root / "result")
    record.hand_to(Launch(bounds=roots.bounds))
    with pytest.raises(OutsideRootsError, match="leads elsewhere than when it was submitted"):
        again.drive()


def test_a_link_swapped_while_the_source_is_opened_is_found(
    roots: Roots, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the driver's check and its first read: what was opened then is not decomposed."""
    root, secret = settings.roots[0], tmp_path / "secret"
    for folder in (root / "data", secret):
        np.save(folder / "a.npy", np.random.default_rng(0).standard_normal((30, 10)))
    asked = roots.request(request(source="data/a.npy", out="result"))
    take_in(asked, Terms(), secrets={})
    check = Bounds.check_same

    def and_swap(bounds: Bounds, request: Request) -> None:
        check(bounds, request)
        (root / "data").rename(root / "moved")
        (root / "data").symlink_to(secret)

    monkeypatch.setattr(Bounds, "check_same", and_swap)
    driver = Driver(Record(root / "result"), Launch(bounds=roots.bounds), {}, unheard)
    with pytest.raises(OutsideRootsError):
        driver.drive()
    assert not (root / "result").exists()


def test_only_results_of_ones_own_jobs_are_replaced(roots: Roots, settings: Settings) -> None:
    root = settings.roots[0]
    np.save(root / "data/a.npy", np.random.default_rng(0).standard_normal((30, 10)))
    asked = roots.request(request(source="data/a.npy", out="result", overwrite=True))
    mine, other = User("ann", frozenset({"submit"})), User("bob", frozenset({"submit"}))
    roots.check_overwrite(asked, other)  # nothing is there
    job, _ = take_in(asked, Terms(), secrets={})
    (root / "result").mkdir()
    owner = User(job.record.asked().owner, frozenset({"submit"}))
    roots.check_overwrite(asked, owner)
    roots.check_overwrite(asked, User("root", frozenset({"admin"})))
    for someone in (mine, other):
        with pytest.raises(OutputExistsError, match=f"a result of {owner.name}"):
            roots.check_overwrite(asked, someone)
    (root / "by-hand").mkdir()
    with pytest.raises(OutputExistsError, match="a result of nobody here"):
        roots.check_overwrite(replace(asked, out=str(root / "by-hand")), owner)
