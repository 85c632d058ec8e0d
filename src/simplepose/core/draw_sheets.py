"""Several pictures in one: contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from simplepose.core.draw_text import draw_label, label_size_wh
from simplepose.core.errors import UserError

_PAPER, _INK = (245, 245, 242), (40, 40, 44)


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: int = 4,
    titles: Sequence[str] = (),
    *,
    cell_size_wh: tuple[int, int] = (320, 240),
) -> np.ndarray:
    """Pictures in rows of equal cells, each fitted into its cell with its proportions kept.

    Args:
        images: (H, W, 3) uint8 RGB each, at least one.
        columns: cells a row.
        titles: one a picture, or none.
        cell_size_wh: width and height of a cell in pixels.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        UserError: no picture, another number of titles, or fewer than one column.
    """
    _check(images, titles)
    if columns < 1:
        raise UserError(
            f"a contact sheet of {columns} columns makes no sense. Cure: ask for at least 1"
        )
    cells = [_fit(image, cell_size_wh) for image in images]
    columns = min(columns, len(cells))
    cells += [np.full((cell_size_wh[1], cell_size_wh[0], 3), _PAPER, np.uint8)] * (
        -len(cells) % columns
    )
    names = list(titles) + [""] * (len(cells) - len(titles)) if titles else []
    starts = range(0, len(cells), columns)
    rows = [cells[start : start + columns] for start in starts]
    return _page(
        rows,
        [names[start : start + columns] for start in starts] if names else [],
        gap=max(2, cell_size_wh[1] // 40),
    )


def _check(images: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    if not len(images):
        raise UserError("there is no picture to put on the sheet. Cure: pass at least one")
    if titles and len(titles) != len(images):
        raise UserError(
            f"{len(titles)} titles for {len(images)} pictures. Cure: pass one title a picture, or none"
        )


def _resize(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """The picture at another size; `size_wh` of the picture itself returns it as it is."""
    if image.shape[1::-1] == size_wh:
        return image
    shrinking = size_wh[0] < image.shape[1]
    return cv2.resize(
        image, size_wh, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    )


def _fit(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """The picture in the middle of a cell of paper."""
    factor = min(size_wh[0] / image.shape[1], size_wh[1] / image.shape[0])
    inner = _resize(
        image, (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    )
    cell = np.full((size_wh[1], size_wh[0], 3), _PAPER, np.uint8)
    top, left = (size_wh[1] - inner.shape[0]) // 2, (size_wh[0] - inner.shape[1]) // 2
    cell[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return cell


def _page(rows: list[list[np.ndarray]], titles: list[list[str]], gap: int) -> np.ndarray:
    """Rows of cells of equal height on paper, with a line of titles above each row if there are any."""
    height = rows[0][0].shape[0]
    line = max(14, round(height * 0.08)) if titles else 0
    width = max(sum(cell.shape[1] + gap for cell in row) for row in rows) + gap
    page = np.full((len(rows) * (height + gap + line) + gap, width, 3), _PAPER, np.uint8)
    for number, row in enumerate(rows):
        left, top = gap, gap + number * (height + gap + line)
        for place, cell in enumerate(row):
            if titles and titles[number][place]:
                title, size = titles[number][place], line - 2
                while size > 8 and label_size_wh(title, size)[0] > cell.shape[1]:
                    size -= 1
                strip = page[top : top + line, left : left + cell.shape[1]]
                draw_label(strip, title, (0, (line - size) // 2), size, plate=_INK, opacity=1.0)
            page[top + line : top + line + height, left : left + cell.shape[1]] = cell
            left += cell.shape[1] + gap
    return page
