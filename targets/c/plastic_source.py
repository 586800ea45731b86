"""C source of the learning of a plastic layer: who takes part in a step, and the update of their weights.

Where a product of factors is not zero only in some rows and columns, only those weights are updated. That is exact as
long as every other weight would stay as it is, and this is not assumed: each weight that is written is updated once
more on trial with nothing potentiated or depressed, and while any of them moves (a bound not yet applied, a rule that
decays weights), all are updated. 0 times infinity is not 0: where a factor is so large that a product of two could
overflow, or none at all, nothing is left out, neither here nor, once a weight is infinite or none, in the product.
"""

from __future__ import annotations

#: How much dearer a weight is in the column of an input, where weights lie far apart, than in the row of an output.
COLUMN_COST = 4

#: Names that mean something in the printed file.
NAMES = "COLUMN_COST TAME snn_bits snn_marks"

TAKING_PART = f"""#define COLUMN_COST {COLUMN_COST} /* a weight costs so much more in the column of an input */
#define TAME 1e12f /* what is below, in magnitude, has finite products, and finite sums of them */

/* The bits of a number: 0 and -0 differ, and a NaN is itself. */
SNN_INLINE int32_t snn_bits(float value)
{{
    union {{ float value; int32_t bits; }} both;
    both.value = value;
    return both.bits;
}}

/* Mark where any of B rows of factors is not zero; how many there are. `tame` falls where a factor is not. */
static int64_t snn_marks(
    const float *restrict factors, int64_t B, int64_t step, int64_t n, int32_t *restrict marks, int *tame)
{{
    int32_t count = 0, wild = 0;
    for (int64_t k = 0; k < n; k++)
        marks[k] = 0;
    for (int64_t b = 0; b < B; b++)
        for (int64_t k = 0; k < n; k++) {{
            const float factor = factors[b * step + k];
            marks[k] |= factor != 0.0f;
            wild |= !(fabsf(factor) < TAME);
        }}
    for (int64_t k = 0; k < n; k++)
        count += marks[k];
    *tame &= !wild;
    return count;
}}
"""

_SUM = """/* sum[k] = one factor of each sequence times n others of it, added up from the first sequence to the last;
 * whether there is anything to add: what is 0 changes no sum, unless `every`. */
static int {name}_sum(
    const float *restrict one, int64_t one_step, const float *restrict others, int64_t step, int64_t B, int64_t n,
    int every, float *restrict sum)
{{
    int any = 0;
    for (int64_t b = 0; b < B; b++) {{
        const float factor = one[b * one_step];
        const float *restrict row = others + b * step;
        if (factor == 0.0f && !every)
            continue;
        if (any)
            for (int64_t k = 0; k < n; k++)
                sum[k] = sum[k] + row[k] * factor;
        else
            for (int64_t k = 0; k < n; k++)
                sum[k] = 0.0f + row[k] * factor;
        any = 1;
    }}
    return any;
}}

"""

#: The update of the weights where nothing but the sums of both products matters. ``{{update}}`` is one call of the
#: printed update, ``{{idle}}`` one with both products 0; ``{{coefs}}`` declares the rule's coefficients, ``{{pass_}}``
#: hands them on. ``{{fixed}}`` declares what has a value for each of n weights besides (mask, sign), and ``{{same}}``
#: hands it on; ``{{both}}`` declares it for all weights, by rows and turned to rows of `wide` for each column, of which
#: ``{{row}}`` and ``{{column}}`` hand on one.
LEARN = (
    """/* Update n weights: `more` times the one factors are potentiated, `less` times the others depressed. */
SNN_INLINE void {name}_some(
    float *restrict weight, const float *restrict from_p, float more, const float *restrict from_d, float less,
    int64_t n, const int any_p, const int any_d{fixed}{coefs})
{{
#pragma omp simd
    for (int64_t k = 0; k < n; k++) {{
        const float p = any_p ? 0.0f + from_p[k] * more : 0.0f;
        const float d = any_d ? 0.0f + from_d[k] * less : 0.0f;
        weight[k] = {update};
    }}
}}

/* Whether n weights stay as they are if nothing comes. A loop of its own is faster than a part of the one above. */
static int {name}_rest(const float *restrict weight, int64_t n{fixed}{coefs})
{{
    int32_t moves = 0;
    for (int64_t k = 0; k < n; k++) {{
        const float w = weight[k];
        const float still = {idle};
        moves |= snn_bits(still) ^ snn_bits(w);
    }}
    return !moves;
}}

/* Update n weights without what is 0, unless `every`: a factor may be infinite, and 0 times it counts. On trial,
 * whether they all would stay as they are now if nothing more came; else 0. `wild` rises where one is infinite. */
static int {name}_many(
    float *restrict weight, const float *restrict from_p, float more, const float *restrict from_d, float less,
    int64_t n, int every, int trial, int *wild{fixed}{coefs})
{{
    const int p = every || more != 0.0f, d = every || less != 0.0f;
    if (p && d)
        {name}_some(weight, from_p, more, from_d, less, n, 1, 1{same}{pass_});
    else if (p)
        {name}_some(weight, from_p, more, from_d, less, n, 1, 0{same}{pass_});
    else if (d)
        {name}_some(weight, from_p, more, from_d, less, n, 0, 1{same}{pass_});
    else
        {name}_some(weight, from_p, more, from_d, less, n, 0, 0{same}{pass_});{check}
    (void)wild;
    return trial && {name}_rest(weight, n{same}{pass_});
}}

"""
    + _SUM
    + """/* The update of one step for m rows of M weights, S apart; whether every weight is known to stay as it is if
 * nothing more comes. `pre` is the side along a row, `post` that of the rows; their sequences are P and W apart. The
 * first `held` columns are those of the listed places in a row; `usual` is the mean work of the last steps. */
static int {name}(
    float *restrict weight, int64_t M, int64_t S, int64_t P, int64_t W, int64_t B, int m, int wide,
    const float *restrict pre_p, const float *restrict pre_d, const float *restrict post_p,
    const float *restrict post_d, float *restrict columns, const int32_t *restrict listed, int64_t held,
    float *restrict values,
    int32_t *restrict marks, int still, int64_t *usual, int *wild{both}{coefs})
{{
    int32_t *restrict in_p = marks, *restrict in_d = in_p + M, *restrict wanted = in_d + M;
    int32_t *restrict out_p = wanted + M + 1, *restrict out_d = out_p + wide;
    float *restrict p = values, *restrict d = values + (M > wide ? M : wide);
    int tame = 1, known = 1;
    const int64_t inputs_p = snn_marks(pre_p, B, P, M, in_p, &tame);
    const int64_t inputs_d = snn_marks(pre_d, B, P, M, in_d, &tame);
    const int64_t outputs_p = snn_marks(post_p, B, W, m, out_p, &tame);
    const int64_t outputs_d = snn_marks(post_d, B, W, m, out_d, &tame);
    *wild |= !tame;
    /* either product is not zero only where an input and an output take part: go by whichever is less work */
    const int64_t by_row_p = inputs_p ? outputs_p * M : 0, by_column_p = outputs_p ? inputs_p * m * COLUMN_COST : 0;
    const int64_t by_row_d = inputs_d ? outputs_d * M : 0, by_column_d = outputs_d ? inputs_d * m * COLUMN_COST : 0;
    const int columns_p = by_column_p < by_row_p, columns_d = by_column_d < by_row_d;
    const int rows_p = by_row_p && !columns_p, rows_d = by_row_d && !columns_d;
    const int64_t work = (columns_p ? by_column_p : by_row_p) + (columns_d ? by_column_d : by_row_d);
    *usual += (work - *usual) / 4;
    const int trial = tame && 3 * *usual <= 2 * M * m; /* else the next step is likely to touch all, too */
    const int all = !still || !trial || work > M * m;
    int64_t count = 0; /* inputs whose columns are updated */

    if (!all && (columns_p || columns_d)) {{
        for (int64_t i = 0; i < M; i++)
            in_p[i] = (columns_p & in_p[i]) | (columns_d & in_d[i]);
        for (int64_t i = 0; i < M; i++) {{
            wanted[count] = (int32_t)i;
            count += in_p[i];
        }}
    }}
    if (count) {{ /* their old values are read before rows are updated, which may lie across */
        int same = count == held;
        for (int64_t k = 0; k < count && same; k++)
            same = wanted[k] == listed[k];
        if (!same)
            snn_columns(weight, S, wanted, count, m, wide, columns);
    }}
    for (int64_t k = 0; k < count; k++) {{
        const int64_t i = wanted[k];
        float *restrict column = columns + k * wide;
        if (B == 1) {{
            known &= {name}_many(column, post_p, pre_p[i], post_d, pre_d[i], wide, 0, known, wild{column}{pass_});
        }} else {{
            const int any_p = {name}_sum(pre_p + i, P, post_p, W, B, wide, 0, p);
            const int any_d = {name}_sum(pre_d + i, P, post_d, W, B, wide, 0, d);
            known &= {name}_many(column, p, (float)any_p, d, (float)any_d, wide, 0, known, wild{column}{pass_});
        }}
    }}
    for (int j = 0; j < m; j++) {{
        float *restrict row = weight + j * S;
        const int row_p = all || (rows_p && out_p[j]), row_d = all || (rows_d && out_d[j]);
        if (!row_p && !row_d)
            continue;
        if (B == 1) {{
            const float more = row_p ? post_p[j] : 0.0f, less = row_d ? post_d[j] : 0.0f;
            known &= {name}_many(row, pre_p, more, pre_d, less, M, !tame, trial && known, wild{row}{pass_});
        }} else {{
            const int any_p = row_p && {name}_sum(post_p + j, W, pre_p, P, B, M, !tame, p);
            const int any_d = row_d && {name}_sum(post_d + j, W, pre_d, P, B, M, !tame, d);
            known &= {name}_many(row, p, (float)any_p, d, (float)any_d, M, 0, trial && known, wild{row}{pass_});
        }}
    }}
    if (count)
        snn_put_columns(weight, S, wanted, count, m, wide, columns);
    return known;
}}
"""
)

#: The update of all weights at every step, where some of them are masked or signed: these have values of their own.
EVERY = (
    _SUM
    + """/* The update of one step for m rows of M weights, S apart; the sequences of either side are P and W apart. */
static void {name}(
    float *restrict weight, int64_t M, int64_t S, int64_t P, int64_t W, int64_t B, int m,
    const float *restrict pre_p, const float *restrict pre_d, const float *restrict post_p,
    const float *restrict post_d, float *restrict values, int *wild{fixed}{coefs})
{{
    float *restrict from_p = values, *restrict from_d = values + M;
    for (int j = 0; j < m; j++) {{
        float *restrict row = weight + j * S;
        const int any_p = {name}_sum(post_p + j, W, pre_p, P, B, M, 1, from_p);
        const int any_d = {name}_sum(post_d + j, W, pre_d, P, B, M, 1, from_d);
#pragma omp simd
        for (int64_t k = 0; k < M; k++) {{
            const float p = any_p ? from_p[k] : 0.0f, d = any_d ? from_d[k] : 0.0f;
            (void)p, (void)d;
            row[k] = {update};
        }}
        *wild |= snn_wild(row, M);
    }}
}}
"""
)
