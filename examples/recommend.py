"""Films that users have not seen, from a table of ratings; and the rank at which hidden ones are found best.

pip install ".[sparse]" && python examples/recommend.py
"""

from pathlib import Path

import numpy as np

import bigsvd
from bigsvd.recommend import Recommender, evaluate, from_table

random = np.random.default_rng(0)  # 800 users who like one of 8 genres, of 40 films each, the first the most
liked = random.integers(0, 8, (800, 1))
genres = np.where(random.random((800, 40)) < 0.7, liked, random.integers(0, 8, (800, 40)))
films = np.minimum(random.exponential(9, (800, 40)).astype(int), 39)
seen = {f"u{user},genre{genres[user, i]}-film{films[user, i]},1\n" for user in range(800) for i in range(40)}
Path("ratings.csv").write_text("user,item,rating\n" + "".join(sorted(seen)))

ratings = from_table("ratings.csv", "ratings.zarr", overwrite=True)  # a sparse matrix, read part by part
factors = bigsvd.svd(ratings, 8, "factors.zarr", memory="500MB", overwrite=True)
by = Recommender(factors)
best = [by.items[item] for item in by.recommend("u42", n=5).items[0]]
print(f"u42 likes genre {liked[42, 0]} and has not seen", *best)
print("like", by.items[0], "are", *[by.items[item] for item in by.similar(0, n=3).items[0]])

found = evaluate(ratings, [1, 2, 4, 8, 16, 32])  # one in five of each user's is hidden
print(found.text)
found.plot("recommend.png")
