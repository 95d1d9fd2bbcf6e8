"""Principal components in a scikit-learn pipeline, of pictures in a Zarr array that is read part by part.

pip install ".[sklearn]" && python examples/pca.py
"""

import zarr
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from bigsvd.estimators import PCA

pictures, digits = load_digits(return_X_y=True)
for name, part in {"pictures.zarr": pictures, "unseen.zarr": pictures[1500:]}.items():
    zarr.create_array(name, data=part / 16, chunks=(300, 64), overwrite=True)

pca = PCA(20, memory="1GB").fit("pictures.zarr")
residual, explained = pca.certificate_.max_residual, pca.explained_variance_ratio_.sum()
print(f"20 of {pca.n_features_in_} components, with residuals below {residual:.1e}, explain {explained:.1%}")

model = make_pipeline(PCA(20), LogisticRegression(max_iter=500)).fit(pictures[:1500] / 16, digits[:1500])
print(f"accuracy on unseen pictures {model.score('unseen.zarr', digits[1500:]):.3f}")

axes = (figure := Figure(figsize=(7, 6), layout="constrained")).subplots()
points = axes.scatter(*pca.transform("pictures.zarr").T[:2], c=digits, cmap="tab10", s=9, vmin=-0.5, vmax=9.5)
figure.colorbar(points, ticks=range(10), label="digit")
axes.set(xlabel="PC 1", ylabel="PC 2", title="Handwritten digits by their first two principal components")
figure.savefig("pca.png", dpi=120)
