"""C source of pooling by windows that lie side by side: what pooling on its own and scans that pool have in common."""

from __future__ import annotations

from dataclasses import dataclass

from snncompile.targets.c.kernel import Course
from snncompile.targets.pooling import Size, Windows

_TEXT = """#define POOL_HEIGHT {height} /* height of a window */
#define POOL_WIDTH {width} /* width of a window */
#define POOL_DIVISOR {divisor}.0f /* what the sum of a window is divided by */

/* A row of windows in an image `width` wide: a window's values are added row by row, from the first. */
SNN_INLINE void snn_pool_row(const float *restrict from, int64_t width, float *restrict to)
{{
#pragma omp simd
    for (int64_t j = 0; j < width / POOL_WIDTH; j++) {{
        float sum = 0.0f;
        for (int a = 0; a < POOL_HEIGHT; a++)
            for (int b = 0; b < POOL_WIDTH; b++)
                sum = sum + from[a * width + j * POOL_WIDTH + b];
        to[j] = sum / POOL_DIVISOR;
    }}
}}

/* The gradient of a row of the image from those of the `columns` windows that it lies in. */
SNN_INLINE void snn_spread_row(const float *restrict from, int64_t columns, float *restrict to)
{{
#pragma omp simd
    for (int64_t j = 0; j < columns; j++) {{
        const float each = 0.0f + from[j] / POOL_DIVISOR;
        for (int b = 0; b < POOL_WIDTH; b++)
            to[j * POOL_WIDTH + b] = each;
    }}
}}
"""

_SCANNED = """#define POOL_ROW {row} /* width of an image, which windows cover */
#define POOL_AREA {area} /* neurons of a window */
#define POOL_BAND {band} /* neurons of a row of windows, one after the other; a block holds whole ones */

/* The windows of a block. */
SNN_INLINE void snn_pool_block(const float *restrict from, int m, float *restrict to)
{{
    for (int i = 0; i < m; i += POOL_BAND)
        snn_pool_row(from + i, POOL_ROW, to + i / POOL_AREA);
}}

/* The gradient of a block from those of its windows. */
SNN_INLINE void snn_spread_block(const float *restrict from, int m, float *restrict to)
{{
    for (int i = 0; i < m; i += POOL_ROW)
        snn_spread_row(from + i / POOL_BAND * (POOL_ROW / POOL_WIDTH), POOL_ROW / POOL_WIDTH, to + i);
}}
"""


def window_text(window: Size, divisor: int) -> str:
    """Rows of windows."""
    return _TEXT.format(height=window[0], width=window[1], divisor=divisor)


def block_text(windows: Windows) -> str:
    """Blocks of a scan of which one result is pooled."""
    own = _SCANNED.format(row=windows.width, area=windows.area, band=windows.band)
    return f"{window_text(windows.size, windows.divisor)}\n{own}"


@dataclass(frozen=True)
class SpreadCourse(Course):
    """The gradient of a pooled course, spread over the neurons of its windows at each step."""

    @property
    def lanes(self) -> str:
        """How many values a step has in a block."""
        return "m / POOL_AREA"

    def row(self, now: str) -> list[str]:
        """See :class:`Course`."""
        return [f"float {now}[LANES];", f"snn_spread_block({self.pointer} + t * {self.step}, m, {now});"]
