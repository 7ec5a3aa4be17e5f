"""Hidden cases of sheet 07. They stay with the instructor."""

from gradcourse.sheets.batchnorm import (
    backward_case,
    batchnorm_case,
    conv_net,
    dense_net,
    group_norm_case,
    nested_net,
    repair_case,
    weight_norm_case,
)


def sizes(rng, *below):
    """Draw whole numbers from 2 on."""
    return [int(rng.integers(2, end)) for end in below]


def models(rng):
    """Draw a model of each kind and the shape of its inputs."""
    inputs, width, outputs, batch = sizes(rng, 7, 8, 5, 9)
    yield dense_net(rng, inputs, width, outputs), (batch + 1, inputs)
    yield nested_net(rng, inputs, width, outputs), (batch + 1, inputs)
    yield conv_net(rng, width, outputs), (batch, 1, 4, 4)


def cases(rng):
    made = []
    for _ in range(3):
        images, units = sizes(rng, 9, 7)
        eps = float(rng.uniform(1e-3, 0.3))
        made.append(batchnorm_case(rng, images, units, float(rng.uniform(0.01, 0.9)), eps))
        made.append(backward_case(rng, images, units, eps))
        made.append(weight_norm_case(rng, units, images))
    for places in ((), (4,), (3, 2)):
        batch, groups, each = sizes(rng, 6, 5, 5)
        made.append(group_norm_case(rng, (batch, groups * each, *places), groups, float(rng.uniform(1e-3, 0.3))))
    made.append(group_norm_case(rng, (3, 5, 4), 1, 1e-5))
    made += [repair_case(rng, model, shape, int(rng.integers(2, 7)), "drawn") for model, shape in models(rng)]
    return made
