"""One file a method: it works towards a `Goal` on a `Matrix`, and ends with a `Solution`.

The way of an iteration, from file to file:
`krylov` (its first block from `starts`) -> `anytime.iterate`, the loop: `iteration.advance` makes one pass
(`products.product_pass` -> `matrix.spec` -> execution), `stopping` judges the answer, `krylov.extend` chooses
the next block; at the end `result.finish_iteration` forms the triplets.
"""
