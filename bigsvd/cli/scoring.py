"""`--score my.py:f`: a function of the user's own, loaded and called in this process.

Loading a file runs it, with all rights of whoever typed its name. Therefore only the command line does so, of
the machine that it runs on, and never a service, which has no such option.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from bigsvd.errors import RequestError
from bigsvd.results.scoring import Scored, Truncatable, scored, told


def scored_by(text: str, factors: Truncatable) -> Scored:
    """The scores of factors by the function ``my.py:f``; what it prints goes to the error stream.

    Raises:
        RequestError: there is none, or it fails; see `scored`.

    """
    with redirect_stdout(sys.stderr):
        return scored(factors, function_at(text))


def function_at(text: str) -> Callable[[Any], Any]:
    """The function that ``my.py:f`` names. Its file is run, and may import what lies beside it.

    Raises:
        RequestError: there is no such file or function, or running the file fails.

    """
    place, colon, name = text.rpartition(":")
    if not (colon and place and name):
        raise RequestError(f"score={text} names no function", "give FILE.py:FUNCTION")
    path = Path(place)
    if not path.is_file():
        raise RequestError(f"score={text}: there is no file {place}", "check the path")
    module = _run(path, text)
    found = getattr(module, name, None)
    if not callable(found):
        has = [each for each, value in vars(module).items() if callable(value) and each[0] != "_"]
        raise RequestError(
            f"score={text}: {place} has no function {name!r}", f"it has {', '.join(has) or 'none'}"
        )
    return found  # type: ignore[no-any-return]


def _run(path: Path, text: str) -> ModuleType:
    """The file as a module, which it stays for as long as this process, so that workers find it too.

    It takes the place of none that is loaded already, whatever it is called.
    """
    name = path.stem
    while name in sys.modules:
        name += "_"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RequestError(f"score={text}: {path} is no Python file", "give one that ends in .py")
    module = module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise RequestError(f"score={text}: running {path} fails with {told(error)}", "mend it") from error
    return module
