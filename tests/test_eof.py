"""`EOF`: the numbers of eofs, labels, weights, several variables, and ways back and forth."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import bigsvd
from bigsvd.errors import ColumnsError, NonFiniteError, RequestError, SourceError

DATA = files("eofs") / "tests" / "data"
K = 3


def of_eofs(name: str) -> np.ndarray:
    return np.asarray(np.load(str(DATA / f"{name}.npy")))


def sea() -> xr.DataArray:
    """Sea surface temperature (time, latitude, longitude), 21 of 198 places on land."""
    values = of_eofs("sst")
    values = values.reshape(len(values), *values.shape[-2:])
    coords = {
        "time": np.arange(len(values)).astype("datetime64[Y]"),
        "latitude": of_eofs("latitude").reshape(-1),
        "longitude": of_eofs("longitude").reshape(-1),
    }
    return xr.DataArray(values, coords=coords, dims=tuple(coords), name="sst", attrs={"units": "degC"})


def signed(found: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Modes (k, ...) with the signs that others have."""
    axes = tuple(range(1, found.ndim))
    return np.asarray(found * np.sign(np.nansum(found * like, axis=axes, keepdims=True)))


@pytest.fixture(scope="module")
def fitted() -> bigsvd.EOF:
    return bigsvd.EOF(n_modes=K, use_coslat=True).fit(sea(), dim="time")


def test_the_numbers_of_eofs(fitted: bigsvd.EOF) -> None:
    wanted = {name: of_eofs(f"{name}.latitude")[:K] for name in ("eigenvalues", "variance", "errors", "eofs")}
    np.testing.assert_allclose(fitted.explained_variance(), wanted["eigenvalues"], rtol=1e-6)
    np.testing.assert_allclose(fitted.explained_variance(), [14.29362476, 4.93104282, 2.18904553], rtol=1e-6)
    np.testing.assert_allclose(100 * fitted.explained_variance_ratio(), wanted["variance"], rtol=1e-6)
    np.testing.assert_allclose(fitted.north_test(), wanted["errors"], rtol=1e-6)
    scaled = of_eofs("scaled_errors.latitude")[:K]
    np.testing.assert_allclose(fitted.north_test(vfscaled=True), scaled, rtol=1e-6)
    modes = wanted["eofs"].reshape(K, *sea().shape[1:])
    np.testing.assert_allclose(signed(fitted.components().to_numpy(), modes), modes, atol=1e-6)
    scores = of_eofs("pcs.latitude")[:, :K].T
    np.testing.assert_allclose(signed(fitted.scores().to_numpy().T, scores), scores, atol=1e-5)


def assert_same(found: Any, wanted: Any, atol: float = 1e-8) -> None:
    xr.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


def test_what_is_given_back_is_labelled(fitted: bigsvd.EOF) -> None:
    field, modes, scores = sea(), fitted.components(), fitted.scores()
    assert (modes.name, modes.dims) == ("components", ("mode", "latitude", "longitude"))
    assert (scores.name, scores.dims) == ("scores", ("time", "mode"))
    assert modes.mode.to_numpy().tolist() == scores.mode.to_numpy().tolist() == [1, 2, 3]
    for name in ("latitude", "longitude"):
        xr.testing.assert_identical(modes[name], field[name])
    xr.testing.assert_identical(scores["time"], field["time"])
    land = np.isnan(field[0].to_numpy())
    np.testing.assert_array_equal(np.isnan(modes[1].to_numpy()), land)
    assert fitted.singular_values().dims == fitted.north_test().dims == ("mode",)
    norms = (scores**2).sum("time") ** 0.5
    np.testing.assert_allclose(norms, fitted.singular_values(), rtol=1e-9)
    np.testing.assert_allclose(((modes**2).sum(["latitude", "longitude"])), 1.0, rtol=1e-9)
    s = fitted.singular_values().to_numpy()
    np.testing.assert_allclose(fitted.scores(normalized=True) * s, scores, atol=1e-12)
    scaled = fitted.components(normalized=False).to_numpy()
    np.testing.assert_allclose(scaled, modes.to_numpy() * s[:, None, None], atol=1e-12)


@pytest.mark.parametrize("standardize", [False, True])
def test_there_and_back(standardize: bool) -> None:
    """With all modes the field comes back in its own units, and its scores as they were fitted."""
    field = sea()
    whole = bigsvd.EOF(14, use_coslat=True, standardize=standardize).fit(field, "time")
    back = whole.inverse_transform(whole.scores())
    assert_same(back, field)
    assert back.attrs == field.attrs
    assert_same(whole.transform(field), whole.scores())
    assert_same(
        whole.transform(field.transpose("longitude", "time", "latitude")[:, 3:5]), whole.scores()[3:5]
    )
    some = whole.scores(normalized=True).sel(mode=[1, 4])
    parts = [whole.inverse_transform(whole.scores().sel(mode=mode)) for mode in (1, 4)]
    mean = field.mean("time")
    assert_same(whole.inverse_transform(some, normalized=True), parts[0] + parts[1] - mean, atol=1e-7)
    if standardize:
        shares = whole.explained_variance_ratio().to_numpy()
        assert abs(shares.sum() - 1) < 1e-9


@pytest.mark.parametrize("form", ["list", "dataset"])
def test_several_variables_are_those_of_eofs(form: str) -> None:
    """The field in two parts, each weighted by area, as `MultivariateEof` of eofs has them."""
    field, weights = sea(), of_eofs("weights.area_multi")
    cuts = slice(0, 9), slice(9, 18)
    parts: Any = [field[:, :, cut] for cut in cuts]
    given: Any = [weights[:, cut] for cut in cuts]
    if form == "dataset":
        parts = [part.drop_vars("longitude").rename(longitude=f"x{i}") for i, part in enumerate(parts)]
        parts = xr.Dataset({"west": parts[0], "east": parts[1].transpose("x1", "latitude", "time")})
        names = {"west": ("latitude", "x0"), "east": ("latitude", "x1")}
        given = xr.Dataset(
            {name: (dims, part) for (name, dims), part in zip(names.items(), given, strict=True)}
        )
    fitted = bigsvd.EOF(K).fit(parts, "time", weights=given)
    wanted = of_eofs("eigenvalues.area_multi")[:K]
    np.testing.assert_allclose(fitted.explained_variance(), wanted, rtol=1e-6)
    modes = fitted.components()
    if form == "dataset":
        assert set(modes.data_vars) == {"west", "east"}
        modes = [modes["west"], modes["east"].transpose("mode", "latitude", "x1")]
    both = np.concatenate([mode.to_numpy() for mode in modes], axis=2)
    like = of_eofs("eofs.area_multi")[:K]
    np.testing.assert_allclose(signed(both, like), like, atol=1e-6)
    assert_same(fitted.transform(parts), fitted.scores())
    back = fitted.inverse_transform(fitted.scores())
    rest = (parts - back)["west"] if form == "dataset" else parts[0] - back[0]
    assert float((rest**2).mean()) < float(field.var("time").mean())


def test_weights_by_name_and_along_one_axis() -> None:
    """√cos(latitude) by hand is `use_coslat`; both multiply."""
    field = sea()
    cosine = np.sqrt(np.cos(np.deg2rad(field["latitude"])))
    by_hand = bigsvd.EOF(K).fit(field, "time", weights=cosine)
    np.testing.assert_allclose(by_hand.explained_variance(), [14.29362476, 4.93104282, 2.18904553], rtol=1e-6)
    twice = bigsvd.EOF(K, use_coslat=True).fit(field, "time", weights=cosine)
    squared = bigsvd.EOF(K).fit(field, "time", weights=cosine**2)
    np.testing.assert_allclose(twice.singular_values(), squared.singular_values(), rtol=1e-12)


def test_a_field_on_a_disk_is_read_part_by_part(tmp_path: Path) -> None:
    """From Zarr, by Dask or without: the same modes; what is made of scores is computed later."""
    field = sea()
    field.to_dataset().to_zarr(tmp_path / "a.zarr", encoding={"sst": {"chunks": (4, 6, 7)}}, zarr_format=2)
    wanted = bigsvd.EOF(K, use_coslat=True).fit(field, "time")
    ways: tuple[Any, ...] = ({}, None)
    for chunks in ways:
        there = xr.open_zarr(tmp_path / "a.zarr", chunks=chunks)["sst"]
        found = bigsvd.EOF(K, use_coslat=True).fit(there, "time")
        assert_same(found.components(), wanted.components())
        assert_same(found.transform(there[2:9]), wanted.scores()[2:9])
        back = found.inverse_transform(found.scores())
        assert back.chunks is not None
        assert_same(back.compute(), wanted.inverse_transform(wanted.scores()))
        pair = bigsvd.EOF(K).fit([there, 2 * there], "time")
        assert_same(pair.components()[1], 2 * pair.components()[0], atol=1e-6)


def test_stations_along_one_axis_whatever_lies_first() -> None:
    random = np.random.default_rng(0)
    field = xr.DataArray(random.standard_normal((6, 40)), dims=("station", "time"), name="t")
    fitted = bigsvd.EOF(2).fit(field, "time")
    assert (fitted.scores().shape, fitted.components().dims) == ((40, 2), ("mode", "station"))
    assert_same(fitted.transform(field), fitted.scores())


def test_pictures_of_modes(tmp_path: Path, fitted: bigsvd.EOF) -> None:
    fitted.plot(tmp_path / "a.png", n_modes=9)
    levels = sea().expand_dims(level=[500, 850], axis=1)
    several = xr.Dataset({"t": levels, "zonal": sea().mean("longitude")})
    bigsvd.EOF(1).fit(several, "time").plot(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_what_is_refused(fitted: bigsvd.EOF) -> None:
    field = sea()
    gaps = field.copy()
    gaps[4, 10, 10] = np.nan
    with pytest.raises(NonFiniteError):
        bigsvd.EOF(2).fit(gaps, "time")
    assert np.isnan(fitted.transform(gaps)[4]).all()
    assert np.isfinite(fitted.transform(gaps)[5]).all()
    with pytest.raises(RequestError, match="axes time, latitude, longitude"):
        bigsvd.EOF(2).fit(field, "member")
    with pytest.raises(RequestError, match="names 2 axes of samples"):
        bigsvd.EOF(2).fit(field, ("time", "latitude"))
    with pytest.raises(RequestError, match="none of the coordinates of sst is a latitude: x, longitude"):
        bigsvd.EOF(2, use_coslat=True).fit(field.rename(latitude="x"), "time")
    with pytest.raises(RequestError, match=r"weights of shape \(7,\)"):
        bigsvd.EOF(2).fit(field, "time", weights=np.ones(7))
    with pytest.raises(RequestError, match="other samples along time"):
        bigsvd.EOF(2).fit([field, field[1:]], "time")
    with pytest.raises(SourceError, match="ndarray is no labelled field"):
        bigsvd.EOF(2).fit(field.to_numpy(), "time")
    with pytest.raises(ColumnsError, match="another coordinate latitude"):
        fitted.transform(field[:, ::-1])
    with pytest.raises(ColumnsError, match="latitude=11, longitude=9, it was fitted on"):
        fitted.transform(field[:, :, :9])
    with pytest.raises(ColumnsError, match="list is given for a DataArray of 1 variables"):
        fitted.transform([field])
    with pytest.raises(RequestError, match="was not fitted"):
        bigsvd.EOF(2).scores()
    for given in ({"scale": True}, {"seed": 1}, {"functions": ["log1p"]}):
        options: dict[str, Any] = given
        with pytest.raises(RequestError, match=f"'{next(iter(options))}' is decided by EOF"):
            bigsvd.EOF(2, **options)
    pair = bigsvd.EOF(2).fit([field, field], "time")
    later = field.assign_coords(time=np.arange(len(field)) + 1000)
    with pytest.raises(RequestError, match="other samples along time"):
        pair.transform([field, later])


def test_one_map_is_made_of_the_scores_of_one_sample(fitted: bigsvd.EOF) -> None:
    scores = fitted.scores()
    whole, one = fitted.inverse_transform(scores), fitted.inverse_transform(scores.isel(time=3))
    np.testing.assert_allclose(one.to_numpy()[0], whole.to_numpy()[3], atol=1e-12)


def test_the_poles_have_no_weight() -> None:
    field = sea()
    latitudes = np.linspace(-90, 90, field.sizes["latitude"])
    eof = bigsvd.EOF(2, use_coslat=True).fit(field.assign_coords(latitude=latitudes), "time")
    found = eof.components().to_numpy()
    np.testing.assert_array_equal(np.nan_to_num(found[:, [0, -1]]), 0)
    assert np.isnan(eof.inverse_transform(eof.scores()).to_numpy()[:, [0, -1]]).all()
