"""Arrows go down: no module imports from a room above it, nothing heavy happens on import, no cycles."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "simplepose"

FLOORS = [  # from the ground to the roof; a room may import from its own floor and from those below it
    {"core"},
    {"config"},
    {"pose", "data"},
    {"weights", "synthetic"},
    {"detection", "tracking", "doctor"},
    {"evaluation", "video"},
    {"training", "export", "report", "serve"},
    {"commands"},
    {"cli"},
]
APART = [("pose", "data"), ("data", "weights"), ("detection", "tracking"), ("evaluation", "video")]
"""Pairs of rooms of which the first never imports the second."""
NETWORKS = {
    "pose.backbone",
    "pose.network",
    "pose.checkpoints",
    "pose.estimator",
    "pose.exported",
    "pose.calibration",
}
"""What `data` never imports: it may know geometry, codec and pixels."""


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        found[name.removesuffix(".__init__").replace("__init__", "")] = path
    return found


def imports_of(path: Path) -> set[str]:
    """Names below the package that a module imports, inside functions too, outside of TYPE_CHECKING blocks."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if (
                isinstance(child, ast.ImportFrom)
                and child.module
                and child.module.startswith("simplepose")
            ):
                base = child.module.removeprefix("simplepose").lstrip(".")
                names.update(f"{base}.{alias.name}".lstrip(".") for alias in child.names)
            elif isinstance(child, ast.Import):
                names.update(
                    alias.name.removeprefix("simplepose.")
                    for alias in child.names
                    if alias.name.startswith("simplepose.")
                )
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


def room(name: str) -> str:
    """The folder of a module, or the module itself where it stands in the root."""
    return name.split(".")[0]


def floor(name: str) -> int:
    """The floor a module's room is on."""
    for level, rooms in enumerate(FLOORS):
        if room(name) in rooms:
            return level
    raise AssertionError(f"{name} is in no room of FLOORS")


def resolve(name: str, known: dict[str, Path]) -> str:
    """`heatmaps.decode` -> `heatmaps`: the module a name comes from."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def arrows() -> list[tuple[str, str]]:
    known = modules()
    pairs = []
    for name, path in known.items():
        for target in imports_of(path):
            resolved = resolve(target, known)
            if resolved and resolved != name:
                pairs.append((name, resolved))
    return pairs


def test_arrows_point_down() -> None:
    pairs = [(a, b) for a, b in arrows() if a not in ("", "__main__") and b]
    assert len(pairs) > 50, "the walk found almost nothing: it is broken"
    upward = [f"{a} -> {b}" for a, b in pairs if floor(b) > floor(a)]
    assert not upward, f"imports that point up: {upward}"


def test_rooms_that_do_not_know_each_other() -> None:
    wrong = [
        f"{a} -> {b}"
        for a, b in arrows()
        if (room(a), room(b)) in APART or (room(a) == "data" and b in NETWORKS)
    ]
    assert not wrong


def test_no_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for a, b in arrows():
        graph.setdefault(a, set()).add(b)
    state: dict[str, int] = {}

    def walk(node: str, trail: list[str]) -> None:
        state[node] = 1
        for target in graph.get(node, ()):
            assert state.get(target) != 1, f"cycle: {' -> '.join([*trail, node, target])}"
            if target not in state:
                walk(target, [*trail, node])
        state[node] = 2

    for node in list(graph):
        if node not in state:
            walk(node, [])


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import simplepose", ("torch", "cv2", "numpy")),
        ("from simplepose.cli import main; main(['--help'])", ("torch", "cv2")),
    ],
)
def test_import_is_light(statement: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys\n{statement}\nprint('LOADED', [name for name in {heavy!r} if name in sys.modules])"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip().endswith("LOADED []")


def test_public_names_exist() -> None:
    import simplepose

    for name in simplepose.__all__:
        assert getattr(simplepose, name) is not None


def test_no_two_test_files_share_a_name() -> None:
    """pytest imports them by their name alone, and would stop before the first test."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
