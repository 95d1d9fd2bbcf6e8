"""Recommendation by PureSVD: unobserved is 0, scores are r·V·Vᵀ (Cremonesi, Koren & Turrin 2010, 3.2)."""

from bigsvd.recommend.evaluation import evaluate
from bigsvd.recommend.ratings import from_table
from bigsvd.recommend.recommender import Recommender

__all__ = ["Recommender", "evaluate", "from_table"]
