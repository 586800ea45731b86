"""C source that every function of a plastic region shares: a thread's part of a weight, and products in order."""

from __future__ import annotations

#: Names that mean something in the printed file.
NAMES = """snn_block snn_block_of snn_block_product snn_masked snn_fixed_row snn_alone rank team fixed_lanes fixed_found
fixed_now fixed_active identity together own BLOCK"""

REGION = """/* A thread's part of a weight that changes: some outputs, all inputs, and room to work in. */
struct snn_block {
    float *weight, *seen;    /* its rows; those that products read, times a mask */
    int64_t M, W, first, held, usual; /* see the update; `held`: how many columns are brought together, or -1 */
    int m, wide, still, wild;
    float *columns, *lanes, *values, *now, *found;
    int32_t *marks, *listed, *place, *active;
};

/* The part of thread `rank` of `team`. */
static struct snn_block snn_block_of(
    int64_t rank, int64_t team, int64_t N, int64_t M, int64_t W, float *weight, float *columns, float *lanes,
    float *numbers, int32_t *marks)
{
    struct snn_block own;
    const int64_t most = M > W ? M : W;
    own.first = rank * (W / PAD) / team * PAD;
    own.wide = (int)((rank + 1) * (W / PAD) / team * PAD - own.first); /* outputs, padded */
    own.m = N - own.first < own.wide ? (int)(N - own.first) : own.wide;
    own.M = M;
    own.W = W;
    own.held = -1;
    own.usual = 0;
    own.still = 0;
    own.weight = own.seen = weight + own.first * M;
    own.columns = columns + own.first * M;
    own.lanes = lanes + SUMS * own.first;
    own.values = numbers + rank * (M + 2 * most + W + 1);
    own.now = own.values + 2 * most;
    own.found = own.now + W;
    own.marks = marks + rank * (6 * M + 2 * W + 3);
    own.listed = own.marks + 3 * M + 2 * W + 1;
    own.place = own.listed + M + 1;
    own.active = own.place + M;
    own.wild = snn_wild(own.weight, own.m * M);
    return own;
}

/* The product of one step for some outputs of every sequence, with the weights as they are. */
SNN_APART void snn_block_product(
    struct snn_block *restrict own, const float *restrict x, int64_t step, int64_t B, const float *restrict bias,
    float *restrict out, int64_t N)
{
    const int64_t M = own->M;
    const int64_t count = snn_busy(x, step, B, M, own->listed, own->place);
    /* either way gives the same sums: rows have every input, columns must be brought together */
    const int by_columns = !own->wild && 2 * count < B * (M / 8 + 40);
    const int m = own->m;
    float *restrict now = own->now;
    if (by_columns)
        snn_columns(own->seen, M, own->listed, count, m, own->wide, own->columns);
    own->held = by_columns ? count : -1;
    for (int64_t b = 0; b < B; b++) {
        const float *restrict from = x + b * step;
        float *restrict to = out + b * N + own->first;
        const int64_t given = snn_listed(from, own->listed, count, own->active, own->found);
        if (by_columns)
            snn_ordered(own->found, own->active, given, own->columns, own->place, own->wide, own->lanes, now);
        else if (B > 1 && !given)
            for (int j = 0; j < m; j++)
                now[j] = 0.0f; /* whatever the weights: as the reference has it */
        else
            snn_all_ordered(from, own->seen, M, m, now);
        if (bias)
            for (int j = 0; j < m; j++)
                to[j] = now[j] + bias[own->first + j];
        else
            for (int j = 0; j < m; j++)
                to[j] = now[j];
    }
}
"""

MASKED = """/* What products read of a weight that has a mask. */
SNN_APART void snn_masked(struct snn_block *restrict own, const float *restrict mask, float *restrict seen)
{
    const int64_t n = own->m * own->M;
    own->seen = seen + own->first * own->M;
    mask += own->first * own->M;
    for (int64_t k = 0; k < n; k++)
        own->seen[k] = own->weight[k] * mask[k];
    own->wild |= snn_wild(own->seen, n);
}
"""

FIXED = """/* The product of one sequence with a weight that stays: a row for each output, and turned, a row for each
 * input, padded. `wild` where a weight is infinite or none; `more` where it is added to what is there. */
SNN_APART void snn_fixed_row(
    const float *restrict x, const float *restrict weight, const float *restrict turned, int64_t M, int m, int wide,
    int wild, int alone, const int32_t *restrict identity, int32_t *restrict active, float *restrict found,
    float *restrict lanes, float *restrict now, int more, float *restrict out)
{
    const int64_t count = snn_listed(x, identity, M, active, found);
    if (wild ? alone || count : 2 * count > M)
        snn_all_ordered(x, weight, M, m, now);
    else if (!wild)
        snn_ordered(found, active, count, turned, identity, wide, lanes, now);
    else
        for (int j = 0; j < m; j++)
            now[j] = 0.0f; /* whatever the weights: as the reference has it */
    if (more)
        for (int j = 0; j < m; j++)
            out[j] = out[j] + now[j];
    else
        for (int j = 0; j < m; j++)
            out[j] = now[j];
}
"""
