"""C source that every function of a plastic region shares: a thread's part of a weight, and products in order.

Weights that change are turned, block after block of outputs, one for each thread: a row for each input, padded, so
that a product reads whole rows, those of the inputs that are not zero. The update of a layer
(``targets/c/plastic_source.py``) takes them as they are: what is an output's row there is an input's here.
"""

from __future__ import annotations

#: Names that mean something in the printed file.
NAMES = """snn_block snn_room snn_block_of snn_block_product snn_turn snn_seen snn_fixed_row snn_chunk snn_in_order
rank team room lanes found now active identity own CHUNK"""

#: Outputs whose partial sums are made together: these stay in the nearest cache.
CHUNK = 64

REGION = f"""#define CHUNK {CHUNK} /* outputs whose partial sums are made together */

/* Room for a product of one sequence. */
struct snn_room {{
    float *lanes, *found, *now; /* SUMS of CHUNK; of each input; of each output, padded */
    int32_t *active;            /* of each input */
    const int32_t *identity;    /* 0, 1, 2, ... */
}};

/* A thread's part of a weight that changes: some outputs of every input. */
struct snn_block {{
    float *weight, *seen; /* a row of `wide` for each input; those that products read, times a mask */
    int64_t first, usual;     /* see the update */
    int m, wide, still, wild; /* outputs, and padded */
    float *columns, *values;
    int32_t *marks;
}};

/* Sums of n outputs over the given inputs, in order. */
SNN_INLINE void snn_chunk(
    const float *restrict factors, const int32_t *restrict inputs, int64_t count, const float *restrict weight,
    int64_t W, const int n, float *restrict lanes, float *restrict out)
{{
    float *sum[SUMS] = {{0}};
    for (int64_t k = 0; k < count; k++) {{
        const int lane = inputs[k] % SUMS;
        snn_take(sum, lanes + lane * CHUNK, lane, weight + inputs[k] * W, factors[k], n);
    }}
    snn_neighbours(sum, n, out);
}}

/* room->now = the product of one sequence for `wide` outputs. `wild` where a weight is infinite or none: 0 times it is
 * not 0, unless the whole sequence is silent and not alone, as the reference has it. */
SNN_APART void snn_in_order(
    const float *restrict x, int64_t M, const float *restrict weight, int wide, int wild, int alone,
    const struct snn_room *restrict room)
{{
    int64_t count = snn_active(x, M, room->found, room->active);
    const float *factors = room->found;
    const int32_t *inputs = room->active;
    if (wild && (count || alone)) {{
        count = M;
        factors = x;
        inputs = room->identity;
    }}
    int j = 0;
    for (; j + CHUNK <= wide; j += CHUNK)
        snn_chunk(factors, inputs, count, weight + j, wide, CHUNK, room->lanes, room->now + j);
    if (j < wide)
        snn_chunk(factors, inputs, count, weight + j, wide, wide - j, room->lanes, room->now + j);
}}

/* A thread's part of something with a row for each output, turned: a row for each input, padded with what the last
 * output has, so that such weights move as its own do without a spike. */
static void snn_turn(
    const struct snn_block *own, int64_t M, const float *restrict rows, const struct snn_room *room,
    float *restrict turned)
{{
    if (own->m > 0)
        snn_columns(rows, M, room->identity, M, own->m, own->wide, turned);
}}

/* The part of thread `rank` of `team`; V is M, padded. */
static struct snn_block snn_block_of(
    int64_t rank, int64_t team, int64_t N, int64_t M, int64_t W, int64_t V, const float *weight, float *turned,
    float *columns, float *numbers, int32_t *marks, const struct snn_room *room)
{{
    struct snn_block own;
    own.first = rank * (W / PAD) / team * PAD;
    own.wide = (int)((rank + 1) * (W / PAD) / team * PAD - own.first);
    own.m = N - own.first < own.wide ? (int)(N - own.first) : own.wide;
    own.usual = 0;
    own.still = 0;
    own.weight = own.seen = turned + own.first * M;
    own.columns = columns + own.first * V;
    own.values = numbers + rank * 2 * (V > W ? V : W);
    own.marks = marks + rank * (3 * W + 2 * V + 1);
    snn_turn(&own, M, weight + own.first * M, room, own.weight);
    own.wild = snn_wild(own.weight, M * own.wide);
    return own;
}}

/* The product of one step for some outputs of every sequence, with the weights as they are. */
SNN_APART void snn_block_product(
    const struct snn_block *restrict own, const float *restrict x, int64_t step, int64_t B, int64_t M,
    const float *restrict bias, float *restrict out, int64_t N, const struct snn_room *restrict room)
{{
    for (int64_t b = 0; b < B; b++) {{
        float *restrict to = out + b * N + own->first;
        const float *restrict now = room->now;
        snn_in_order(x + b * step, M, own->seen, own->wide, own->wild, B == 1, room);
        if (bias)
            for (int j = 0; j < own->m; j++)
                to[j] = now[j] + bias[own->first + j];
        else
            for (int j = 0; j < own->m; j++)
                to[j] = now[j];
    }}
}}
"""

MASKED = """/* What products read of a weight that has a mask. */
SNN_APART void snn_seen(
    struct snn_block *restrict own, int64_t M, const float *restrict mask, float *restrict seen)
{
    const int64_t n = M * own->wide;
    own->seen = seen + own->first * M;
    for (int64_t k = 0; k < n; k++)
        own->seen[k] = own->weight[k] * mask[k];
    own->wild |= snn_wild(own->seen, n);
}
"""

FIXED = """/* The product of one sequence with a weight that stays; `more` where it is added to what is there. */
SNN_APART void snn_fixed_row(
    const float *restrict x, const float *restrict weight, int64_t M, int m, int wide, int wild, int alone, int more,
    const struct snn_room *restrict room, float *restrict out)
{
    const float *restrict now = room->now;
    snn_in_order(x, M, weight, wide, wild, alone, room);
    if (more)
        for (int j = 0; j < m; j++)
            out[j] = out[j] + now[j];
    else
        for (int j = 0; j < m; j++)
            out[j] = now[j];
}
"""
