"""The package's shape: what it imports, which way, and what the design page says of it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "semtube"
ROWS = (
    {"cli"},
    {"study", "report"},
    {"training", "evaluation", "geometry"},
    {"data", "tasks", "models"},
    {"objectives", "rhm", "statistics", "scaling"},
    {"seeding", "config", "run_folder"},
    {"errors", "version"},
)
HEIGHT = {room: len(ROWS) - row for row, rooms in enumerate(ROWS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
    return modules


#: What an objective may use of the standard library.
STANDARD = ("collections", "difflib", "functools", "math")
FILES = sorted(p for p in SOURCE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    here = room_of(path)
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "semtube" and len(parts) > 1 and parts[1] != here:
            assert HEIGHT[parts[1]] < HEIGHT[here], f"{here} may not import {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    roots = {module.split(".")[0] for module in imported_modules(path)}
    if room_of(path) not in ("models", "training", "evaluation", "study"):
        assert not roots & {"transformers", "peft", "accelerate", "tokenizers"}
    if room_of(path) != "report":
        assert not roots & {"altair", "matplotlib", "plotly"}
    if room_of(path) == "objectives":
        assert roots <= {"semtube", "torch", "dataclasses", "typing", "__future__", *STANDARD}
    if room_of(path) == "rhm":
        rooms = {m.split(".")[1] for m in imported_modules(path) if m.startswith("semtube.")}
        assert rooms <= {"rhm", "errors", "run_folder", "seeding"}


@pytest.mark.parametrize(
    "code",
    [
        "import semtube",
        "from semtube.cli import main; main(['--help'])",
        "from semtube.config import RunConfig",
        "from semtube.cli.rhm import run; run(['--help'])",
        "import semtube.report.study_page",
        "import semtube.cli.study, semtube.study.study_file, semtube.study.cost",
    ],
)
def test_what_must_be_quick_loads_no_torch(code: str) -> None:
    code += "; import sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_public_names_need_torch_alone() -> None:
    code = (
        "import sys, semtube\n"
        "for name in semtube.__all__: getattr(semtube, name)\n"
        "assert 'torch' in sys.modules\n"
        "assert not {'transformers', 'scipy', 'rich', 'jsonargparse'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_tree_in_the_design_page_is_the_tree_on_disk() -> None:
    lines = (ROOT / "docs" / "design.md").read_text().split("    src/semtube/\n")[1].splitlines()
    listed, folder = set(), ""
    for line in lines:
        if not line.startswith("      "):
            break
        depth = len(line) - len(line.lstrip())
        names = re.findall(r"(?:(?<=\s)|^)([\w]+(?:\.py|/))(?=\s|$)", line)
        if names and names[0].endswith("/"):
            folder = names[0]
        else:
            listed |= {(folder if depth > 6 else "") + name for name in names}
    found = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py")}
    assert listed == found


def test_no_file_is_named_for_nothing() -> None:
    stems = {path.stem for path in SOURCE.rglob("*.py")}
    assert not stems & {"utils", "helpers", "common", "base", "misc", "core"}
