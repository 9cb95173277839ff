"""Read a study from a Python file (`study`, and `quick` for a small one) or from YAML."""

from __future__ import annotations

import re
import runpy
import traceback
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from semtube.errors import UserError
from semtube.study.design import Study, Tuning


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as the number that YAML 1.2 says it is; PyYAML takes it for a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load_study(path: Path, *, quick: bool = False) -> Study:
    """The checked study of a file.

    A Python file is run: it is the user's own. It holds `study`, a Study, and may hold `quick`, one
    of the same question that takes minutes.

    Raises:
        UserError: no such file, no study in it, or a study that cannot be meant.
    """
    if not path.is_file():
        raise UserError(f"{str(path)!r}: no such study file")
    if path.suffix == ".py":
        study, doc = _from_python(path, "quick" if quick else "study")
    elif path.suffix in (".yaml", ".yml"):
        if quick:
            raise UserError(f"{path}: a YAML study has no quick variant")
        study, doc = _from_yaml(path), ""
    else:
        raise UserError(f"{str(path)!r}: a study file ends in .py, .yaml or .yml")
    name = path.stem + ("_quick" if quick else "")
    study = replace(study, name=name, doc=study.doc or doc)
    try:
        study.check()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return study


def _from_python(path: Path, wanted: str) -> tuple[Study, str]:
    try:
        names = runpy.run_path(str(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: {error.msg}") from None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        raise UserError(f"{where}: {type(error).__name__}: {error}") from error
    study = names.get(wanted)
    if not isinstance(study, Study):
        raise UserError(f"{path}: holds no {wanted!r} that is a semtube.study.design.Study")
    return study, (names.get("__doc__") or "").strip()


def _from_yaml(path: Path) -> Study:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: wanted a mapping with question, hypothesis, arms, axes ...")
    return _build(Study, values | {"tuning": _tuning(path, values.get("tuning"))}, path)


def _tuning(path: Path, values: Any) -> Tuning | None:
    if values is None:
        return None
    if not isinstance(values, dict):
        raise UserError(f"{path}: tuning is {values!r}: it must be a mapping with grids")
    return _build(Tuning, values, path)


def _build(kind: Any, values: dict[str, Any], path: Path) -> Any:
    known = [f.name for f in fields(kind)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise UserError(f"{path}: unknown key {unknown[0]!r}: use some of {', '.join(known)}")
    try:
        return kind(**values)
    except TypeError as error:
        what = str(error).removeprefix(f"{kind.__name__}.__init__() ")
        raise UserError(f"{path}: {what}") from None
