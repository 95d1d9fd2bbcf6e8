"""NumPy's floating-point warnings are switched off here, so that a caller's settings never change a result.

Overflow, underflow, division by zero and invalid values are expected where they can happen, and each is
handled there: a bound may be infinite, a pass is repeated, or the data are refused. Therefore these events
are silent in this package, even if its caller asked for warnings or errors by `np.seterr` or ``-W error``.
The setting belongs to a context, and a new thread may not inherit it. So it is made at every entrance: in the
functions that are called from outside, and in those that Dask runs in workers.
"""

from __future__ import annotations

import numpy as np

silent = np.errstate(all="ignore")
