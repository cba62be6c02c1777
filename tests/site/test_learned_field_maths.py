"""The second explorable of chapter 7 against PyTorch: the network, and what is shown of it."""

import pytest
import torch

from sbm_lite import networks
from sbm_lite.densities import two_modes
from sbm_lite.explorables import LearnedField
from sbm_lite.explorables.learned_field import _as_layer, _network
from sbm_lite.runtime import generator

SCORE = "return [...m.networkScore(m.decodeLayers(layers), Float64Array.from(x), sigma)];"
every_sigma = pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0, 10.0])


def layers_of(net):
    return [_as_layer(linear) for linear in net.body.requires_grad_(False)[::2]]


def points(n, seed=0):
    return 16 * torch.rand(n, 2, generator=generator(seed)).double() - 8


def javascript(run, net, x, sigma):
    got = run(SCORE, layers=layers_of(net), x=x.flatten().tolist(), sigma=sigma)
    return torch.tensor(got, dtype=torch.float64).reshape(-1, 2)


@every_sigma
def test_the_network_of_the_package_at_a_thousand_points(run, sigma):
    net, x = LearnedField().layers, points(1000)
    got = run(SCORE, layers=net, x=x.flatten().tolist(), sigma=sigma)
    got = torch.tensor(got, dtype=torch.float64).reshape(-1, 2)
    want = _network()(x.float(), sigma)
    assert (got - want).abs().max() < 1e-5 * want.abs().max()
    exact = networks.NoiseConditionalMLP(2).double()
    exact.load_state_dict(_network().state_dict())
    torch.testing.assert_close(got, exact(x, sigma).detach(), rtol=1e-8, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 11])
@pytest.mark.parametrize(("width", "depth"), [(1, 1), (5, 2), (6, 3)])
def test_any_width_depth_and_number_of_points(run, n, width, depth):
    """Four points and two units are done at a time; the rest must not be lost."""
    net = networks.NoiseConditionalMLP(2, width, depth, generator=generator(n)).double()
    for parameter in net.parameters():
        parameter.data = (3 * parameter.data).float().double()
    x = points(n, seed=1)
    torch.testing.assert_close(
        javascript(run, net, x, 0.7), net(x, 0.7).detach(), rtol=1e-9, atol=1e-12
    )


def test_softplus(run):
    v = torch.cat([torch.linspace(-60, 60, 4001), torch.tensor([-32.0, 20.0])]).double()
    got = torch.tensor(run("return v.map(m.softplus)", v=v.tolist()), dtype=torch.float64)
    torch.testing.assert_close(got, torch.nn.functional.softplus(v), rtol=0, atol=3e-9)
    near = v.abs() < 19
    exact = torch.log1p(v[near].exp())
    torch.testing.assert_close(got[near], exact, rtol=0, atol=1e-10)


def test_large_inputs_bend_as_in_pytorch(run):
    """Softplus is the identity above 20, and vanishes far below 0."""
    net = networks.NoiseConditionalMLP(2, generator=generator(2)).double()
    for parameter in net.parameters():
        parameter.data = (40 * parameter.data).float().double()
    x = points(100)
    torch.testing.assert_close(
        javascript(run, net, x, 0.1), net(x, 0.1).detach(), rtol=1e-9, atol=1e-9
    )


@every_sigma
def test_the_table_is_the_package_s(alive, numbers, sigma):
    page = alive(LearnedField(sigma=sigma, probe_x=-3.0, probe_y=1.5))
    true, at = two_modes().smoothed(sigma), torch.tensor([[-3.0, 1.5]], dtype=torch.float64)
    assert numbers(page, "theory") == pytest.approx([*true.score(at)[0].tolist(), 0, 0], abs=0.0051)
    learned = _network()(at.float(), sigma)[0].tolist()
    ticks = (torch.arange(48).double() + 0.5) / 3 - 8
    x = torch.cartesian_prod(ticks, ticks)
    error = (_network()(x.float(), sigma) - true.score(x)).norm(dim=1)
    inside = ((x.abs() - 5).abs() <= 2).all(1) & (x.prod(1) > 0)
    assert inside.sum() == 2 * 12**2
    want = [*learned, float(error[inside].mean()), float(error[~inside].mean())]
    assert numbers(page, "measured") == pytest.approx(want, rel=0.006, abs=0.0051)


def test_the_boxes_hold_the_share_of_the_data_that_the_note_says(alive):
    text = alive(LearnedField()).locator("main").inner_text()
    x = two_modes().sample(100_000, generator=generator(0))
    inside = ((x - 5).abs().amax(1) <= 2) | ((x + 5).abs().amax(1) <= 2)
    assert "hold 91 % of the clean data" in text
    assert abs(float(inside.double().mean()) - 0.91) < 0.005


REDNESS = """([x, y]) => {
  const ground = document.querySelector("canvas"), at = (c) => ((1 + c / 8) * ground.width) / 2;
  const [r, g] = ground.getContext("2d").getImageData(at(x), at(-y), 1, 1).data;
  return r - g;
}"""


def test_the_map_of_errors_is_red_far_from_the_data_only(alive):
    page = alive(LearnedField())
    page.locator("text=learned score").wait_for()
    assert page.evaluate(REDNESS, [7, -6.5]) <= 0  # white, or the blue of the density
    page.locator("[name=show]").select_option("error")
    assert page.evaluate(REDNESS, [7, -6.5]) > 120
    assert page.evaluate(REDNESS, [5, 5]) < 80
    assert page.locator("text=‖learned − true‖").is_visible()
    assert not page.locator("text=learned score").is_visible()


def test_the_probe_is_dragged(alive, numbers):
    page = alive(LearnedField())
    before, box = numbers(page, "measured"), page.locator(".sbm-picture").bounding_box()
    x, y, size = box["x"], box["y"], box["width"]
    page.mouse.move(x + 0.375 * size, y + 0.25 * size)  # where the probe is: (−2, 4)
    page.mouse.down()
    page.mouse.move(x + 0.75 * size, y + 0.5 * size)
    page.mouse.up()
    sliders = [page.locator(f"[name={name}]").evaluate("s => +s.value") for name in
               ("probe_x", "probe_y")]  # fmt: skip
    assert sliders == pytest.approx([4, 0], abs=0.1)
    after = numbers(page, "measured")
    assert after[:2] != before[:2] and after[2:] == before[2:]  # the map's own errors stay
