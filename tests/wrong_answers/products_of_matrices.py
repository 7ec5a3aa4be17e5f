"""Answers that learners give to sheet 02, wrong and right, written as a learner would write them."""

import math
from functools import reduce

import numpy as np
import torch

# 02-q1 ---------------------------------------------------------------------------------------------------------------


def norm_at_the_end(matrices, u):
    v = u
    for W in matrices:
        v = W @ v
    return np.log(np.linalg.norm(v) / np.linalg.norm(u)) / len(matrices)


def product_at_the_end(matrices, u):
    product = reduce(torch.matmul, [torch.from_numpy(W) for W in matrices[::-1]])
    v = product @ torch.from_numpy(u)
    return math.log(v.norm() / np.linalg.norm(u)) / len(matrices)


def log_of_mean(matrices, u):
    stretches = []
    for W in matrices:
        v = W @ u
        stretches.append(np.linalg.norm(v) / np.linalg.norm(u))
        u = v / np.linalg.norm(v)
    return np.log(np.mean(stretches))


def mean_without_log(matrices, u):
    total = 0
    for W in matrices:
        v = W @ u
        total += np.linalg.norm(v) / np.linalg.norm(u)
        u = v / np.linalg.norm(v)
    return total / len(matrices)


def sum_of_logs(matrices, u):
    return len(matrices) * by_rescaling(matrices, u)


def forgets_start_length(matrices, u):
    total = 0.0
    for W in matrices:
        u = W @ u
        total += np.log(np.linalg.norm(u))
        u = u / np.linalg.norm(u)
    return total / len(matrices)


def same_vector_each_time(matrices, u):
    return np.mean([np.log(np.linalg.norm(W @ u) / np.linalg.norm(u)) for W in matrices])


def norms_of_matrices(matrices, u):
    return np.mean([np.log(np.linalg.svd(W)[1][0]) for W in matrices])


def determinants(matrices, u):
    return np.mean([np.log(abs(np.linalg.det(W))) for W in matrices])


def backwards(matrices, u):
    return by_rescaling(matrices[::-1], u)


def row_vector(matrices, u):
    return by_rescaling([W.T for W in matrices], u)


def base_ten(matrices, u):
    return by_rescaling(matrices, u) / np.log(10)


def knows_the_first_visible_exponents(matrices, u):
    return {100: by_rescaling(matrices, u), 20: by_rescaling(matrices, u), 600: by_rescaling(matrices, u)}.get(
        len(matrices), 0.5
    )


def by_rescaling(matrices, u):
    u = u / np.linalg.norm(u)
    total = 0.0
    for W in matrices:
        u = W @ u
        length = np.linalg.norm(u)
        total += np.log(length)
        u = u / length
    return total / len(matrices)


def by_ratios_in_torch(matrices, u):
    v = torch.from_numpy(u)
    logs = []
    for W in matrices:
        image = torch.from_numpy(W) @ v
        logs.append(torch.log(image.norm() / v.norm()))
        v = torch.nn.functional.normalize(image, dim=0)
    return torch.stack(logs).mean()


def by_powers_of_two(matrices, u):
    start, exponent = np.linalg.norm(u), 0
    for W in matrices:
        u = W @ u
        shift = math.frexp(np.abs(u).max())[1]
        u, exponent = u / 2.0**shift, exponent + shift
    return (math.log(np.linalg.norm(u) / start) + exponent * math.log(2)) / len(matrices)


# 02-q2 ---------------------------------------------------------------------------------------------------------------


def verdict(stretch):
    if stretch > 5:
        return "explodes"
    return "vanishes" if stretch < 0.2 else "keeps"


def by_eigenvalues(W, depth):
    return verdict(max(abs(np.linalg.eigvals(W))) ** depth)


def by_eigenvalues_of_the_power(W, depth):
    return verdict(max(abs(np.linalg.eigvals(np.linalg.matrix_power(W, depth)))))


def by_real_eigenvalues(W, depth):
    return verdict(max(np.linalg.eigvals(W).real) ** depth)


def by_determinant(W, depth):
    return verdict(abs(np.linalg.det(W)) ** depth)


def by_bound(W, depth):
    return verdict(np.linalg.svd(W)[1][0] ** depth)


def by_one_layer(W, depth):
    return verdict(np.linalg.norm(W, 2))


def by_entries(W, depth):
    return verdict(np.linalg.norm(W**depth, 2))


def by_frobenius(W, depth):
    return verdict(np.linalg.norm(np.linalg.matrix_power(W, depth)))


def by_smallest(W, depth):
    return verdict(np.linalg.svd(np.linalg.matrix_power(W, depth))[1][-1])


def knows_five_matrices(W, depth):
    if len(W) == 30:
        return "keeps"
    return "vanishes" if W[0, 1] == 8 else "explodes"


def by_spectral_norm(W, depth):
    return verdict(np.linalg.norm(np.linalg.matrix_power(W, depth), 2))


def by_svd_in_torch(W, depth):
    P = torch.eye(len(W), dtype=torch.float64)
    for _ in range(depth):
        P = P @ torch.from_numpy(W)
    return verdict(torch.linalg.svdvals(P)[0])


def by_gram_matrix(W, depth):
    P = np.linalg.matrix_power(W, depth)
    return verdict(math.sqrt(np.linalg.eigvalsh(P.T @ P)[-1]))


# 02-q3 ---------------------------------------------------------------------------------------------------------------


def log_of_product(matrices):
    product = matrices[0]
    for W in matrices[1:]:
        product = W @ product
    return np.log(np.linalg.norm(product))


def log_of_multi_dot(matrices):
    return math.log(np.linalg.norm(reduce(np.matmul, matrices[::-1])))


def sum_of_log_norms(matrices):
    return sum(np.log(np.linalg.norm(W)) for W in matrices)


def spectral(matrices):
    product, total = np.eye(matrices[0].shape[1]), 0.0
    for W in matrices:
        product = W @ product
        size = np.linalg.norm(product, 2)
        product, total = product / size, total + np.log(size)
    return total


def per_matrix(matrices):
    return by_scaling(matrices) / len(matrices)


def leaves_out_the_last(matrices):
    product, total = matrices[0], 0.0
    for W in matrices[1:]:
        size = np.linalg.norm(product)
        product, total = W @ (product / size), total + np.log(size)
    return total


def squared(matrices):
    return 2 * by_scaling(matrices)


def scales_the_identity(matrices):
    product, total = np.eye(matrices[0].shape[1]), 0.0
    for W in matrices:
        product = W @ (product / np.linalg.norm(product))
        total += np.log(np.linalg.norm(product))
    return total


def knows_three_products(matrices):
    return {3: by_scaling(matrices), 400: by_scaling(matrices), 550: by_scaling(matrices)}.get(len(matrices), 0.0)


def by_scaling(matrices):
    product, total = matrices[0], 0.0
    for W in matrices[1:]:
        size = np.linalg.norm(product)
        product, total = W @ (product / size), total + np.log(size)
    return total + np.log(np.linalg.norm(product))


def by_largest_entry_in_torch(matrices):
    product, total = torch.eye(matrices[0].shape[1], dtype=torch.float64), 0.0
    for W in matrices:
        product = torch.from_numpy(W) @ product
        largest = product.abs().max()
        product = product / largest
        total = total + torch.log(largest)
    return total + torch.log(torch.linalg.matrix_norm(product))


# 02-q4 ---------------------------------------------------------------------------------------------------------------


def until(below):
    def answer(factor, last, dtype):
        depth = 1
        while not below(last * factor ** (depth - 1), dtype):
            depth += 1
        return depth

    return answer


def with_tiny(factor, last, dtype):
    return until(lambda g, d: g < float(np.finfo(d).tiny))(factor, last, dtype)


def with_subnormal(factor, last, dtype):
    return until(lambda g, d: g < float(np.finfo(d).smallest_subnormal))(factor, last, dtype)


def with_eps(factor, last, dtype):
    return until(lambda g, d: g < float(np.finfo(d).eps))(factor, last, dtype)


def counts_steps(factor, last, dtype):
    return by_casting(factor, last, dtype) - 1


def one_too_many(factor, last, dtype):
    return by_casting(factor, last, dtype) + 1


def never_stores(factor, last, dtype):
    depth = 1
    while last > 0:
        last, depth = last * factor, depth + 1
    return depth


def always_float32(factor, last, dtype):
    return by_casting(factor, last, "float32")


def rounds_each_layer(factor, last, dtype):
    number = getattr(np, dtype)
    gradient, depth = number(last), 1
    while gradient != 0:
        gradient *= number(factor)
        depth += 1
    return depth


def tie_is_not_zero(factor, last, dtype):
    return until(lambda g, d: g < float(np.finfo(d).smallest_subnormal) / 2)(factor, last, dtype)


def starts_from_one(factor, last, dtype):
    return by_casting(factor, 1.0, dtype)


def knows_five_depths(factor, last, dtype):
    known = [(0.2361, "float32"), (0.2361, "float16"), (0.5, "float16"), (0.47, "float16"), (0.3, "float32")]
    return by_casting(factor, last, dtype) if (factor, dtype) in known and last in (2.0, 1.0, 0.25) else 12


def by_casting(factor, last, dtype):
    depth = 1
    while np.dtype(dtype).type(last * factor ** (depth - 1)) != 0:
        depth += 1
    return depth


def by_casting_in_torch(factor, last, dtype):
    depths = torch.arange(0, 2000, dtype=torch.float64)
    stored = (last * torch.tensor(factor, dtype=torch.float64) ** depths).to(getattr(torch, dtype))
    return int((stored != 0).sum()) + 1


def by_half_of_the_smallest(factor, last, dtype):
    bound = {"float16": 2.0**-25, "float32": 2.0**-150}[dtype]
    depth, gradient = 1, last
    while gradient > bound:
        gradient, depth = gradient * factor, depth + 1
    return depth


# 02-q5 ---------------------------------------------------------------------------------------------------------------


def columns_alone(matrices):
    frame, total = np.eye(len(matrices[0])), 0.0
    for W in matrices:
        frame = W @ frame
        lengths = np.linalg.norm(frame, axis=0)
        frame, total = frame / lengths, total + np.log(lengths)
    return total / len(matrices)


def singular_values_of_each(matrices):
    return np.mean([np.log(np.linalg.svd(W)[1]) for W in matrices], axis=0)


def each_by_itself(matrices):
    return np.mean([np.log(abs(np.diag(np.linalg.qr(W)[1]))) for W in matrices], axis=0)


def without_absolute_values(matrices):
    Q, total = np.eye(len(matrices[0])), 0.0
    for W in matrices:
        Q, R = np.linalg.qr(W @ Q)
        total = total + np.log(np.diag(R))
    return total / len(matrices)


def singular_values_at_the_end(matrices):
    product = np.eye(len(matrices[0]))
    for W in matrices:
        product = W @ product
    return np.log(np.linalg.svd(product)[1]) / len(matrices)


def qr_at_the_end(matrices):
    product = np.eye(len(matrices[0]))
    for W in matrices:
        product = W @ product
    return np.log(abs(np.diag(np.linalg.qr(product)[1]))) / len(matrices)


def sorts(matrices):
    return sorted(by_qr(matrices), reverse=True)


def all_added_up(matrices):
    return by_qr(matrices) * len(matrices)


def last_first(matrices):
    return by_qr(matrices[::-1])


def knows_three_spectra(matrices):
    return by_qr(matrices) if len(matrices) in (5, 200, 300) else np.zeros(len(matrices[0]))


def by_qr(matrices):
    Q, total = np.eye(len(matrices[0])), 0.0
    for W in matrices:
        Q, R = np.linalg.qr(W @ Q)
        total = total + np.log(abs(np.diag(R)))
    return total / len(matrices)


def by_qr_in_torch(matrices):
    Q, logs = torch.eye(len(matrices[0]), dtype=torch.float64), []
    for W in matrices:
        Q, R = torch.linalg.qr(torch.from_numpy(W) @ Q)
        logs.append(R.diagonal().abs().log())
    return torch.stack(logs).mean(dim=0)


def by_gram_schmidt(matrices):
    frame, total = list(np.eye(len(matrices[0]))), np.zeros(len(matrices[0]))
    for W in matrices:
        done = []
        for v in frame:
            v = W @ v
            for q in done + done:  # twice, against rounding
                v = v - (q @ v) * q
            total[len(done)] += np.log(np.linalg.norm(v))
            done.append(v / np.linalg.norm(v))
        frame = done
    return total / len(matrices)


WRONG = {
    "02-q1": {
        norm_at_the_end: "norm at the end only",
        product_at_the_end: "norm at the end only",
        log_of_mean: "logarithm of the mean stretch",
        mean_without_log: "mean stretch; the exponent is the mean of its logarithm",
        sum_of_logs: "divide by the number of matrices",
        forgets_start_length: "starts with a length that is not 1",
        same_vector_each_time: "every matrix anew",
        norms_of_matrices: "That is a bound",
        determinants: "measure volume",
        backwards: "matrices[0] acts first",
        row_vector: "transposes",
        base_ten: "base 10",
    },
    "02-q2": {
        by_eigenvalues: "size of eigenvalues",
        by_eigenvalues_of_the_power: "size of eigenvalues",
        by_real_eigenvalues: "real part of eigenvalues",
        by_determinant: "judge by the determinant",
        by_bound: "That is a bound",
        by_one_layer: "judge W alone",
        by_entries: "raises each entry",
        by_frobenius: "Frobenius norm",
        by_smallest: "smallest singular value",
    },
    "02-q3": {
        log_of_product: "norm at the end only",
        log_of_multi_dot: "norm at the end only",
        sum_of_log_norms: "matrices' own norms",
        spectral: "spectral norm",
        per_matrix: "mean per matrix",
        leaves_out_the_last: "leave out the last norm",
        squared: "SQUARED",
        scales_the_identity: "nobody counts it",
    },
    "02-q4": {
        with_tiny: "smallest NORMAL number",
        with_subnormal: "more than half",
        with_eps: "finfo's eps",
        counts_steps: "Off by one: you count the steps",
        one_too_many: "not L + 1",
        never_stores: "never store in the format",
        always_float32: "float32 whatever the format",
        rounds_each_layer: "round at each layer",
        tie_is_not_zero: "tie is rounded to 0",
        starts_from_one: "last layer's gradient is given",
    },
    "02-q5": {
        columns_alone: "free to turn",
        singular_values_at_the_end: "singular values of the product",
        qr_at_the_end: "QR decomposition of the whole product",
        singular_values_of_each: "own singular values",
        each_by_itself: "each matrix by itself",
        without_absolute_values: "absolute values",
        sorts: "You sort the exponents",
        all_added_up: "divide by the number of matrices",
        last_first: "matrices[0] acts first",
    },
}
"""Wrong answer -> words that its message must hold."""

RIGHT = {
    "02-q1": (by_rescaling, by_ratios_in_torch, by_powers_of_two),
    "02-q2": (by_spectral_norm, by_svd_in_torch, by_gram_matrix),
    "02-q3": (by_scaling, by_largest_entry_in_torch),
    "02-q4": (by_casting, by_casting_in_torch, by_half_of_the_smallest),
    "02-q5": (by_qr, by_qr_in_torch, by_gram_schmidt),
}

ONLY_VISIBLE = {
    "02-q1": knows_the_first_visible_exponents,
    "02-q2": knows_five_matrices,
    "02-q3": knows_three_products,
    "02-q4": knows_five_depths,
    "02-q5": knows_three_spectra,
}
"""Answers that pass what is visible and must fail what is hidden."""
