"""C source that plastic layers share, whatever their neurons and rule: products in order, and who takes part in a step.

See :mod:`snncompile.ir.ordered` for the order. Where a product of factors is not zero only in some rows and columns,
only those weights are updated. That is exact as long as every other weight would stay as it is, and this is not
assumed: each weight that is written is updated once more on trial with nothing potentiated or depressed, and while any
of them moves (a bound not yet applied, a rule that decays weights, a value that is no number), all are updated.
"""

from __future__ import annotations

from snncompile.ir.ordered import LANES

#: How much dearer a weight is in a row of an output, where weights lie far apart, than in that of an input.
ROW_COST = 2

#: Rows of weights are padded to so many numbers: whole vectors on every processor.
PAD = 16

ORDERED = f"""#define SUMS {LANES} /* partial sums of a product: inputs are dealt to them in turn */
#define PAD {PAD} /* numbers that a row of weights is padded to */
#define SOME 64 /* inputs whose weights are brought near at a time */
#define ROW_COST {ROW_COST} /* a weight costs so much more where its neighbours are not wanted */

/* out = the products of the listed inputs with their rows of the weight (m of N values), added up in the order that
 * every target keeps: partial sum l takes inputs l, l + SUMS, ...; then neighbours are added. Those that no input
 * reached are left out: they are zero. */
static void snn_ordered(
    const float *restrict factors, const int32_t *restrict active, int64_t count, const float *restrict weight,
    int64_t N, int m, float *restrict lanes, float *restrict out)
{{
    float *sum[SUMS] = {{0}};
    for (int64_t k = 0; k < count; k++) {{
        const float *restrict row = weight + active[k] * N;
        const float factor = factors[k];
        const int lane = active[k] % SUMS;
        float *restrict total = lanes + (int64_t)lane * m;
        if (sum[lane])
            for (int j = 0; j < m; j++)
                total[j] = total[j] + row[j] * factor;
        else
            for (int j = 0; j < m; j++)
                total[j] = 0.0f + row[j] * factor;
        sum[lane] = total;
    }}
    for (int width = SUMS / 2; width; width /= 2)
        for (int lane = 0; lane < width; lane++) {{
            float *restrict even = sum[2 * lane];
            const float *restrict odd = sum[2 * lane + 1];
            if (even && odd)
                for (int j = 0; j < m; j++)
                    even[j] = even[j] + odd[j];
            sum[lane] = even ? even : sum[2 * lane + 1];
        }}
    for (int j = 0; j < m; j++)
        out[j] = sum[0] ? sum[0][j] : 0.0f;
}}
"""

WILD = """/* Whether any of n numbers is infinite or none at all: 0 times it is not 0 then. */
SNN_INLINE int snn_wild(const float *restrict values, int64_t n)
{
    int wild = 0;
    for (int64_t k = 0; k < n; k++)
        wild |= values[k] - values[k] != 0.0f;
    return wild;
}

/* List all values of a row; how many there are. */
SNN_INLINE int64_t snn_all(
    const float *restrict x, int64_t inputs, float *restrict factors, int32_t *restrict active)
{
    for (int64_t k = 0; k < inputs; k++) {
        active[k] = (int32_t)k;
        factors[k] = x[k];
    }
    return inputs;
}
"""

TAKING_PART = """/* The bits of a number: 0 and -0 differ, and a NaN is itself. */
SNN_INLINE int32_t snn_bits(float value)
{
    union { float value; int32_t bits; } both;
    both.value = value;
    return both.bits;
}

/* Mark where any of B rows of factors is not zero; how many there are. `finite` falls where a factor is not. */
static int64_t snn_marks(
    const float *restrict factors, int64_t B, int64_t step, int64_t n, int32_t *restrict marks, int *finite)
{
    int64_t count = 0;
    int wild = 0;
    for (int64_t k = 0; k < n; k++)
        marks[k] = 0;
    for (int64_t b = 0; b < B; b++)
        for (int64_t k = 0; k < n; k++) {
            const float factor = factors[b * step + k];
            marks[k] |= factor != 0.0f;
            wild |= factor - factor != 0.0f;
        }
    for (int64_t k = 0; k < n; k++)
        count += marks[k];
    *finite &= !wild;
    return count;
}
"""

#: The update of the weights where nothing but the sums of both products matters. ``{{update}}`` is one call of the
#: printed update, ``{{idle}}`` one with both products 0; ``{{coefs}}`` declares the rule's coefficients, ``{{pass_}}``
#: hands them on.
LEARN = """/* Update n weights: `more` times the one factors are potentiated, `less` times the others depressed. On
 * trial, whether they all would stay as they are now if nothing more came; else 0. */
SNN_INLINE int {name}_some(
    float *restrict weight, const float *restrict from_p, float more, const float *restrict from_d, float less,
    int64_t n, const int any_p, const int any_d, const int trial{coefs})
{{
    int moves = 0;
#pragma omp simd reduction(|:moves)
    for (int64_t k = 0; k < n; k++) {{
        const float p = any_p ? 0.0f + from_p[k] * more : 0.0f;
        const float d = any_d ? 0.0f + from_d[k] * less : 0.0f;
        const float w = {update};
        if (trial) {{
            const float still = {idle};
            moves |= snn_bits(still) != snn_bits(w);
        }}
        weight[k] = w;
    }}
    return trial && !moves;
}}

/* The same, without what is 0; `wild`: a factor may be infinite, so that 0 times it counts. */
static int {name}_many(
    float *restrict weight, const float *restrict from_p, float more, const float *restrict from_d, float less,
    int64_t n, int wild, int trial{coefs})
{{
    const int p = wild || more != 0.0f, d = wild || less != 0.0f;
    if (p && d)
        return trial ? {name}_some(weight, from_p, more, from_d, less, n, 1, 1, 1{pass_})
                     : {name}_some(weight, from_p, more, from_d, less, n, 1, 1, 0{pass_});
    if (p)
        return trial ? {name}_some(weight, from_p, more, from_d, less, n, 1, 0, 1{pass_})
                     : {name}_some(weight, from_p, more, from_d, less, n, 1, 0, 0{pass_});
    if (d)
        return trial ? {name}_some(weight, from_p, more, from_d, less, n, 0, 1, 1{pass_})
                     : {name}_some(weight, from_p, more, from_d, less, n, 0, 1, 0{pass_});
    return trial ? {name}_some(weight, from_p, more, from_d, less, n, 0, 0, 1{pass_})
                 : {name}_some(weight, from_p, more, from_d, less, n, 0, 0, 0{pass_});
}}

/* sum[k] = one factor of each sequence times n others of it, added up from the first sequence to the last. */
SNN_INLINE void {name}_sum(
    const float *restrict one, int64_t one_step, const float *restrict others, int64_t step, int64_t B, int64_t n,
    float *restrict sum)
{{
    for (int64_t k = 0; k < n; k++)
        sum[k] = 0.0f;
    for (int64_t b = 0; b < B; b++)
        for (int64_t k = 0; k < n; k++)
            sum[k] = sum[k] + others[b * step + k] * one[b * one_step];
}}

/* The update of one step for m outputs; whether every weight is known to stay as it is if nothing more comes. */
static int {name}(
    float *restrict weight, int64_t N, int64_t M, int64_t B, int m, const float *restrict pre_p,
    const float *restrict pre_d, const float *restrict post_p, const float *restrict post_d, float *restrict values,
    int32_t *restrict marks, int still, int *wild{coefs})
{{
    int32_t *restrict in_p = marks, *restrict in_d = marks + M;
    int32_t *restrict out_p = marks + 2 * M, *restrict out_d = marks + 2 * M + m;
    float *restrict p = values, *restrict d = values + (M > m ? M : m);
    int finite = 1, known = 1;
    const int64_t inputs_p = snn_marks(pre_p, B, M, M, in_p, &finite);
    const int64_t inputs_d = snn_marks(pre_d, B, M, M, in_d, &finite);
    const int64_t outputs_p = snn_marks(post_p, B, N, m, out_p, &finite);
    const int64_t outputs_d = snn_marks(post_d, B, N, m, out_d, &finite);
    *wild |= !finite;
    /* either product is not zero only where an input and an output take part: go by whichever is less work */
    const int64_t dense = M * m;
    const int64_t by_inputs_p = outputs_p ? inputs_p * m : 0, by_inputs_d = outputs_d ? inputs_d * m : 0;
    const int64_t by_outputs_p = outputs_p * M * ROW_COST, by_outputs_d = outputs_d * M * ROW_COST;
    const int turn_p = by_outputs_p < by_inputs_p, turn_d = by_outputs_d < by_inputs_d;
    const int64_t work = (turn_p ? by_outputs_p : by_inputs_p) + (turn_d ? by_outputs_d : by_inputs_d);
    const int all = !still || !finite || 2 * work > dense;
    const int trial = finite && 2 * work <= dense; /* else the next step is likely to touch all, too */
    int64_t turns = 0; /* outputs that take part by themselves, listed where their marks were */

    for (int64_t i = 0; i < M; i++) /* inputs all of whose weights are updated */
        in_p[i] = all || (!turn_p && outputs_p && in_p[i]) || (!turn_d && outputs_d && in_d[i]);
    for (int j = 0; j < m && !all; j++)
        if ((turn_p && out_p[j]) || (turn_d && out_d[j]))
            out_p[turns++] = j;
    /* their weights lie far apart: some inputs at a time, so that what was fetched serves all such outputs */
    for (int64_t begin = 0; begin < M && turns; begin += SOME) {{
        const int n = M - begin < SOME ? (int)(M - begin) : SOME;
        float row[SOME];
        for (int i = 0; i < n && begin + SOME + i < M; i++)
            for (int64_t k = 0; k < turns; k++)
                SNN_FETCH(weight + (begin + SOME + i) * N + out_p[k]);
        for (int64_t k = 0; k < turns; k++) {{
            const int j = out_p[k];
            float *restrict at = weight + begin * N + j;
            for (int i = 0; i < n; i++)
                row[i] = at[i * N];
            if (B == 1) {{
                known &= {name}_many(row, pre_p + begin, post_p[j], pre_d + begin, post_d[j], n, 0, 1{pass_});
            }} else {{
                {name}_sum(post_p + j, N, pre_p + begin, M, B, n, p);
                {name}_sum(post_d + j, N, pre_d + begin, M, B, n, d);
                known &= {name}_many(row, p, 1.0f, d, 1.0f, n, 0, 1{pass_});
            }}
            for (int i = 0; i < n; i++)
                if (!in_p[begin + i]) /* the others follow below */
                    at[i * N] = row[i];
        }}
    }}
    for (int64_t i = 0; i < M; i++)
        if (in_p[i]) {{
            float *restrict at = weight + i * N;
            if (B == 1) {{
                known &= {name}_many(at, post_p, pre_p[i], post_d, pre_d[i], m, !finite, trial{pass_});
            }} else {{
                {name}_sum(pre_p + i, M, post_p, N, B, m, p);
                {name}_sum(pre_d + i, M, post_d, N, B, m, d);
                known &= {name}_many(at, p, 1.0f, d, 1.0f, m, !finite, trial{pass_});
            }}
        }}
    return known;
}}
"""
