"""The variance of denoising score matching: how noisy its target is, and what can be done about it.

A target t = −ε/σ has the right mean, E[t | x̃] = s_σ(x̃), and a covariance around it. That is the
gap between the denoising and the explicit loss, and the noise in every step of training.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sbm_lite import validation
from sbm_lite.calculus import Field, divergence, jacobian
from sbm_lite.losses import Level, PerPoint, Points, _levels
from sbm_lite.noise import _values

Gradients = Float[Tensor, "n p"]


def target_covariance(score: Field, x_noisy: Points, sigma: Level) -> Float[Tensor, "n d d"]:
    """Cov(t | x̃) = I/σ² + ∇s_σ(x̃) of the target t = −ε/σ at each noisy point, in 1/x².

    `score` is that of the noisy data p_σ. In float32 the two terms cancel when σ is far below the
    scale on which the data are smooth and Cov(t | x̃) small.

    Book: eq-target-covariance. Reference: Efron (2011), JASA 106 (the second-order formula).
    """
    variance = (
        validation.levels(sigma, validation.points(x_noisy, "x_noisy")).reshape(-1, 1, 1) ** 2
    )
    return torch.eye(x_noisy.shape[1]).to(x_noisy) / variance + jacobian(score, x_noisy)


def conditional_gap(score: Field, x_noisy: Points, sigma: Level) -> PerPoint:
    """tr Cov(t | x̃) = d/σ² + ∇·s_σ(x̃) at each noisy point; its mean over p_σ is the gap G(σ).

    Half of that mean is what denoising score matching cannot get below.

    Book: eq-gap. Reference: Vincent (2011), Neural Computation 23.
    """
    variance = validation.levels(sigma, validation.points(x_noisy, "x_noisy")).reshape(-1) ** 2
    return x_noisy.shape[1] / variance + divergence(score, x_noisy)


def dsm_controlled(
    score: Field, x: Points, epsilon: Points, sigma: Level, *, beta: float = 1.0
) -> PerPoint:
    """`losses.dsm` without its largest noise: ½‖s(x̃)‖² + (s(x̃) − β s(x))ᵀε/σ, x̃ = x + σε.

    What is taken away, ‖ε‖²/2σ² + β s(x)ᵀε/σ, has a mean that no score changes, d/2σ²: the mean is
    J_DSM − d/2σ² whatever β is. With β = 1 the variance stays bounded as σ → 0, where the data are
    smooth on the scale of σ; where they are thinner than that, β = 1 can add variance. Calls
    `score` twice.

    Book: eq-dsm-controlled. Reference: Wang et al. (2020), AISTATS.
    """
    at, beta = _levels(sigma, epsilon, x), validation.real(beta, "beta")
    s_noisy, s = _values(score(x + at * epsilon), x), _values(score(x), x)
    return ((s_noisy**2) / 2 + (s_noisy - beta * s) * epsilon / at).sum(1)


def dsm_antithetic(score: Field, x: Points, epsilon: Points, sigma: Level) -> PerPoint:
    """`losses.dsm`, averaged over the noises ε and −ε, less ‖ε‖²/2σ²; calls `score` twice.

    ¼(‖s(x + σε)‖² + ‖s(x − σε)‖²) + (s(x + σε) − s(x − σε))ᵀε/2σ: whatever is odd in ε is gone.
    Its mean is J_DSM − d/2σ². It is `losses.ssm_fd` with step σ and slice ε, but for where ‖s‖² is
    taken.

    Book: eq-antithetic. Reference: Pang et al. (2020), NeurIPS.
    """
    at = _levels(sigma, epsilon, x)
    forward = _values(score(x + at * epsilon), x)
    backward = _values(score(x - at * epsilon), x)
    squares = (forward**2 + backward**2) / 4
    return (squares + (forward - backward) * epsilon / (2 * at)).sum(1)


def per_sample_gradients(net: nn.Module, loss: Callable[..., PerPoint], *batch) -> Gradients:
    """∂ℓᵢ/∂θ for each point: row i is the gradient of `loss(score, *batch)[i]`, flattened.

    Every point gets a copy of the parameters, so one backward pass gives n gradients: n·p numbers
    in memory. `net` maps (n, d) → (n, d), `batch` begins with the points x (n, d), and `loss` calls
    `score` with one point per row of x.

    Book: eq-total-covariance.
    """
    n = len(validation.points(batch[0] if batch else None))
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a network, an nn.Module, got {type(net).__name__}")
    copies = {
        name: p.detach().expand(n, *p.shape).clone().requires_grad_()
        for name, p in net.named_parameters()
    }
    one = lambda own, point: functional_call(net, own, (point[None],))[0]  # noqa: E731
    with torch.enable_grad():
        values = loss(lambda x: vmap(one)(copies, x), *batch)
        if values.shape != (n,):
            raise ValueError(
                f"loss must give one value per point, shape ({n},), got {tuple(values.shape)}"
            )
        rows = torch.autograd.grad(values.sum(), list(copies.values()), materialize_grads=True)
    return torch.cat([row.reshape(n, -1) for row in rows], dim=1)


def total_variance(g: Gradients) -> Float[Tensor, ""]:
    """tr Cov(g), the variance of one sample's gradient summed over the parameters. Needs n ≥ 2.

    Book: eq-total-covariance.
    """
    return _samples(g).var(0).sum()


def noise_scale(g: Gradients) -> float:
    """tr Cov(g)/‖E g‖²: the batch size at which a gradient is as much noise as signal.

    ‖E g‖² is estimated without bias, by ‖mean‖² − tr Cov(g)/n; infinite where that is not positive.

    Book: eq-noise-scale. Reference: McCandlish et al. (2018), arXiv 1812.06162.
    """
    g = _samples(g).detach()
    variance = total_variance(g)
    signal = (g.mean(0) ** 2).sum() - variance / len(g)
    return float(variance / signal) if signal > 0 else float("inf")


def optimal_coefficient(g: Gradients, h: Gradients) -> float:
    """β* = tr Cov(g, h)/tr Cov(h): the β for which g − βh has the least total variance.

    h is a control variate, a quantity with known mean that varies along with g.

    Book: eq-beta-star. Reference: Glasserman (2003), Monte Carlo Methods, section 4.1.
    """
    validation.same_shape(_samples(g), _samples(h, "h"), "g and h")
    g, h = g.detach(), h.detach()
    spread = h - h.mean(0)
    if not bool((spread**2).sum() > 0):
        raise ValueError("h must vary: a constant controls nothing")
    return float(((g - g.mean(0)) * spread).sum() / (spread**2).sum())


def _samples(g: Tensor, name: str = "g") -> Gradients:
    """`g` if it holds at least two rows of finite numbers."""
    if len(validation.points(g, name)) < 2:
        raise ValueError(f"{name} must have at least 2 rows, got 1")
    return g
