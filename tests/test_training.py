"""The training loop against Adam written out, closed forms, and runs that were cut in two."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sbm_lite import distributed, losses
from sbm_lite.densities import GaussianMixture, two_modes
from sbm_lite.networks import EpsilonScore, NoiseConditionalMLP, ScoreMLP
from sbm_lite.noise import Laplace
from sbm_lite.runtime import generator
from sbm_lite.training import draws, fit, minibatches

LOPSIDED = GaussianMixture([1.0], [[1.0, -0.5]], [[[1.2, -0.3], [-0.3, 0.8]]])


class Line(nn.Module):
    """s(x) = −a x with the one weight a."""

    def __init__(self, a=0.0):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(float(a)))

    def forward(self, x):
        return -self.a * x


def affine(seed=0):
    net = nn.Linear(2, 2)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator(seed)))
    return net


def fixed(n_batches=400, n=8, d=2):
    """Batches that are a list: the same for every run."""
    return list(torch.randn(n_batches, n, d, generator=generator(9)).unbind())


def adam(loss, weights, batches, lr_at):
    """Adam as Kingma and Ba (2015) wrote it, with the constants of torch."""
    w, m, v, curve = weights.clone(), 0.0, 0.0, []
    for k, x in enumerate(batches):
        w.requires_grad_()
        value = loss(w, x)
        (g,) = torch.autograd.grad(value, w)
        curve.append(value.item())
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9 ** (k + 1)), v / (1 - 0.999 ** (k + 1))
        w = (w - lr_at(k) * m_hat / (v_hat**0.5 + 1e-8)).detach()
    return w, torch.tensor(curve)


def mean_ism(a, x):
    return (-2 * a + a**2 * (x**2).sum(1) / 2).mean()


# What is learned


@pytest.mark.parametrize("cosine", [False, True])
def test_fit_is_adam_with_the_learning_rate_asked_for(cosine):
    net, n, lr = Line(), 120, 0.02
    curve = fit(net, losses.ism, fixed(), n_steps=n, lr=lr, cosine=cosine)
    lr_at = lambda k: lr * math.cos(math.pi * k / n / 2) ** 2 if cosine else lr  # noqa: E731
    a, by_hand = adam(mean_ism, torch.tensor(0.0), fixed()[:n], lr_at)
    assert net.a.item() == pytest.approx(float(a), rel=1e-4)
    torch.testing.assert_close(curve, by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_steps", [1, 49, 50, 51, 120])
def test_the_curve_holds_the_loss_before_each_step(n_steps):
    net, seen = Line(), []

    def loss(net, x):
        seen.append(losses.ism(net, x).mean().item())
        return losses.ism(net, x)

    curve = fit(net, loss, fixed(), n_steps=n_steps)
    assert curve.shape == (n_steps,) and not curve.requires_grad
    assert curve.tolist() == pytest.approx(seen, rel=1e-6)
    assert curve[0] == 0  # a = 0


def recover(loss, seed=1):
    """Train a linear field on N(μ, Σ); its score is Σ⁻¹(μ − x)."""
    rng, net = generator(seed), affine()
    batches = draws(LOPSIDED, 256, generator=rng)
    fit(net, lambda net, x: loss(net, x, rng), batches, n_steps=1000, lr=0.03, cosine=True)
    return net.weight.detach().double(), net.bias.detach().double()


RECIPES = {  # loss, covariance of the data it sees
    "ism": (lambda net, x, rng: losses.ism(net, x), 0.0),
    "ssm_vr": (
        lambda net, x, rng: losses.ssm_vr(net, x, torch.randn(x.shape, generator=rng).sign()),
        0.0,
    ),
    "dsm": (
        lambda net, x, rng: losses.dsm(net, x, torch.randn(x.shape, generator=rng), 0.7),
        0.49,
    ),
}


@pytest.mark.parametrize(("loss", "extra"), RECIPES.values(), ids=RECIPES)
def test_fit_recovers_the_score_of_a_gaussian(loss, extra):
    weight, bias = recover(loss)
    precision = torch.linalg.inv(LOPSIDED.covariances[0] + extra * torch.eye(2))
    torch.testing.assert_close(weight, -precision, rtol=0, atol=0.05)
    torch.testing.assert_close(bias, precision @ LOPSIDED.means[0], rtol=0, atol=0.05)


def test_fit_leaves_the_net_in_training_mode_and_frozen_weights_alone():
    net = affine().eval()
    net.bias.requires_grad_(False)
    frozen, free = net.bias.clone(), net.weight.clone()
    fit(net, losses.ism, fixed(), n_steps=3)
    assert net.training
    assert torch.equal(net.bias, frozen) and not torch.equal(net.weight, free)


def test_gradients_do_not_pile_up():
    """At a step of which the gradient is zero, only Adam's memory moves the weight."""
    net = Line(1.0)
    stop = iter([1.0, *[0.0] * 50])
    fit(net, lambda net, x: next(stop) * losses.ism(net, x), fixed(), n_steps=51, lr=0.01)
    once = sum(
        0.9**k * 0.1 / (1 - 0.9 ** (k + 1)) / ((0.999**k * 0.001 / (1 - 0.999 ** (k + 1))) ** 0.5)
        for k in range(51)
    )
    assert abs(net.a.item() - 1) == pytest.approx(0.01 * once, rel=1e-3)


# Batches


def test_draws_are_fresh_draws_of_the_density():
    p, rng = two_modes(), generator(2)
    ours, source = draws(p, 5, generator=generator(2)), p
    for _ in range(3):
        assert torch.equal(next(ours), source.sample(5, generator=rng))


def test_minibatches_are_rows_of_the_data_drawn_with_replacement():
    x = torch.arange(20.0).reshape(10, 2)
    batches = minibatches(x, 500, generator=generator(3))
    first, second = next(batches), next(batches)
    assert first.shape == (500, 2) and not torch.equal(first, second)
    row = (first[:, 0] / 2).long()
    assert torch.equal(first, x[row])
    share = torch.bincount(row, minlength=10) / 500
    assert ((share - 0.1).abs() < 4.5 * (0.09 / 500) ** 0.5).all()


def test_fit_takes_no_more_batches_than_it_needs():
    supply = iter(fixed())
    fit(Line(), losses.ism, supply, n_steps=7)
    assert torch.equal(next(supply), fixed()[7])


def test_batches_that_run_out_are_an_error():
    with pytest.raises(ValueError, match="batches must hold 9 batches, they ran out after 4"):
        fit(Line(), losses.ism, fixed()[:4], n_steps=9)


# The average


def test_the_average_is_updated_after_each_step():
    net, seen = Line(), []
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.8))

    def loss(net, x):
        seen.append(net.a.item())
        return losses.ism(net, x)

    fit(net, loss, fixed(), n_steps=20, lr=0.05, average=average)
    after = [*seen[1:], net.a.item()]
    expected = after[0]
    for a in after[1:]:
        expected = 0.8 * expected + 0.2 * a
    assert average.module.a.item() == pytest.approx(expected, rel=1e-5)
    assert average.module.a.item() != net.a.item() and int(average.n_averaged) == 20


# Checkpoints


class Run:
    """A run with everything in it that has a memory: weights, Adam, average, schedule, stream."""

    def __init__(self, seed=4):
        self.rng = generator(seed)
        self.net = ScoreMLP(2, width=8, depth=1, generator=self.rng)
        self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(0.9))

    def go(self, file=None, *, n_steps=130, stop=None, **options):
        """Train; with `stop`, a KeyboardInterrupt falls into that call of the loss."""
        calls = iter(range(10**6))

        def loss(net, x):
            if next(calls) == stop:
                raise KeyboardInterrupt
            return losses.dsm(net, x, torch.randn(x.shape, generator=self.rng), 0.5)

        batches = draws(two_modes(), 16, generator=self.rng)
        own = dict(average=self.average, generator=self.rng, cosine=True, save_every=40)
        return fit(self.net, loss, batches, n_steps=n_steps, checkpoint=file, **(own | options))

    def everything(self):
        modules = [self.net.state_dict(), self.average.state_dict()]
        return [v.clone() for m in modules for v in m.values()] + [self.rng.get_state()]

    def same_as(self, other):
        pairs = zip(self.everything(), other.everything(), strict=True)
        return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.safetensors"


@pytest.mark.parametrize("cuts", [[100], [80], [45, 30], [45, 50], [129]])
def test_a_run_cut_in_pieces_is_the_unbroken_run_to_the_last_bit(file, cuts):
    unbroken, run = Run(), Run()
    curve = unbroken.go()
    for cut in cuts:
        with pytest.raises(KeyboardInterrupt):
            run.go(file, stop=cut)
        run = Run(seed=5)  # a new process with other weights and another stream
    assert torch.equal(run.go(file), curve)
    assert run.same_as(unbroken) and not run.same_as(Run())


def test_saving_changes_nothing(file):
    saved, plain = Run(), Run()
    assert torch.equal(saved.go(file, save_every=7), plain.go())
    assert saved.same_as(plain)


def test_a_run_is_saved_every_so_often_and_at_the_end(file):
    held = []

    def loss(net, x):
        held.append(len(load_file(file)["curve"]) if file.exists() else 0)
        return losses.ism(net, x)

    fit(Line(), loss, fixed(), n_steps=11, checkpoint=str(file), save_every=4)
    assert held == [0] * 4 + [4] * 4 + [8] * 3 and len(load_file(file)["curve"]) == 11
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_finished_run_is_taken_up_without_a_step(file):
    done, again = Run(), Run(seed=5)
    curve = done.go(file)
    assert torch.equal(again.go(file, stop=0), curve) and again.same_as(done)


def test_a_finished_run_can_be_made_longer(file):
    long, short = Run(), Run()
    curve = long.go(cosine=False)
    short.go(file, n_steps=70, cosine=False)
    longer = Run(seed=5)
    assert torch.equal(longer.go(file, cosine=False), curve) and longer.same_as(long)


def test_a_run_without_average_and_stream_resumes_too(file):
    whole, cut = Line(), Line()
    curve = fit(whole, losses.ism, fixed(), n_steps=60, lr=0.1)
    fit(cut, losses.ism, fixed(), n_steps=25, lr=0.1, checkpoint=file)
    rest = fixed()[25:]  # a list has no stream: the caller says where to go on
    resumed = fit(Line(), losses.ism, rest, n_steps=60, lr=0.1, checkpoint=file)
    assert torch.equal(resumed, curve)


def test_an_interrupted_save_leaves_the_old_checkpoint_whole(file, monkeypatch):
    run = Run()
    run.go(file, n_steps=40)
    before = file.read_bytes()

    def interrupted(path, content):
        with path.open("wb") as part:
            part.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.go(file)
    assert file.read_bytes() == before


def test_the_folder_of_a_checkpoint_is_made(tmp_path):
    fit(Line(), losses.ism, fixed(), n_steps=1, checkpoint=tmp_path / "new" / "folder" / "run")
    assert (tmp_path / "new" / "folder" / "run").exists()


MISFITS = {
    "wider": (
        dict(net=ScoreMLP(2, width=9, depth=1)),
        r"run.safetensors holds another net: "
        r"the shape of body.0.weight is \(8, 2\) there and \(9, 2\) here",
    ),
    "deeper": (
        dict(net=ScoreMLP(2, width=8, depth=2)),
        r"another net: the shape of body.2.weight is \(2, 8\) there and \(8, 8\) here",
    ),
    "other layers": (
        dict(net=Line()),
        r"another net: the shape of a is None there and \(\) here",
    ),
    "another average": (
        dict(average=AveragedModel(ScoreMLP(2, width=9, depth=1))),
        r"another average: the shape of module.body.0.weight is \(8, 2\) there and \(9, 2\) here",
    ),
}


@pytest.mark.parametrize(("changes", "words"), MISFITS.values(), ids=MISFITS)
def test_a_checkpoint_of_another_network_is_refused_before_anything_is_changed(
    file, changes, words
):
    Run().go(file, n_steps=40)
    run = Run(seed=5)
    for name, module in changes.items():
        setattr(run, name, module)
    before = run.everything()
    with pytest.raises(ValueError, match=words):
        run.go(file)
    assert all(map(torch.equal, run.everything(), before))


def test_a_checkpoint_of_more_steps_is_refused(file):
    Run().go(file, n_steps=40)
    words = "n_steps must be at least the 40 steps in .*run.safetensors, got 30"
    with pytest.raises(ValueError, match=words):
        Run().go(file, n_steps=30)


def test_a_checkpoint_without_a_stream_cannot_give_one_back(file):
    Run().go(file, n_steps=40, generator=None)
    with pytest.raises(ValueError, match="holds no random stream; it was saved without generator="):
        Run().go(file)


def test_a_checkpoint_without_an_average_cannot_give_one_back(file):
    Run().go(file, n_steps=40, average=None)
    with pytest.raises(ValueError, match="holds another average"):
        Run().go(file)


def test_weights_are_no_checkpoint(file):
    save_file(Run().net.state_dict(), file)
    with pytest.raises(ValueError, match="run.safetensors must be a checkpoint written by fit"):
        Run().go(file)


def test_a_run_taken_up_before_its_first_step_is_the_unbroken_run(file):
    unbroken, run = Run(), Run()
    with pytest.raises(KeyboardInterrupt):
        run.go(file, stop=0)
    assert load_file(file)["curve"].shape == (0,)
    again = Run(seed=5)
    assert torch.equal(again.go(file), unbroken.go()) and again.same_as(unbroken)


def test_weights_that_are_frozen_or_shared_are_saved_and_taken_up(file):
    def twice():
        net = nn.Sequential(affine(), nn.Tanh(), affine(1))
        net[2].weight = net[0].weight
        net[0].bias.requires_grad_(False)
        return net

    cut, resumed = twice(), twice()
    fit(cut, losses.ism, fixed(), n_steps=7, checkpoint=file)
    fit(resumed, losses.ism, fixed(), n_steps=7, checkpoint=file)
    assert all(map(torch.equal, cut.state_dict().values(), resumed.state_dict().values()))


# Runs that diverge


def spoilt(step, value):
    """ISM, and at one step `value` on top."""
    calls = iter(range(10**6))
    return lambda net, x: losses.ism(net, x) + (value if next(calls) == step else 0)


@pytest.mark.parametrize("step", [0, 7, 49, 50, 119])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_step_and_the_learning_rate(step, value):
    words = rf"the loss at step {step} is {value}: not finite; try .* below lr = 0\.02$"
    with pytest.raises(FloatingPointError, match=words):
        fit(Line(0.1), spoilt(step, value), fixed(), n_steps=120, lr=0.02)


def test_divergence_is_seen_within_fifty_steps():
    seen = []

    def loss(net, x):
        seen.append(1)
        return losses.ism(net, x) * math.nan

    with pytest.raises(FloatingPointError):
        fit(Line(), loss, fixed(), n_steps=400)
    assert len(seen) <= 50


def test_a_learning_rate_far_too_large():
    net = ScoreMLP(2, generator=generator(6))
    with pytest.raises(FloatingPointError, match=r"try a learning rate below lr = 1e\+20"):
        fit(net, losses.ism, fixed(), n_steps=100, lr=1e20)


def test_a_wrapped_network_diverges_in_the_same_words():
    net = EpsilonScore(NoiseConditionalMLP(2, generator=generator(6)))
    loss = lambda net, x: losses.ncsn(net, x, x, 0.5)  # noqa: E731
    with pytest.raises(FloatingPointError, match=r"try a learning rate below lr = 1e\+30"):
        fit(net, loss, fixed(), n_steps=100, lr=1e30)


@pytest.mark.parametrize("n_steps", [1, 50])
def test_a_last_step_into_nowhere_is_seen(n_steps):
    """√a at a = 0 has a finite value and an infinite slope."""
    calls = iter(range(1, 51))

    def loss(net, x):
        zero = net.a - net.a.detach()
        return (zero.sqrt() if next(calls) == n_steps else zero).expand(len(x))

    words = "the weights after step .* are not finite; try a learning rate below lr = 0.001"
    with pytest.raises(FloatingPointError, match=words):
        fit(Line(), loss, fixed(), n_steps=n_steps)


def test_a_checkpoint_never_holds_a_run_that_diverged(file):
    with pytest.raises(FloatingPointError, match="step 12"):
        fit(Line(), spoilt(12, math.nan), fixed(), n_steps=90, checkpoint=file, save_every=10)
    assert len(load_file(file)["curve"]) == 10 and load_file(file)["net.a"].isfinite()


# The bar


def test_the_bar_is_shown_unless_asked_not_to(monkeypatch, capsys, file):
    monkeypatch.setenv("SBM_LITE_PROGRESS", "0")
    Run().go(file, n_steps=60)
    assert capsys.readouterr() == ("", "")
    monkeypatch.delenv("SBM_LITE_PROGRESS")
    curve = Run().go(file, n_steps=130)
    bar = capsys.readouterr().err
    assert "60/130" in bar and "130/130" in bar and f"loss={float(curve[-1]):.3g}" in bar
    monkeypatch.setattr(distributed, "rank", lambda: 1)  # of several processes one shows it
    Run().go(n_steps=60)
    assert capsys.readouterr() == ("", "")


# Refusals

SHAPES = {"one number": lambda s: s.mean(), "a matrix": lambda s: s[:, None].expand(-1, 2)}


@pytest.mark.parametrize("spoil", SHAPES.values(), ids=SHAPES)
def test_a_loss_is_one_value_per_point(spoil):
    words = r"loss must give one value per point, shape \(n,\), got \("
    with pytest.raises(ValueError, match=words):
        fit(Line(), lambda net, x: spoil(losses.ism(net, x)), fixed(), n_steps=1)


def test_several_slices_of_a_point_are_several_values():
    loss = lambda net, x: losses.ssm(net, x.repeat(3, 1), torch.ones(24, 2))  # noqa: E731
    assert fit(Line(), loss, fixed(), n_steps=1).shape == (1,)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (dict(n_steps=0), ValueError, "n_steps must be at least 1, got 0"),
        (dict(n_steps=2.5), TypeError, "n_steps must be a whole number, got float"),
        (dict(n_steps=1, lr=0), ValueError, "lr must be a finite number > 0, got 0"),
        (dict(n_steps=1, lr=math.nan), ValueError, "lr must be a finite number > 0, got nan"),
        (dict(n_steps=1, lr="slow"), TypeError, "lr must be one number, got 'slow'"),
        (dict(n_steps=1, save_every=0), ValueError, "save_every must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused_in_words(options, error, words):
    with pytest.raises(error, match=words):
        fit(Line(), losses.ism, fixed(), **options)


def test_other_kernels_train_by_their_target():
    """Laplace noise of scale b on N(0, 1): the linear least squares of t on x̃ is −1/(1 + 2b²)."""
    rng, kernel, net = generator(8), Laplace(0.6), nn.Linear(1, 1, bias=False)

    def loss(net, x):
        x_noisy = kernel.sample(x, generator=rng)
        return losses.esm(net, x_noisy, kernel.target_score(x_noisy, x))

    batches = minibatches(torch.randn(20_000, 1, generator=rng), 512, generator=rng)
    fit(net, loss, batches, n_steps=600, lr=0.05, cosine=True)
    assert abs(net.weight.item() + 1 / (1 + 2 * 0.36)) < 0.03
