"""scikit-learn's PCA and TruncatedSVD of data that need not fit memory; needs the extra ``sklearn``."""

from __future__ import annotations

try:
    from bigsvd.estimators.pca import PCA
    from bigsvd.estimators.truncated_svd import TruncatedSVD
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise ModuleNotFoundError(
        "bigsvd.estimators needs scikit-learn; pip install 'bigsvd[sklearn]'", name="sklearn"
    ) from error

__all__ = ["PCA", "TruncatedSVD"]
