"""Sheet 02: measure how a product of matrices grows, without overflow, and judge matrices by what they do."""

import math
from itertools import pairwise

import numpy as np

from gradcourse.sheets.question import Case, Mistake, Question

# Exact arithmetic, for the oracles: floats are fractions, and Python's integers never overflow


def _exact(array):
    """Return an array of integers and the denominator, a power of 2, that makes it equal to an array of floats."""
    ratios = [float(value).as_integer_ratio() for value in np.ravel(array)]
    denominator = max(below for _, below in ratios)
    integers = np.array([above * (denominator // below) for above, below in ratios], dtype=object)
    return integers.reshape(np.shape(array)), denominator


def _exact_product(matrices, start):
    """Return W_L ... W_1 start as an array of integers, and the logarithm of its denominator."""
    product, below = _exact(start)
    log_denominator = math.log(below)
    for matrix in matrices:
        integers, below = _exact(matrix)
        product = integers @ product
        log_denominator += math.log(below)
    return product, log_denominator


def _log_size(integers, log_denominator):
    """Return the logarithm of the root of the sum of squares; math.log takes integers of any size."""
    square = int(np.sum(integers * integers))
    return 0.5 * math.log(square) - log_denominator if square else -math.inf


def _gaussian(rng, count, n, scale):
    return [scale * rng.normal(size=(n, n)) for _ in range(count)]


def _positive(rng, count, n, scale):
    """Matrices without a negative entry: what overflows becomes inf and never NaN."""
    return [scale * rng.uniform(0.5, 1.5, size=(n, n)) for _ in range(count)]


# Question 1: the Lyapunov exponent of a product


def _lyapunov(matrices, u):
    before, after = (_log_size(*_exact_product(passed, u)) for passed in ([], matrices))
    return (after - before) / len(matrices)


def lyapunov_case(rng, count, n, scale, draw=_gaussian):
    """Make a product of random matrices and a start vector that is not of length 1."""
    described = "Gaussian" if draw is _gaussian else "positive"
    matrices, u = draw(rng, count, n, scale), rng.uniform(1.0, 3.0, size=n)
    return Case("02-q1", (matrices, u), f"{count} {described} {n} x {n} matrices, u of length {np.linalg.norm(u):.2f}")


def _lyapunov_cases():
    rng = np.random.default_rng(2)
    return [
        lyapunov_case(rng, 100, 4, 1.0),
        lyapunov_case(rng, 20, 10, 0.3),
        lyapunov_case(rng, 600, 3, 2.0, _positive),
    ]


def _stretches(matrices, u):
    """Return |W u| / |u| at each matrix, u carried on with length 1."""
    ratios = []
    for matrix in matrices:
        u = u / np.linalg.norm(u)
        u = matrix @ u
        ratios.append(np.linalg.norm(u))
    return np.array(ratios)


def _carried(matrices, u):
    for matrix in matrices:
        u = matrix @ u
    return np.linalg.norm(u)


_AT_THE_END = (
    "You take the norm at the end only, where the vector has overflowed: bring it back to length 1 after each matrix "
    "and add up the logarithms."
)

_LYAPUNOV_MISTAKES = (
    Mistake(_AT_THE_END, lambda matrices, u: np.log(_carried(matrices, u) / np.linalg.norm(u)) / len(matrices)),
    Mistake(_AT_THE_END, lambda matrices, u: np.log(_carried(matrices, u / np.linalg.norm(u))) / len(matrices)),
    Mistake(
        _AT_THE_END + " And divide by the length that u starts with.",
        lambda matrices, u: np.log(_carried(matrices, u)) / len(matrices),
    ),
    Mistake(
        "You take the logarithm of the mean stretch. The exponent is the mean of the logarithms, which is smaller: "
        "lengths multiply, so logarithms add.",
        lambda matrices, u: np.log(_stretches(matrices, u).mean()),
    ),
    Mistake(
        "You take the logarithm of the mean SQUARED stretch. The exponent is the mean of the logarithms, which is "
        "smaller.",
        lambda matrices, u: 0.5 * np.log((_stretches(matrices, u) ** 2).mean()),
    ),
    Mistake(
        "You return the mean stretch; the exponent is the mean of its logarithm.",
        lambda matrices, u: _stretches(matrices, u).mean(),
    ),
    Mistake(
        "You return the factor per matrix; the exponent is its natural logarithm.",
        lambda matrices, u: np.exp(np.log(_stretches(matrices, u)).mean()),
    ),
    Mistake(
        "You add up the logarithms; the exponent is per matrix: divide by the number of matrices.",
        lambda matrices, u: np.log(_stretches(matrices, u)).sum(),
    ),
    Mistake(
        "Your logarithm has base 10; take the natural one, np.log.",
        lambda matrices, u: np.log10(_stretches(matrices, u)).mean(),
    ),
    Mistake(
        "Your logarithm has base 2; take the natural one, np.log.",
        lambda matrices, u: np.log2(_stretches(matrices, u)).mean(),
    ),
    Mistake(
        "The vector u starts with a length that is not 1, and you count it as growth: divide by |u|, or bring u to "
        "length 1 before the first matrix.",
        lambda matrices, u: np.log(_stretches(matrices, u)).mean() + np.log(np.linalg.norm(u)) / len(matrices),
    ),
    Mistake(
        "You send the start vector through every matrix anew. Each matrix must get what the one before has made.",
        lambda matrices, u: np.mean([np.log(np.linalg.norm(matrix @ u) / np.linalg.norm(u)) for matrix in matrices]),
    ),
    Mistake(
        "You take the norms of the matrices, the most that each can stretch. That is a bound: the vector that arrives "
        "rarely has the direction that is stretched most.",
        lambda matrices, u: np.mean([np.log(np.linalg.norm(matrix, 2)) for matrix in matrices]),
    ),
    Mistake(
        "You go through the matrices backwards. matrices[0] acts first.",
        lambda matrices, u: np.log(_stretches(matrices[::-1], u)).mean(),
    ),
    Mistake(
        "You multiply by the transposes. The vector is a column: W u is W @ u, not u @ W.",
        lambda matrices, u: np.log(_stretches([matrix.T for matrix in matrices], u)).mean(),
    ),
    Mistake(
        "You take determinants. They measure volume, all directions together; ask what happens to the one vector u.",
        lambda matrices, u: np.mean([np.linalg.slogdet(matrix)[1] for matrix in matrices]),
    ),
    Mistake(
        "You take the n-th root of determinants, a mean over all directions; ask what happens to the one vector u.",
        lambda matrices, u: np.mean([np.linalg.slogdet(matrix)[1] / len(u) for matrix in matrices]),
    ),
    Mistake(
        "You take eigenvalues of the single matrices. In a product of different matrices they have no say: carry the "
        "vector u through.",
        lambda matrices, u: np.mean([np.log(np.abs(np.linalg.eigvals(matrix)).max()) for matrix in matrices]),
    ),
)

# Question 2: which of five matrices explodes


def _verdict(stretch):
    return "explodes" if stretch > 5.0 else "vanishes" if stretch < 0.2 else "keeps"


def _judge(W, depth):
    """By the largest eigenvalue of P P^T, with P exact: no singular value is computed."""
    product, log_denominator = _exact_product([W] * depth, np.eye(len(W)))
    gram = product @ product.T
    digits = max(int(value).bit_length() for value in gram.ravel())
    shift = max(digits - 900, 0)
    scaled = np.array([[float(int(value) >> shift) for value in row] for row in gram])
    largest = scaled.max()
    if largest == 0:
        return _verdict(0.0)
    top = np.linalg.eigvalsh(scaled / largest).max()
    log_stretch = 0.5 * (math.log(top) + math.log(largest) + shift * math.log(2.0)) - log_denominator
    return _verdict(math.exp(min(max(log_stretch, -700.0), 700.0)))


def rotation(rng, n):
    """Return a random orthogonal matrix."""
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def turned(rng, eigenvalues):
    """Return a symmetric matrix with these eigenvalues, its axes turned at random."""
    axes = rotation(rng, len(eigenvalues))
    return (axes * np.asarray(eigenvalues)) @ axes.T


def upper(eigenvalue, above):
    """Return the 2 x 2 matrix with a double eigenvalue and one entry above the diagonal."""
    return np.array([[eigenvalue, above], [0.0, eigenvalue]])


def _judge_cases():
    rng = np.random.default_rng(5)
    return [
        Case("02-q2", (np.diag([2.0, 0.5]), 50), "diag(2, 0.5), 50"),
        Case("02-q2", (upper(1.0, 1.0), 50), "[[1, 1], [0, 1]], 50"),
        Case("02-q2", (upper(0.5, 8.0), 50), "[[0.5, 8], [0, 0.5]], 50"),
        Case("02-q2", (np.array([[0.0, 1.2], [-1.2, 0.0]]), 50), "1.2 times a turn by 90 degrees, 50"),
        Case(
            "02-q2",
            (turned(rng, [-1.0] * 27 + [0.5] * 3), 20),
            "symmetric 30 x 30, eigenvalues 27 times -1, 3 times 0.5, 20",
        ),
    ]


def _power(W, depth):
    return np.linalg.matrix_power(W, depth)


_JUDGE_MISTAKES = (
    Mistake(
        "You judge by the determinant. It measures volume: diag(2, 0.5) has determinant 1, and W^50 stretches one "
        "direction by 2^50. Ask for the largest stretch.",
        lambda W, depth: _verdict(abs(np.linalg.det(W)) ** depth),
    ),
    Mistake(
        "You judge by the size of eigenvalues. They tell about high powers only, and a non-normal matrix can stretch "
        "long before: the shear has both at 1, and W^50 has norm 50.02.",
        lambda W, depth: _verdict(np.abs(np.linalg.eigvals(W)).max() ** depth),
    ),
    Mistake(
        "You judge by the real part of eigenvalues: a turn by 90 degrees has none. And even their size tells about "
        "high powers only: the shear has both eigenvalues at 1, and W^50 has norm 50.02.",
        lambda W, depth: _verdict(np.linalg.eigvals(W).real.max() ** depth),
    ),
    Mistake(
        "You raise the largest singular value of W to the power of depth. That is a bound, met only when each factor "
        "stretches the direction that the one before has stretched. Compute W^depth first.",
        lambda W, depth: _verdict(np.linalg.norm(W, 2) ** depth),
    ),
    Mistake(
        "You judge W alone. The gradient passes depth of them: compute W^depth first.",
        lambda W, depth: _verdict(np.linalg.norm(W, 2)),
    ),
    Mistake(
        "W ** depth raises each entry to that power. A power of a matrix is np.linalg.matrix_power(W, depth).",
        lambda W, depth: _verdict(np.linalg.norm(W**depth, 2)),
    ),
    Mistake(
        "You take the Frobenius norm, which adds up all directions: 27 directions that keep their length make 5.2. "
        "Take the spectral norm, np.linalg.norm(..., 2).",
        lambda W, depth: _verdict(np.linalg.norm(_power(W, depth))),
    ),
    Mistake(
        "You take the smallest singular value. The question is about the direction that is stretched most.",
        lambda W, depth: _verdict(np.linalg.norm(_power(W, depth), -2)),
    ),
    Mistake(
        "You look at the eigenvalues of W^depth. They are those of W to that power, and they miss what a non-normal "
        "matrix does: take its largest singular value.",
        lambda W, depth: _verdict(np.linalg.eigvals(_power(W, depth)).real.max()),
    ),
)

# Question 3: the norm of a product that no float can hold


def _log_norm(matrices):
    return _log_size(*_exact_product(matrices, np.eye(matrices[0].shape[1])))


def rectangular_case(rng, widths):
    """Make the weights of a network whose layers have these widths."""
    matrices = [rng.normal(size=(rows, columns)) for columns, rows in pairwise(widths)]
    shapes = ", ".join(f"{rows} x {columns}" for rows, columns in (matrix.shape for matrix in matrices))
    return Case("02-q3", (matrices,), f"Gaussian matrices of shapes {shapes}")


def log_norm_case(rng, n, *stretches):
    """Make a long product of positive matrices: of (how many, size of the entries) one after the other."""
    matrices = [matrix for count, scale in stretches for matrix in _positive(rng, count, n, scale)]
    shown = ", then ".join(f"{count} with entries of size {scale:g}" for count, scale in stretches)
    return Case("02-q3", (matrices,), f"{n} x {n} matrices: {shown}")


def _log_norm_cases():
    rng = np.random.default_rng(7)
    return [
        rectangular_case(rng, (3, 5, 4, 2)),
        log_norm_case(rng, 3, (400, 10.0)),
        log_norm_case(rng, 4, (400, 10.0), (150, 0.01)),
    ]


def _product(matrices):
    product = np.eye(matrices[0].shape[1])
    for matrix in matrices:
        product = matrix @ product
    return product


def _rescaled(matrices, norm=np.linalg.norm):
    """Return the logs of the factors that are divided out, one for each matrix."""
    product, logs = np.eye(matrices[0].shape[1]), []
    for matrix in matrices:
        product = matrix @ product
        logs.append(np.log(norm(product)))
        product = product / norm(product)
    return logs


_LOG_NORM_MISTAKES = (
    Mistake(
        "You take the norm at the end only, where the product has overflowed or become 0. Divide the product by "
        "its norm after each matrix and add up the logarithms.",
        lambda matrices: np.log(np.linalg.norm(_product(matrices))),
    ),
    Mistake(
        "You add up the logarithms of the matrices' own norms. That is only a bound: |AB| <= |A| |B|.",
        lambda matrices: sum(np.log(np.linalg.norm(matrix)) for matrix in matrices),
    ),
    Mistake(
        "You add up the logarithms of the matrices' own spectral norms. That is only a bound: |AB| <= |A| |B|.",
        lambda matrices: sum(np.log(np.linalg.norm(matrix, 2)) for matrix in matrices),
    ),
    Mistake(
        "This is the spectral norm; the question asks for the Frobenius norm, the root of the sum of squares.",
        lambda matrices: sum(_rescaled(matrices, lambda product: np.linalg.norm(product, 2))),
    ),
    Mistake(
        "You return the mean per matrix; the question asks for the logarithm of the whole product's norm.",
        lambda matrices: sum(_rescaled(matrices)) / len(matrices),
    ),
    Mistake(
        "Your logarithm has base 10; take the natural one.",
        lambda matrices: sum(_rescaled(matrices)) / math.log(10.0),
    ),
    Mistake(
        "You leave out the last norm: after the last matrix it must be added too.",
        lambda matrices: sum(_rescaled(matrices)[:-1]),
    ),
    Mistake(
        "The identity that you start from is scaled to norm 1, and nobody counts it: add the logarithm of its norm "
        "too, or do not scale it.",
        lambda matrices: sum(_rescaled(matrices)) - 0.5 * math.log(matrices[0].shape[1]),
    ),
    Mistake(
        "This is the logarithm of the SQUARED norm: halve it.",
        lambda matrices: 2.0 * sum(_rescaled(matrices)),
    ),
)

# Question 4: the depth at which a number format has nothing left

_BELOW_ROUNDS_TO_0 = {"float16": 25, "float32": 150, "float64": 1075}  # 2**-25 is half of the smallest float16


def _layers_until(factor, last, exponent, strictly=False):
    """Return the smallest depth whose first layer gets at most (or less than) 2**-exponent, in exact arithmetic."""
    (gradient, below), (above, denominator) = (value.as_integer_ratio() for value in (last, factor))
    depth = 1
    while gradient << exponent > below or (strictly and gradient << exponent == below):
        gradient, below, depth = gradient * above, below * denominator, depth + 1
    return depth


def _underflow_depth(factor, last, dtype):
    return _layers_until(factor, last, _BELOW_ROUNDS_TO_0[dtype])


def _underflow_cases():
    return [
        Case("02-q4", (0.2361, 2.0, "float32")),
        Case("02-q4", (0.2361, 0.25, "float16")),
        Case("02-q4", (0.5, 1.0, "float16")),
        Case("02-q4", (0.47, 0.25, "float16")),
        Case("02-q4", (0.3, 2.0, "float32")),
    ]


def _at(name, strictly):
    """Stop at a number of np.finfo, or below it; all of them are powers of 2."""
    return lambda factor, last, dtype: _layers_until(
        factor, last, -int(np.log2(float(getattr(np.finfo(dtype), name)))), strictly
    )


def _rounding_on_the_way(factor, last, dtype):
    number, depth = np.dtype(dtype).type, 1
    gradient = number(last)
    while gradient > 0:
        gradient, depth = number(gradient * number(factor)), depth + 1
    return depth


_NORMAL = (
    "You stop at finfo's tiny, the smallest NORMAL number. Below it there are subnormal numbers, down to finfo's "
    "smallest_subnormal."
)
_FLOAT64 = "You compute in float64 until nothing is left and never store in the format that was asked for."

_UNDERFLOW_MISTAKES = (
    Mistake(_NORMAL, _at("tiny", strictly=True)),
    Mistake(_NORMAL, _at("tiny", strictly=False)),
    Mistake(
        "You stop below the smallest positive number. What is stored is rounded to the nearest: more than half of the "
        "smallest number still becomes that number, not 0.",
        _at("smallest_subnormal", strictly=True),
    ),
    Mistake(
        "You stop at the smallest positive number itself, which is not 0 yet.",
        _at("smallest_subnormal", strictly=False),
    ),
    Mistake(
        "You use finfo's eps, the gap between 1 and the next number. It tells about relative precision, not about "
        "small numbers: floats get finer towards 0.",
        _at("eps", strictly=True),
    ),
    Mistake(
        "Off by one: you count the steps between layers. The first layer of a network of L layers is L - 1 steps away.",
        lambda factor, last, dtype: _underflow_depth(factor, last, dtype) - 1,
    ),
    Mistake(
        "Off by one: from the last layer to the first of L layers it is L - 1 steps, not L + 1.",
        lambda factor, last, dtype: _underflow_depth(factor, last, dtype) + 1,
    ),
    Mistake(_FLOAT64, lambda factor, last, dtype: _underflow_depth(factor, last, "float64")),
    Mistake(_FLOAT64, lambda factor, last, dtype: _rounding_on_the_way(factor, last, "float64")),
    Mistake(
        "You store as float32 whatever the format.",
        lambda factor, last, dtype: _underflow_depth(factor, last, "float32"),
    ),
    Mistake(
        "You round at each layer, because you multiply in the format itself. Here the gradient is computed in float64 "
        "and rounded once, when it is stored.",
        _rounding_on_the_way,
    ),
    Mistake(
        "Exactly half of the smallest number is as near to it as to 0; such a tie is rounded to 0.",
        lambda factor, last, dtype: _layers_until(factor, last, _BELOW_ROUNDS_TO_0[dtype], strictly=True),
    ),
    Mistake(
        "You start from a gradient of 1: the last layer's gradient is given.",
        lambda factor, last, dtype: _underflow_depth(factor, 1.0, dtype),
    ),
)

# Question 5: all exponents


def _minor(gram):
    """Return the determinant of a matrix of integers, exactly (Bareiss's elimination)."""
    rows, previous = [list(map(int, row)) for row in gram], 1
    for k in range(len(rows) - 1):
        for i in range(k + 1, len(rows)):
            for j in range(k + 1, len(rows)):
                rows[i][j] = (rows[i][j] * rows[k][k] - rows[i][k] * rows[k][j]) // previous
        previous = rows[k][k]
    return rows[-1][-1]


def _exponents(matrices):
    """Volumes of the images of the first k axes, exactly: an exponent is what one more axis adds."""
    n = len(matrices[0])
    product, log_denominator = _exact_product(matrices, np.eye(n))
    gram = product.T @ product
    volumes = [0.0] + [0.5 * math.log(_minor(gram[:k, :k])) - k * log_denominator for k in range(1, n + 1)]
    return np.diff(volumes) / len(matrices)


def exponents_case(rng, count, n, scale):
    """Make a product of Gaussian matrices."""
    matrices = _gaussian(rng, count, n, scale)
    return Case("02-q5", (matrices,), f"{count} Gaussian {n} x {n} matrices of variance {scale**2:g}")


def _exponents_cases():
    rng = np.random.default_rng(11)
    return [exponents_case(rng, 5, 3, 1.0), exponents_case(rng, 200, 2, 1.0), exponents_case(rng, 300, 4, 0.5)]


def _by_qr(matrices, log=lambda r: np.log(np.abs(r))):
    frame, total = np.eye(len(matrices[0])), 0.0
    for matrix in matrices:
        frame, triangle = np.linalg.qr(matrix @ frame)
        total = total + log(np.diag(triangle))
    return total / len(matrices)


def _columns_alone(matrices):
    """Each axis carried on by itself: all turn into the direction that grows fastest."""
    return np.array([np.log(_stretches(matrices, axis)).mean() for axis in np.eye(len(matrices[0]))])


_EXPONENTS_MISTAKES = (
    Mistake(
        "You bring each column back to length 1, but leave it free to turn: all of them turn into the direction that "
        "grows fastest and give the first exponent again. Make them perpendicular after each matrix, by QR.",
        _columns_alone,
    ),
    Mistake(
        "You take the singular values of the product. The small ones drown in the rounding of the large one, and "
        "they are not what the columns of the identity give: use QR after each matrix.",
        lambda matrices: np.log(np.linalg.svd(_product(matrices), compute_uv=False)) / len(matrices),
    ),
    Mistake(
        "You take the QR decomposition of the whole product. Its small entries drown in the rounding of the large "
        "ones: decompose after each matrix.",
        lambda matrices: np.log(np.abs(np.diag(np.linalg.qr(_product(matrices))[1]))) / len(matrices),
    ),
    Mistake(
        "You average the logarithms of each matrix's own singular values: a bound for the first exponent. The frame "
        "must be carried on from matrix to matrix.",
        lambda matrices: np.mean([np.log(np.linalg.svd(matrix, compute_uv=False)) for matrix in matrices], axis=0),
    ),
    Mistake(
        "You decompose each matrix by itself. Decompose W Q, with the Q of the matrix before.",
        lambda matrices: np.mean([np.log(np.abs(np.diag(np.linalg.qr(matrix)[1]))) for matrix in matrices], axis=0),
    ),
    Mistake(
        "The diagonal of R has negative entries, whose logarithm is NaN: take absolute values.",
        lambda matrices: _by_qr(matrices, np.log),
    ),
    Mistake(
        "You add up the logarithms; exponents are per matrix: divide by the number of matrices.",
        lambda matrices: _by_qr(matrices) * len(matrices),
    ),
    Mistake(
        "You go through the matrices backwards. matrices[0] acts first.",
        lambda matrices: _by_qr(matrices[::-1]),
    ),
    Mistake(
        "You sort the exponents. Leave them in the order of R's diagonal.",
        lambda matrices: np.sort(_by_qr(matrices))[::-1],
    ),
    Mistake(
        "You give the exponents in the wrong order: that of the first column comes first.",
        lambda matrices: _by_qr(matrices)[::-1],
    ),
    Mistake(
        "Your logarithm has base 10; take the natural one, np.log.",
        lambda matrices: _by_qr(matrices) / math.log(10.0),
    ),
)

QUESTIONS = (
    Question(
        id="02-q1",
        signature="lyapunov(matrices, u)",
        returns="the mean of ln(|W u| / |u|) per matrix",
        points=3,
        minutes=15,
        core=True,
        oracle=_lyapunov,
        cases=_lyapunov_cases,
        mistakes=_LYAPUNOV_MISTAKES,
    ),
    Question(
        id="02-q2",
        signature="judge(W, depth)",
        returns='"explodes", "vanishes" or "keeps"',
        points=3,
        minutes=15,
        core=True,
        oracle=_judge,
        cases=_judge_cases,
        mistakes=_JUDGE_MISTAKES,
    ),
    Question(
        id="02-q3",
        signature="log_norm(matrices)",
        returns="the natural logarithm of the Frobenius norm of the product",
        points=3,
        minutes=15,
        core=False,
        oracle=_log_norm,
        cases=_log_norm_cases,
        mistakes=_LOG_NORM_MISTAKES,
    ),
    Question(
        id="02-q4",
        signature="underflow_depth(factor, last, dtype)",
        returns="the smallest number of layers at which the first layer's stored gradient is 0",
        points=3,
        minutes=15,
        core=False,
        oracle=_underflow_depth,
        cases=_underflow_cases,
        mistakes=_UNDERFLOW_MISTAKES,
    ),
    Question(
        id="02-q5",
        signature="exponents(matrices)",
        returns="all Lyapunov exponents of the product, by QR",
        points=4,
        minutes=20,
        core=False,
        oracle=_exponents,
        cases=_exponents_cases,
        mistakes=_EXPONENTS_MISTAKES,
    ),
)
