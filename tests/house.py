"""The measures of a package's structure, read from its source; `python tests/house.py [FOLDER]` prints them.

A measure says where to look, not what to do: a function cut at an unnatural place is worse than a long one.
`test_house.py` holds some of the measures as limits.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "bigsvd"
NAMED = 10  # how many of the worst the table and a failing test name
LAYOUT = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)
DIRECTIVES = ("noqa", "type: ignore", "pragma:")  # comments that speak to a tool, not to a reader

Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = Mapping[str, frozenset[str]]


def statements_of(node: ast.Module | ast.ClassDef | Function) -> list[ast.stmt]:
    """The body without its docstring."""
    text = docstring_of(node)
    return node.body if text is None else node.body[1:]


def docstring_of(node: ast.Module | ast.ClassDef | Function) -> ast.stmt | None:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str())) as text, *_]:
            return text
    return None


def lines_of(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def rank(values: Sequence[int], share: float) -> int:
    """The value below which this share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@dataclass(frozen=True)
class Sized:
    """What is counted, under the name by which a reader finds it."""

    name: str
    size: int


def worst(sized: Iterable[Sized], number: int = NAMED) -> list[Sized]:
    return sorted(sized, key=lambda each: (-each.size, each.name))[:number]


@dataclass(frozen=True)
class Routine:
    """A function or method with the names of what it stands in, as `module:Class.method`."""

    name: str
    node: Function

    @cached_property
    def nodes(self) -> int:
        """The expressions and statements of its body, functions within it included, its docstring not.

        Python's own tree has more: operators, `Load` and `Store` marks, parameters. They say nothing of how
        much there is to read.
        """
        return sum(
            isinstance(each, ast.expr | ast.stmt)
            for statement in statements_of(self.node)
            for each in ast.walk(statement)
        )

    @property
    def lines(self) -> int:
        return len(lines_of(self.node))

    @property
    def may_return_none(self) -> bool:
        """Whether its annotation holds None beside something else."""
        if self.node.returns is None or isinstance(self.node.returns, ast.Constant):
            return False
        words = ast.unparse(self.node.returns)
        return "None" in words or "Optional" in words


class Module:
    """One file of the package, read once."""

    def __init__(self, root: Path, path: Path) -> None:
        parts = path.relative_to(root).with_suffix("").parts
        within = parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts
        self.name = ".".join(within)
        self.room = parts[0]
        source = path.read_text(encoding="utf-8")
        self.tree = ast.parse(source)
        self.lines = len(source.splitlines())
        self._tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
        self._nodes = list(ast.walk(self.tree))

    @cached_property
    def code_lines(self) -> int:
        """The lines that are neither blank nor only a comment nor part of a docstring."""
        code = {
            line
            for token in self._tokens
            if token.type not in LAYOUT
            for line in range(token.start[0], token.end[0] + 1)
        }
        for node in self._nodes:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = docstring_of(node)
                code.difference_update(lines_of(text) if text is not None else ())
        return len(code)

    @cached_property
    def comments(self) -> int:
        comments = [token.string for token in self._tokens if token.type == tokenize.COMMENT]
        return sum(not any(word in comment for word in DIRECTIVES) for comment in comments)

    @cached_property
    def conditionals(self) -> int:
        """How often it says `a if c else b`."""
        return sum(isinstance(node, ast.IfExp) for node in self._nodes)

    @cached_property
    def long_chains(self) -> int:
        """Places such as `a.b.c.d`, each dot from the third on."""
        return sum(
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Attribute)
            and isinstance(node.value.value, ast.Attribute)
            for node in self._nodes
        )

    @cached_property
    def routines(self) -> list[Routine]:
        def within(node: ast.AST, above: str) -> Iterator[Routine]:
            for child in ast.iter_child_nodes(node):
                path = above
                if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    path = f"{above}{child.name}."
                if isinstance(child, Function):
                    yield Routine(path.removesuffix("."), child)
                yield from within(child, path)

        return list(within(self.tree, f"{self.name}:"))

    def documented(self) -> list[bool]:
        """For each public class, function and method, whether it has a docstring.

        A method marked `@override` has its law where it is first declared.
        """

        def within(body: Iterable[ast.stmt]) -> Iterator[bool]:
            for node in body:
                if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
                    continue
                if not any(ast.unparse(mark).endswith("override") for mark in node.decorator_list):
                    yield docstring_of(node) is not None
                if isinstance(node, ast.ClassDef):
                    yield from within(node.body)

        return list(within(self.tree.body))

    def imported(self, *, in_functions: bool) -> Iterator[str]:
        """The dotted names that it imports when it runs, so without those for the type checker only."""

        def within(node: ast.AST) -> Iterator[str]:
            match node:
                case ast.Import(names=names):
                    yield from (alias.name for alias in names)
                case ast.ImportFrom(module=str(module), names=names, level=0):
                    yield from (f"{module}.{alias.name}" for alias in names)
                case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                    return
                case ast.FunctionDef() | ast.AsyncFunctionDef() if not in_functions:
                    return
            for child in ast.iter_child_nodes(node):
                yield from within(child)

        return within(self.tree)


def cycles(graph: Graph) -> list[frozenset[str]]:
    """The sets of two modules or more that each lead to each other."""
    reach = {start: reached(graph, start) for start in graph}
    together = {frozenset({start, *(end for end in reach[start] if start in reach[end])}) for start in graph}
    return [circle for circle in together if len(circle) > 1]


def reached(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        here = ahead.pop()
        if here not in seen:
            seen.add(here)
            ahead.extend(graph[here])
    return seen


def longest_chain(graph: Graph) -> int:
    """The number of floors; those who form a cycle stand on one."""
    home = {name: name for name in graph}
    for circle in cycles(graph):
        home.update(dict.fromkeys(circle, min(circle)))
    below: dict[str, set[str]] = {name: set() for name in set(home.values())}
    for name, targets in graph.items():
        below[home[name]] |= {home[target] for target in targets} - {home[name]}
    floor: dict[str, int] = {}

    def stand(name: str) -> int:
        if name not in floor:
            floor[name] = 1 + max((stand(target) for target in below[name]), default=0)
        return floor[name]

    return max(stand(name) for name in below)


class House:
    """A package folder, and the folders `tests` and `benchmarks` beside it."""

    def __init__(self, root: Path = PACKAGE) -> None:
        self.root = root
        self.modules = [Module(root, path) for path in sorted(root.rglob("*.py"))]
        self.routines = [routine for module in self.modules for routine in module.routines]

    def imports(self, *, in_functions: bool) -> Graph:
        """Each module, and the modules of the package that it imports."""
        names = {module.name for module in self.modules}

        def own(dotted: str) -> str | None:
            package, *parts = dotted.split(".")
            if package != self.root.name:
                return None
            while parts and ".".join(parts) not in names:
                parts.pop()
            return ".".join(parts) or "__init__"

        return {
            module.name: frozenset(
                target
                for dotted in module.imported(in_functions=in_functions)
                if (target := own(dotted)) is not None and target != module.name
            )
            for module in self.modules
        }

    def rooms(self, *, in_functions: bool) -> Graph:
        """The same imports, where a folder is one room and a module beside the folders another."""
        room = {module.name: module.room for module in self.modules}
        rooms: dict[str, set[str]] = {name: set() for name in room.values()}
        for name, targets in self.imports(in_functions=in_functions).items():
            rooms[room[name]] |= {room[target] for target in targets} - {room[name]}
        return {name: frozenset(targets) for name, targets in rooms.items()}

    @cached_property
    def fans(self) -> list[Sized]:
        """How many modules of the package each module imports, in its functions too."""
        return [Sized(name, len(targets)) for name, targets in self.imports(in_functions=True).items()]

    @property
    def mean_fan(self) -> float:
        return statistics.mean(fan.size for fan in self.fans)

    @cached_property
    def nodes(self) -> list[Sized]:
        return [Sized(routine.name, routine.nodes) for routine in self.routines]

    @cached_property
    def lengths(self) -> list[Sized]:
        return [Sized(routine.name, routine.lines) for routine in self.routines]

    @property
    def median_nodes(self) -> float:
        return statistics.median(each.size for each in self.nodes)

    @property
    def p90_nodes(self) -> int:
        return rank([each.size for each in self.nodes], 0.9)

    @property
    def code_lines(self) -> int:
        return sum(module.code_lines for module in self.modules)

    @property
    def conditionals(self) -> list[Sized]:
        return [Sized(module.name, module.conditionals) for module in self.modules]

    @property
    def conditionals_per_hundred_lines(self) -> float:
        return 100 * sum(each.size for each in self.conditionals) / self.code_lines

    def lines_beside(self, folder: str) -> int:
        paths = (self.root.parent / folder).rglob("*.py")
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)

    def table(self) -> list[tuple[str, str]]:
        """Each measure with its value, in words."""
        return [*self._sizes(), *self._imports(), *self._functions(), *self._lines()]

    def _sizes(self) -> list[tuple[str, str]]:
        return [
            ("modules", f"{len(self.modules)}"),
            ("lines of the package (code)", f"{sum(m.lines for m in self.modules)} ({self.code_lines})"),
            ("lines of the tests", f"{self.lines_beside('tests')}"),
            ("lines of the benchmarks", f"{self.lines_beside('benchmarks')}"),
        ]

    def _imports(self) -> list[tuple[str, str]]:
        at_import = self.imports(in_functions=False)
        ever = self.imports(in_functions=True)
        rooms = self.rooms(in_functions=True)
        [most] = worst(self.fans, 1)
        return [
            (
                "import cycles, at import / in functions too",
                f"{len(cycles(at_import))} / {len(cycles(ever))}",
            ),
            (
                "floors, at import / in functions too",
                f"{longest_chain(at_import)} / {longest_chain(ever)}",
            ),
            ("rooms (a folder is one)", f"{len(rooms)}"),
            ("floors of rooms (a cycle is one floor)", f"{longest_chain(rooms)}"),
            ("cycles of rooms", "; ".join(" ".join(sorted(circle)) for circle in cycles(rooms)) or "0"),
            ("own modules imported, mean", f"{self.mean_fan:.2f}"),
            ("own modules imported, most", f"{most.size} ({most.name})"),
        ]

    def _functions(self) -> list[tuple[str, str]]:
        number = len(self.routines)
        lengths = [each.size for each in self.lengths]
        [longest] = worst(self.lengths, 1)
        optional = sum(routine.may_return_none for routine in self.routines)
        documented = [has for module in self.modules for has in module.documented()]
        chains = sum(module.long_chains for module in self.modules)
        return [
            ("functions", f"{number}"),
            (
                "AST nodes of a function, median / 90th percentile",
                f"{self.median_nodes:g} / {self.p90_nodes}",
            ),
            *((f"  {place}.", listed([each])) for place, each in enumerate(worst(self.nodes), 1)),
            ("lines of a function, median / p90", f"{statistics.median(lengths):g} / {rank(lengths, 0.9)}"),
            ("longest function", f"{longest.size} ({longest.name})"),
            ("functions returning None or something", f"{optional} ({100 * optional / number:.1f} %)"),
            ("public names with a docstring", f"{100 * statistics.mean(documented):.1f} %"),
            ("attribute chains of three dots a function", f"{chains / number:.3f}"),
        ]

    def _lines(self) -> list[tuple[str, str]]:
        comments = sum(module.comments for module in self.modules)
        return [
            ("conditional expressions per 100 code lines", f"{self.conditionals_per_hundred_lines:.2f}"),
            ("  most of them in", listed(worst(self.conditionals))),
            ("comments per 100 code lines", f"{100 * comments / self.code_lines:.2f}"),
        ]


def listed(sized: Iterable[Sized]) -> str:
    return ", ".join(f"{each.name} {each.size}" for each in sized)


def main(arguments: Sequence[str]) -> None:
    """Print the table of one package folder: that given, or this repository's."""
    house = House(*(Path(argument).resolve() for argument in arguments[:1]))
    rows = house.table()
    width = max(len(measure) for measure, _ in rows)
    for measure, value in rows:
        print(f"{measure:{width}}  {value}")


if __name__ == "__main__":
    main(sys.argv[1:])
