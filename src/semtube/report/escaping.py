"""Text from data as it may stand in Markdown, in CSV and in a page's JSON, whatever it holds."""

from __future__ import annotations

import json
import re
from typing import Any

#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#|~!&$])")
_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028",
              "\u2029": "\\u2029"}  # fmt: skip


def markdown_text(text: str) -> str:
    """On one line, every sign of Markdown and HTML taken as itself."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def csv_text(text: str) -> str:
    """A text that a spreadsheet shows and does not compute: an apostrophe stands before a formula.

    Source: OWASP, CSV injection.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def script_json(value: Any) -> str:
    """JSON that cannot end the script element that it stands in.

    Raises:
        ValueError: NaN or infinity, which are no JSON.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return "".join(_IN_SCRIPT.get(sign, sign) for sign in text) if _needs(text) else text


def _needs(text: str) -> bool:
    return any(sign in text for sign in _IN_SCRIPT)
