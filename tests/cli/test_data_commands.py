"""`semtube data list | get | verify | card` as a person meets them."""

import hashlib
from pathlib import Path

import pytest

from semtube.cli import main
from semtube.tasks import catalogue
from semtube.tasks.task import Card, DataFile

CONTENTS = {"small/train.jsonl": b'{"text": "a"}\n' * 3, "small/test.jsonl": b'{"text": "b"}\n'}
FILES = tuple(
    DataFile(path, hashlib.sha256(content).hexdigest(), len(content), None)
    for path, content in CONTENTS.items()
)
CARD = Card(
    name="small",
    title="A small [task]",
    source="made up",
    licence="CC0",
    metric="exact match",
    files=FILES,
    splits={"train": 3, "test": 1},
    leaks=("2 train rows repeat an earlier one",),
)


class Small:
    card = CARD


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the files of the one task there is; the cache is empty."""
    monkeypatch.setattr(catalogue, "TASKS", {"small": Small})
    monkeypatch.delenv("SEMTUBE_DATA", raising=False)
    monkeypatch.setenv("SEMTUBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    for path, content in CONTENTS.items():
        (tmp_path / "mirror" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / path).write_bytes(content)
    return tmp_path / "mirror"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["data", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_get_then_verify_then_list(
    capsys: pytest.CaptureFixture[str], mirror: Path, tmp_path: Path
) -> None:
    assert "not here (0.0 MB to get from a mirror)" in run(capsys, "list")[1]
    status, out, err = run(capsys, "get", "small", "--mirror", str(mirror))
    folder = tmp_path / "cache" / "data"
    assert (status, err) == (0, "")
    assert out == f"small: 2 files, 0.0 MB, verified, in {folder}\n"
    assert (folder / "small/train.jsonl").read_bytes() == CONTENTS["small/train.jsonl"]
    status, out, err = run(capsys, "verify", "small")
    assert (status, err) == (0, "")
    assert out == f"small: 2 of 2 files as the card says, in {folder}\n"
    out = run(capsys, "list")[1]
    assert "(cache)" in out
    assert [line.split() for line in out.splitlines() if "small" in line] == [
        ["small", "A", "small", "[task]", "train", "3", "CC0", "here"]
    ]


def test_get_into_a_folder_and_into_the_one_the_variable_names(
    capsys: pytest.CaptureFixture[str],
    mirror: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("get", "small", "--mirror", str(mirror))
    assert run(capsys, *words, "--output", str(tmp_path / "a"))[0] == 0
    monkeypatch.setenv("SEMTUBE_DATA", str(tmp_path / "b"))
    assert run(capsys, *words)[0] == 0
    for name in "ab":
        assert run(capsys, "verify", "small", "--folder", str(tmp_path / name))[0] == 0
        assert "here" in run(capsys, "list", "--folder", str(tmp_path / name))[1]
    assert not (tmp_path / "cache").exists()


def test_verify_names_every_bad_file_and_ends_with_status_2(
    capsys: pytest.CaptureFixture[str], mirror: Path
) -> None:
    (mirror / "small/train.jsonl").unlink()
    (mirror / "small/test.jsonl").write_bytes(b"torn")
    status, out, err = run(capsys, "verify", "small", "--folder", str(mirror))
    assert status == 2
    assert out.splitlines() == [
        "small/train.jsonl  missing: 42 bytes expected",
        "small/test.jsonl  damaged: it has 4 bytes, 14 expected",
        f"small: 0 of 2 files as the card says, in {mirror}",
    ]
    assert err == (
        f"semtube: 2 of 2 files of small in {mirror} missing or damaged, the first one "
        f"small/train.jsonl: `semtube data get small --output {mirror}` fetches them\n"
    )
    assert "1 of 2 damaged" in run(capsys, "list", "--folder", str(mirror))[1]


def test_a_damaged_file_is_got_anew_and_a_bad_mirror_changes_nothing(
    capsys: pytest.CaptureFixture[str], mirror: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    (here / "small").mkdir(parents=True)
    (here / "small/test.jsonl").write_bytes(b"torn")
    words = ("get", "small", "--output", str(here))
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith("semtube: small/train.jsonl: its source offers no such file to fetch")
    assert (here / "small/test.jsonl").read_bytes() == b"torn"
    assert run(capsys, *words, "--mirror", str(mirror))[0] == 0
    assert (here / "small/test.jsonl").read_bytes() == CONTENTS["small/test.jsonl"]


def test_the_card_says_all_it_knows(capsys: pytest.CaptureFixture[str], mirror: Path) -> None:
    status, short, _ = run(capsys, "card", "small")
    assert status == 0
    status, out, _ = run(capsys, "card", "small", "--files")
    assert status == 0
    said = [CARD.title, CARD.source, CARD.licence, CARD.metric, *CARD.leaks, "train 3, test 1"]
    for file in FILES:
        said += [file.path, file.sha256, f"{file.num_bytes} bytes"]
    assert [text for text in said if text not in out] == []
    # Files that only a mirror has are one line of the short form.
    assert {file.sha256 in short for file in FILES if file.url} <= {True}
    assert {file.sha256 in short for file in FILES if not file.url} <= {False}
    assert "no single address" in short or all(file.url for file in FILES)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["get", "smal"], "no task 'smal': did you mean 'small'?"),
        (["verify", "x"], "no task 'x': use one of small"),
        (["card"], "the following arguments are required: name"),
        (["get", "small", "--mirror", "nowhere"], "mirror 'nowhere': no such folder"),
        (["get", "small", "--mirorr", "x"], "no option '--mirorr': did you mean '--mirror'?"),
        (["lits"], "no action 'lits': did you mean 'list'?"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    capsys: pytest.CaptureFixture[str], mirror: Path, words: list[str], sentence: str
) -> None:
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith(f"semtube: {sentence}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", list(catalogue.TASKS))
def test_every_task_has_a_card_to_show(capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, out, _ = run(capsys, "card", name)
    assert status == 0
    assert out.startswith(f"{name}: ")
    assert name in run(capsys, "list")[1]
