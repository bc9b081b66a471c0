"""What notebooks show of an object: its repr, and a small table of plain HTML under it. All text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

ROWS = 20
"""More are counted, not shown."""


def titled_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """title: the repr. Whole numbers get separators, other ones six digits; other cells are written with str()."""
    body = [_row("td", [_text(cell) for cell in row]) for row in rows[:ROWS]]
    more = f"<p>and {len(rows) - ROWS:,} more</p>" if len(rows) > ROWS else ""
    head = f"<thead>{_row('th', header)}</thead>"
    return f"<p><b>{escape(title)}</b></p><table>{head}<tbody>{''.join(body)}</tbody></table>{more}"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
