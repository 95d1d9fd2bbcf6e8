"""El Niño as the first mode of the sea's surface temperature, with weights by area and land left out.

pip install ".[xarray]" eofs scipy && python examples/eof.py
"""

from importlib.resources import files

import xarray as xr

import bigsvd

data = files("eofs") / "examples" / "example_data" / "sst_ndjfm_anom.nc"
with xr.open_dataset(str(data), engine="scipy") as opened:
    sst = opened["sst"].load()  # winters of the Pacific; a large field is left on its disk

eof = bigsvd.EOF(n_modes=8, use_coslat=True).fit(sst, dim="time")
print(f"mode 1 explains {float(eof.explained_variance_ratio()[0]):.2%} of the variance")

index = eof.scores(normalized=True).sel(mode=1)
east = sst.sel(latitude=slice(-5, 5), longitude=slice(190, 240)).mean(["latitude", "longitude"])
print(f"its scores and the Niño 3.4 index correlate by {abs(float(xr.corr(index, east))):.3f}")

smooth = eof.inverse_transform(eof.scores().sel(mode=[1, 2]))
print(f"two modes leave {float((sst - smooth).std()):.2f} of {float(sst.std()):.2f} K")
eof.plot("eof.png", n_modes=3)
