"""C source of a convolution that learns: its product, and what spikes on either side give for its weights.

Both leave out what is zero and keep the order that every target keeps (:mod:`snncompile.ir.ordered`). The product is
scattered: inputs are gone through in memory order, and so every output meets its taps in theirs. What changes a weight
is summed over positions, either from the outputs that have a factor, each of which adds its whole field to the weights
of its channel, or from the inputs that have one, each of which adds the outputs that it reaches, all channels at once:
whichever is less work. 0 times infinity is not 0: where anything is infinite, or none at all, nothing is left out.
"""

from __future__ import annotations

from snncompile.ir.ordered import POSITION_LANES
from snncompile.targets.plastic_fields import Fields

#: Output channels are padded to so many numbers where their values lie side by side.
CHANNEL_PAD = 8

#: Names that mean something in the printed file.
NAMES = "SUMS PAD CHANNELS IMAGE_H IMAGE_W PLACES_H PLACES_W KERNEL_H KERNEL_W STRIDE_H STRIDE_W PADDING_H PADDING_W"
NAMES += " DILATION_H DILATION_W KERNEL TAPS PLACES PIXELS INNER_H INNER_W snn_seen snn_place snn_add snn_tree"
NAMES += " snn_all snn_scattered snn_convolved snn_turned snn_inner snn_by_outputs snn_by_inputs snn_products"
NAMES += " snn_total snn_bits snn_masked"


def room_of(fields: Fields, wide: int) -> int:
    """Numbers that a thread with ``wide`` output channels works in, as the printed functions divide it."""
    height, width = fields.inner
    kernel = fields.kernel[0] * fields.kernel[1]
    lanes = POSITION_LANES * max(fields.taps, kernel * wide)
    return (fields.positions + 4 * fields.taps) * wide + lanes + fields.channels * height * width


def constants(fields: Fields, pad: int = CHANNEL_PAD) -> str:
    """The definitions that the functions read; ``pad``: what output channels are padded to."""
    pairs = [("IMAGE", fields.image), ("PLACES", fields.places), ("KERNEL", fields.kernel), ("STRIDE", fields.stride),
             ("PADDING", fields.padding), ("DILATION", fields.dilation)]  # fmt: skip
    lines = [f"#define SUMS {POSITION_LANES} /* partial sums of what changes a weight: positions are dealt to them */"]
    lines += [f"#define PAD {pad} /* output channels are padded to */", f"#define CHANNELS {fields.channels}"]
    for name, pair in pairs:
        lines += [f"#define {name}_{axis} {n}" for axis, n in zip("HW", pair, strict=True)]
    return "\n".join(lines) + "\n"


#: Its product.
PRODUCT = """#define KERNEL (KERNEL_H * KERNEL_W)
#define TAPS (CHANNELS * KERNEL) /* weights of an output channel */
#define PLACES (PLACES_H * PLACES_W) /* positions of an output channel */
#define PIXELS (IMAGE_H * IMAGE_W)

/* How many of n numbers are not 0; `wild` rises where one is infinite or none at all. */
SNN_INLINE int64_t snn_seen(const float *restrict values, int64_t n, int *wild)
{
    int32_t count = 0, odd = 0;
    for (int64_t k = 0; k < n; k++) {
        count += values[k] != 0.0f;
        odd |= values[k] - values[k] != 0.0f;
    }
    *wild |= odd;
    return count;
}

/* The position along one axis at which a tap meets a pixel, or -1. */
SNN_INLINE int snn_place(int pixel, int tap, int stride, int padding, int dilation, int places)
{
    const int from = pixel + padding - tap * dilation;
    return from < 0 || from % stride || from / stride >= places ? -1 : from / stride;
}

/* `wide` sums, a multiple of PAD: more of the same factor; the first that a sum gets is added to 0. */
SNN_INLINE void snn_add(float *restrict sums, const float *restrict values, float factor, int wide, int first)
{
    for (int k = 0; k < wide; k += PAD)
#pragma omp simd
        for (int j = 0; j < PAD; j++)
            sums[k + j] = (first ? 0.0f : sums[k + j]) + values[k + j] * factor;
}

/* The product with every tap, also those that meet a zero. */
static void snn_all(const float *restrict x, const float *restrict taps, int wide, float *restrict sums)
{
    for (int place = 0; place < PLACES; place++) {
        const int top = place / PLACES_W * STRIDE_H - PADDING_H, left = place % PLACES_W * STRIDE_W - PADDING_W;
        for (int k = 0; k < TAPS; k++) {
            const int row = top + k % KERNEL / KERNEL_W * DILATION_H, column = left + k % KERNEL_W * DILATION_W;
            const int inside = row >= 0 && row < IMAGE_H && column >= 0 && column < IMAGE_W;
            const float value = inside ? x[k / KERNEL * PIXELS + row * IMAGE_W + column] : 0.0f;
            snn_add(sums + (int64_t)place * wide, taps + (int64_t)k * wide, value, wide, !k);
        }
    }
}

/* The product with the taps of the inputs that are not zero. */
SNN_INLINE void snn_scattered(const float *restrict x, const float *restrict taps, int wide, float *restrict sums)
{
    for (int64_t k = 0; k < (int64_t)PLACES * wide; k++)
        sums[k] = 0.0f;
    for (int c = 0; c < CHANNELS; c++)
        for (int row = 0; row < IMAGE_H; row++)
            for (int column = 0; column < IMAGE_W; column++) {
                const float value = x[c * PIXELS + row * IMAGE_W + column];
                if (value == 0.0f)
                    continue;
                for (int i = 0; i < KERNEL_H; i++) {
                    const int down = snn_place(row, i, STRIDE_H, PADDING_H, DILATION_H, PLACES_H);
                    if (down < 0)
                        continue;
                    for (int j = 0; j < KERNEL_W; j++) {
                        const int along = snn_place(column, j, STRIDE_W, PADDING_W, DILATION_W, PLACES_W);
                        if (along >= 0)
                            snn_add(
                                sums + (int64_t)(down * PLACES_W + along) * wide,
                                taps + (int64_t)(c * KERNEL + i * KERNEL_W + j) * wide, value, wide, 0);
                    }
                }
            }
}

/* (n, m) of (m, n): what lies side by side, `wide` apart, and 0 from m on. */
static void snn_turned(const float *restrict from, int m, int64_t n, int wide, float *restrict to)
{
    for (int64_t k = 0; k < n; k++) {
        for (int j = 0; j < m; j++)
            to[k * wide + j] = from[j * n + k];
        for (int j = m; j < wide; j++)
            to[k * wide + j] = 0.0f;
    }
}

/* The product of one sequence, `wide` output channels side by side. */
static void snn_convolved(
    const float *restrict x, const float *restrict taps, int wide, int every, float *restrict sums)
{
    if (every)
        snn_all(x, taps, wide, sums);
    else if (wide == PAD)
        snn_scattered(x, taps, PAD, sums);
    else if (wide == 2 * PAD)
        snn_scattered(x, taps, 2 * PAD, sums);
    else
        snn_scattered(x, taps, wide, sums);
}
"""

#: What both sides give for its weights; it needs :data:`PRODUCT`.
CHANGE = """#define INNER_H (IMAGE_H + 2 * PADDING_H) /* the image with its padding */
#define INNER_W (IMAGE_W + 2 * PADDING_W)

/* The sum of all partial sums of n numbers each: neighbours are added until one is left. Those that nothing reached are
 * left out: they are zero. */
SNN_INLINE const float *snn_tree(float *sum[SUMS], int64_t n)
{
    for (int width = SUMS / 2; width; width /= 2)
        for (int lane = 0; lane < width; lane++) {
            float *restrict even = sum[2 * lane];
            const float *restrict odd = sum[2 * lane + 1];
            if (even && odd)
                for (int64_t k = 0; k < n; k++)
                    even[k] = even[k] + odd[k];
            sum[lane] = even ? even : sum[2 * lane + 1];
        }
    return sum[0];
}

/* The image with its padding. */
static const float *snn_inner(const float *restrict x, float *restrict room)
{
    if (!PADDING_H && !PADDING_W)
        return x;
    for (int k = 0; k < CHANNELS * INNER_H * INNER_W; k++)
        room[k] = 0.0f;
    for (int c = 0; c < CHANNELS; c++)
        for (int row = 0; row < IMAGE_H; row++)
            for (int k = 0; k < IMAGE_W; k++)
                room[(c * INNER_H + row + PADDING_H) * INNER_W + PADDING_W + k] = x[c * PIXELS + row * IMAGE_W + k];
    return room;
}

/* out (m, TAPS), from the outputs whose factor is not zero, or `every` one: each adds its field. */
static void snn_by_outputs(
    const float *restrict post, const float *restrict image, int m, int every, float *restrict lanes,
    float *restrict out)
{
    for (int j = 0; j < m; j++) {
        const float *restrict row = post + (int64_t)j * PLACES;
        float *sum[SUMS] = {0};
        for (int place = 0; place < PLACES; place++) {
            const float factor = row[place];
            if (factor == 0.0f && !every)
                continue;
            float *restrict to = lanes + place % SUMS * TAPS;
            const float *restrict field =
                image + place / PLACES_W * STRIDE_H * INNER_W + place % PLACES_W * STRIDE_W;
            const int first = !sum[place % SUMS];
            int k = 0;
            for (int c = 0; c < CHANNELS; c++)
                for (int h = 0; h < KERNEL_H; h++, k += KERNEL_W) {
                    const float *restrict line = field + (c * INNER_H + h * DILATION_H) * INNER_W;
                    for (int w = 0; w < KERNEL_W; w++)
                        to[k + w] = (first ? 0.0f : to[k + w]) + line[w * DILATION_W] * factor;
                }
            sum[place % SUMS] = to;
        }
        const float *restrict total = snn_tree(sum, TAPS);
        for (int k = 0; k < TAPS; k++)
            out[(int64_t)j * TAPS + k] = total ? total[k] : 0.0f;
    }
}

/* out (m, TAPS), from the inputs whose factor is not zero: each adds the outputs that it reaches, of which `turned` has
 * all channels side by side. */
SNN_INLINE void snn_by_inputs(
    const float *restrict turned, const float *restrict pre, int m, int wide, float *restrict lanes,
    float *restrict out)
{
    for (int c = 0; c < CHANNELS; c++) {
        char used[KERNEL * SUMS] = {0};
        for (int row = 0; row < IMAGE_H; row++)
            for (int column = 0; column < IMAGE_W; column++) {
                const float factor = pre[c * PIXELS + row * IMAGE_W + column];
                if (factor == 0.0f)
                    continue;
                for (int i = 0; i < KERNEL_H; i++) {
                    const int down = snn_place(row, i, STRIDE_H, PADDING_H, DILATION_H, PLACES_H);
                    if (down < 0)
                        continue;
                    for (int j = 0; j < KERNEL_W; j++) {
                        const int along = snn_place(column, j, STRIDE_W, PADDING_W, DILATION_W, PLACES_W);
                        if (along < 0)
                            continue;
                        const int place = down * PLACES_W + along;
                        const int at = (i * KERNEL_W + j) * SUMS + place % SUMS;
                        snn_add(
                            lanes + (int64_t)at * wide, turned + (int64_t)place * wide, factor, wide, !used[at]);
                        used[at] = 1;
                    }
                }
            }
        for (int k = 0; k < KERNEL; k++) {
            float *sum[SUMS];
            for (int lane = 0; lane < SUMS; lane++)
                sum[lane] = used[k * SUMS + lane] ? lanes + (int64_t)(k * SUMS + lane) * wide : 0;
            const float *restrict total = snn_tree(sum, wide);
            for (int j = 0; j < m; j++)
                out[(int64_t)j * TAPS + c * KERNEL + k] = total ? total[j] : 0.0f;
        }
    }
}

/* What one sequence gives for m * TAPS weights; whether there is anything. */
static int snn_products(
    const float *restrict post, const float *restrict pre, int m, int wide, float *restrict turned,
    float *restrict room, float *restrict out)
{
    int every = 0;
    const int64_t outs = snn_seen(post, (int64_t)m * PLACES, &every), ins = snn_seen(pre, CHANNELS * PIXELS, &every);
    if (!every && (!outs || !ins))
        return 0;
    float *restrict lanes = room + CHANNELS * INNER_H * INNER_W;
    if (every || outs * TAPS <= ins * KERNEL * wide / (2 * STRIDE_H * STRIDE_W)) {
        snn_by_outputs(post, snn_inner(pre, room), m, every, lanes, out);
        return 1;
    }
    snn_turned(post, m, PLACES, wide, turned);
    if (wide == PAD)
        snn_by_inputs(turned, pre, m, PAD, lanes, out);
    else if (wide == 2 * PAD)
        snn_by_inputs(turned, pre, m, 2 * PAD, lanes, out);
    else
        snn_by_inputs(turned, pre, m, wide, lanes, out);
    return 1;
}
"""

#: What the product reads of weights that have a mask.
MASKED = """/* (TAPS, wide) of m rows of weights, each times its mask: as snn_turned. */
static void snn_masked(
    const float *restrict weight, const float *restrict mask, int m, int wide, float *restrict to)
{
    for (int64_t k = 0; k < TAPS; k++) {
        for (int j = 0; j < m; j++)
            to[k * wide + j] = weight[(int64_t)j * TAPS + k] * mask[(int64_t)j * TAPS + k];
        for (int j = m; j < wide; j++)
            to[k * wide + j] = 0.0f;
    }
}
"""

#: The update of the weights where nothing but the sums of both products matters; placeholders as in
#: ``targets/c/plastic_source.py``.
LEARN = """/* The bits of a number: 0 and -0 differ, and a NaN is itself. */
SNN_INLINE int32_t snn_bits(float value)
{{
    union {{ float value; int32_t bits; }} both;
    both.value = value;
    return both.bits;
}}

/* What all sequences give, added up from the first to the last; whether there is anything. */
static int snn_total(
    const float *restrict post, int64_t N, const float *restrict pre, int64_t B, int m, int wide,
    float *restrict turned, float *restrict room, float *restrict more, float *restrict total)
{{
    int any = 0;
    for (int64_t b = 0; b < B; b++) {{
        const int found =
            snn_products(post + b * N, pre + b * CHANNELS * PIXELS, m, wide, turned, room, any ? more : total);
        if (any && found)
            for (int k = 0; k < m * TAPS; k++)
                total[k] = total[k] + more[k];
        any |= found;
    }}
    return any;
}}

/* Update n weights; whether one of them moved, which is asked for only where nothing came. */
SNN_INLINE int {name}_some(
    float *restrict weight, const float *restrict from_p, const float *restrict from_d,
    int64_t n, const int any_p, const int any_d{coefs})
{{
    int32_t moves = 0;
#pragma omp simd reduction(| : moves)
    for (int64_t k = 0; k < n; k++) {{
        const float p = any_p ? from_p[k] : 0.0f, d = any_d ? from_d[k] : 0.0f;
        const float made = {update};
        moves |= any_p || any_d ? 0 : snn_bits(made) ^ snn_bits(weight[k]);
        weight[k] = made;
    }}
    return moves != 0;
}}

/* The update of one step for m output channels; whether nothing moves as long as nothing comes. */
static int {name}(
    float *restrict weight, int64_t N, int64_t B, int m, int wide, const float *restrict pre_p,
    const float *restrict pre_d, const float *restrict post_p, const float *restrict post_d, float *restrict turned,
    float *restrict room, float *restrict sums, int still{coefs})
{{
    const int64_t n = (int64_t)m * TAPS;
    float *restrict p = sums, *restrict d = p + n, *restrict more = d + n;
    const int any_p = {read_p} && snn_total(post_p, N, pre_p, B, m, wide, turned, room, more, p);
    const int any_d = {read_d} && snn_total(post_d, N, pre_d, B, m, wide, turned, room, more, d);
    if (any_p && any_d)
        {name}_some(weight, p, d, n, 1, 1{pass_});
    else if (any_p)
        {name}_some(weight, p, d, n, 1, 0{pass_});
    else if (any_d)
        {name}_some(weight, p, d, n, 0, 1{pass_});
    else
        return still || !{name}_some(weight, p, d, n, 0, 0{pass_});
    return 0;
}}
"""
