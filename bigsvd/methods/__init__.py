"""One file a method: it works towards a `Goal` on a `Matrix`, and ends with a `Solution`.

The way of an iteration, from file to file:
`krylov` (its first block from `starts`) -> `anytime.iterate`, the loop: `iteration.advance` makes one pass
(`products.product_pass` -> `matrix.spec` -> execution), `stopping` judges the `estimate` that it allows,
`krylov.extend` chooses the next block; at the end `extraction` forms the triplets of the subspace.
"""
