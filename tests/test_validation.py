"""Bad input: what each function refuses, and the words in which it says so."""

import numpy as np
import pytest
import torch

from sbm_lite import (
    calculus,
    densities,
    diagnostics,
    losses,
    networks,
    noise,
    runtime,
    samplers,
    training,
    validation,
    variance,
)
from sbm_lite.densities import GaussianMixture, two_modes

X = torch.zeros(3, 2)
NAN = torch.tensor([[0.0, torch.nan]])
HUGE = torch.tensor([[torch.inf, 0.0]])
P = two_modes()
EYE = torch.eye(2).expand(2, 2, 2)


def mixture(weights=(0.5, 0.5), means=((0.0, 0.0), (1.0, 1.0)), covariances=EYE):
    return GaussianMixture(weights, means, covariances)


def langevin(x=X, step_size=0.1, n_steps=3, score=P.score):
    return samplers.langevin(score, x, step_size=step_size, n_steps=n_steps)


def path(x=X, step_size=0.1, n_steps=3, every=1):
    return samplers.langevin_path(P.score, x, step_size=step_size, n_steps=n_steps, every=every)


def mala(x=X, step_size=0.1, n_steps=3, log_prob=P.log_prob):
    return samplers.mala(log_prob, x, step_size=step_size, n_steps=n_steps)


BARS = torch.tensor([0.9, 0.5, 0.1])


def annealed(x=X, sigmas=(2.0, 1.0), step_size=0.1, n_steps=2, generator=None):
    options = dict(step_size=step_size, n_steps=n_steps, generator=generator)
    return samplers.annealed_langevin(stay, x, sigmas, **options)


def ancestral(x=X, bars=BARS, times=None, score=lambda x, t: -x, generator=None):
    return samplers.ancestral(score, x, bars, times=times, generator=generator)


def ddim(x=X, bars=BARS, times=None, score=lambda x, t: -x):
    return samplers.ddim(score, x, bars, times=times)


def simple(x=X, epsilon=X, t=1, bars=BARS, score=lambda x, t: -x):
    return losses.ddpm_simple(score, x, epsilon, t, bars)


def stay(x, sigma=None):
    return -x


def dsm(x=X, epsilon=X, sigma=0.5):
    return losses.dsm(stay, x, epsilon, sigma)


NET = networks.ScoreMLP(2, width=2, depth=1, generator=runtime.generator(0))


def gradients(loss=losses.dsm, batch=(X, X, 0.5)):
    return variance.per_sample_gradients(NET, loss, *batch)


RNG = runtime.generator(0)
KERNEL = noise.Mixture([0.3, 0.7], [0.2, 1.0])
NUMBER = "must be a finite number > 0, got "
STEP = "t must be a whole number or a tensor of them, got "
FALLING = r"alpha_bars must be strictly decreasing within \(0, 1\)"
SHAPE = r"x must have shape \(n, d\), n and d at least 1, got "
BAD = {
    # points
    "a list": (lambda: P.score([[0.0, 0.0]]), TypeError, r"x must be a torch\.Tensor .* got list"),
    "an array": (lambda: langevin(np.zeros((3, 2))), TypeError, "x must be a torch.* got ndarray"),
    "integers": (lambda: langevin(X.long()), TypeError, r"x must have a floating dtype.*int64"),
    "one axis": (lambda: P.log_prob(X[0]), ValueError, SHAPE + r"\(2,\)"),
    "three axes": (lambda: mala(X[None]), ValueError, SHAPE + r"\(1, 3, 2\)"),
    "no points": (lambda: langevin(X[:0]), ValueError, SHAPE + r"\(0, 2\)"),
    "no coordinates": (lambda: path(X[:, :0]), ValueError, SHAPE + r"\(3, 0\)"),
    "wrong dimension": (
        lambda: P.score(torch.zeros(3, 5)),
        ValueError,
        "x must have 2 coordinates per point, got 5",
    ),
    "banana off the plane": (
        lambda: densities.Banana().log_prob(torch.zeros(3, 1)),
        ValueError,
        "x must have 2 coordinates per point, got 1",
    ),
    "banana's score too": (
        lambda: densities.Banana().score(torch.zeros(3, 1)),
        ValueError,
        "x must have 2 coordinates per point, got 1",
    ),
    "NaN": (lambda: langevin(NAN), ValueError, "x must be finite, got NaN or infinite"),
    "NaN for MALA": (lambda: mala(NAN), ValueError, "x must be finite"),
    "infinity": (lambda: P.score(HUGE), ValueError, "x must be finite"),
    "opposite infinities": (
        lambda: P.score(torch.tensor([[torch.inf, -torch.inf]])),
        ValueError,
        "x must be finite",
    ),
    # samplers
    "step size 0": (lambda: langevin(step_size=0), ValueError, "step_size " + NUMBER + "0"),
    "step size −1": (lambda: path(step_size=-1.0), ValueError, "step_size " + NUMBER + "-1.0"),
    "step size NaN": (lambda: mala(step_size=float("nan")), ValueError, "step_size " + NUMBER),
    "step size ∞": (lambda: langevin(step_size=float("inf")), ValueError, "step_size " + NUMBER),
    "step size in words": (
        lambda: langevin(step_size="small"),
        TypeError,
        "step_size must be one number, got 'small'",
    ),
    "many step sizes": (
        lambda: langevin(step_size=torch.ones(3)),
        TypeError,
        "step_size must be one number",
    ),
    "one bad step": (
        lambda: samplers.langevin_step(X, X, X, 0.0),
        ValueError,
        "step_size " + NUMBER,
    ),
    "no steps": (lambda: langevin(n_steps=0), ValueError, "n_steps must be at least 1, got 0"),
    "no steps for MALA": (lambda: mala(n_steps=0), ValueError, "n_steps must be at least 1"),
    "half a step": (
        lambda: langevin(n_steps=1.5),
        TypeError,
        "n_steps must be a whole number, got float",
    ),
    "every 0": (lambda: path(every=0), ValueError, "every must be at least 1, got 0"),
    "score too narrow": (
        lambda: langevin(score=lambda x: x[:, :1]),
        ValueError,
        r"s and x must have the same shape, got \(3, 1\) and \(3, 2\)",
    ),
    "noise too short": (
        lambda: samplers.langevin_step(X, X, X[:1], 0.1),
        ValueError,
        r"z and x must have the same shape, got \(1, 2\) and \(3, 2\)",
    ),
    "MALA from where p = 0": (
        lambda: mala(log_prob=lambda x: x.sum(1) - torch.inf),
        ValueError,
        r"log_prob\(x\) must be finite",
    ),
    "infinite slope for MALA": (
        lambda: mala(0 * X, log_prob=lambda x: x.abs().sqrt().sum(1)),
        ValueError,
        "^the gradient of log_prob at x must be finite",
    ),
    # densities
    **{
        f"{what} with {k} coordinates": (
            lambda f=f, k=k: f(torch.zeros(3, k)),
            ValueError,
            f"^x must have 2 coordinates per point, got {k}$",
        )
        for what, f in (("log_prob", P.log_prob), ("score", P.score))
        for k in (1, 3)
    },
    "weights above 1": (
        lambda: mixture(weights=[0.5, 0.6]),
        ValueError,
        r"weights must be > 0 and sum to 1, got \[0\.5, 0\.6\]",
    ),
    "a weight of 0": (lambda: mixture(weights=[0.0, 1.0]), ValueError, "weights must be > 0"),
    "a weight below 0": (lambda: mixture(weights=[-0.5, 1.5]), ValueError, "weights must be > 0"),
    "a weight NaN": (lambda: mixture(weights=[torch.nan, 1.0]), ValueError, "weights must be > 0"),
    "too few weights": (
        lambda: mixture(weights=[1.0]),
        ValueError,
        r"weights must have shape \(2,\), got \(1,\)",
    ),
    "NaN means": (
        lambda: mixture(means=[[0.0, 0.0], [0.0, torch.nan]]),
        ValueError,
        "means must be finite",
    ),
    "flat means": (lambda: mixture(means=[0.0, 1.0]), ValueError, "means must have shape"),
    "variances": (
        lambda: mixture(covariances=[1.0, 1.0]),
        ValueError,
        r"covariances must have shape \(2, 2, 2\), got \(2,\)",
    ),
    "slanted the wrong way": (
        lambda: mixture(covariances=[[[1.0, 0.5], [0.0, 1.0]]] * 2),
        ValueError,
        "covariances must be symmetric",
    ),
    "indefinite": (
        lambda: mixture(covariances=[[[1.0, 2.0], [2.0, 1.0]]] * 2),
        ValueError,
        "covariances must be positive definite",
    ),
    "semidefinite": (
        lambda: mixture(covariances=[[[1.0, 0.0], [0.0, 0.0]]] * 2),
        ValueError,
        "covariances must be positive definite",
    ),
    "NaN covariance": (
        lambda: mixture(covariances=EYE * torch.nan),
        ValueError,
        "covariances must be finite",
    ),
    "std 0": (
        lambda: GaussianMixture.isotropic([1.0], [[0.0]], 0.0),
        ValueError,
        r"stds must be one number > 0 or 1 of them, got 0\.0",
    ),
    "std NaN": (lambda: GaussianMixture.isotropic([1.0], [[0.0]], [torch.nan]), ValueError, "stds"),
    "three stds for two": (
        lambda: GaussianMixture.isotropic([0.5, 0.5], [[0.0], [1.0]], [1, 1, 1]),
        ValueError,
        r"stds must be one number > 0 or 2 of them, got \[1\.0",
    ),
    "isotropic with flat means": (
        lambda: GaussianMixture.isotropic([1.0], [0.0], 1.0),
        ValueError,
        "means must have shape",
    ),
    "sigma 0": (lambda: P.smoothed(0.0), ValueError, "sigma " + NUMBER),
    "sigma −1": (lambda: densities.kernel_density(X, -1), ValueError, "sigma " + NUMBER + "-1"),
    "no data": (lambda: densities.kernel_density(X[:0], 1.0), ValueError, SHAPE),
    "gaussian of std 0": (lambda: densities.gaussian(0.0), ValueError, "std " + NUMBER),
    "gaussian of dim 0": (lambda: densities.gaussian(dim=0), ValueError, "dim must be at least 1"),
    "ring of radius 0": (lambda: densities.ring(radius=0), ValueError, "radius " + NUMBER),
    "ring of nothing": (lambda: densities.ring(n_components=0), ValueError, "n_components must be"),
    "roll without turns": (lambda: densities.swiss_roll(turns=0), ValueError, "turns " + NUMBER),
    "roll of nothing": (lambda: densities.swiss_roll(n_components=0), ValueError, "n_components"),
    "flat banana": (lambda: densities.Banana(thickness=0), ValueError, "thickness " + NUMBER),
    "narrow banana": (lambda: densities.Banana(width=-1), ValueError, "width " + NUMBER),
    "no draws": (lambda: P.sample(0), ValueError, "n must be at least 1, got 0"),
    "no draws of the banana": (lambda: densities.Banana().sample(0), ValueError, "n must be at"),
    "true draws": (lambda: P.sample(True), TypeError, "n must be a whole number, got bool"),
    # calculus
    "score at NaN": (lambda: calculus.score_of(P.log_prob)(NAN), ValueError, "x must be finite"),
    "not a field": (
        lambda: calculus.jacobian(lambda x: x[:, :1], X),
        ValueError,
        r"f\(x\) and x must have the same shape, got \(3, 1\) and \(3, 2\)",
    ),
    "divergence of no points": (lambda: calculus.divergence(P.score, X[:0]), ValueError, SHAPE),
    "short directions": (
        lambda: calculus.value_and_quadratic_form(P.score, X, X[:1]),
        ValueError,
        r"v and x must have the same shape, got \(1, 2\) and \(3, 2\)",
    ),
    "a path of NaN": (
        lambda: calculus.line_integral(P.score, NAN),
        ValueError,
        "path must be finite",
    ),
    "directions of NaN": (
        lambda: calculus.value_and_quadratic_form(P.score, X[:1], NAN),
        ValueError,
        "v must be finite",
    ),
    "no field for a divergence": (
        lambda: calculus.value_and_divergence(lambda x: x.sum(1), X),
        ValueError,
        r"f\(x\) and x must have the same shape, got \(3,\) and \(3, 2\)",
    ),
    "divergence at NaN": (
        lambda: calculus.value_and_divergence(stay, NAN),
        ValueError,
        "x must be finite",
    ),
    # losses
    "esm at NaN": (lambda: losses.esm(stay, NAN, X[:1]), ValueError, "x must be finite"),
    "esm of NaN": (lambda: losses.esm(stay, X[:1], NAN), ValueError, "target must be finite"),
    "short target": (
        lambda: losses.esm(stay, X, X[:1]),
        ValueError,
        r"target and x must have the same shape, got \(1, 2\) and \(3, 2\)",
    ),
    "a target as a list": (
        lambda: losses.esm(stay, X, [[0.0, 0.0]] * 3),
        TypeError,
        r"target must be a torch\.Tensor .* got list",
    ),
    "a narrow score for esm": (
        lambda: losses.esm(lambda x: x[:, :1], X, X),
        ValueError,
        r"score\(x\) and x must have the same shape, got \(3, 1\) and \(3, 2\)",
    ),
    "ism without points": (lambda: losses.ism(stay, X[:0]), ValueError, SHAPE + r"\(0, 2\)"),
    "ism at NaN": (lambda: losses.ism(stay, NAN), ValueError, "x must be finite"),
    "ism of an energy": (
        lambda: losses.ism(lambda x: x.sum(1), X),
        ValueError,
        r"f\(x\) and x must have the same shape, got \(3,\) and \(3, 2\)",
    ),
    "one slice for all": (
        lambda: losses.ssm(stay, X, X[0]),
        ValueError,
        r"v must have shape \(n, d\), n and d at least 1, got \(2,\)",
    ),
    "slices of integers": (
        lambda: losses.ssm_vr(stay, X, X.long()),
        TypeError,
        r"v must have a floating dtype, float32 or float64, got torch\.int64",
    ),
    "slices for NaN from a stream": (
        lambda: losses.slices(NAN, generator=RNG),
        ValueError,
        "x must be finite",
    ),
    "slices of NaN": (lambda: losses.ssm_vr(stay, X[:1], NAN), ValueError, "v must be finite"),
    "ssm at NaN": (lambda: losses.ssm(stay, NAN, X[:1]), ValueError, "x must be finite"),
    "short slices": (
        lambda: losses.ssm_fd(stay, X, X[:1], 0.1),
        ValueError,
        r"v and x must have the same shape, got \(1, 2\) and \(3, 2\)",
    ),
    "step 0": (lambda: losses.ssm_fd(stay, X, X, 0.0), ValueError, "step " + NUMBER + r"0\.0"),
    "step −1": (lambda: losses.ssm_fd(stay, X, X, -1), ValueError, "step " + NUMBER + "-1"),
    "a narrow score for ssm_fd": (
        lambda: losses.ssm_fd(lambda x: x[:, :1], X, X, 0.1),
        ValueError,
        r"score\(x\) and x must have the same shape",
    ),
    "short noise": (
        lambda: dsm(epsilon=X[:1]),
        ValueError,
        r"epsilon and x must have the same shape, got \(1, 2\) and \(3, 2\)",
    ),
    "noise of NaN": (lambda: dsm(X[:1], NAN), ValueError, "epsilon must be finite"),
    "dsm at NaN": (lambda: dsm(NAN, X[:1]), ValueError, "x must be finite"),
    "a narrow score for dsm": (
        lambda: losses.dsm(lambda x: x[:, :1], X, X, 0.5),
        ValueError,
        r"score\(x\) and x must have the same shape",
    ),
    "a narrow score for ncsn": (
        lambda: losses.ncsn(lambda x, sigma: x[:, :1], X, X, 0.5),
        ValueError,
        r"score\(x\) and x must have the same shape",
    ),
    # noise levels
    "level 0": (lambda: dsm(sigma=0), ValueError, "sigma " + NUMBER + r"0\.0"),
    "level −1": (lambda: dsm(sigma=-1.0), ValueError, "sigma " + NUMBER + r"-1\.0"),
    "one bad level": (
        lambda: dsm(sigma=torch.tensor([1.0, -2.0, 3.0])),
        ValueError,
        r"sigma must be > 0 everywhere, got -2\.0",
    ),
    "a level of 0": (
        lambda: dsm(sigma=[1.0, 0.0, 3.0]),
        ValueError,
        r"sigma must be > 0 everywhere, got 0\.0",
    ),
    "a level of NaN": (
        lambda: dsm(sigma=[1.0, float("nan"), 3.0]),
        ValueError,
        "sigma must be finite, got NaN",
    ),
    "level NaN": (lambda: dsm(sigma=float("nan")), ValueError, "sigma " + NUMBER + "nan"),
    "level ∞": (lambda: dsm(sigma=float("inf")), ValueError, "sigma " + NUMBER + "inf"),
    "too few levels": (
        lambda: dsm(sigma=torch.ones(2)),
        ValueError,
        r"sigma must be one number or have shape \(3,\), got \(2,\)",
    ),
    "levels as a column": (
        lambda: losses.ncsn(stay, X, X, torch.ones(3, 1)),
        ValueError,
        r"sigma must be one number or have shape \(3,\), got \(3, 1\)",
    ),
    "a level in words": (
        lambda: dsm(sigma="loud"),
        TypeError,
        r"sigma must be one number or have shape \(3,\), got 'loud'",
    ),
    "no level": (
        lambda: noise.score_from_epsilon(X, None),
        TypeError,
        r"sigma must be one number or have shape \(3,\), got None",
    ),
    # kernels
    "Gaussian of 0": (lambda: noise.Gaussian(0.0), ValueError, "sigma " + NUMBER + r"0\.0"),
    "Laplace of −1": (lambda: noise.Laplace(-1), ValueError, "scale " + NUMBER + "-1"),
    "kernel weights above 1": (
        lambda: noise.Mixture([0.5, 0.6], [1.0, 2.0]),
        ValueError,
        r"weights must be > 0 and sum to 1, got \[0\.5, 0\.6\]",
    ),
    "kernel weights in a table": (
        lambda: noise.Mixture([[1.0]], [[1.0]]),
        ValueError,
        "weights must be > 0 and sum to 1",
    ),
    "a kernel of nothing": (lambda: noise.Mixture([], []), ValueError, "weights must be > 0"),
    "one sigma for two": (
        lambda: noise.Mixture([0.5, 0.5], [1.0]),
        ValueError,
        r"sigmas must be 2 finite numbers > 0, got \[1\.0\]",
    ),
    "a sigma of 0": (
        lambda: noise.Mixture([0.5, 0.5], [1.0, 0.0]),
        ValueError,
        "sigmas must be 2 finite numbers > 0",
    ),
    "a sigma of ∞": (
        lambda: noise.Mixture([0.5, 0.5], [1.0, torch.inf]),
        ValueError,
        "sigmas must be 2 finite numbers > 0",
    ),
    **{
        f"{type(k).__name__} {what}": (call, error, words)
        for k in (noise.Gaussian(0.5), noise.Laplace(0.5), KERNEL)
        for what, call, error, words in (
            ("of NaN", lambda k=k: k.sample(NAN), ValueError, "x must be finite"),
            (
                "of NaN from a stream",
                lambda k=k: k.sample(NAN, generator=RNG),
                ValueError,
                "x must be finite",
            ),
            (
                "of a list from a stream",
                lambda k=k: k.sample([0.0], generator=RNG),
                TypeError,
                r"x must be a torch\.Tensor .* got list",
            ),
            (
                "of one clean point",
                lambda k=k: k.log_prob(X, X[:1]),
                ValueError,
                r"x_noisy and x must have the same shape, got \(3, 2\) and \(1, 2\)",
            ),
            ("at NaN", lambda k=k: k.log_prob(NAN, X[:1]), ValueError, "x_noisy must be finite"),
            (
                "target of one noisy point",
                lambda k=k: k.target_score(X[:1], X),
                ValueError,
                r"x_noisy and x must have the same shape, got \(1, 2\) and \(3, 2\)",
            ),
            ("target at NaN", lambda k=k: k.target_score(X[:1], NAN), ValueError, "x must be fin"),
        )
    },
    # names of a score
    "epsilon of NaN": (
        lambda: noise.score_from_epsilon(NAN, 0.5),
        ValueError,
        "epsilon must be finite",
    ),
    "score of NaN": (lambda: noise.epsilon_from_score(NAN, 0.5), ValueError, "s must be finite"),
    "denoised elsewhere": (
        lambda: noise.score_from_denoised(X, X[:1], 0.5),
        ValueError,
        r"denoised and x must have the same shape, got \(1, 2\) and \(3, 2\)",
    ),
    "score elsewhere": (
        lambda: noise.denoised_from_score(X, X[:1], 0.5),
        ValueError,
        r"s and x must have the same shape, got \(1, 2\) and \(3, 2\)",
    ),
    # ladders
    "a ladder that climbs": (
        lambda: annealed(sigmas=torch.tensor([1.0, 2.0])),
        ValueError,
        r"sigmas must be > 0 and strictly decreasing, got \[1\.0, 2\.0\]",
    ),
    "a ladder with a landing": (
        lambda: annealed(sigmas=[2.0, 1.0, 1.0]),
        ValueError,
        "sigmas must be > 0 and strictly decreasing",
    ),
    "a ladder to the ground": (
        lambda: annealed(sigmas=[1.0, 0.0]),
        ValueError,
        r"sigmas must be > 0 and strictly decreasing, got \[1\.0, 0\.0\]",
    ),
    "a ladder from ∞": (
        lambda: annealed(sigmas=[torch.inf, 1.0]),
        ValueError,
        "sigmas must be fin",
    ),
    "a ladder of NaN": (
        lambda: annealed(sigmas=[1.0, torch.nan]),
        ValueError,
        "sigmas must be fin",
    ),
    "a ladder without rungs": (
        lambda: annealed(sigmas=[]),
        ValueError,
        r"sigmas must have shape \(L,\), L at least 1, got \(0,\)",
    ),
    "a ladder in a table": (
        lambda: annealed(sigmas=torch.ones(2, 1)),
        ValueError,
        r"sigmas must have shape \(L,\), L at least 1, got \(2, 1\)",
    ),
    "one number for a ladder": (
        lambda: annealed(sigmas=1.0),
        ValueError,
        r"sigmas must have shape \(L,\), L at least 1, got \(\)",
    ),
    "a ladder in words": (
        lambda: annealed(sigmas="steep"),
        TypeError,
        "sigmas must be a list or tensor of numbers, got 'steep'",
    ),
    "annealing at NaN": (lambda: annealed(NAN), ValueError, "x must be finite"),
    "annealing at NaN from a stream": (
        lambda: annealed(NAN, generator=RNG),
        ValueError,
        "x must be finite",
    ),
    "annealing by 0": (lambda: annealed(step_size=0), ValueError, "step_size " + NUMBER + "0"),
    "annealing by words": (
        lambda: annealed(step_size="small"),
        TypeError,
        "step_size must be one number, got 'small'",
    ),
    "annealing without steps": (
        lambda: annealed(n_steps=0),
        ValueError,
        "n_steps must be at least 1, got 0",
    ),
    "annealing a narrow score": (
        lambda: samplers.annealed_langevin(
            lambda x, sigma: x[:, :1], X, [1.0], step_size=0.1, n_steps=1
        ),
        ValueError,
        r"s and x must have the same shape, got \(3, 1\) and \(3, 2\)",
    ),
    "geometric and rising": (
        lambda: noise.geometric_sigmas(1.0, 2.0, 5),
        ValueError,
        r"a ladder needs n >= 2 and last < first, got n = 5, 1\.0 to 2\.0",
    ),
    "geometric and flat": (
        lambda: noise.geometric_sigmas(1.0, 1.0, 5),
        ValueError,
        "a ladder needs n >= 2 and last < first",
    ),
    "geometric of one": (
        lambda: noise.geometric_sigmas(2.0, 1.0, 1),
        ValueError,
        "a ladder needs n >= 2 and last < first, got n = 1",
    ),
    "geometric to 0": (lambda: noise.geometric_sigmas(1.0, 0.0, 5), ValueError, "last " + NUMBER),
    "geometric from ∞": (
        lambda: noise.geometric_sigmas(float("inf"), 1.0, 5),
        ValueError,
        "first " + NUMBER,
    ),
    "geometric by halves": (
        lambda: noise.geometric_sigmas(2.0, 1.0, 2.5),
        TypeError,
        "n must be a whole number, got float",
    ),
    # schedules
    "no betas": (lambda: noise.linear_betas(0), ValueError, "n must be at least 1, got 0"),
    "first beta 1": (
        lambda: noise.linear_betas(5, 1.0, 0.5),
        ValueError,
        "first must be below 1, got 1.0",
    ),
    "last beta 1": (
        lambda: noise.linear_betas(5, 0.5, 1.0),
        ValueError,
        "last must be below 1, got 1.0",
    ),
    "half a beta": (lambda: noise.cosine_betas(0.5), TypeError, "n must be a whole number"),
    "a list of betas": (
        lambda: noise.alpha_bars([0.1, 0.2]),
        TypeError,
        r"betas must be a torch\.Tensor of shape \(T,\), got list",
    ),
    **{
        f"betas, {what}": (
            lambda betas=betas: noise.alpha_bars(torch.tensor(betas)),
            ValueError,
            r"betas must have shape \(T,\) and lie within \(0, 1\)",
        )
        for what, betas in {
            "one of 0": [0.1, 0.0],
            "one of 1": [1.0, 0.1],
            "one below 0": [0.1, -0.1],
            "one of NaN": [0.1, torch.nan],
            "a table": [[0.1, 0.2]],
            "none": [],
        }.items()
    },
    **{
        f"alpha_bars of {name}, {what}": (
            lambda call=call, bars=bars: call(torch.tensor(bars)),
            ValueError,
            words,
        )
        for name, call in {
            "ancestral": lambda bars: ancestral(bars=bars),
            "ddim": lambda bars: ddim(bars=bars),
            "ve_score": lambda bars: noise.ve_score(stay, bars),
            "vp_score": lambda bars: noise.vp_score(stay, bars),
            "DdpmScore": lambda bars: networks.DdpmScore(stay, bars),
        }.items()
        for what, bars, words in (
            ("one of 1", [1.0, 0.5], FALLING),
            ("one of 0", [0.5, 0.0], FALLING),
            ("rising", [0.5, 0.9], FALLING),
            ("level", [0.5, 0.5], FALLING),
            ("NaN", [0.5, torch.nan], FALLING),
            ("a table", [[0.9, 0.5]], r"alpha_bars must have shape \(T,\), got \(1, 2\)"),
            ("none", [], r"alpha_bars must have shape \(T,\), got \(0,\)"),
        )
    },
    "a schedule as a list": (
        lambda: ancestral(bars=[0.9, 0.5]),
        TypeError,
        r"alpha_bars must be a torch\.Tensor of shape \(T,\), got list",
    ),
    # steps
    **{
        f"{name}, {what}": (lambda call=call, t=t: call(t), error, words)
        for name, call in {
            "alpha_bar_at": lambda t: noise.alpha_bar_at(BARS, t, X),
            "ddpm_simple": lambda t: simple(t=t),
            "vp_score": lambda t: noise.vp_score(stay, BARS)(X, t),
            "DdpmScore": lambda t: networks.DdpmScore(stay, BARS)(X, t),
        }.items()
        for what, t, error, words in (
            ("step 0", 0, ValueError, "t must be from 1 to 3, got 0 to 0"),
            ("step −1", -1, ValueError, "t must be from 1 to 3, got -1 to -1"),
            ("step T + 1", 4, ValueError, "t must be from 1 to 3, got 4 to 4"),
            ("a step 0", torch.tensor([1, 0, 3]), ValueError, "t must be from 1 to 3, got 0 to 3"),
            (
                "a step T + 1",
                torch.tensor([1, 4, 3]),
                ValueError,
                "t must be from 1 to 3, got 1 to",
            ),
            ("half a step", 1.5, TypeError, STEP + r"torch\.float32"),
            ("a step of floats", torch.ones(3), TypeError, STEP + r"torch\.float32"),
            ("a true step", True, TypeError, STEP + r"torch\.bool"),
            ("a step in words", "first", TypeError, STEP + "'first'"),
            ("no step", None, TypeError, STEP + "None"),
            (
                "too few steps",
                torch.tensor([1, 2]),
                ValueError,
                r"t must be one number or have shape \(3,\), got \(2,\)",
            ),
            (
                "steps as a column",
                torch.ones(3, 1).long(),
                ValueError,
                r"t must be one number or have shape \(3,\), got \(3, 1\)",
            ),
        )
    },
    # reverse chains
    **{
        f"{name}, {what}": (lambda call=call, change=change: call(**change), error, words)
        for name, call in {"ancestral": ancestral, "ddim": ddim}.items()
        for what, change, error, words in (
            (
                "times that rise",
                dict(times=torch.tensor([1, 3])),
                ValueError,
                r"times must be strictly decreasing, got \[1, 3\]",
            ),
            (
                "a time twice",
                dict(times=[3, 3, 1]),
                ValueError,
                r"times must be strictly decreasing, got \[3, 3, 1\]",
            ),
            (
                "no times",
                dict(times=[]),
                ValueError,
                r"times must be strictly decreasing, got \[\]",
            ),
            (
                "times in a table",
                dict(times=[[3, 1]]),
                ValueError,
                "times must be strictly decreasing",
            ),
            ("time 0", dict(times=[3, 0]), ValueError, "times must be from 1 to 3, got 0 to 3"),
            ("time T + 1", dict(times=[4, 1]), ValueError, "times must be from 1 to 3, got 1 to 4"),
            ("times of floats", dict(times=[3.0, 1.0]), TypeError, "times must be a whole"),
            ("from NaN", dict(x=NAN), ValueError, "x must be finite"),
            ("from a list", dict(x=[[0.0]]), TypeError, r"x must be a torch\.Tensor .* got list"),
            ("from integers", dict(x=X.long()), TypeError, "x must have a floating dtype"),
            ("from one axis", dict(x=X[0]), ValueError, SHAPE + r"\(2,\)"),
            (
                "a narrow score",
                dict(score=lambda x, t: x[:, :1]),
                ValueError,
                r"score\(x, t\) and x must have the same shape, got \(3, 1\) and \(3, 2\)",
            ),
        )
    },
    "ancestral from NaN and a stream": (
        lambda: ancestral(NAN, generator=RNG),
        ValueError,
        "x must be finite",
    ),
    "ancestral from a list and a stream": (
        lambda: ancestral([[0.0]], generator=RNG),
        TypeError,
        r"x must be a torch\.Tensor .* got list",
    ),
    # the simple loss
    "short noise for ddpm_simple": (
        lambda: simple(epsilon=X[:1]),
        ValueError,
        r"epsilon and x must have the same shape, got \(1, 2\) and \(3, 2\)",
    ),
    "noise of NaN for ddpm_simple": (
        lambda: simple(X[:1], NAN),
        ValueError,
        "epsilon must be finite",
    ),
    "ddpm_simple at NaN": (lambda: simple(NAN, X[:1]), ValueError, "x must be finite"),
    "a narrow score for ddpm_simple": (
        lambda: simple(score=lambda x, t: x[:, :1]),
        ValueError,
        r"score\(x\) and x must have the same shape, got \(3, 1\) and \(3, 2\)",
    ),
    # alpha_bar and v
    **{
        f"{name}, {what}": (lambda call=call, bar=bar: call(bar), ValueError, words)
        for name, call in {
            "v_from_epsilon": lambda bar: noise.v_from_epsilon(X, X, bar),
            "epsilon_from_v": lambda bar: noise.epsilon_from_v(X, X, bar),
        }.items()
        for what, bar, words in (
            ("alpha_bar 1", 1.0, r"alpha_bar must be below 1, got 1\.0"),
            ("alpha_bar 2", 2, r"alpha_bar must be below 1, got 2\.0"),
            ("alpha_bar 0", 0.0, "alpha_bar " + NUMBER + r"0\.0"),
            ("an alpha_bar of 1", [0.5, 1.0, 0.1], r"alpha_bar must be below 1, got 1\.0"),
            ("an alpha_bar below 0", [0.5, -1.0, 0.1], "alpha_bar must be > 0 everywhere"),
            ("too few alpha_bars", torch.ones(2), r"alpha_bar must be one number or have shape"),
        )
    },
    "diffused by nothing": (
        lambda: P.diffused(1.0),
        ValueError,
        r"alpha_bar must be below 1, got 1",
    ),
    "diffused by everything": (lambda: P.diffused(0.0), ValueError, "alpha_bar " + NUMBER),
    "diffused beyond": (
        lambda: P.diffused(1.5),
        ValueError,
        r"alpha_bar must be below 1, got 1\.5",
    ),
    "v of another epsilon": (
        lambda: noise.v_from_epsilon(X, X[:1], 0.5),
        ValueError,
        r"epsilon and x must have the same shape, got \(1, 2\) and \(3, 2\)",
    ),
    "epsilon of another v": (
        lambda: noise.epsilon_from_v(X, X[:1], 0.5),
        ValueError,
        r"v and x must have the same shape, got \(1, 2\) and \(3, 2\)",
    ),
    "v at NaN": (lambda: noise.v_from_epsilon(NAN, X[:1], 0.5), ValueError, "x must be finite"),
    "epsilon at NaN": (
        lambda: noise.epsilon_from_v(NAN, X[:1], 0.5),
        ValueError,
        "x must be finite",
    ),
    "a level of 0 in other coordinates": (
        lambda: noise.ve_score(stay, BARS)(X, 0.0),
        ValueError,
        "sigma " + NUMBER,
    ),
    # the posterior
    "posterior of three numbers": (
        lambda: P.posterior(torch.zeros(3), 0.5),
        ValueError,
        "x_noisy must have 2 coordinates per point, got 3",
    ),
    "posterior of many points": (
        lambda: P.posterior(X, 0.5),
        ValueError,
        "x_noisy must have 2 coordinates per point, got 6",
    ),
    "posterior of NaN": (lambda: P.posterior(NAN[0], 0.5), ValueError, "x_noisy must be finite"),
    "posterior of no noise": (lambda: P.posterior(X[0], 0.0), ValueError, "sigma " + NUMBER),
    # networks
    "no inputs": (lambda: networks.mlp(0, 1), ValueError, "n_in must be at least 1, got 0"),
    "no outputs": (lambda: networks.mlp(1, 0), ValueError, "n_out must be at least 1, got 0"),
    "no width": (lambda: networks.ScoreMLP(2, width=0), ValueError, "width must be at least 1"),
    "no depth": (lambda: networks.ScoreMLP(2, depth=0), ValueError, "depth must be at least 1"),
    "half a layer": (lambda: networks.ScoreMLP(2, depth=1.5), TypeError, "depth must be a whole"),
    "an odd clock": (
        lambda: networks.sinusoidal(torch.ones(3), 5),
        ValueError,
        "width must be even, got 5",
    ),
    "a clock of nothing": (
        lambda: networks.sinusoidal(torch.ones(3), 0),
        ValueError,
        "width must be at least 1, got 0",
    ),
    "a told network without inputs": (
        lambda: networks.TimeMLP(2, width=0),
        ValueError,
        "width must be at least 1, got 0",
    ),
    "half a U-Net": (
        lambda: networks.UNet(width=8.5),
        TypeError,
        "width must be a whole number, got float",
    ),
    # batches
    "batches of nothing": (lambda: training.draws(P, 0), ValueError, "n must be at least 1, got 0"),
    "batches of half a point": (lambda: training.draws(P, 0.5), TypeError, "n must be a whole"),
    "minibatches of nothing": (
        lambda: training.minibatches(X, 0),
        ValueError,
        "n must be at least 1, got 0",
    ),
    "minibatches of NaN": (lambda: training.minibatches(NAN, 1), ValueError, "x must be finite"),
    "minibatches of NaN from a stream": (
        lambda: training.minibatches(NAN, 1, generator=RNG),
        ValueError,
        "x must be finite",
    ),
    # variance
    "a covariance at NaN": (
        lambda: variance.target_covariance(stay, NAN, 0.5),
        ValueError,
        "x_noisy must be finite",
    ),
    "a covariance without points": (
        lambda: variance.target_covariance(stay, X[:0], 0.5),
        ValueError,
        r"x_noisy must have shape .* got \(0, 2\)",
    ),
    "a covariance at level 0": (
        lambda: variance.target_covariance(stay, X, 0),
        ValueError,
        "sigma " + NUMBER + r"0\.0",
    ),
    "a covariance at two levels": (
        lambda: variance.target_covariance(stay, X, torch.ones(2)),
        ValueError,
        r"sigma must be one number or have shape \(3,\), got \(2,\)",
    ),
    "a gap of an energy": (
        lambda: variance.conditional_gap(lambda x: x.sum(1), X, 0.5),
        ValueError,
        r"f\(x\) and x must have the same shape, got \(3,\) and \(3, 2\)",
    ),
    "a gap at NaN": (
        lambda: variance.conditional_gap(stay, NAN, 0.5),
        ValueError,
        "x_noisy must be fin",
    ),
    "a gap at level −1": (
        lambda: variance.conditional_gap(stay, X, -1.0),
        ValueError,
        "sigma " + NUMBER + r"-1\.0",
    ),
    **{
        f"{loss.__name__} {what}": (call, error, words)
        for loss in (variance.dsm_controlled, variance.dsm_antithetic)
        for what, call, error, words in (
            (
                "with short noise",
                lambda loss=loss: loss(stay, X, X[:1], 0.5),
                ValueError,
                r"epsilon and x must have the same shape, got \(1, 2\) and \(3, 2\)",
            ),
            (
                "with one noise for all",
                lambda loss=loss: loss(stay, X, X[0], 0.5),
                ValueError,
                r"epsilon must have shape \(n, d\), n and d at least 1, got \(2,\)",
            ),
            (
                "of NaN noise",
                lambda loss=loss: loss(stay, X[:1], NAN, 0.5),
                ValueError,
                "epsilon must be finite",
            ),
            ("at NaN", lambda loss=loss: loss(stay, NAN, X[:1], 0.5), ValueError, "x must be fin"),
            (
                "at one bad level",
                lambda loss=loss: loss(stay, X, X, [1.0, -2.0, 3.0]),
                ValueError,
                r"sigma must be > 0 everywhere, got -2\.0",
            ),
            (
                "of a narrow score",
                lambda loss=loss: loss(lambda x: x[:, :1], X, X, 0.5),
                ValueError,
                r"score\(x\) and x must have the same shape, got \(3, 1\) and \(3, 2\)",
            ),
        )
    },
    "gradients of a mean": (
        lambda: gradients(lambda *batch: losses.dsm(*batch).mean()),
        ValueError,
        r"loss must give one value per point, shape \(3,\), got \(\)",
    ),
    "gradients at NaN": (lambda: gradients(losses.ism, (NAN,)), ValueError, "x must be finite"),
    "gradients at a list": (
        lambda: gradients(losses.ism, ([[0.0, 0.0]],)),
        TypeError,
        r"x must be a torch\.Tensor .* got list",
    ),
    "the variance of one gradient": (
        lambda: variance.total_variance(X[:1]),
        ValueError,
        "g must have at least 2 rows, got 1",
    ),
    "the variance of numbers": (
        lambda: variance.total_variance(X[:, 0]),
        ValueError,
        r"g must have shape \(n, d\), n and d at least 1, got \(3,\)",
    ),
    "the noise scale of one gradient": (
        lambda: variance.noise_scale(X[:1]),
        ValueError,
        "g must have at least 2 rows, got 1",
    ),
    "the noise scale of NaN": (
        lambda: variance.noise_scale(NAN.expand(2, 2)),
        ValueError,
        "g must be finite",
    ),
    "a coefficient of two sizes": (
        lambda: variance.optimal_coefficient(X, X[:2]),
        ValueError,
        r"g and h must have the same shape, got \(3, 2\) and \(2, 2\)",
    ),
    "a coefficient of one control": (
        lambda: variance.optimal_coefficient(X, X[:1]),
        ValueError,
        "h must have at least 2 rows, got 1",
    ),
    "a control of NaN": (
        lambda: variance.optimal_coefficient(X[:2], NAN.expand(2, 2)),
        ValueError,
        "h must be finite",
    ),
    "a constant control": (
        lambda: variance.optimal_coefficient(torch.eye(3), torch.ones(3, 3)),
        ValueError,
        "h must vary: a constant controls nothing",
    ),
    # diagnostics
    "one value": (
        lambda: diagnostics.standard_error(torch.ones(1)),
        ValueError,
        r"values must have shape \(n,\) with n >= 2, got \(1,\)",
    ),
    "grid of limit 0": (lambda: diagnostics.grid(0, 3), ValueError, "limit " + NUMBER),
    "grid without nodes": (lambda: diagnostics.grid(1, 0), ValueError, "n must be at least 1"),
    "centres elsewhere": (
        lambda: diagnostics.mode_weights(X, torch.zeros(2, 3)),
        ValueError,
        "centres must have 2 coordinates per point, got 3",
    ),
    "two kinds of score": (
        lambda: diagnostics.fisher_divergence(X, X[:2]),
        ValueError,
        "s and target must have the same shape",
    ),
    "scores of NaN": (
        lambda: diagnostics.fisher_divergence(NAN, NAN),
        ValueError,
        "s must be finite",
    ),
    "clouds of two dimensions": (
        lambda: diagnostics.wasserstein(X, torch.zeros(3, 3)),
        ValueError,
        "y must have 2 coordinates per point, got 3",
    ),
    "a path of vectors": (
        lambda: diagnostics.autocorrelation(torch.zeros(5, 3, 2)),
        ValueError,
        r"path must have shape \(t, n\) with t >= 2, got \(5, 3, 2\)",
    ),
    "a path of one step": (
        lambda: diagnostics.autocorrelation(torch.zeros(1, 3)),
        ValueError,
        "path must have shape",
    ),
    "a path that stands still": (
        lambda: diagnostics.effective_sample_size(torch.ones(9, 3)),
        ValueError,
        "path must vary",
    ),
    "a correlated NaN": (
        lambda: diagnostics.autocorrelation(NAN.expand(4, 2)),
        ValueError,
        "path must be finite",
    ),
    # runtime
    "unknown device": (
        lambda: runtime.device("abacus"),
        ValueError,
        "device must be 'auto' or one this machine has .* got 'abacus'",
    ),
    "absent device": (lambda: runtime.device("cuda:99"), ValueError, "got 'cuda:99'"),
    "seed in words": (
        lambda: runtime.generator("lucky"),
        TypeError,
        "seed must be a whole number or None, got str",
    ),
    "true seed": (lambda: runtime.generator(True), TypeError, "seed must be a whole number"),
}


@pytest.mark.parametrize(("call", "error", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_good_input_passes_through():
    assert validation.points(X) is X and validation.points(X, dim=2) is X
    assert validation.finite(X, "x") is X
    assert validation.positive(torch.tensor(0.5), "sigma") == 0.5
    assert validation.count(3, "n") == 3
    validation.same_shape(X, X, "x and x")


def test_levels_stand_beside_the_points():
    x = torch.zeros(3, 2, dtype=torch.float64)
    for one in (0.1, torch.tensor(0.1, dtype=torch.float64), 2):
        level = validation.levels(one, x)
        assert level.shape == () and level.dtype == torch.float64 and level == one
    for each in ([1.0, 2.0, 3.0], torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 2, 3])):
        level = validation.levels(each, x)
        assert level.dtype == torch.float64 and level.tolist() == [[1], [2], [3]]
    assert validation.levels([0.5], x[:1]).tolist() == [[0.5]]
    with pytest.raises(ValueError, match="noise " + NUMBER):
        validation.levels(0, x, "noise")


def test_ladders_schedules_and_steps_pass_through():
    for sigmas in ([2, 1], (2.0, 1.0), np.array([2.0, 1.0]), torch.tensor([2.0, 1.0])):
        assert validation.ladder(sigmas) == [2.0, 1.0]
    assert validation.ladder([0.1], "levels") == [0.1]
    with pytest.raises(ValueError, match="levels must be > 0 and strictly decreasing"):
        validation.ladder([1, 2], "levels")
    assert validation.alpha_bars(BARS) is BARS
    for t in (3, torch.tensor(3), np.int64(3)):
        step = validation.steps(t, 3, X)
        assert step.shape == () and step == 3 and step.dtype == torch.int64
    each = validation.steps(torch.tensor([1, 3, 2], dtype=torch.int32), 3, X)
    assert each.tolist() == [1, 3, 2] and each.dtype == torch.int64


def test_weights_pass_through():
    w = torch.tensor([0.25, 0.75])
    assert validation.weights(w) is w
    with pytest.raises(ValueError, match=r"weights must be > 0 and sum to 1, got \[0\.5, 0\.25\]"):
        validation.weights(torch.tensor([0.5, 0.25]))


def test_a_sum_that_overflows_is_not_taken_for_a_nan():
    big = torch.full((1000, 1), validation.REACH)
    assert validation.finite(big, "x") is big
    with pytest.raises(ValueError, match=r"x must be at most 1e\+12 in size, got 3e\+38"):
        validation.finite(torch.full((1000, 1), 3e38), "x")


def test_weights_may_be_off_by_rounding():
    thirds = torch.full((3,), 1 / 3, dtype=torch.float32)
    assert GaussianMixture.isotropic(thirds, torch.zeros(3, 1), 1.0).weights.shape == (3,)


def test_devices_that_exist():
    assert runtime.device("cpu") == torch.device("cpu")
    assert runtime.device().type in ("cpu", "cuda", "mps")


def test_generators():
    draw = lambda g: torch.rand(3, generator=g).tolist()  # noqa: E731
    assert draw(runtime.generator(1)) == draw(runtime.generator(1))
    assert draw(runtime.generator(1)) != draw(runtime.generator(2))
    assert draw(runtime.generator()) != draw(runtime.generator())
    assert runtime.generator(1).device == torch.device("cpu")
