"""What NumPy does about floating-point errors is its caller's choice, and never changes what ours computes.

Overflow, underflow, division by zero and invalid values are foreseen where they can happen: by a bound that
takes infinity, a repeated pass, a refusal of the data. So whatever `np.seterr` or ``-W error`` make of them
elsewhere, they are silent here. The setting belongs to a context, which other threads may not share; hence
it is made at every way in: the functions that are called from outside, and those that Dask runs in workers.
"""

from __future__ import annotations

import numpy as np

silent = np.errstate(all="ignore")
