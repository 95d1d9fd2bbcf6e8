#!/usr/bin/env bash
# On a machine with a CUDA GPU: installs this checkout, runs the tests that need the GPU, then `cpu-gpu`.
#
#   OUT=results benchmarks/gpu_run.sh [WHEELS]
#
# Nothing is downloaded. PYTHON (python3) must have pip, numpy, scikit-learn, cupy and torch; the folder WHEELS
# (.whl) holds what else pyproject.toml and its extra `test` ask for, and setuptools >= 77 if PYTHON has an older
# one. Test log and results are left in the folder OUT.
#
# What is done, and for how many seconds: TEST_SECONDS (150; 0: no tests), SIZE (full), MATRICES (all of that size;
# or numbers, as "2 3"), BUDGET (360). The whole of `full` takes some 20 minutes: MATRICES divides it between calls.
# BIGSVD_COMMIT names the commit where the checkout has no .git. Ends with 1 if tests or benchmark failed.
set -euo pipefail
wheels=$(realpath "${1:-.whl}")
out=$(realpath -m "${OUT:?set OUT to the folder for the results}")
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv --system-site-packages --without-pip "$work/venv"
own="$work/venv/bin/python"
# Where PYTHON lies in a virtual environment itself, --system-site-packages does not reach that one's packages.
"$python" - "$("$own" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/of-python.pth" <<'PYTHON'
import sys, sysconfig
folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
with open(sys.argv[1], "w") as file:
    file.write("".join(f"import site; site.addsitedir({folder!r})\n" for folder in folders))
PYTHON
install=("$python" -m pip --python "$own" install --quiet --no-index --no-deps)
"${install[@]}" "$wheels"/*.whl
"${install[@]}" --no-build-isolation --editable .

failed=0
if [ "${TEST_SECONDS:-150}" -gt 0 ]; then
    # Only the files with such tests: others ask for packages that the machine need not have.
    mapfile -t files < <(grep -l 'mark\.gpu' tests/test_*.py)
    timeout "${TEST_SECONDS:-150}" "$own" -m pytest -o addopts="--strict-markers -ra" -m gpu -p no:cacheprovider \
        "${files[@]}" 2>&1 | tee "$out/pytest-gpu.log" || failed=1
fi
chosen=()
for number in ${MATRICES:-}; do chosen+=(--matrix "$number"); done
"$own" -m benchmarks cpu-gpu --size "${SIZE:-full}" --budget "${BUDGET:-360}" "${chosen[@]}" \
    --data "$work/data" --out "$out" 2>&1 | tee "$out/cpu-gpu.log" || failed=1
exit "$failed"
