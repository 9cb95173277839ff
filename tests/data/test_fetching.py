"""Data files found, verified and fetched, with servers that do what servers do."""

import contextlib
import errno
import gzip
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from semtube.data import fetching
from semtube.data.data_files import verify
from semtube.data.fetching import fetch, locate
from semtube.errors import UserError

CONTENT = bytes(range(256)) * 400  # 102,400 bytes, no two stretches of 256 shifted alike


@dataclass(frozen=True)
class File:
    path: str
    sha256: str
    num_bytes: int
    url: str | None


@dataclass
class Site:
    """A server on the loopback interface, and what it was asked for."""

    address: str = ""
    contents: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    takes_ranges: bool = True
    compresses: bool = False
    #: Connections that end after so many bytes of the body.
    cuts: list[int] = field(default_factory=list)
    delay: float = 0.0

    def file(self, path: str, content: bytes = CONTENT) -> File:
        self.contents["/" + path] = content
        return known(path, content, f"{self.address}/{path}")


def known(path: str, content: bytes, url: str | None) -> File:
    return File(path, hashlib.sha256(content).hexdigest(), len(content), url)


class Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        site, asked = self.site, self.headers.get("Range")
        site.asked.append((self.path, asked))
        site.tokens.append(self.headers.get("Authorization"))
        if self.path.startswith("/moved/"):
            return self.say(302, {"Location": self.path.removeprefix("/moved")})
        if self.path == "/away":
            return self.say(302, {"Location": "file:///etc/hostname"})
        if self.path == "/round":
            return self.say(302, {"Location": "/round"})
        if self.path not in site.contents:
            return self.say(404, {})
        body, begin, where = site.contents[self.path], 0, {}
        if site.compresses and "gzip" in self.headers.get("Accept-Encoding", ""):
            body, where = gzip.compress(body), {"Content-Encoding": "gzip"}
        time.sleep(site.delay)
        if asked and site.takes_ranges:
            begin = int(asked.removeprefix("bytes=").split("-")[0])
            if begin >= len(body):
                return self.say(416, {"Content-Range": f"bytes */{len(body)}"})
            where["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        rest = body[begin:]
        self.say(206 if "Content-Range" in where else 200, where, len(rest))
        with contextlib.suppress(ConnectionError):  # the client has gone
            self.wfile.write(rest[: site.cuts.pop(0)] if site.cuts else rest)

    def say(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.send_response(status)
        ends = {"Content-Length": str(length), "Connection": "close"}
        for name, value in (headers | ends).items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables of the user's, and no waiting before a new try."""
    for name in ("SEMTUBE_DATA", "SEMTUBE_CACHE", "XDG_CACHE_HOME", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetching, "_PAUSE_SECONDS", 0.0)


def left(folder: Path) -> list[str]:
    """Every file of a folder but the lock."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(p.relative_to(folder)) for p in found if p.name != ".fetching.lock")


def part_of(folder: Path, file: File) -> Path:
    path = folder / file.path
    return path.with_name(f".{path.name}.{file.sha256[:12]}.part")


def test_files_come_whole_into_their_folders_and_progress_is_told(
    site: Site, tmp_path: Path
) -> None:
    files = [site.file("a/b/one.bin"), site.file("two.bin", b"x" * 77)]
    told: list[tuple[str, int]] = []
    fetch(files, tmp_path, on_progress=lambda path, n: told.append((path, n)))
    assert left(tmp_path) == ["a/b/one.bin", "two.bin"]
    assert (tmp_path / "a/b/one.bin").read_bytes() == CONTENT
    assert verify(files, tmp_path) == []
    for file in files:
        counts = [n for path, n in told if path == file.path]
        assert counts == sorted(counts)
        assert counts[-1] == file.num_bytes


def test_what_is_whole_is_not_fetched_and_needs_no_network(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMTUBE_CACHE", str(tmp_path))
    files = [site.file("one.bin")]
    assert locate(files) == tmp_path / "data"
    assert len(site.asked) == 1

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert locate(files) == tmp_path / "data"
    fetch(files, tmp_path / "data")
    assert locate(files, tmp_path / "data") == tmp_path / "data"
    assert len(site.asked) == 1


def test_a_whole_folder_is_not_written_to_and_needs_no_source(tmp_path: Path) -> None:
    (tmp_path / "one.bin").write_bytes(CONTENT)
    told: list[tuple[str, int]] = []
    file = known("one.bin", CONTENT, None)
    fetch([file], tmp_path, on_progress=lambda path, n: told.append((path, n)))
    assert told == [("one.bin", len(CONTENT))]
    assert [path.name for path in tmp_path.iterdir()] == ["one.bin"]


def test_a_named_folder_is_never_written_to(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [site.file("one.bin"), site.file("two.bin")]
    said = rf"{tmp_path}' \(named by data_folder\): one.bin is missing \(102,400 bytes"
    with pytest.raises(UserError, match=said):
        locate(files, tmp_path)
    monkeypatch.setenv("SEMTUBE_DATA", str(tmp_path))
    (tmp_path / "one.bin").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"SEMTUBE_DATA\): one.bin is damaged \(it has 4 bytes"):
        locate(files)
    assert (left(tmp_path), site.asked) == (["one.bin"], [])


def test_a_damaged_file_of_the_cache_is_fetched_anew(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMTUBE_CACHE", str(tmp_path))
    files = [site.file("one.bin")]
    folder = locate(files)
    (folder / "one.bin").write_bytes(CONTENT[:-1] + b"?")
    assert verify(files, locate(files)) == []
    assert len(site.asked) == 2


def test_an_interrupted_transfer_is_gone_on_with_by_the_next_call(
    site: Site, tmp_path: Path
) -> None:
    file = site.file("one.bin")
    site.cuts = [40_000, 0, 0]  # the first try brings something, its repetitions nothing
    with pytest.raises(UserError, match=r"one.bin: could not be fetched .* goes on where it stopp"):
        fetch([file], tmp_path)
    assert part_of(tmp_path, file).read_bytes() == CONTENT[:40_000]
    assert left(tmp_path) == [part_of(tmp_path, file).name]
    site.cuts = []
    site.asked.clear()
    fetch([file], tmp_path)
    assert site.asked == [("/one.bin", "bytes=40000-")]
    assert (tmp_path / "one.bin").read_bytes() == CONTENT
    assert left(tmp_path) == ["one.bin"]


def test_a_connection_cut_twice_is_gone_on_with_in_the_same_call(
    site: Site, tmp_path: Path
) -> None:
    site.cuts = [10_000, 30_000]
    fetch([site.file("one.bin")], tmp_path)
    assert [asked for _, asked in site.asked] == [None, "bytes=10000-", "bytes=40000-"]
    assert (tmp_path / "one.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [0, 1, 50_000, len(CONTENT) - 1])
def test_a_server_that_ignores_ranges_gives_the_whole_file(
    site: Site, tmp_path: Path, size: int
) -> None:
    file = site.file("one.bin")
    part_of(tmp_path, file).write_bytes(b"#" * size)
    site.takes_ranges = False
    fetch([file], tmp_path)
    assert (tmp_path / "one.bin").read_bytes() == CONTENT
    assert left(tmp_path) == ["one.bin"]


def test_a_server_that_compresses_is_asked_not_to(site: Site, tmp_path: Path) -> None:
    file = site.file("one.bin")
    part_of(tmp_path, file).write_bytes(CONTENT[:100])  # fewer bytes than are left of the gzip body
    site.compresses = True
    fetch([file], tmp_path)
    assert (tmp_path / "one.bin").read_bytes() == CONTENT


def test_who_reads_the_old_file_reads_it_to_its_end(site: Site, tmp_path: Path) -> None:
    (tmp_path / "one.bin").write_bytes(b"old")
    with (tmp_path / "one.bin").open("rb") as old:
        fetch([site.file("one.bin")], tmp_path)
        assert old.read() == b"old"
    assert (tmp_path / "one.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_already_needs_no_transfer(site: Site, tmp_path: Path) -> None:
    file = site.file("one.bin")
    part_of(tmp_path, file).write_bytes(CONTENT)
    fetch([file], tmp_path)
    assert site.asked == []
    assert left(tmp_path) == ["one.bin"]


@pytest.mark.parametrize("part", [b"#" * 5000, CONTENT + b"longer", b"#" * len(CONTENT)])
def test_a_part_of_something_else_is_thrown_away(site: Site, tmp_path: Path, part: bytes) -> None:
    file = site.file("one.bin")
    part_of(tmp_path, file).write_bytes(part)
    if len(part) <= len(CONTENT):
        with pytest.raises(UserError, match=f"its sha256 is .*, {file.sha256} expected"):
            fetch([file], tmp_path)
        assert left(tmp_path) == []
    fetch([file], tmp_path)
    assert (tmp_path / "one.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("served", "sentence"),
    [
        (CONTENT[:-7], "it has 102,393 bytes, 102,400 expected; it was not kept"),
        (b"", "it has 0 bytes, 102,400 expected"),
        (CONTENT * 30, "more came than the 102,400 bytes expected; it was not kept"),
        (CONTENT[::-1], f"its sha256 is {hashlib.sha256(CONTENT[::-1]).hexdigest()}, "
                        f"{hashlib.sha256(CONTENT).hexdigest()} expected; it was not kept"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["source", "address", "folder"])
def test_what_is_not_the_file_is_removed_and_the_old_one_stays(
    site: Site, tmp_path: Path, served: bytes, sentence: str, way: str
) -> None:
    file = site.file("one.bin")
    site.contents["/one.bin"] = served
    mirror = {"source": None, "address": site.address, "folder": str(tmp_path / "mirror")}[way]
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "one.bin").write_bytes(served)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "one.bin").write_bytes(b"old")
    with pytest.raises(UserError, match=r"one.bin: ") as caught:
        fetch([file], folder, mirror=mirror)
    assert sentence in str(caught.value)
    assert left(folder) == ["one.bin"]
    assert (folder / "one.bin").read_bytes() == b"old"


def test_an_answer_that_is_no_file_is_said(site: Site, tmp_path: Path) -> None:
    site.file("one.bin")
    absent = known("x", CONTENT, f"{site.address}/absent")
    with pytest.raises(UserError, match=r"/absent: the server answered 404 Not Found$"):
        fetch([absent], tmp_path)
    part_of(tmp_path, absent).write_bytes(b"#" * 9)
    site.contents["/absent"] = b"short"
    with pytest.raises(UserError, match="answered 416"):
        fetch([absent], tmp_path)
    assert left(tmp_path) == []


def test_redirects_are_followed_to_http_only_and_not_for_ever(site: Site, tmp_path: Path) -> None:
    file = site.file("one.bin")
    part_of(tmp_path, file).write_bytes(CONTENT[:1000])
    fetch([known("one.bin", CONTENT, f"{site.address}/moved/one.bin")], tmp_path)
    assert site.asked == [("/moved/one.bin", "bytes=1000-"), ("/one.bin", "bytes=1000-")]
    assert (tmp_path / "one.bin").read_bytes() == CONTENT
    for path in ("away", "round"):
        with pytest.raises(UserError, match=f"{path}: could not be fetched"):
            fetch([known("two.bin", CONTENT, f"{site.address}/{path}")], tmp_path)
    assert left(tmp_path) == ["one.bin"]


@pytest.mark.parametrize("when", ["at once", "half way", "at the end"])
@pytest.mark.parametrize("way", ["source", "folder"])
def test_a_full_disk_leaves_nothing_half_written_and_the_old_file(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, way: str
) -> None:
    content = CONTENT * 300  # more than one chunk
    file = site.file("one.bin", content)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "one.bin").write_bytes(content)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "one.bin").write_bytes(b"old")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    plain = fetching._PartFile.write

    def write(self: fetching._PartFile, chunk: bytes) -> int:
        if when == "at once" or (when == "half way" and self.tell() > 0):
            raise full
        return plain(self, chunk)

    def fsync(_: int) -> None:
        raise full

    monkeypatch.setattr(fetching._PartFile, "write", write)
    if when == "at the end":
        monkeypatch.setattr(os, "fsync", fsync)
    mirror = str(tmp_path / "mirror") if way == "folder" else None
    said = r"one.bin: cannot be written \(No space left on device\); nothing was changed"
    with pytest.raises(UserError, match=said):
        fetch([file], folder, mirror=mirror)
    assert left(folder) == ["one.bin"]
    assert (folder / "one.bin").read_bytes() == b"old"
    monkeypatch.undo()
    fetch([file], folder, mirror=mirror)
    assert (folder / "one.bin").read_bytes() == content


def test_a_person_who_interrupts_keeps_what_has_come(site: Site, tmp_path: Path) -> None:
    file = site.file("one.bin")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch([file], tmp_path, on_progress=interrupt)
    begun = part_of(tmp_path, file).read_bytes()
    assert begun == CONTENT[: len(begun)] != b""
    fetch([file], tmp_path)
    assert (tmp_path / "one.bin").read_bytes() == CONTENT


def test_two_processes_that_fetch_the_same_file_fetch_it_once(site: Site, tmp_path: Path) -> None:
    site.delay = 0.3
    file = site.file("one.bin")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from types import SimpleNamespace\n"
        "from semtube.data.fetching import fetch\n"
        "path, sha256, size, url, folder = sys.argv[1:]\n"
        "file = SimpleNamespace(path=path, sha256=sha256, num_bytes=int(size), url=url)\n"
        "fetch([file], Path(folder))\n"
    )
    words = [file.path, file.sha256, str(file.num_bytes), str(file.url), str(tmp_path)]
    both = [subprocess.Popen([sys.executable, "-c", code, *words]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert site.asked == [("/one.bin", None)]
    assert left(tmp_path) == ["one.bin"]
    assert (tmp_path / "one.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "path", ["../out.bin", "a/../../out.bin", "/out.bin", "", ".", "..", "a\\..\\b", "c:b", "a\0b"]
)
@pytest.mark.parametrize("mirror", [None, "http://127.0.0.1:1", "folder", "hf://datasets/o/n"])
def test_a_path_out_of_the_folder_is_refused(
    site: Site, tmp_path: Path, path: str, mirror: str | None
) -> None:
    bad = known(path, CONTENT, f"{site.address}/one.bin")
    folder = tmp_path / "data"
    mirror = str(tmp_path) if mirror == "folder" else mirror
    with pytest.raises(ValueError, match="path must lead into the data folder"):
        fetch([site.file("one.bin"), bad], folder, mirror=mirror)
    assert (left(tmp_path), site.asked) == ([], [])


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/hostname", "one.bin"])
def test_a_source_that_is_not_http_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="url must begin with http"):
        fetch([known("one.bin", CONTENT, url)], tmp_path)


@pytest.mark.parametrize(
    ("mirror", "sentence"),
    [
        (None, "one.bin: its source offers no such file to fetch: give a folder"),
        ("nowhere", "mirror 'nowhere': no such folder"),
        ("ftp://127.0.0.1", "mirror is 'ftp://127.0.0.1': give a folder, an address"),
        ("file:///tmp", "mirror is 'file:///tmp': give a folder"),
        ("hf://owner/name", "give hf://datasets/OWNER/NAME"),
        ("hf://datasets/name", "give hf://datasets/OWNER/NAME"),
        ("hf://datasets/../name/x", "give hf://datasets/OWNER/NAME"),
    ],
)
def test_a_mirror_that_is_none_is_one_sentence(
    tmp_path: Path, mirror: str | None, sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        fetch([known("one.bin", CONTENT, None)], tmp_path / "data", mirror=mirror)
    assert sentence in str(caught.value)
    assert left(tmp_path) == []


def test_a_mirror_folder_or_address_serves_the_same_paths(site: Site, tmp_path: Path) -> None:
    files = [known(path, CONTENT, "http://127.0.0.1:1/never") for path in ("a/one.bin", "b c#d")]
    for path in ("/sub/a/one.bin", "/sub/b%20c%23d"):
        site.contents[path] = CONTENT
    fetch(files, tmp_path / "first", mirror=f"{site.address}/sub/")
    assert verify(files, tmp_path / "first") == []
    fetch(files, tmp_path / "second", mirror=str(tmp_path / "first"))
    assert verify(files, tmp_path / "second") == []
    (tmp_path / "first" / "b c#d").unlink()
    with pytest.raises(UserError, match=r"mirror: .*b c#d: cannot be read"):
        fetch(files, tmp_path / "third", mirror=str(tmp_path / "first"))
    assert left(tmp_path / "third") == ["a/one.bin"]


def test_a_dataset_of_the_hub_is_a_mirror_and_only_the_hub_gets_the_token(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = site.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", site.address)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    files = [known("a/one.bin", CONTENT, None)]
    for revision in ("main", "v2"):
        site.contents[f"/datasets/owner/name/resolve/{revision}/a/one.bin"] = CONTENT
    fetch(files, tmp_path / "first", mirror="hf://datasets/owner/name")
    fetch(files, tmp_path / "second", mirror="hf://datasets/owner/name@v2")
    assert [path.split("/")[5] for path, _ in site.asked] == ["main", "v2"]
    assert site.tokens == ["Bearer hf_secret"] * 2
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.invalid")
    fetch([site.file("one.bin")], tmp_path / "third")
    assert site.tokens[2:] == [None]


def test_no_server_no_answer_and_offline_mode_are_one_sentence(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}/one.bin"
    with pytest.raises(UserError, match=r"one.bin: could not be fetched \(.*refused\)"):
        fetch([known("one.bin", CONTENT, dead)], tmp_path)
    file = site.file("one.bin")
    site.delay = 1.0
    with monkeypatch.context() as patched:
        patched.setattr(fetching, "_TIMEOUT_SECONDS", 0.05)
        with pytest.raises(UserError, match=r"one.bin: could not be fetched \(.*timed out"):
            fetch([file], tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"one.bin: could not be fetched .*offline mode"):
        fetch([file], tmp_path)
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"data folder '.*file/data': cannot be written \(Not a dir"
    ):
        fetch([site.file("one.bin")], tmp_path / "file" / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"")
    with pytest.raises(UserError, match=r"a/one.bin: cannot be written \("):
        fetch([site.file("a/one.bin")], tmp_path / "data")
