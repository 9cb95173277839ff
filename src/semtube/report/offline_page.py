"""One page that needs nothing else; its tables as CSV, its figures as PNG and SVG."""

from __future__ import annotations

import base64
import hashlib
import textwrap
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from semtube.report.escaping import script_json
from semtube.report.marks import Figure
from semtube.report.table import Table
from semtube.run_folder import write_bytes, write_text
from semtube.version import __version__

VEGA_LITE = "6.4"
#: The one name of the bundle that the page uses.
BUNDLED = "window.vegaEmbed = vegaEmbed;"
FIGURE_WIDTH = 640
SUBTITLE_CHARACTERS = 105


def page(template: str, *, figures: Sequence[Figure], **values: Any) -> str:
    """The page. Its policy allows its own two scripts, by their hashes, and no request.

    Args:
        template: a file of the folder page, which extends page.html.jinja.
        values: what the template reads; texts are escaped.
    """
    bundle = vl_convert.javascript_bundle(BUNDLED, vl_version=VEGA_LITE) if figures else ""
    js, css = _asset("page.js"), _asset("page.css")
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in (bundle, js) if script)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(
        figures=figures,
        policy=Markup(policy),
        css=Markup(css),
        js=Markup(js),
        bundle=Markup(bundle),
        version=__version__,
        script_json=lambda value: Markup(script_json(value)),
        data_uri=_data_uri,
        **values,
    )


def write_parts(folder: Path, tables: Sequence[Table], figures: Sequence[Figure]) -> None:
    """folder/csv and folder/figures, emptied of what an older report left there."""
    for place in (folder / "csv", folder / "figures"):
        place.mkdir(parents=True, exist_ok=True)
        for old in place.iterdir():
            old.unlink()
    for table in tables:
        write_text(folder / "csv" / f"{table.name}.csv", table.csv())
    for figure in figures:
        write_text(folder / "csv" / f"figure_{figure.name}.csv", figure.csv())
        draw(figure, folder / "figures")


def draw(figure: Figure, folder: Path) -> None:
    """Write folder/NAME.svg and NAME.png, on white, with title and caption."""
    spec = figure.spec(width=FIGURE_WIDTH)
    # A square one is narrower than the page.
    characters = SUBTITLE_CHARACTERS if figure.side is None else SUBTITLE_CHARACTERS // 2
    lines = textwrap.wrap(figure.caption, characters)
    if figure.chosen:
        lines = [*textwrap.wrap(f"Shown: {figure.chosen}.", characters), *lines]
    spec["title"] = {
        "text": figure.title, "subtitle": lines, "anchor": "start", "frame": "bounds",
        "fontSize": 15, "subtitleFontSize": 11, "subtitleColor": "#555", "subtitlePadding": 6,
        "offset": 14,
    }  # fmt: skip
    spec["config"] = spec["config"] | {"background": "white", "font": "sans-serif", "padding": 12}
    svg = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
    write_text(folder / f"{figure.name}.svg", svg)
    write_bytes(folder / f"{figure.name}.png", vl_convert.svg_to_png(svg, scale=2))


def _asset(name: str) -> str:
    return resources.files("semtube.report").joinpath("page", name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data_uri(text: str) -> str:
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()
