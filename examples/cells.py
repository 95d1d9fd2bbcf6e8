"""Principal components of cells, from the sparse counts of an AnnData store and back into it.

pip install ".[sparse]" && python examples/cells.py
"""

import numpy as np
import zarr
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix

from bigsvd.anndata import pca

random = np.random.default_rng(0)
kinds = random.integers(0, 4, 3000)  # of which each expresses other genes more
rates = random.gamma(0.3, 0.2, 1000) * np.where(random.random((4, 1000)) < 0.05, 20, 1)[kinds]
counts = csr_matrix(random.poisson(rates * random.gamma(4, 0.25, (3000, 1))).astype(np.float32))
store = zarr.create_group("cells.zarr", attributes={"encoding-type": "anndata"}, overwrite=True)
about = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(counts.shape)}
matrix = store.create_group("X", attributes=about)
for part in ("data", "indices", "indptr"):
    matrix.create_array(part, data=getattr(counts, part))

factors = pca("cells.zarr", 10, normalize=1e4, log1p=True, memory="500MB")
leading, residual = factors.explained_variance()[:5].round(1), factors.certificate.max_residual
print(f"{counts.nnz} counts, variances {leading}, with residuals below {residual:.0e}")
axes = (figure := Figure(figsize=(6, 5), layout="constrained")).subplots()
axes.scatter(*store["obsm/X_pca"][:, :2].T, c=kinds, cmap="tab10", s=4)
axes.set(xlabel="PC 1", ylabel="PC 2", title="Cells of four kinds by principal components")
figure.savefig("cells.png", dpi=120)
