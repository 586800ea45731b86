"""C source of what the images of a cycle share: planes with room around, and sums over them.

See :mod:`snncompile.targets.sliding` for how images lie in planes. Each sum goes through channels and taps, first to
last.
"""

from __future__ import annotations

#: How many places are summed up together: planes of sums are rounded up to them.
PLACES = 16

IMAGES = """\
/* Copy an image's channels into planes of `rows` and `pitch`, one for each place of the stride (sh, sw): the first
 * value goes to (top, left) of all planes together. What is not in the image is `outside`. */
SNN_INLINE void snn_pack(
    const float *restrict x, int64_t channels, int64_t height, int64_t width, int64_t top, int64_t left, int64_t sh,
    int64_t sw, int64_t rows, int64_t pitch, float outside, float *restrict to)
{
    snn_fill(to, outside, channels * sh * sw * rows * pitch);
    for (int64_t c = 0; c < channels; c++, to += sh * sw * rows * pitch)
        for (int64_t i = 0; i < height; i++, x += width)
            for (int64_t place = 0; place < sw; place++) {
                const int64_t first = ((place - left) % sw + sw) % sw; /* column of the image */
                float *restrict at = to + ((i + top) % sh * sw + place) * rows * pitch + (i + top) / sh * pitch
                                   + (first + left) / sw;
#pragma omp simd
                for (int64_t j = 0; j < (width - first + sw - 1) / sw; j++)
                    at[j] = x[first + j * sw];
            }
}

/* Rows of `columns` values, `pitch` apart in planes `apart` from each other, to an image. */
SNN_INLINE void snn_unpack(
    const float *restrict from, int64_t channels, int64_t apart, int64_t rows, int64_t columns, int64_t pitch,
    float divisor, float *restrict to)
{
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < rows; i++, to += columns)
#pragma omp simd
            for (int64_t j = 0; j < columns; j++)
                to[j] = from[c * apart + i * pitch + j] / divisor;
}

/* The same, added to every (sh, sw)-th place of images of (height, width), from (y, x) on. */
SNN_INLINE void snn_unpack_add(
    const float *restrict from, int64_t channels, int64_t apart, int64_t rows, int64_t columns, int64_t pitch,
    float divisor, int64_t y, int64_t x, int64_t sh, int64_t sw, int64_t height, int64_t width, float *restrict to)
{
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < rows; i++) {
            float *restrict at = to + (c * height + y + i * sh) * width + x;
#pragma omp simd
            for (int64_t j = 0; j < columns; j++)
                at[j * sw] = at[j * sw] + from[c * apart + i * pitch + j] / divisor;
        }
}
"""

CONV = f"""\
/* Add to each of `outputs` planes of m values the planes of the taps, each times its weight (outputs, count). A few
 * places of four outputs take in so many taps before they are put back. */
#define SNN_PLACES {PLACES} /* m is a multiple of it */
#define SNN_TAPS 64

SNN_APART void snn_four_outputs(
    const float *const *restrict reads, int64_t taps, const float *restrict a, int64_t count, int64_t m,
    float *restrict to)
{{
    const float *restrict b = a + count, *restrict c = b + count, *restrict d = c + count;
    for (int64_t first = 0; first < m; first += SNN_PLACES) {{
        float p[SNN_PLACES], q[SNN_PLACES], r[SNN_PLACES], s[SNN_PLACES];
        for (int j = 0; j < SNN_PLACES; j++) {{
            p[j] = to[first + j];
            q[j] = to[m + first + j];
            r[j] = to[2 * m + first + j];
            s[j] = to[3 * m + first + j];
        }}
        int64_t k = 0;
        for (; k + 4 <= taps; k += 4) {{
            const float *restrict w0 = reads[k] + first, *restrict w1 = reads[k + 1] + first;
            const float *restrict w2 = reads[k + 2] + first, *restrict w3 = reads[k + 3] + first;
            const float a0 = a[k], a1 = a[k + 1], a2 = a[k + 2], a3 = a[k + 3];
            const float b0 = b[k], b1 = b[k + 1], b2 = b[k + 2], b3 = b[k + 3];
            const float c0 = c[k], c1 = c[k + 1], c2 = c[k + 2], c3 = c[k + 3];
            const float d0 = d[k], d1 = d[k + 1], d2 = d[k + 2], d3 = d[k + 3];
#pragma omp simd
            for (int j = 0; j < SNN_PLACES; j++) {{
                const float x0 = w0[j], x1 = w1[j], x2 = w2[j], x3 = w3[j];
                p[j] = SNN_MADD(a3, x3, SNN_MADD(a2, x2, SNN_MADD(a1, x1, SNN_MADD(a0, x0, p[j]))));
                q[j] = SNN_MADD(b3, x3, SNN_MADD(b2, x2, SNN_MADD(b1, x1, SNN_MADD(b0, x0, q[j]))));
                r[j] = SNN_MADD(c3, x3, SNN_MADD(c2, x2, SNN_MADD(c1, x1, SNN_MADD(c0, x0, r[j]))));
                s[j] = SNN_MADD(d3, x3, SNN_MADD(d2, x2, SNN_MADD(d1, x1, SNN_MADD(d0, x0, s[j]))));
            }}
        }}
        for (; k < taps; k++) {{
            const float *restrict w = reads[k] + first;
            const float a0 = a[k], b0 = b[k], c0 = c[k], d0 = d[k];
#pragma omp simd
            for (int j = 0; j < SNN_PLACES; j++) {{
                p[j] = SNN_MADD(a0, w[j], p[j]);
                q[j] = SNN_MADD(b0, w[j], q[j]);
                r[j] = SNN_MADD(c0, w[j], r[j]);
                s[j] = SNN_MADD(d0, w[j], s[j]);
            }}
        }}
        for (int j = 0; j < SNN_PLACES; j++) {{
            to[first + j] = p[j];
            to[m + first + j] = q[j];
            to[2 * m + first + j] = r[j];
            to[3 * m + first + j] = s[j];
        }}
    }}
}}

SNN_APART void snn_one_output(
    const float *const *restrict reads, int64_t taps, const float *restrict a, int64_t m, float *restrict to)
{{
    for (int64_t first = 0; first < m; first += SNN_PLACES) {{
        float p[SNN_PLACES];
        for (int j = 0; j < SNN_PLACES; j++)
            p[j] = to[first + j];
        for (int64_t k = 0; k < taps; k++) {{
            const float *restrict w = reads[k] + first;
            const float a0 = a[k];
#pragma omp simd
            for (int j = 0; j < SNN_PLACES; j++)
                p[j] = SNN_MADD(a0, w[j], p[j]);
        }}
        for (int j = 0; j < SNN_PLACES; j++)
            to[first + j] = p[j];
    }}
}}

SNN_APART void snn_conv_planes(
    const float *from, const int32_t *offsets, int64_t taps, int64_t apart, int64_t count,
    const float *restrict weight, int64_t outputs, int64_t m, float *restrict to)
{{
    int64_t tap = 0;
    for (int64_t begin = 0; begin < count; begin += SNN_TAPS) {{
        const int64_t now = count - begin < SNN_TAPS ? count - begin : SNN_TAPS;
        const float *reads[SNN_TAPS];
        for (int64_t k = 0; k < now; k++) {{
            reads[k] = from + offsets[tap];
            if (++tap == taps) {{ /* the next channel */
                tap = 0;
                from += apart;
            }}
        }}
        int64_t o = 0;
        for (; o + 4 <= outputs; o += 4)
            snn_four_outputs(reads, now, weight + o * count + begin, count, m, to + o * m);
        for (; o < outputs; o++)
            snn_one_output(reads, now, weight + o * count + begin, m, to + o * m);
    }}
}}
"""

POOLS = """/* The sum of a channel's taps, for m places; then the largest of them, a NaN where there is one. */
SNN_APART void snn_pool_planes(
    const float *from, const int32_t *restrict offsets, int64_t taps, int64_t m, float *restrict to)
{
    snn_fill(to, 0.0f, m);
    for (int64_t k = 0; k < taps; k++) {
        const float *restrict w = from + offsets[k];
#pragma omp simd
        for (int64_t j = 0; j < m; j++)
            to[j] = to[j] + w[j];
    }
}

SNN_APART void snn_most_planes(
    const float *from, const int32_t *restrict offsets, int64_t taps, int64_t m, float *restrict to)
{
    snn_fill(to, -INFINITY, m);
    for (int64_t k = 0; k < taps; k++) {
        const float *restrict w = from + offsets[k];
#pragma omp simd
        for (int64_t j = 0; j < m; j++)
            to[j] = w[j] > to[j] || w[j] != w[j] ? w[j] : to[j];
    }
}

/* Add the gradient of each window's largest value to that of the value: the first of equals, the last NaN. */
SNN_INLINE void snn_most_back(
    const float *restrict x, const float *restrict grad, int64_t channels, int64_t height, int64_t width, int64_t rows,
    int64_t columns, int64_t kh, int64_t kw, int64_t sh, int64_t sw, int64_t ph, int64_t pw, float *restrict to)
{
    for (int64_t c = 0; c < channels; c++, x += height * width, to += height * width)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) {
                const int64_t top = i * sh - ph, left = j * sw - pw;
                const int64_t bottom = top + kh < height ? top + kh : height;
                const int64_t right = left + kw < width ? left + kw : width;
                int64_t best = -1;
                for (int64_t y = top > 0 ? top : 0; y < bottom; y++)
                    for (int64_t z = left > 0 ? left : 0; z < right; z++) {
                        const float value = x[y * width + z];
                        if (best < 0 || value > x[best] || value != value)
                            best = y * width + z;
                    }
                to[best] += grad[(c * rows + i) * columns + j];
            }
}
"""

MASKS = """/* A row times a mask; and its gradient. */
SNN_APART void snn_masked(float *restrict to, const float *restrict from, const float *restrict mask, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        to[j] = from[j] * mask[j];
}

SNN_APART void snn_masked_back(float *restrict to, const float *restrict grad, const float *restrict mask, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        to[j] = to[j] + grad[j] * mask[j];
}
"""
