"""C source of convolutions in a plastic region, besides what they share with layers (``plastic_conv_source.py``).

There each function knows one convolution; here a file may hold several, so that all names end in one of theirs.
"""

from __future__ import annotations

import re

from snncompile.targets.c.plastic_conv_source import NAMES as CONV_NAMES

#: Names that mean something in the printed file, followed by a convolution's own.
NAMES = f"{CONV_NAMES} snn_channels_of snn_taps snn_every_sequence snn_image"

#: Names that it has besides.
SHARED_NAMES = "snn_channels"

_NAME = re.compile(rf"\b(?:{'|'.join(NAMES.split())})\b")


def own_names(text: str, end: str) -> str:
    """``text`` with all names of :data:`NAMES` ending in ``end``."""
    return _NAME.sub(lambda found: f"{found[0]}_{end}", text)


CHANNELS = """/* A thread's part of a convolution that learns: some output channels, side by side in `taps`, padded. */
struct snn_channels {
    float *weight, *sums, *taps, *learnt, *room;
    int first, m, wide, still, wild; /* channels, and padded; see the update; whether a tap is infinite or none */
};
"""

PART = """/* The part of thread `rank` of `team` of so many output channels. */
SNN_INLINE struct snn_channels snn_channels_of(
    int64_t rank, int64_t team, int outs, float *weight, float *rooms, int64_t room)
{
    const int64_t parts = (outs + PAD - 1) / PAD, most = (parts + team - 1) / team * PAD;
    struct snn_channels own;
    own.first = (int)(rank * parts / team * PAD);
    own.wide = (int)((rank + 1) * parts / team * PAD - own.first);
    own.m = outs - own.first < own.wide ? outs - own.first : own.wide;
    own.still = own.wild = 0;
    own.weight = weight + (int64_t)own.first * TAPS;
    own.sums = rooms + rank * room;
    own.taps = own.sums + PLACES * most;
    own.learnt = own.taps + TAPS * most;
    own.room = own.learnt + 3 * TAPS * most;
    return own;
}
"""

#: ``{mask}`` declares the mask, where there is one; ``{taps}`` makes the taps.
STEP = """/* The product of one step for some output channels of every sequence, with the weights as they are. */
SNN_APART void snn_every_sequence(
    struct snn_channels *restrict own, const float *restrict x, int64_t step, int64_t B, const float *restrict bias,
    float *restrict out, int64_t N{mask})
{{
    if (own->m <= 0)
        return;
    if (!own->still) {{
        own->wild = 0;
{taps}
    }}
    for (int64_t b = 0; b < B; b++) {{
        float *restrict to = out + b * N + own->first * PLACES;
        snn_convolved(x + b * step, own->taps, own->wide, own->wild, own->sums);
        for (int j = 0; j < own->m; j++) {{
            const float more = bias ? bias[own->first + j] : 0.0f; /* no sum is -0 */
            for (int k = 0; k < PLACES; k++)
                to[j * PLACES + k] = own->sums[k * own->wide + j] + more;
        }}
    }}
}}
"""

TAPS = """        snn_seen(own->weight, own->m * TAPS, &own->wild);
        snn_turned(own->weight, own->m, TAPS, own->wide, own->taps);"""

#: The same of weights that have a mask.
MASKED_TAPS = """        snn_masked(own->weight, mask + (int64_t)own->first * TAPS, own->m, own->wide, own->taps);
        snn_seen(own->taps, TAPS * own->wide, &own->wild);"""

#: ``{groups}`` of ``{outs}`` output channels each, ``{wide}`` with padding.
IMAGE = """/* The convolution of one sequence; `wild` where a weight is infinite or none at all. */
SNN_APART void snn_image(
    const float *restrict x, const float *restrict taps, int wild, const float *restrict bias, float *restrict sums,
    float *restrict to)
{{
    for (int g = 0; g < {groups}; g++, x += CHANNELS * PIXELS, taps += TAPS * {wide}) {{
        if (wild)
            snn_all(x, taps, {wide}, sums);
        else
            snn_scattered(x, taps, {wide}, sums);
        for (int j = 0; j < {outs}; j++, to += PLACES) {{
            const float more = bias ? bias[g * {outs} + j] : 0.0f; /* no sum is -0 */
            for (int k = 0; k < PLACES; k++)
                to[k] = sums[k * {wide} + j] + more;
        }}
    }}
}}
"""
