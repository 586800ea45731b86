"""What a convolution in a cycle has outside of its function: its weights, and their gradient over all steps."""

from __future__ import annotations

import torch
from torch import Tensor

from snncompile.targets.cycle_plan import Conv
from snncompile.targets.event_conv import EventConvTarget, Window


def as_images(weight: Tensor) -> Tensor:
    """The weight of a convolution of any number of dimensions as ``(O, C / groups, kh, kw)``; what it reads alike."""
    return weight.unsqueeze(2) if weight.dim() == 3 else weight


def conv_gradient(
    step: Conv, weight: Tensor, grad: Tensor, course: Tensor, events: EventConvTarget | None
) -> Tensor:
    """The gradient of ``weight (O, C / groups, kh, kw)``.

    Args:
        step: the convolution.
        weight: its weight.
        grad: the gradient of what it makes, ``(T, B, N)``.
        course: what it reads, likewise.
        events: computes it from what is not zero, where most is.
    """
    s = step.sliding
    images, grads = (x.reshape(-1, *shape) for x, shape in ((course, s.inputs), (grad, s.outputs)))
    if not len(images):
        return torch.zeros_like(weight)
    if events is not None:
        window = Window(s.stride, s.padding, s.dilation, s.groups)
        return events.conv_gradients(grads, images, s.kernel, window)[0]
    ways = (s.stride, s.padding, s.dilation, False, (0, 0), s.groups)
    found: Tensor = torch.ops.aten.convolution_backward(
        grads, images, weight, None, *ways, (False, True, False)
    )[1]
    return found


def bias_gradient(step: Conv, grad: Tensor) -> Tensor:
    """The gradient of its bias ``(O,)``, from that of what it makes."""
    return grad.sum((0, 1)).reshape(step.sliding.outputs[0], -1).sum(1)
