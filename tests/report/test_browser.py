"""The page of a study opened in a real browser: headless Chromium, where there is one."""

from pathlib import Path

import pytest
from browser import MARKS_DRAWN, Browser
from study_store import HOSTILE, hostile

from semtube.report.study_page import write_report


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = hostile()
    store.fractions, store.num_rows, store.num_steps = (1.0, 0.125), 60, 20
    return write_report(store.write(tmp_path_factory.mktemp("study")))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_every_figure_is_drawn(browser: Browser, page: Path, width: int, scheme: str) -> None:
    browser.open(page, width=width, scheme=scheme)
    assert browser.errors() == []
    assert browser.requests() == [page.as_uri()]
    drawn = browser.evaluate(MARKS_DRAWN)
    assert len(drawn) == 10
    for name, num_marks, right in drawn:
        assert num_marks >= 2, f"{name} is empty"
        assert 0 < right <= width, f"{name} ends at {right} of {width} pixels"
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    light = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]


def test_hostile_text_is_shown_as_text(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    assert browser.evaluate("window.hacked || 0") == 0
    assert browser.evaluate("document.images.length") == 0
    assert HOSTILE in browser.evaluate("document.getElementById('answer').textContent")
    told = browser.evaluate("document.getElementById('runs').textContent")
    assert HOSTILE in told
    labels = browser.evaluate(
        "[...document.querySelectorAll('#figure-arms svg text')].map(t => t.textContent)"
    )
    assert any(label.startswith("</script><img") for label in labels)


def test_a_choice_of_the_reader_changes_the_figure(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    bars = "[...document.querySelectorAll('#figure-arms svg g.mark-rect path')].map("
    bars += "p => p.getAttribute('d')).join()"
    before = browser.evaluate(bars)
    browser.evaluate(
        "(() => { const s = document.querySelector('#figure-arms select'); s.selectedIndex = 1;"
        "s.dispatchEvent(new Event('change')); return new Promise(r => setTimeout(r, 300)); })()"
    )
    assert browser.evaluate(bars) != before
    assert browser.errors() == []


def test_the_page_is_printed_whole(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page, width=1280, scheme="dark")
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    text = "getComputedStyle(document.querySelector('.plot svg text')).fill"
    assert browser.evaluate(text) == "rgb(0, 0, 0)"
    browser.call("Emulation.setEmulatedMedia", media="")


def test_the_policy_stops_a_foreign_script(browser: Browser, page: Path, tmp_path: Path) -> None:
    """A control: a script put into the page does not run, and a request is refused and seen."""
    text = page.read_text()
    bad = '<script>window.hacked = 1</script><img src="http://127.0.0.1:9/x.png">'
    planted = tmp_path / "planted.html"
    planted.write_text(text.replace("<main>", f"<main>{bad}"))
    browser.open(planted, width=1280)
    assert browser.evaluate("window.hacked || 0") == 0
    refused = [line for line in browser.errors() if "Content Security Policy" in line]
    assert len(refused) >= 2
