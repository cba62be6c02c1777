"""What holds for every function alike: randomness, untouched inputs, dtype, device, signatures."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import textwrap

import pytest
import torch

import sbm_lite
from sbm_lite import calculus, densities, diagnostics, losses, networks, noise, samplers, training
from sbm_lite import variance as target
from sbm_lite.runtime import generator

P = densities.GaussianMixture(
    [0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
)
OPTIONS = dict(step_size=0.1, n_steps=3)
BARS = noise.alpha_bars(noise.linear_betas(5, 0.1, 0.5))
T = torch.arange(50) % 5 + 1


def of_steps(x, t):
    """A score told its step."""
    return P.score(x) / t[:, None]


def of_levels(x, sigma):
    """A score told its level, one for all or one per point."""
    return P.score(x) / (1 + torch.as_tensor(sigma).to(x).reshape(-1, 1))


SAMPLERS = {  # x, generator → points
    "langevin": lambda x, g: samplers.langevin(P.score, x, generator=g, **OPTIONS),
    "langevin_path": lambda x, g: samplers.langevin_path(P.score, x, generator=g, **OPTIONS),
    "mala": lambda x, g: samplers.mala(P.log_prob, x, generator=g, **OPTIONS).x,
    "annealed_langevin": lambda x, g: samplers.annealed_langevin(
        of_levels, x, torch.tensor([1.0, 0.5]), generator=g, **OPTIONS
    ),
    "ancestral": lambda x, g: samplers.ancestral(of_steps, x, BARS, generator=g),
}
NET = networks.ScoreMLP(2, generator=generator(0))
KERNELS = [noise.Gaussian(0.5), noise.Laplace(0.5), noise.Mixture([0.3, 0.7], [0.2, 1.0])]
CORRUPTIONS = {  # x, generator → points; these pass gradients on, unlike samplers
    f"noise.{type(k).__name__}.sample": lambda x, g, k=k: k.sample(x, generator=g) for k in KERNELS
} | {
    law.__name__: lambda x, g, law=law: law(x, generator=g)
    for law in (losses.slices, losses.gaussian_slices, losses.sphere_slices)
}
IMAGES = torch.ones(1, 1, 4, 4)
DRAWS = {  # generator → points
    "ScoreMLP": lambda g: networks.ScoreMLP(2, generator=g)(start()).detach(),
    "NoiseConditionalMLP": lambda g: networks.NoiseConditionalMLP(2, generator=g)(
        start(), 0.5
    ).detach(),
    "TimeMLP": lambda g: networks.TimeMLP(2, generator=g)(start(), T).detach(),
    "UNet": lambda g: networks.UNet((1, 4, 4), 8, generator=g).enter(IMAGES).detach(),
    "draws": lambda g: next(training.draws(P, 5, generator=g)),
    "minibatches": lambda g: next(training.minibatches(start(), 5, generator=g)),
    "GaussianMixture.sample": lambda g: P.sample(50, generator=g),
    "Banana.sample": lambda g: densities.Banana().sample(50, generator=g),
}
FUNCTIONS = {  # x → something, without randomness
    "log_prob": P.log_prob,
    "score": P.score,
    "Banana.score": densities.Banana().score,
    "score_of": calculus.score_of(P.log_prob),
    "jacobian": lambda x: calculus.jacobian(P.score, x),
    "divergence": lambda x: calculus.divergence(P.score, x),
    "value_and_quadratic_form": lambda x: calculus.value_and_quadratic_form(P.score, x, x)[1],
    "value_and_pull_back": lambda x: calculus.value_and_pull_back(P.score, x)[1](x),
    "value_and_divergence": lambda x: calculus.value_and_divergence(P.score, x)[0],
    "esm": lambda x: losses.esm(P.score, x, 2 * x),
    "ism": lambda x: losses.ism(P.score, x),
    "ssm": lambda x: losses.ssm(P.score, x, 2 * x),
    "ssm_vr": lambda x: losses.ssm_vr(P.score, x, 2 * x),
    "ssm_fd": lambda x: losses.ssm_fd(P.score, x, 2 * x, 0.01),
    "dsm": lambda x: losses.dsm(P.score, x, 2 * x, 0.5),
    "ncsn": lambda x: losses.ncsn(lambda x, sigma: P.score(x), x, 2 * x, 0.5),
    "ddpm_simple": lambda x: losses.ddpm_simple(of_steps, x, 2 * x, T.to(x.device), BARS),
    **{f"{type(k).__name__}.target": lambda x, k=k: k.target_score(2 * x, x) for k in KERNELS},
    **{f"{type(k).__name__}.log_prob": lambda x, k=k: k.log_prob(2 * x, x) for k in KERNELS},
    "score_from_epsilon": lambda x: noise.score_from_epsilon(x, 0.5),
    "epsilon_from_score": lambda x: noise.epsilon_from_score(x, 0.5),
    "score_from_denoised": lambda x: noise.score_from_denoised(x, 2 * x, 0.5),
    "denoised_from_score": lambda x: noise.denoised_from_score(x, 2 * x, 0.5),
    "alpha_bar_at": lambda x: noise.alpha_bar_at(BARS, 3, x),
    "sigma_from_alpha_bar": lambda x: noise.sigma_from_alpha_bar(x.sigmoid()),
    "alpha_bar_from_sigma": lambda x: noise.alpha_bar_from_sigma(x.exp()),
    "ve_score": lambda x: noise.ve_score(of_steps, BARS)(x, 0.5),
    "vp_score": lambda x: noise.vp_score(of_levels, BARS)(x, 3),
    "v_from_epsilon": lambda x: noise.v_from_epsilon(x, 2 * x, 0.5),
    "epsilon_from_v": lambda x: noise.epsilon_from_v(x, 2 * x, 0.5),
    "sinusoidal": lambda x: networks.sinusoidal(x[:, 0], 4),
    "DdpmScore": lambda x: networks.DdpmScore(of_steps, BARS)(x, 3),
    "NoiseConditional": lambda x: networks.NoiseConditional(of_levels)(x, 0.5),
    "ddim": lambda x: samplers.ddim(of_steps, x, BARS),
    "scaled_modes": densities.scaled_modes().diffused(0.5).score,
    "line_integral": lambda x: calculus.line_integral(P.score, x),
    "langevin_step": lambda x: samplers.langevin_step(x, x, x, 0.1),
    "mode_weights": lambda x: diagnostics.mode_weights(x, P.means),
    "fisher_divergence": lambda x: diagnostics.fisher_divergence(x, 2 * x),
    "standard_error": lambda x: diagnostics.standard_error(x[:, 0]),
    "autocorrelation": diagnostics.autocorrelation,
    "kernel_density": lambda x: densities.kernel_density(x, 1.0).score(x),
    "wasserstein": lambda x: torch.tensor(diagnostics.wasserstein(x, 2 * x)).to(x),
    "target_covariance": lambda x: target.target_covariance(P.score, x, 0.5),
    "conditional_gap": lambda x: target.conditional_gap(P.score, x, 0.5),
    "dsm_controlled": lambda x: target.dsm_controlled(P.score, x, 2 * x, 0.5),
    "dsm_antithetic": lambda x: target.dsm_antithetic(P.score, x, 2 * x, 0.5),
    "per_sample_gradients": lambda x: target.per_sample_gradients(
        networks.ScoreMLP(2, width=4, generator=generator(0)).to(x), losses.dsm, x, 2 * x, 0.5
    ),
    "total_variance": target.total_variance,
    "noise_scale": lambda x: torch.tensor(target.noise_scale(x + 1)).to(x),
    "optimal_coefficient": lambda x: torch.tensor(target.optimal_coefficient(x, x**2)).to(x),
}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def start(dtype=torch.float32, device="cpu"):
    return torch.randn(50, 2, generator=generator(0)).to(device, dtype)


def every(table):
    return pytest.mark.parametrize("f", table.values(), ids=table)


MOVES = SAMPLERS | CORRUPTIONS
ALL_RANDOM = {name: lambda g, f=f: f(start(), g) for name, f in MOVES.items()} | DRAWS


@every(ALL_RANDOM)
def test_same_seed_same_draws(f):
    assert torch.equal(f(generator(1)), f(generator(1)))


@every(ALL_RANDOM)
def test_other_seed_other_draws(f):
    assert not torch.equal(f(generator(1)), f(generator(2)))


@every(ALL_RANDOM)
def test_without_a_generator_every_call_differs(f):
    assert not torch.equal(f(None), f(None))


@every(ALL_RANDOM)
@pytest.mark.parametrize("seed", [None, 1])
def test_the_global_stream_is_never_touched(f, seed):
    before = torch.random.get_rng_state()
    f(None if seed is None else generator(seed))
    assert torch.equal(torch.random.get_rng_state(), before)


@every(ALL_RANDOM)
def test_a_generator_moves_on(f):
    stream = generator(1)
    assert not torch.equal(f(stream), f(stream))


@every({**FUNCTIONS, **{name: lambda x, f=f: f(x, generator(1)) for name, f in MOVES.items()}})
@pytest.mark.parametrize("requires_grad", [False, True])
def test_inputs_are_left_as_they_were(f, requires_grad):
    x = start().requires_grad_(requires_grad)
    before, version = x.detach().clone(), x._version
    f(x)
    assert torch.equal(x.detach(), before) and x._version == version
    assert x.requires_grad == requires_grad and x.grad is None and x.is_leaf


@every(FUNCTIONS)
def test_without_randomness_two_calls_agree_and_the_global_stream_stays(f):
    before = torch.random.get_rng_state()
    assert torch.equal(f(start()), f(start()))
    assert torch.equal(torch.random.get_rng_state(), before)


@every(MOVES)
def test_a_result_does_not_share_memory_with_the_start(f):
    x = start()
    before = x.clone()
    f(x, generator(1)).zero_()
    assert torch.equal(x, before)


NOISELESS = {"ddim": lambda x, g: FUNCTIONS["ddim"](x)}


@every(SAMPLERS | NOISELESS)
def test_samplers_build_no_graph(f):
    assert not f(start().requires_grad_(), generator(1)).requires_grad


@every(
    {
        **FUNCTIONS,
        **{name: lambda x, f=f: f(x, generator(1, x.device)) for name, f in MOVES.items()},
    }
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", DEVICES)
def test_dtype_and_device_follow_the_input(f, dtype, device):
    y = f(start(dtype, device))
    assert y.dtype == dtype and y.device.type == device


@every(SAMPLERS | NOISELESS)
def test_frames_and_end_points_are_plain_contiguous_tensors(f):
    y = f(start(), generator(1))
    assert y.is_contiguous() and y.shape[-2:] == (50, 2)


@every({**SAMPLERS, **NOISELESS})
def test_samplers_work_where_gradients_are_off_and_leave_them_as_they_were(f):
    with torch.no_grad():
        quiet = f(start(), generator(1))
        assert not torch.is_grad_enabled()
    assert torch.equal(f(start(), generator(1)), quiet) and torch.is_grad_enabled()


def test_a_parameter_inside_a_score_does_not_leak_a_graph():
    scale = torch.tensor(1.0, requires_grad=True)
    x = samplers.langevin(lambda x: -scale * x, start(), **OPTIONS)
    assert not x.requires_grad and scale.grad is None


SIGNATURES = """
    import tempfile

    from jaxtyping import install_import_hook

    with install_import_hook("sbm_lite", "beartype.beartype"):
        from sbm_lite import calculus, data, densities, diagnostics, distributed, losses
        from sbm_lite import networks, noise, runtime, samplers, training, variance
    import torch

    rng, options = runtime.generator(0, runtime.device("cpu")), dict(step_size=0.1, n_steps=4)
    some = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    every = [densities.two_modes(), densities.ring(), densities.swiss_roll(), densities.Banana(),
             densities.gaussian(), densities.kernel_density(some, 0.5),
             densities.two_modes().smoothed(0.3), densities.scaled_modes().diffused(0.3)]
    bars = noise.alpha_bars(noise.linear_betas(5, 0.1, 0.5))
    noise.alpha_bars(noise.cosine_betas(5)), noise.geometric_sigmas(2.0, 0.5, 3)
    noise.alpha_bar_from_sigma(noise.sigma_from_alpha_bar(bars))
    for p in every:
        for dtype in (torch.float32, torch.float64):
            x = p.sample(6, generator=rng).to(dtype)
            p.log_prob(x), p.score(x)
            calculus.score_of(p.log_prob)(x), calculus.jacobian(p.score, x)
            calculus.divergence(p.score, x), calculus.value_and_divergence(p.score, x)
            calculus.value_and_quadratic_form(p.score, x, x)
            calculus.value_and_pull_back(p.score, x)[1](x)
            calculus.value_and_pull_back(p.log_prob, x)[1](x[:, 0])
            calculus.line_integral(p.score, x)
            samplers.langevin_step(x, p.score(x), x, 0.1)
            samplers.langevin(p.score, x, generator=rng, **options)
            samplers.langevin_path(p.score, x, every=2, generator=rng, **options)
            samplers.mala(p.log_prob, x, generator=rng, **options)
            samplers.annealed_langevin(lambda x, sigma: x * 0, x, bars, generator=rng, **options)
            samplers.ancestral(lambda x, t: x * 0, x, bars, generator=rng)
            samplers.ddim(lambda x, t: x * 0, x, bars, times=torch.tensor([5, 2]))
            for t in (3, torch.tensor(3), torch.tensor([1, 2, 3, 4, 5, 1])):
                losses.ddpm_simple(lambda x, t: x, x, x, t, bars)
                noise.alpha_bar_at(bars, t, x)
                noise.vp_score(lambda x, sigma: x, bars)(x, t)
            diagnostics.nearest(x, some), diagnostics.mode_weights(x, some)
            diagnostics.fisher_divergence(p.score(x), x), diagnostics.wasserstein(x, some.to(x))
            losses.esm(p.score, x, x), losses.ism(p.score, x), losses.ssm(p.score, x, x)
            losses.ssm_vr(p.score, x, x), losses.ssm_fd(p.score, x, x, 0.1)
            losses.slices(x), losses.gaussian_slices(x), losses.sphere_slices(x, generator=rng)
            for sigma in (0.5, torch.tensor(0.5), torch.full((6,), 0.5)):
                losses.dsm(p.score, x, x, sigma)
                losses.ncsn(lambda x, sigma: x, x, x, sigma)
                noise.score_from_epsilon(x, sigma), noise.epsilon_from_score(x, sigma)
                noise.ve_score(lambda x, t: x, bars)(x, sigma)
                noise.v_from_epsilon(x, x, sigma), noise.epsilon_from_v(x, x, sigma)
                noise.score_from_denoised(x, x, sigma), noise.denoised_from_score(x, x, sigma)
                variance.target_covariance(p.score, x, sigma)
                variance.conditional_gap(p.score, x, sigma)
                variance.dsm_controlled(p.score, x, x, sigma, beta=0.5)
                variance.dsm_antithetic(p.score, x, x, sigma)
            kernels = noise.Gaussian(0.5), noise.Laplace(0.5), noise.Mixture([0.3, 0.7], [0.2, 1])
            for kernel in kernels:
                y = kernel.sample(x, generator=rng)
                kernel.log_prob(y, x), kernel.target_score(y, x)
    densities.two_modes().posterior(some[0], 0.5)
    net = networks.ScoreMLP(2, generator=rng)
    batches = training.draws(densities.two_modes(), 8, generator=rng)
    training.fit(net, losses.ism, batches, n_steps=2)
    g = variance.per_sample_gradients(net, losses.dsm, some, some, 0.5)
    variance.total_variance(g), variance.noise_scale(g), variance.optimal_coefficient(g, g)
    training.fit(net, losses.ism, training.minibatches(some, 2, generator=rng), n_steps=2)
    conditional = networks.NoiseConditionalMLP(2, generator=rng)
    networks.EnergyScore(networks.mlp(2, 1, generator=rng))(some)
    for wrap in (networks.EpsilonScore, networks.DenoiserScore):
        for sigma in (0.5, torch.full((3,), 0.5)):
            wrap(conditional)(some, sigma)
    networks.sinusoidal(some[:, 0], 4)
    told = networks.TimeMLP(2, generator=rng)
    for sigma in (0.5, torch.tensor(0.5), torch.full((3,), 0.5)):
        networks.NoiseConditional(told)(some, sigma)
    for t in (3, torch.tensor(3), torch.tensor([1, 2, 3])):
        networks.DdpmScore(told, bars)(some, t)
    images = networks.UNet((1, 4, 4), 8, generator=rng)
    networks.DdpmScore(images, bars)(torch.zeros(3, 16), 2)
    with distributed.joined("cpu"):  # one process; test_distributed.py has two
        distributed.size(), distributed.rank(), distributed.rows(3), distributed.shared(net)(some)
        distributed.mean(some[:, 0]), distributed.average(some)
        distributed.told_by_first(lambda: b"a"), distributed.after_first(lambda: some)
        distributed.chains(lambda n, rng: torch.randn(n, 2, generator=rng), 3, rng)
    training.same_shapes("file", "net", net.state_dict(), net.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        batches = training.draws(densities.two_modes(), 8, generator=rng)
        training.fit(net, losses.ism, batches, n_steps=2, checkpoint=f"{folder}/run")
        training.read(f"{folder}/run")
    data.digits(), data.digit_labels()
    diagnostics.grid(1.0, 3), diagnostics.grid(1.0, 3, dim=3)
    diagnostics.standard_error(some[:, 0])
    diagnostics.autocorrelation(some), diagnostics.effective_sample_size(some)
    try:
        densities.two_modes().score(some[0])
    except Exception as error:
        assert "Type-check error" in str(error), error  # the hook is awake
    else:
        raise SystemExit("the hook did not look")
"""


def public_functions():
    """Every public function of the mathematics, as module.name."""
    for found in pkgutil.iter_modules(sbm_lite.__path__):
        if found.name in {"__main__", "figures", "labs", "explorables", "runtime", "validation"}:
            continue
        module = importlib.import_module(f"sbm_lite.{found.name}")
        for name, f in vars(module).items():
            if inspect.isfunction(f) and f.__module__ == module.__name__ and name[0] != "_":
                yield f"{found.name}.{name}"


def test_no_public_function_escapes_the_type_check():
    need_files = {"data.mnist", "data.cifar10"}  # called in test_data.py
    unseen = {name for name in public_functions() if f"{name}(" not in SIGNATURES}
    assert unseen == need_files


def test_signatures_say_what_the_functions_do():
    """The package under beartype and jaxtyping, with valid calls only; its own process."""
    command = [sys.executable, "-c", textwrap.dedent(SIGNATURES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
