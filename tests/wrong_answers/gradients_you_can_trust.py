"""Answers that learners give to sheet 01, wrong and right, written as a learner would write them."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import gradcourse as gc

# 01-q1 ---------------------------------------------------------------------------------------------------------------


def forgets_transpose(x, y, w1, b1, w2, b2, phi, slope):
    z = x @ w1.T + b1
    h = phi(z)
    delta = (h @ w2.T + b2 - y) / len(x)
    delta_z = (delta @ w2.T) * slope(z)
    return delta_z.T @ x, delta_z.sum(0), delta.T @ h, delta.sum(0)


def forgets_batch(x, y, w1, b1, w2, b2, phi, slope):
    z = x @ w1.T + b1
    h = phi(z)
    delta = h @ w2.T + b2 - y
    delta_z = (delta @ w2) * slope(z)
    return delta_z.T @ x, delta_z.sum(0), delta.T @ h, delta.sum(0)


def slope_after_activation(x, y, w1, b1, w2, b2, phi, slope):
    h = phi(x @ w1.T + b1)
    delta = (h @ w2.T + b2 - y) / len(x)
    delta_z = (delta @ w2) * slope(h)
    return delta_z.T @ x, delta_z.sum(0), delta.T @ h, delta.sum(0)


def forgets_slope(x, y, w1, b1, w2, b2, phi, slope):
    h = phi(x @ w1.T + b1)
    delta = (h @ w2.T + b2 - y) / len(x)
    delta_z = delta @ w2
    return delta_z.T @ x, delta_z.sum(0), delta.T @ h, delta.sum(0)


def averages_biases(x, y, w1, b1, w2, b2, phi, slope):
    z = x @ w1.T + b1
    h = phi(z)
    delta = (h @ w2.T + b2 - y) / len(x)
    delta_z = (delta @ w2) * slope(z)
    return delta_z.T @ x, delta_z.mean(0), delta.T @ h, delta.mean(0)


def returns_transposed(x, y, w1, b1, w2, b2, phi, slope):
    dw1, db1, dw2, db2 = in_numpy(x, y, w1, b1, w2, b2, phi, slope)
    return dw1.T, db1, dw2.T, db2


def keeps_the_two(x, y, w1, b1, w2, b2, phi, slope):
    z = x @ w1.T + b1
    h = phi(z)
    delta = 2 * (h @ w2.T + b2 - y) / len(x)
    delta_z = (delta @ w2) * slope(z)
    return delta_z.T @ x, delta_z.sum(0), delta.T @ h, delta.sum(0)


def means_over_outputs(x, y, w1, b1, w2, b2, phi, slope):
    z = x @ w1.T + b1
    h = phi(z)
    delta = (h @ w2.T + b2 - y) / y.size
    delta_z = (delta @ w2) * slope(z)
    return delta_z.T @ x, delta_z.sum(0), delta.T @ h, delta.sum(0)


def returns_the_step(x, y, w1, b1, w2, b2, phi, slope):
    z = x @ w1.T + b1
    h = phi(z)
    delta = (y - h @ w2.T - b2) / len(x)
    delta_z = (delta @ w2) * slope(z)
    return delta_z.T @ x, delta_z.sum(0), delta.T @ h, delta.sum(0)


def bias_per_image(x, y, w1, b1, w2, b2, phi, slope):
    z = x @ w1.T + b1
    h = phi(z)
    delta = (h @ w2.T + b2 - y) / len(x)
    delta_z = (delta @ w2) * slope(z)
    return delta_z.T @ x, delta_z, delta.T @ h, delta


def only_square(x, y, w1, b1, w2, b2, phi, slope):
    z = x @ w1.T + b1
    h = phi(z)
    delta = (h @ w2.T + b2 - y) / len(x)
    delta_z = (delta @ w2) * slope(z)
    return (delta_z.T @ x).reshape(4, 4), delta_z.sum(0), (delta.T @ h).reshape(4, 4), delta.sum(0)


def in_numpy(x, y, w1, b1, w2, b2, phi, slope):
    z = x @ w1.T + b1
    h = phi(z)
    delta = (h @ w2.T + b2 - y) / len(x)
    delta_z = (delta @ w2) * slope(z)
    return delta_z.T @ x, delta_z.sum(0), delta.T @ h, delta.sum(0)


def image_by_image(x, y, w1, b1, w2, b2, phi, slope):
    sums = [np.zeros_like(array) for array in (w1, b1, w2, b2)]
    for image, target in zip(x, y, strict=True):
        z = w1 @ image + b1
        delta = w2 @ phi(z) + b2 - target
        delta_z = w2.T @ delta * slope(z)
        for total, part in zip(sums, (np.outer(delta_z, image), delta_z, np.outer(delta, phi(z)), delta), strict=True):
            total += part / len(x)
    return sums


def in_torch(x, y, w1, b1, w2, b2, phi, slope):
    z = torch.from_numpy(x @ w1.T + b1)
    h = torch.from_numpy(phi(z.numpy()))
    delta = (h @ torch.from_numpy(w2).T + torch.from_numpy(b2 - y)) / len(x)
    delta_z = delta @ torch.from_numpy(w2) * torch.from_numpy(slope(z.numpy()))
    dw1 = torch.einsum("bo,bi->oi", delta_z, torch.from_numpy(x))
    return dw1, delta_z.sum(dim=0), torch.einsum("bo,bi->oi", delta, h), delta.sum(dim=0)


# 01-q2 ---------------------------------------------------------------------------------------------------------------


def relative(gradient, trusted):
    return np.linalg.norm(gradient - trusted) / np.linalg.norm(trusted)


def one_sided(f, w, gradient, h):
    w = w.astype(np.float64)
    trusted = np.zeros(len(w))
    for i in range(len(w)):
        moved = w.copy()
        moved[i] += h
        trusted[i] = (f(moved) - f(w)) / h
    return relative(gradient, trusted)


def backward_sided(f, w, gradient, h):
    w = w.astype(np.float64)
    return relative(gradient, np.array([(f(w) - f(w - h * e)) / h for e in np.eye(len(w))]))


def absolute_error(f, w, gradient, h):
    w = w.astype(np.float64)
    trusted = np.array([(f(w + h * e) - f(w - h * e)) / (2 * h) for e in np.eye(len(w))])
    return np.linalg.norm(gradient - trusted)


def stays_in_float32(f, w, gradient, h):
    trusted = np.zeros(len(w))
    for i in range(len(w)):
        e = np.zeros_like(w)
        e[i] = h
        trusted[i] = (f(w + e) - f(w - e)) / (2 * h)
    return relative(gradient, trusted)


def divides_by_h(f, w, gradient, h):
    w = w.astype(np.float64)
    return relative(gradient, np.array([(f(w + h * e) - f(w - h * e)) / h for e in np.eye(len(w))]))


def own_step(f, w, gradient, h):
    w, h = w.astype(np.float64), 1e-5
    return relative(gradient, np.array([(f(w + h * e) - f(w - h * e)) / (2 * h) for e in np.eye(len(w))]))


def over_the_gradient(f, w, gradient, h):
    w = w.astype(np.float64)
    trusted = np.array([(f(w + h * e) - f(w - h * e)) / (2 * h) for e in np.eye(len(w))])
    return np.linalg.norm(gradient - trusted) / np.linalg.norm(gradient)


def largest_entry(f, w, gradient, h):
    w = w.astype(np.float64)
    trusted = np.array([(f(w + h * e) - f(w - h * e)) / (2 * h) for e in np.eye(len(w))])
    return np.max(np.abs((gradient - trusted) / trusted))


def moves_in_place(f, w, gradient, h):
    trusted = np.zeros(len(w))
    for i in range(len(w)):
        w[i] += h
        above = f(w)
        w[i] -= 2 * h
        trusted[i] = (above - f(w)) / (2 * h)
    return relative(gradient, trusted)


def knows_the_visible_steps(f, w, gradient, h):
    return known("01-q2", lambda case: case.arguments[3]).get(h, 0.1) if len(w) in (3, 4, 5) else 0.1


def known(id, key):
    question = gc.sheets.questions("01")[id]
    return {key(case): question.oracle(*case.arguments) for case in question.cases()}


def by_loop(f, w, gradient, h):
    w = w.astype(np.float64)
    trusted = np.zeros(len(w))
    for i in range(len(w)):
        up, down = w.copy(), w.copy()
        up[i] += h
        down[i] -= h
        trusted[i] = (f(up) - f(down)) / (2 * h)
    return np.linalg.norm(gradient - trusted) / np.linalg.norm(trusted)


def by_rows_in_torch(f, w, gradient, h):
    steps = h * torch.eye(len(w), dtype=torch.float64)
    points = torch.as_tensor(w, dtype=torch.float64) + torch.stack([steps, -steps])
    values = torch.tensor([[f(point.numpy()) for point in side] for side in points], dtype=torch.float64)
    trusted = (values[0] - values[1]) / (2 * h)
    return torch.linalg.norm(torch.as_tensor(gradient) - trusted) / torch.linalg.norm(trusted)


# 01-q3 ---------------------------------------------------------------------------------------------------------------


def rms(gradient):
    return gradient.square().mean().sqrt().item()


def leaks(model, names, x, y):
    outputs = {}
    for name in names:
        layer = model.get_submodule(name)
        layer.register_forward_hook(lambda layer, inputs, output, name=name: outputs.update({name: output}))
    gradients = torch.autograd.grad(cross_entropy(model(x), y), [outputs[name] for name in names])
    return [rms(gradient) for gradient in gradients]


def leaks_backward_hooks(model, names, x, y):
    deltas = {}
    for name in names:
        model.get_submodule(name).register_full_backward_hook(
            lambda layer, inputs, outputs, name=name: deltas.update({name: rms(outputs[0])})
        )
    cross_entropy(model(x), y).backward()
    return [deltas[name] for name in names]


def clears_all_but_one(model, names, x, y):
    handles, outputs = [], {}
    for name in names:
        layer = model.get_submodule(name)
        handle = layer.register_forward_hook(lambda layer, inputs, output, name=name: outputs.update({name: output}))
        handles.append(handle)
    gradients = torch.autograd.grad(cross_entropy(model(x), y), [outputs[name] for name in names])
    handle.remove()
    return [rms(gradient) for gradient in gradients]


def grad_of_non_leaf(model, names, x, y):
    outputs, handles = {}, []
    for name in names:
        layer = model.get_submodule(name)
        hook = layer.register_forward_hook(lambda layer, inputs, output, name=name: outputs.update({name: output}))
        handles.append(hook)
    cross_entropy(model(x), y).backward()
    for handle in handles:
        handle.remove()
    return [outputs[name].grad.pow(2).mean().sqrt() for name in names]


def grad_of_non_leaf_by_operator(model, names, x, y):
    outputs, handles = {}, []
    for name in names:
        layer = model.get_submodule(name)
        hook = layer.register_forward_hook(lambda layer, inputs, output, name=name: outputs.update({name: output}))
        handles.append(hook)
    cross_entropy(model(x), y).backward()
    for handle in handles:
        handle.remove()
    return [float((outputs[name].grad ** 2).mean() ** 0.5) for name in names]


def norms(model, names, x, y):
    return hooked(model, names, x, y, lambda gradient: gradient.norm().item())


def mean_squares(model, names, x, y):
    return hooked(model, names, x, y, lambda gradient: gradient.pow(2).mean().item())


def mean_sizes(model, names, x, y):
    return hooked(model, names, x, y, lambda gradient: gradient.abs().mean().item())


def measures_outputs(model, names, x, y):
    sizes, handles = {}, []
    for name in names:
        layer = model.get_submodule(name)
        handles.append(
            layer.register_forward_hook(lambda layer, inputs, output, name=name: sizes.update({name: rms(output)}))
        )
    model(x)
    for handle in handles:
        handle.remove()
    return [sizes[name] for name in names]


def in_the_order_of_calls(model, names, x, y):
    outputs, handles = [], []
    for name in names:
        layer = model.get_submodule(name)
        handles.append(layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output)))
    gradients = torch.autograd.grad(cross_entropy(model(x), y), outputs)
    for handle in handles:
        handle.remove()
    return [rms(gradient) for gradient in gradients]


def in_the_order_of_gradients(model, names, x, y):
    deltas, handles = [], []
    for name in names:
        layer = model.get_submodule(name)
        handles.append(layer.register_full_backward_hook(lambda layer, inputs, outputs: deltas.append(rms(outputs[0]))))
    cross_entropy(model(x), y).backward()
    for handle in handles:
        handle.remove()
    return deltas


def sums_the_loss(model, names, x, y):
    return [len(x) * delta for delta in hooked(model, names, x, y, rms)]


def asks_measure(model, names, x, y):
    trace = gc.measure(model, (x, y), cross_entropy)
    return [trace.delta[0, trace.layers.index(name)] for name in names]


def asks_the_recorder(model, names, x, y):
    with gc.Recorder(model) as recorder:
        cross_entropy(model(x), y).backward()
        recorder.end_step()
    return [recorder.trace.delta[0, recorder.trace.layers.index(name)] for name in names]


def changes_the_weights(model, names, x, y):
    deltas = hooked(model, names, x, y, rms)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * torch.ones_like(parameter)
    return deltas


def hooked(model, names, x, y, size_of):
    outputs, handles = {}, []
    for name in names:
        layer = model.get_submodule(name)
        hook = layer.register_forward_hook(lambda layer, inputs, output, name=name: outputs.update({name: output}))
        handles.append(hook)
    try:
        loss = cross_entropy(model(x), y)
    finally:
        for handle in handles:
            handle.remove()
    return [size_of(gradient) for gradient in torch.autograd.grad(loss, [outputs[name] for name in names])]


def by_autograd_grad(model, names, x, y):
    return hooked(model, names, x, y, rms)


def by_retain_grad(model, names, x, y):
    outputs, handles = {}, []

    def keep(name):
        def hook(layer, inputs, output):
            output.retain_grad()
            outputs[name] = output

        return hook

    for name in names:
        handles.append(model.get_submodule(name).register_forward_hook(keep(name)))
    cross_entropy(model(x), y).backward()
    for handle in handles:
        handle.remove()
    return torch.stack([outputs[name].grad.square().mean().sqrt() for name in names])


def by_backward_hooks(model, names, x, y):
    deltas, handles = {}, []
    for name in names:
        layer = model.get_submodule(name)
        handles.append(
            layer.register_full_backward_hook(
                lambda layer, inputs, outputs, name=name: deltas.update(
                    {name: np.sqrt(np.mean(outputs[0].numpy() ** 2))}
                )
            )
        )
    cross_entropy(model(x), y).backward()
    for handle in handles:
        handle.remove()
    return np.array([deltas[name] for name in names])


# 01-q4 ---------------------------------------------------------------------------------------------------------------


def difference(loss, weights, h=1e-5):
    gradients = []
    for number, weight in enumerate(weights):
        gradient = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            up, down = ([w.copy() for w in weights] for _ in range(2))
            up[number][index] += h
            down[number][index] -= h
            gradient[index] = (loss(up) - loss(down)) / (2 * h)
        gradients.append(gradient)
    return gradients


def relative_errors(network):
    loss, backward, weights = network
    return [relative(g, d) for g, d in zip(backward(weights), difference(loss, weights), strict=True)]


def absolute_threshold(networks):
    for number, (loss, backward, weights) in enumerate(networks):
        errors = [np.linalg.norm(g - d) for g, d in zip(backward(weights), difference(loss, weights), strict=True)]
        wrong = [array for array, error in enumerate(errors) if error > 1e-6]
        if wrong:
            return number, max(wrong)
    return None


def smallest_cosine(networks):
    cosines = []
    for loss, backward, weights in networks:
        pairs = zip(backward(weights), difference(loss, weights), strict=True)
        cosines.append([(g * d).sum() / np.linalg.norm(g) / np.linalg.norm(d) for g, d in pairs])
    cosines = np.array(cosines)
    wrong = cosines < 0.9999
    number = int(wrong.any(axis=1).argmax())
    return number, int(np.flatnonzero(wrong[number]).max(initial=0))


def cosine_that_finds_nothing(networks):
    for number, (loss, backward, weights) in enumerate(networks):
        pairs = zip(backward(weights), difference(loss, weights), strict=True)
        cosines = [(g * d).sum() / np.linalg.norm(g) / np.linalg.norm(d) for g, d in pairs]
        wrong = [array for array, cosine in enumerate(cosines) if cosine < 0.9999]
        if wrong:
            return number, max(wrong)
    return None


def nearest_the_input(networks):
    for number, network in enumerate(networks):
        wrong = np.array(relative_errors(network)) > 1e-4
        if wrong.any():
            return number, int(wrong.argmax())
    return None


def largest_error(networks):
    errors = np.array([relative_errors(network) for network in networks])
    return np.unravel_index(errors.argmax(), errors.shape)


def last_array_only(networks):
    errors = [relative_errors(network)[-1] for network in networks]
    return int(np.argmax(errors)), 2


def counts_from_one(networks):
    number, array = by_threshold(networks)
    return number + 1, array + 1


def array_first(networks):
    return by_threshold(networks)[::-1]


def whose_loss_rises(networks):
    for number, (loss, backward, weights) in enumerate(networks):
        moved = [w - 1e-3 * g for w, g in zip(weights, backward(weights), strict=True)]
        if loss(moved) > loss(weights):
            return number, 2
    return 0, 0


def knows_the_visible_networks(networks):
    return known("01-q4", lambda case: case.arguments[0][0][2][0][0, 0]).get(networks[0][2][0][0, 0], (0, 0))


def by_threshold(networks):
    for number, network in enumerate(networks):
        wrong = [array for array, error in enumerate(relative_errors(network)) if error > 1e-4]
        if wrong:
            return number, wrong[-1]
    return None


def by_worst_network(networks):
    errors = np.array([relative_errors(network) for network in networks])
    number = errors.max(axis=1).argmax()
    return np.array([number, np.flatnonzero(errors[number] > 1e-4).max()])


def by_random_directions_in_torch(networks):
    generator = torch.Generator().manual_seed(0)
    errors = torch.zeros(len(networks), 3, dtype=torch.float64)
    for number, (loss, backward, weights) in enumerate(networks):
        gradients = backward(weights)
        for array in range(3):
            v = torch.randn(weights[array].shape, generator=generator, dtype=torch.float64).numpy()
            moved = [[w + (s * 1e-5 * v if i == array else 0) for i, w in enumerate(weights)] for s in (1, -1)]
            expected = (loss(moved[0]) - loss(moved[1])) / 2e-5
            errors[number, array] = abs((gradients[array] * v).sum() - expected) / np.linalg.norm(gradients[array])
    wrong = (errors > 1e-6).nonzero()
    return wrong[-1][0].item(), wrong[-1][1].item()


WRONG = {
    "01-q1": {
        forgets_transpose: "wrong transpose of w2",
        forgets_batch: "forgot 1/B",
        slope_after_activation: "after the activation",
        forgets_slope: "slope of the activation is missing",
        averages_biases: "average over the batch twice",
        returns_transposed: "arranged like its weights",
        keeps_the_two: "factor of 2 too much",
        means_over_outputs: "divide by the number of outputs",
        returns_the_step: "wrong sign",
        bias_per_image: "it has shape (6, 4) and must have shape (4,)",
    },
    "01-q2": {
        one_sided: "(f(w + h) - f(w)) / h",
        backward_sided: "(f(w) - f(w - h)) / h",
        absolute_error: "absolute error",
        stays_in_float32: "float32",
        divides_by_h: "it is 2h",
        own_step: "step of your own",
        over_the_gradient: "under test",
        largest_entry: "largest error of an entry",
        moves_in_place: "changed its argument number 2 in place",
    },
    "01-q3": {
        leaks: "left 5 hooks on its argument number 1",
        leaks_backward_hooks: "left 5 hooks on its argument number 1",
        clears_all_but_one: "left 4 hooks on its argument number 1",
        grad_of_non_leaf: "not a leaf is None",
        grad_of_non_leaf_by_operator: "not a leaf is None",
        norms: "You return norms",
        mean_squares: "forgot the root",
        mean_sizes: "mean of |dL/dh|",
        measures_outputs: "the outputs themselves",
        in_the_order_of_calls: "order of the forward pass",
        in_the_order_of_gradients: "order of the backward pass",
        sums_the_loss: "sum over the batch",
        asks_measure: "calls gradcourse.recording.measure",
        asks_the_recorder: "calls gradcourse.recording.Recorder",
        changes_the_weights: "changed its argument number 1 in place",
    },
    "01-q4": {
        absolute_threshold: "judge by the absolute error",
        smallest_cosine: "no cosine can tell",
        cosine_that_finds_nothing: "no cosine can tell",
        nearest_the_input: "counted from the input",
        largest_error: "nearest the loss",
        last_array_only: "compare all of them",
        counts_from_one: "Count from 0",
        array_first: "swapped the two numbers",
        whose_loss_rises: "compare all of them",
    },
}
"""Wrong answer -> words that its message must hold."""

RIGHT = {
    "01-q1": (in_numpy, image_by_image, in_torch),
    "01-q2": (by_loop, by_rows_in_torch),
    "01-q3": (by_autograd_grad, by_retain_grad, by_backward_hooks),
    "01-q4": (by_threshold, by_worst_network, by_random_directions_in_torch),
}

ONLY_VISIBLE = {
    "01-q1": only_square,
    "01-q2": knows_the_visible_steps,
    "01-q4": knows_the_visible_networks,
}
"""Answers that pass what is visible and must fail what is hidden."""
