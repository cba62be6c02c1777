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
from sbm_lite import calculus, densities, diagnostics, samplers
from sbm_lite.runtime import generator

P = densities.GaussianMixture(
    [0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[1.2, -0.3], [-0.3, 0.8]]]
)
OPTIONS = dict(step_size=0.1, n_steps=3)
SAMPLERS = {  # x, generator → points
    "langevin": lambda x, g: samplers.langevin(P.score, x, generator=g, **OPTIONS),
    "langevin_path": lambda x, g: samplers.langevin_path(P.score, x, generator=g, **OPTIONS),
    "mala": lambda x, g: samplers.mala(P.log_prob, x, generator=g, **OPTIONS).x,
}
DRAWS = {  # generator → points
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
    "line_integral": lambda x: calculus.line_integral(P.score, x),
    "langevin_step": lambda x: samplers.langevin_step(x, x, x, 0.1),
    "mode_weights": lambda x: diagnostics.mode_weights(x, P.means),
    "fisher_divergence": lambda x: diagnostics.fisher_divergence(x, 2 * x),
    "standard_error": lambda x: diagnostics.standard_error(x[:, 0]),
    "autocorrelation": diagnostics.autocorrelation,
    "kernel_density": lambda x: densities.kernel_density(x, 1.0).score(x),
    "wasserstein": lambda x: torch.tensor(diagnostics.wasserstein(x, 2 * x)).to(x),
}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
def start(dtype=torch.float32, device="cpu"):
    return torch.randn(50, 2, generator=generator(0)).to(device, dtype)


def every(table):
    return pytest.mark.parametrize("f", table.values(), ids=table)


ALL_RANDOM = {name: lambda g, f=f: f(start(), g) for name, f in SAMPLERS.items()} | DRAWS


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


@every({**FUNCTIONS, **{name: lambda x, f=f: f(x, generator(1)) for name, f in SAMPLERS.items()}})
@pytest.mark.parametrize("requires_grad", [False, True])
def test_inputs_are_left_as_they_were(f, requires_grad):
    x = start().requires_grad_(requires_grad)
    before, version = x.detach().clone(), x._version
    f(x)
    assert torch.equal(x.detach(), before) and x._version == version
    assert x.requires_grad == requires_grad and x.grad is None and x.is_leaf


@every(SAMPLERS)
def test_a_result_does_not_share_memory_with_the_start(f):
    x = start()
    before = x.clone()
    f(x, generator(1)).zero_()
    assert torch.equal(x, before)


@every(SAMPLERS)
def test_samplers_build_no_graph(f):
    assert not f(start().requires_grad_(), generator(1)).requires_grad


@every(
    {
        **FUNCTIONS,
        **{name: lambda x, f=f: f(x, generator(1, x.device)) for name, f in SAMPLERS.items()},
    }
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", DEVICES)
def test_dtype_and_device_follow_the_input(f, dtype, device):
    y = f(start(dtype, device))
    assert y.dtype == dtype and y.device.type == device


@every(SAMPLERS)
def test_frames_and_end_points_are_plain_contiguous_tensors(f):
    y = f(start(), generator(1))
    assert y.is_contiguous() and y.shape[-2:] == (50, 2)


def test_a_parameter_inside_a_score_does_not_leak_a_graph():
    scale = torch.tensor(1.0, requires_grad=True)
    x = samplers.langevin(lambda x: -scale * x, start(), **OPTIONS)
    assert not x.requires_grad and scale.grad is None


SIGNATURES = """
    from jaxtyping import install_import_hook

    with install_import_hook("sbm_lite", "beartype.beartype"):
        from sbm_lite import calculus, densities, diagnostics, runtime, samplers
    import torch

    rng, options = runtime.generator(0, runtime.device("cpu")), dict(step_size=0.1, n_steps=4)
    some = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    every = [densities.two_modes(), densities.ring(), densities.swiss_roll(), densities.Banana(),
             densities.gaussian(), densities.kernel_density(some, 0.5),
             densities.two_modes().smoothed(0.3)]
    for p in every:
        for dtype in (torch.float32, torch.float64):
            x = p.sample(6, generator=rng).to(dtype)
            p.log_prob(x), p.score(x)
            calculus.score_of(p.log_prob)(x), calculus.jacobian(p.score, x)
            calculus.divergence(p.score, x), calculus.value_and_quadratic_form(p.score, x, x)
            calculus.line_integral(p.score, x)
            samplers.langevin_step(x, p.score(x), x, 0.1)
            samplers.langevin(p.score, x, generator=rng, **options)
            samplers.langevin_path(p.score, x, every=2, generator=rng, **options)
            samplers.mala(p.log_prob, x, generator=rng, **options)
            diagnostics.nearest(x, some), diagnostics.mode_weights(x, some)
            diagnostics.fisher_divergence(p.score(x), x), diagnostics.wasserstein(x, some.to(x))
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
        if found.name in {"figures", "labs", "explorables", "runtime", "validation"}:
            continue
        module = importlib.import_module(f"sbm_lite.{found.name}")
        for name, f in vars(module).items():
            if inspect.isfunction(f) and f.__module__ == module.__name__ and name[0] != "_":
                yield f"{found.name}.{name}"


def test_no_public_function_escapes_the_type_check():
    assert [name for name in public_functions() if f"{name}(" not in SIGNATURES] == []


def test_signatures_say_what_the_functions_do():
    """The package under beartype and jaxtyping, with valid calls only; its own process."""
    command = [sys.executable, "-c", textwrap.dedent(SIGNATURES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
