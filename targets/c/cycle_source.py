"""C source that every function of a cycle shares: rows of lines, and products that add to what is there.

Each output is one sum over lags and inputs, first to last, so a result depends neither on the number of threads nor on
how many sequences are computed together.
"""

from __future__ import annotations

from snncompile.targets.c.kernel import PREAMBLE

LINES = """/* Functions that the compiler is to leave alone: put into each other they take it many seconds. */
#if defined(__GNUC__) && !defined(__clang__)
#define SNN_APART static __attribute__((noipa, unused))
#elif defined(__GNUC__)
#define SNN_APART static __attribute__((noinline, unused))
#else
#define SNN_APART static
#endif

/* The row of a line with so many rows that lies `back` rows before row `at`. */
SNN_INLINE int64_t snn_row(int64_t at, int64_t back, int64_t rows)
{
    return at - back + (at < back ? rows : 0);
}

/* A sequence's values of a line at this step, and some steps ago; a step before and after. */
#define NOW(line, b, size) (line + (line##_at * B + b) * size)
#define BACK(line, back, b, size) (line + (snn_row(line##_at, back, line##_rows) * B + b) * size)
#define SNN_AFTER(line) line##_at = line##_at + 1 == line##_rows ? 0 : line##_at + 1
#define SNN_BEFORE(line) line##_at = line##_at ? line##_at - 1 : line##_rows - 1

SNN_APART void snn_fill(float *restrict to, float value, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        to[j] = value;
}

SNN_APART void snn_copy(float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        to[j] = from[j];
}

SNN_APART void snn_add(float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        to[j] = to[j] + from[j];
}

/* What a dense product begins with: its bias, or 0. */
SNN_APART void snn_begin(float *restrict to, const float *restrict bias, int64_t n)
{
    if (bias)
        snn_copy(to, bias, n);
    else
        snn_fill(to, 0.0f, n);
}
"""

EVENT_ROW = """/* out += x @ weight for one row of x, most of it zero; the weight has a row of m for each input. */
SNN_APART void snn_event_row(
    const float *restrict x, const float *restrict weight, int64_t inputs, int64_t m, float *restrict factors,
    int32_t *restrict places, float *restrict out)
{
    const int64_t count = snn_active(x, inputs, factors, places);
    snn_add_rows(factors, places, count, weight, m, out);
}
"""

DENSE = """/* out += x @ weight for one row of x; the weight has a row of m for each input. */
SNN_APART void snn_dense_row(
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
SNN_APART void snn_dense_tile(
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

/* The same for any number of rows. */
SNN_APART void snn_dense_rows(
    const float *restrict x, const float *restrict weight, int64_t inputs, int64_t m, int64_t count,
    float *restrict out)
{
    if (count == TILE) {
        snn_dense_tile(x, weight, inputs, m, out);
        return;
    }
    for (int64_t b = 0; b < count; b++)
        snn_dense_row(x + b * inputs, weight, inputs, m, out + b * m);
}
"""

SPARSE = """/* Add the synapses of some groups whose source is not zero; each product is rounded before it is added. */
SNN_APART void snn_sparse_add(
    int64_t begin, int64_t end, const int32_t *restrict sources, const int64_t *restrict starts,
    const int32_t *restrict targets, const float *restrict weight, const float *restrict x, float *restrict out)
{
    for (int64_t g = begin; g < end; g++) {
        const float value = x[sources[g]];
        if (value != 0.0f)
            for (int64_t k = starts[g]; k < starts[g + 1]; k++)
                out[targets[k]] += weight[k] * value;
    }
}
"""

SPARSE_BACK = """/* Add to the gradient of each group's source what comes back over its synapses. */
SNN_APART void snn_sparse_back(
    int64_t begin, int64_t end, const int32_t *restrict sources, const int64_t *restrict starts,
    const int32_t *restrict targets, const float *restrict weight, const float *restrict grad, float *restrict out)
{
    for (int64_t g = begin; g < end; g++) {
        float sum = 0.0f;
        for (int64_t k = starts[g]; k < starts[g + 1]; k++)
            sum += weight[k] * grad[targets[k]];
        out[sources[g]] += sum;
    }
}
"""

GIVEN = """/* Add a row of a course of any strides. */
SNN_APART void snn_add_course(float *restrict to, const float *restrict from, int64_t apart, int64_t n)
{
    if (apart == 1)
        snn_add(to, from, n);
    else
        for (int64_t j = 0; j < n; j++)
            to[j] = to[j] + from[j * apart];
}
"""

SYNAPSES_NAME, SYNAPSES_TYPES = "snn_synapses", "pppppppqqqqi"
SYNAPSES_TEXT = "\n".join([
    """/* The gradient of the weights of a sparse product that reads several steps. Generated by snncompile.
 *
 * The synapses of lag l are the groups first[l] to first[l + 1] - 1; those of group g come from sources[g], are
 * starts[g] to starts[g + 1] - 1, and lead to targets[k]. grad is (rows, outputs), courses the address of what each lag
 * reads, (rows, inputs). A thread owns some groups; each sum goes through the rows, first to last.
 */
""",
    PREAMBLE,
    """void snn_synapses(
    const int64_t *first, const int32_t *sources, const int64_t *starts, const int32_t *targets, const float *grad,
    float *made, const int64_t *courses, int64_t lags, int64_t rows, int64_t inputs, int64_t outputs, int threads)
{
    const int64_t groups = first[lags];
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t part = 0; part < threads; part++) {
        const int64_t begin = part * groups / threads, end = (part + 1) * groups / threads;
        for (int64_t k = starts[begin]; k < starts[end]; k++)
            made[k] = 0.0f;
        for (int64_t l = 0; l < lags; l++) {
            const int64_t from = first[l] > begin ? first[l] : begin, to = first[l + 1] < end ? first[l + 1] : end;
            const float *course = (const float *)(intptr_t)courses[l];
            for (int64_t row = 0; from < to && row < rows; row++)
                for (int64_t g = from; g < to; g++) {
                    const float value = course[row * inputs + sources[g]];
                    if (value != 0.0f)
                        for (int64_t k = starts[g]; k < starts[g + 1]; k++)
                            made[k] += value * grad[row * outputs + targets[k]];
                }
        }
    }
}
""",
])
