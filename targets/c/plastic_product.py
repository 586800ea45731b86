"""C source of the product of a plastic layer: in the order that every target keeps, from rows or from columns.

See :mod:`snncompile.ir.ordered` for the order. The weight has a row for each output, as everywhere. Where few inputs
are not zero, their columns are brought together, and all outputs are summed at once; else every output sums its row.
"""

from __future__ import annotations

from snncompile.ir.ordered import LANES

#: Outputs are padded to so many numbers where their values lie side by side: whole vectors on every processor.
PAD = 16

#: Names that mean something in the printed file.
NAMES = """SUMS PAD snn_wild snn_busy snn_listed snn_columns snn_put_columns snn_take snn_neighbours snn_ordered
snn_all_ordered snn_beyond snn_all_masked snn_masked_columns"""

PRODUCT = f"""#define SUMS {LANES} /* partial sums of a product: inputs are dealt to them in turn */
#define PAD {PAD} /* numbers that rows of values of outputs are padded to */

/* Whether any of n numbers is infinite or none at all: 0 times it is not 0 then. */
SNN_INLINE int snn_wild(const float *restrict values, int64_t n)
{{
    int wild = 0;
    for (int64_t k = 0; k < n; k++)
        wild |= values[k] - values[k] != 0.0f;
    return wild;
}}

/* List the inputs that are not zero in some of B rows of x, `step` apart, and where each stands in the list. */
static int64_t snn_busy(
    const float *restrict x, int64_t step, int64_t B, int64_t M, int32_t *restrict listed, int32_t *restrict place)
{{
    int64_t count = 0;
    if (!B) /* there is nothing to read */
        return 0;
    if (B > 1) {{
        for (int64_t k = 0; k < M; k++)
            place[k] = 0;
        for (int64_t b = 0; b < B; b++)
            for (int64_t k = 0; k < M; k++)
                place[k] |= x[b * step + k] != 0.0f;
    }}
    for (int64_t k = 0; k < M; k++) {{ /* no branch: which of them are zero cannot be foreseen */
        const int busy = B > 1 ? place[k] : x[k] != 0.0f;
        listed[count] = (int32_t)k;
        count += busy;
    }}
    for (int64_t k = 0; k < count; k++)
        place[listed[k]] = (int32_t)k;
    return count;
}}

/* Those of the listed inputs that are not zero in one row of x, and their values; how many there are. */
SNN_INLINE int64_t snn_listed(
    const float *restrict x, const int32_t *restrict listed, int64_t count, int32_t *restrict active,
    float *restrict factors)
{{
    int64_t found = 0;
    for (int64_t k = 0; k < count; k++) {{
        active[found] = listed[k];
        factors[found] = x[listed[k]];
        found += x[listed[k]] != 0.0f;
    }}
    return found;
}}

/* The listed columns of m rows, M apart, one after the other, each padded to `wide` with its last value. */
static void snn_columns(
    const float *restrict weight, int64_t M, const int32_t *restrict listed, int64_t count, int m, int wide,
    float *restrict columns)
{{
    int j = 0;
    for (; j + 4 <= m; j += 4) {{
        const float *restrict w0 = weight + j * M, *restrict w1 = w0 + M, *restrict w2 = w1 + M, *restrict w3 = w2 + M;
        for (int64_t k = 0; k < count; k++) {{
            float *restrict to = columns + k * wide + j;
            const int32_t i = listed[k];
            to[0] = w0[i];
            to[1] = w1[i];
            to[2] = w2[i];
            to[3] = w3[i];
        }}
    }}
    for (; j < wide; j++)
        for (int64_t k = 0; k < count; k++)
            columns[k * wide + j] = j < m ? weight[j * M + listed[k]] : columns[k * wide + m - 1];
}}

/* Put such columns back where they came from. */
static void snn_put_columns(
    float *restrict weight, int64_t M, const int32_t *restrict listed, int64_t count, int m, int wide,
    const float *restrict columns)
{{
    int j = 0;
    for (; j + 4 <= m; j += 4) {{
        float *restrict w0 = weight + j * M, *restrict w1 = w0 + M, *restrict w2 = w1 + M, *restrict w3 = w2 + M;
        for (int64_t k = 0; k < count; k++) {{
            const float *restrict from = columns + k * wide + j;
            const int32_t i = listed[k];
            w0[i] = from[0];
            w1[i] = from[1];
            w2[i] = from[2];
            w3[i] = from[3];
        }}
    }}
    for (; j < m; j++)
        for (int64_t k = 0; k < count; k++)
            weight[j * M + listed[k]] = columns[k * wide + j];
}}

/* Sums of n outputs are added up in the order that every target keeps: partial sum l takes inputs l, l + SUMS, ...;
 * then neighbours are added. Those that no input reached are left out: they are zero. This adds an input's weights. */
SNN_INLINE void snn_take(
    float **sum, float *restrict total, int lane, const float *restrict weights, float factor, const int n)
{{
    if (sum[lane])
        for (int j = 0; j < n; j++)
            total[j] = total[j] + weights[j] * factor;
    else
        for (int j = 0; j < n; j++)
            total[j] = 0.0f + weights[j] * factor;
    sum[lane] = total;
}}

/* out = the partial sums, neighbours added. */
SNN_INLINE void snn_neighbours(float **sum, const int n, float *restrict out)
{{
    for (int width = SUMS / 2; width; width /= 2)
        for (int lane = 0; lane < width; lane++) {{
            float *restrict even = sum[2 * lane];
            const float *restrict odd = sum[2 * lane + 1];
            if (even && odd)
                for (int j = 0; j < n; j++)
                    even[j] = even[j] + odd[j];
            sum[lane] = even ? even : sum[2 * lane + 1];
        }}
    for (int j = 0; j < n; j++)
        out[j] = sum[0] ? sum[0][j] : 0.0f;
}}

/* out = the products of the active inputs with their columns (`wide` values each, at their places), in order. */
static void snn_ordered(
    const float *restrict factors, const int32_t *restrict active, int64_t count, const float *restrict columns,
    const int32_t *restrict place, int wide, float *restrict lanes, float *restrict out)
{{
    float *sum[SUMS] = {{0}};
    for (int64_t k = 0; k < count; k++) {{
        const int lane = active[k] % SUMS;
        const float *column = columns + (int64_t)place[active[k]] * wide;
        snn_take(sum, lanes + (int64_t)lane * wide, lane, column, factors[k], wide);
    }}
    snn_neighbours(sum, wide, out);
}}

/* The same in the same order, for m rows of M weights and every input. */
static void snn_all_ordered(
    const float *restrict x, const float *restrict weight, int64_t M, int m, float *restrict out)
{{
    for (int j = 0; j < m; j++) {{
        const float *restrict row = weight + j * M;
        float sum[SUMS] = {{0}}, next[SUMS / 2];
        int64_t k = 0;
        for (; k + SUMS <= M; k += SUMS)
            for (int lane = 0; lane < SUMS; lane++)
                sum[lane] = sum[lane] + row[k + lane] * x[k + lane];
        for (int lane = 0; lane < M - k; lane++)
            sum[lane] = sum[lane] + row[k + lane] * x[k + lane];
        for (int width = SUMS / 2; width; width /= 2) {{
            for (int lane = 0; lane < width; lane++)
                next[lane] = sum[2 * lane] + sum[2 * lane + 1];
            for (int lane = 0; lane < width; lane++)
                sum[lane] = next[lane];
        }}
        out[j] = sum[0];
    }}
}}
"""

#: What a product reads of weights that have a mask.
MASKED = """/* Whether any of n numbers is none at all, or so large that a product with it could overflow. */
SNN_INLINE int snn_beyond(const float *restrict values, int64_t n)
{
    int32_t beyond = 0;
    for (int64_t k = 0; k < n; k++)
        beyond |= !(fabsf(values[k]) <= 1.0f);
    return beyond;
}

/* As snn_all_ordered, each weight times its mask; `row` has room for one output's. */
static void snn_all_masked(
    const float *restrict x, const float *restrict weight, const float *restrict mask, int64_t M, int m,
    float *restrict row, float *restrict out)
{
    for (int j = 0; j < m; j++) {
        for (int64_t k = 0; k < M; k++)
            row[k] = weight[j * M + k] * mask[j * M + k];
        snn_all_ordered(x, row, M, 1, out + j);
    }
}

/* The listed columns, each weight times its mask, which has a row of `wide` for each input. */
static void snn_masked_columns(
    const float *restrict columns, const float *restrict mask, const int32_t *restrict listed, int64_t count, int wide,
    float *restrict seen)
{
    for (int64_t k = 0; k < count; k++) {
        const float *restrict column = columns + k * wide, *restrict own = mask + (int64_t)listed[k] * wide;
        for (int j = 0; j < wide; j++)
            seen[k * wide + j] = column[j] * own[j];
    }
}
"""
