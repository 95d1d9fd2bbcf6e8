"""Ancestry of simulated people of five populations, with an inversion, and of new people by OADP.

pip install . && python examples/genetics.py
"""

import numpy as np
import zarr

from bigsvd.genetics import pca

random, people = np.random.default_rng(0), np.repeat(["A", "B", "C", "D", "E"], 90)
ancestor = random.uniform(0.1, 0.9, (8000, 1))
frequencies = random.beta(50 * ancestor, 50 * (1 - ancestor), (8000, 5))  # Balding & Nichols 1995, Fst 0.02
calls = (random.random((8000, 450, 2)) < frequencies.repeat(90, axis=1)[..., None]).astype("i1")
calls[5000:5200] = calls[5000] ^ (random.random((200, 450, 2)) < 0.1)  # inherited as one
seen = np.arange(450) % 5 > 0
for name, some in {"cohort.vcz": seen, "new.vcz": ~seen}.items():
    store = zarr.create_group(name, overwrite=True)  # as bio2zarr makes them of VCF
    store.create_array("call_genotype", data=calls[:, some])
    store.create_array("variant_contig", data=np.arange(8000) // 2000)
    store.create_array("variant_position", data=np.arange(8000) % 2000 * 50_000)

found = pca("cohort.vcz", 6, maf=0.01)
print(found.polymorphic, "variants, p-values", *(f"{test.p_value:.0e}" for test in found.tracy_widom()))
for method in ("simple", "oadp"):
    spread = found.project("new.vcz", method).std(axis=0) / found.sample_pca_projection.std(axis=0)
    print(f"{method}: new people are spread {spread[0]:.2f} times as far as the cohort")
found.plot("genetics.png", people[seen])
found.plot_loadings("loadings.png", (1, 2, 3, 4, 5))
