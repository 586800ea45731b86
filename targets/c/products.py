"""C source of products: rows of a weight added up, for sparse inputs and for dense ones.

Each output is one sum over the inputs, first to last, one multiply-add for each that counts. So a result depends
neither on the number of threads nor on how the batch is divided, and leaving out zeros changes nothing.
"""

from __future__ import annotations

#: Sequences whose products are computed together, so that a row of the weight is read once for all of them.
TILE = 4

PRODUCTS = f"""#define TILE {TILE} /* sequences whose products are computed together */

/* acc + a * b, rounded once where the processor can do that. */
#ifdef FP_FAST_FMAF
#define SNN_MADD(a, b, acc) fmaf(a, b, acc)
#else
#define SNN_MADD(a, b, acc) ((acc) + (a) * (b))
#endif
"""

_EVENTS = """/* The lowest bit that is set. */
#if defined(__GNUC__)
#define SNN_LOWEST(bits) __builtin_ctz(bits)
#else
SNN_INLINE int SNN_LOWEST(uint32_t bits)
{
    int i = 0;
    for (; !(bits & 1u); bits >>= 1)
        i++;
    return i;
}
#endif

/* Which of the next 32 values are not zero, the first in the lowest bit. */
SNN_INLINE uint32_t snn_mask(const float *restrict x)
{
    uint32_t mask = 0;
#pragma omp simd reduction(| : mask)
    for (int i = 0; i < 32; i++)
        mask |= (uint32_t)(x[i] != 0.0f) << i;
    return mask;
}

/* List the values of a row that are not zero, and where they stand; how many there are. */
SNN_INLINE int64_t snn_active(
    const float *restrict x, int64_t inputs, float *restrict factors, int32_t *restrict active)
{
    int64_t count = 0, k = 0;
    for (; k + 32 <= inputs; k += 32)
        for (uint32_t mask = snn_mask(x + k); mask; mask &= mask - 1) {
            const int64_t i = k + SNN_LOWEST(mask);
            active[count] = (int32_t)i;
            factors[count++] = x[i];
        }
    for (; k < inputs; k++) {
        active[count] = (int32_t)k;
        factors[count] = x[k];
        count += x[k] != 0.0f;
    }
    return count;
}

/* Add to `out` (m values) the listed rows of `from`, `step` apart, each times its factor, first to last. */
SNN_INLINE void snn_add_far_rows(
    const float *restrict factors, const int32_t *restrict rows, int64_t count, const float *restrict from,
    int64_t step, int64_t m, float *restrict out)
{
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const float x0 = factors[i], x1 = factors[i + 1], x2 = factors[i + 2], x3 = factors[i + 3];
        const float *restrict w0 = from + rows[i] * step, *restrict w1 = from + rows[i + 1] * step;
        const float *restrict w2 = from + rows[i + 2] * step, *restrict w3 = from + rows[i + 3] * step;
#pragma omp simd
        for (int64_t j = 0; j < m; j++)
            out[j] = SNN_MADD(x3, w3[j], SNN_MADD(x2, w2[j], SNN_MADD(x1, w1[j], SNN_MADD(x0, w0[j], out[j]))));
    }
    for (; i < count; i++) {
        const float x0 = factors[i];
        const float *restrict w0 = from + rows[i] * step;
#pragma omp simd
        for (int64_t j = 0; j < m; j++)
            out[j] = SNN_MADD(x0, w0[j], out[j]);
    }
}

/* The same for rows of `m` values that lie one after the other. */
SNN_INLINE void snn_add_rows(
    const float *restrict factors, const int32_t *restrict rows, int64_t count, const float *restrict from, int64_t m,
    float *restrict out)
{
    snn_add_far_rows(factors, rows, count, from, m, m, out);
}
"""

#: Products of what may be anything, without what both kinds need.
DENSE_ALONE = """/* out += x @ weight for one row of x; the weight has a row of m for each input. */
SNN_INLINE void snn_dense_row(
    const float *restrict x, const float *restrict weight, int64_t inputs, int64_t m, float *restrict out)
{
    int64_t k = 0;
    for (; k + 4 <= inputs; k += 4) {
        const float x0 = x[k], x1 = x[k + 1], x2 = x[k + 2], x3 = x[k + 3];
        const float *restrict w = weight + k * m;
#pragma omp simd
        for (int64_t j = 0; j < m; j++)
            out[j] = SNN_MADD(x3, w[3 * m + j], SNN_MADD(x2, w[2 * m + j],
                     SNN_MADD(x1, w[m + j], SNN_MADD(x0, w[j], out[j]))));
    }
    for (; k < inputs; k++) {
#pragma omp simd
        for (int64_t j = 0; j < m; j++)
            out[j] = SNN_MADD(x[k], weight[k * m + j], out[j]);
    }
}

/* The same for TILE rows, one after the other in x and in out. */
SNN_INLINE void snn_dense_tile(
    const float *restrict x, const float *restrict weight, int64_t inputs, int64_t m, float *restrict out)
{
    const float *restrict a = x, *restrict b = x + inputs, *restrict c = x + 2 * inputs, *restrict d = x + 3 * inputs;
    float *restrict p = out, *restrict q = out + m, *restrict r = out + 2 * m, *restrict s = out + 3 * m;
    int64_t k = 0;
    for (; k + 4 <= inputs; k += 4) {
        const float a0 = a[k], a1 = a[k + 1], a2 = a[k + 2], a3 = a[k + 3];
        const float b0 = b[k], b1 = b[k + 1], b2 = b[k + 2], b3 = b[k + 3];
        const float c0 = c[k], c1 = c[k + 1], c2 = c[k + 2], c3 = c[k + 3];
        const float d0 = d[k], d1 = d[k + 1], d2 = d[k + 2], d3 = d[k + 3];
        const float *restrict w = weight + k * m;
#pragma omp simd
        for (int64_t j = 0; j < m; j++) {
            const float w0 = w[j], w1 = w[m + j], w2 = w[2 * m + j], w3 = w[3 * m + j];
            p[j] = SNN_MADD(a3, w3, SNN_MADD(a2, w2, SNN_MADD(a1, w1, SNN_MADD(a0, w0, p[j]))));
            q[j] = SNN_MADD(b3, w3, SNN_MADD(b2, w2, SNN_MADD(b1, w1, SNN_MADD(b0, w0, q[j]))));
            r[j] = SNN_MADD(c3, w3, SNN_MADD(c2, w2, SNN_MADD(c1, w1, SNN_MADD(c0, w0, r[j]))));
            s[j] = SNN_MADD(d3, w3, SNN_MADD(d2, w2, SNN_MADD(d1, w1, SNN_MADD(d0, w0, s[j]))));
        }
    }
    for (; k < inputs; k++) {
        const float *restrict w = weight + k * m;
#pragma omp simd
        for (int64_t j = 0; j < m; j++) {
            p[j] = SNN_MADD(a[k], w[j], p[j]);
            q[j] = SNN_MADD(b[k], w[j], q[j]);
            r[j] = SNN_MADD(c[k], w[j], r[j]);
            s[j] = SNN_MADD(d[k], w[j], s[j]);
        }
    }
}
"""
_DOTS = """/* out = x @ weight^T + bias: each output a sum of its own, for a weight (outputs, inputs) as it stands. */
static void snn_dots(
    const float *restrict x, int64_t step, const float *restrict weight, const float *restrict bias,
    float *restrict out, int64_t rows, int64_t inputs, int64_t outputs)
{
    for (int64_t row = 0; row < rows; row++, x += step, out += outputs) {
        int64_t j = 0;
        for (; j + 4 <= outputs; j += 4) {
            const float *restrict w = weight + j * inputs;
            float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
#pragma omp simd reduction(+ : a, b, c, d)
            for (int64_t k = 0; k < inputs; k++) {
                a = SNN_MADD(x[k], w[k], a);
                b = SNN_MADD(x[k], w[inputs + k], b);
                c = SNN_MADD(x[k], w[2 * inputs + k], c);
                d = SNN_MADD(x[k], w[3 * inputs + k], d);
            }
            out[j] = a;
            out[j + 1] = b;
            out[j + 2] = c;
            out[j + 3] = d;
        }
        for (; j < outputs; j++) {
            float a = 0.0f;
#pragma omp simd reduction(+ : a)
            for (int64_t k = 0; k < inputs; k++)
                a = SNN_MADD(x[k], weight[j * inputs + k], a);
            out[j] = a;
        }
        for (j = 0; bias && j < outputs; j++)
            out[j] += bias[j];
    }
}
"""
EVENTS = f"{PRODUCTS}\n{_EVENTS}"
DENSE = f"{PRODUCTS}\n{DENSE_ALONE}"
DOTS = f"{PRODUCTS}\n{_DOTS}"
