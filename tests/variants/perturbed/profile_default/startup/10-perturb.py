"""IPython start-up: every initial weight that gradcourse draws is changed by a relative 1e-6.

For tests only, chosen through IPYTHONDIR. What a lesson prints must not depend on so small a change.
"""


def perturb():
    """Wrap the one function that draws initial weights; end the kernel if it is not there."""
    import functools
    import os
    import sys

    import torch

    from gradcourse import models

    draw = getattr(models, "draw_weight", None)
    if draw is None:  # an exception here would only be printed, and the variant would pass unperturbed
        print("gradcourse.models.draw_weight is gone: the perturbed variant has nothing to perturb", file=sys.stderr)
        os._exit(3)
    noise = torch.Generator().manual_seed(int(os.environ["GRADCOURSE_TEST_NOISE"]))

    @functools.wraps(draw)
    def perturbed(*args, **options):
        weight = draw(*args, **options)
        return weight * (1.0 + 1e-6 * torch.randn(weight.shape, dtype=weight.dtype, generator=noise))

    models.draw_weight = perturbed


perturb()
del perturb
