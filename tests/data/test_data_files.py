"""Where data files are looked for, and what is found wrong with them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from semtube.data.data_files import Place, Problem, data_place, verify


@dataclass(frozen=True)
class File:
    path: str
    sha256: str
    num_bytes: int
    url: str | None


def known(path: str, content: bytes, url: str | None) -> File:
    return File(path, hashlib.sha256(content).hexdigest(), len(content), url)


def test_the_users_folder_comes_first_then_the_variable_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEMTUBE_DATA", "SEMTUBE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_place().path == tmp_path / ".cache" / "semtube" / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert data_place().path == tmp_path / ".cache" / "semtube" / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_place().path == tmp_path / "xdg" / "semtube" / "data"
    monkeypatch.setenv("SEMTUBE_CACHE", str(tmp_path / "own"))
    assert data_place() == Place(tmp_path / "own" / "data", "cache")
    monkeypatch.setenv("SEMTUBE_DATA", "~/named")
    assert data_place() == Place(tmp_path / "named", "SEMTUBE_DATA")
    assert data_place(tmp_path) == Place(tmp_path, "data_folder")


def test_every_kind_of_damage_is_named(tmp_path: Path) -> None:
    files = [known(name, b"right", None) for name in ("good", "short", "other", "absent", "folder")]
    for name, content in (("good", b"right"), ("short", b"rig"), ("other", b"wrong")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    short, other, absent, folder = verify(files, tmp_path)
    assert short == Problem("short", "damaged", "it has 3 bytes, 5 expected")
    wrong = hashlib.sha256(b"wrong").hexdigest()
    assert other.reason == f"its sha256 is {wrong}, {files[0].sha256} expected"
    assert absent == Problem("absent", "missing", "5 bytes expected")
    assert folder.kind == "damaged"
    assert short.sentence() == "short is damaged (it has 3 bytes, 5 expected)"
