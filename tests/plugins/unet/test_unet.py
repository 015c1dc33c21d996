import pytest
import torch
from pdefm_unet.model import UNet
from pdefm_unet.network import PeriodicConvolution, UNetwork, _groups

from pdebench_fm.errors import SettingError
from pdebench_fm.problem import Grid
from tests.plugins.baselines.synthetic import Synthetic, error, fit, screened_poisson


def inputs(batch, n, constants=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 1, n, n, generator=generator), torch.randn(batch, constants, generator=generator)


def test_the_stated_sizes_are_the_real_ones():
    assert sum(p.numel() for p in UNetwork(4, 1, 8, 3).parameters()) == 122_889
    assert sum(p.numel() for p in UNetwork(4, 1, 16, 3).parameters()) == 488_849


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_it_commutes_with_shifts_of_a_periodic_field(levels):
    network = UNetwork(3, 2, 4, levels).double()
    fields, constants = (tensor.double() for tensor in inputs(2, 16))
    by = (2**levels, -(2**levels))
    shifted = network(fields.roll(by, (2, 3)), constants)
    assert torch.allclose(shifted, network(fields, constants).roll(by, (2, 3)), atol=1e-12)


def test_a_prediction_does_not_depend_on_its_batch():
    network = UNetwork(3, 1, 8, 2).double()
    fields, constants = (tensor.double() for tensor in inputs(5, 16))
    assert torch.allclose(network(fields, constants)[3:4], network(fields[3:4], constants[3:4]), atol=1e-12)


@pytest.mark.parametrize("width", [2, 4, 6, 8, 16])
def test_constants_pass_its_normalisation(width):
    network = UNetwork(3, 1, width, 2).double()
    fields, constants = (tensor.double() for tensor in inputs(2, 16))
    change = (network(fields, constants.flip(0)) - network(fields, constants)).norm() / network(
        fields, constants
    ).norm()
    assert change > 1e-4


def test_groups_have_four_channels_or_more_and_divide_them():
    assert [_groups(channels) for channels in (1, 4, 6, 8, 9, 16, 22, 64)] == [1, 1, 1, 2, 1, 4, 2, 16]


@pytest.mark.parametrize("n", [8, 16, 24, 40])
def test_it_fits_any_grid_that_can_be_halved(n):
    assert UNet(width=4).supports(screened_poisson(n)) is None
    assert UNetwork(3, 1, 4, 3)(*inputs(1, n)).shape == (1, 1, n, n)


def test_it_says_what_it_cannot_take():
    assert "multiple of 8" in (UNet().supports(screened_poisson(12)) or "")
    assert "periodic" in (UNet().supports(screened_poisson(16).on(Grid(16, periodic=False))) or "")
    with pytest.raises(SettingError, match="levels"):
        UNet(levels=0)
    with pytest.raises(SettingError, match="width"):
        UNet(width=1)


def test_training_lowers_the_error_and_a_saved_model_predicts_the_same_numbers(tmp_path):
    train = Synthetic(16, 8, low=0.5, high=1.5)
    model = UNet(width=4, levels=2)
    model.initialise(train.problem, train, seed=0)
    before = error(model, train)
    assert fit(model, train, tmp_path, epochs=20, learning_rate=1e-2).status == "ok"
    assert error(model, train) < before / 2
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    again = UNet.from_file(tmp_path / "saved")
    assert torch.equal(
        again.predict(train.problem, train.inputs)["solution"], model.predict(train.problem, train.inputs)["solution"]
    )


@pytest.mark.parametrize("n", [1, 2, 9])
def test_a_convolution_is_torchs_with_circular_padding_forward_and_backward(n):
    torch.manual_seed(0)
    ours, plain = ours_and_plain()
    fields = torch.randn(2, 3, n, n, dtype=torch.float64)
    results = []
    for convolution in (ours, plain):
        x = fields.clone().requires_grad_()
        y = convolution(x)
        y.square().sum().backward()
        results.append((y.detach(), x.grad, convolution.weight.grad, convolution.bias.grad))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("n", [2, 4, 18])
def test_a_coarse_field_enters_as_if_repeated_and_joined_forward_and_backward(n):
    torch.manual_seed(0)
    ours, plain = ours_and_plain()
    own, below = torch.randn(2, 1, n, n, dtype=torch.float64), torch.randn(2, 2, n // 2, n // 2, dtype=torch.float64)
    results = []
    for convolution in (ours, plain):
        x, coarse = own.clone().requires_grad_(), below.clone().requires_grad_()
        joined = torch.cat([coarse.repeat_interleave(2, 2).repeat_interleave(2, 3), x], dim=1)
        y = convolution(x, coarse) if convolution is ours else convolution(joined)
        y.square().sum().backward()
        results.append((y.detach(), x.grad, coarse.grad, convolution.weight.grad, convolution.bias.grad))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted)


def ours_and_plain():
    ours = PeriodicConvolution(3, 4).double()
    plain = torch.nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular").double()
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def test_gradients_of_a_convolution_are_right_to_second_order():
    convolution = PeriodicConvolution(2, 1).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolution, x)
    assert torch.autograd.gradgradcheck(lambda x: convolution(x).sin(), x)
    coarse = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolution, (x[:, :1], coarse))
    assert torch.autograd.gradgradcheck(lambda x, coarse: convolution(x, coarse).sin(), (x[:, :1], coarse))
