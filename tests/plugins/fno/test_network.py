import copy

import pytest
import torch
from pdefm_fno import activation
from pdefm_fno import network as module
from pdefm_fno.mixing import add_constant, mix, spectrum_of
from pdefm_fno.network import FourierNetwork
from pdefm_fno.reference import ReferenceNetwork, spectral_convolution
from pdefm_fno.spectral_convolution import analyse, synthesise
from torch import nn


def network(fields=1, constants=3, outputs=1, width=6, modes=4, depth=4) -> FourierNetwork:
    """A network whose spectral weights matter: at their published start they are almost zero."""
    torch.manual_seed(0)
    made = FourierNetwork(fields, constants, outputs, width, modes, depth)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "spectral" in name:
                weight.copy_(torch.randn_like(weight) / width)
    return made


def inputs(batch, n, fields=1, constants=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(*shape, generator=generator) for shape in ((batch, fields, n, n), (batch, constants))]
    return made[0].to(dtype), made[1].to(dtype)


def gradients(of: nn.Module) -> torch.Tensor:
    """All parameter gradients as one vector, in the common layout."""
    with torch.no_grad():
        for weight in of.parameters():
            weight.copy_(weight.grad)
    state = of.state_dict() if isinstance(of, ReferenceNetwork) else ReferenceNetwork.of(of).state_dict()
    return torch.cat([state[name].flatten().double() for name in sorted(state)])


def relative(value, wanted) -> float:
    return float((value.double() - wanted).norm() / wanted.norm())


GRIDS = pytest.mark.parametrize(("n", "modes"), [(2, 1), (5, 2), (8, 4), (9, 4), (16, 3), (32, 4), (33, 16), (64, 32)])
DTYPES = pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])


@DTYPES
@GRIDS
def test_the_spectral_convolution_is_that_by_fft_forward_and_backward(n, modes, dtype, allowed):
    """Even and odd grids, modes up to Nyquist, weights without any symmetry."""
    torch.manual_seed(0)
    batch, width = 3, 5
    fields = torch.randn(batch, width, n, n, dtype=dtype)
    common = torch.randn(width, width, 2 * modes, modes, 2, dtype=dtype) / width
    ours = [tensor.clone().requires_grad_() for tensor in (fields, common)]
    plain = [tensor.double().requires_grad_() for tensor in (fields, common)]

    spectrum = mix(analyse(ours[0].permute(2, 3, 0, 1), modes), module._from_common(ours[1]))
    nothing = torch.zeros(n, n, batch, 1, dtype=dtype)
    y = synthesise(spectrum, nothing, torch.zeros(width, 1, dtype=dtype)).permute(2, 3, 0, 1)
    wanted = spectral_convolution(*plain)
    cotangent = torch.randn(wanted.shape, dtype=dtype)
    y.backward(cotangent)
    wanted.backward(cotangent.double())
    assert relative(y.detach(), wanted.detach()) < allowed
    for ours_leaf, plain_leaf in zip(ours, plain, strict=True):
        assert relative(ours_leaf.grad, plain_leaf.grad) < allowed


@pytest.mark.parametrize("shape", [(3, 5), (5,)])
def test_a_constant_plane_is_added_to_the_mode_zero_alone(shape):
    torch.manual_seed(0)
    n, modes = 9, 3
    field = torch.randn(n, n, 3, 5, dtype=torch.float64)
    constant = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    wanted = analyse(field + constant, modes)
    with torch.no_grad():
        torch.testing.assert_close(add_constant(analyse(field, modes), n * constant), wanted)
    parts = analyse(field, modes).requires_grad_()
    found = add_constant(parts * 1.0, n * constant)
    torch.testing.assert_close(found, wanted)
    cotangent = torch.randn_like(wanted)
    (to_constant,) = torch.autograd.grad(wanted, constant, cotangent)
    ours = torch.autograd.grad(found, (parts, constant), cotangent)
    torch.testing.assert_close(ours, (cotangent, to_constant))


@DTYPES
@GRIDS
def test_the_network_is_that_by_fft_forward_and_backward(n, modes, dtype, allowed):
    """Where rounding is amplified on the way back, it is so in the plain network too: that sets the measure."""
    ours = network(fields=2, outputs=2, modes=modes).to(dtype)
    exact, plain = ReferenceNetwork.of(ours).double(), ReferenceNetwork.of(ours)
    fields, constants = inputs(3, n, fields=2, dtype=dtype)
    wanted = exact(fields.double(), constants.double())
    cotangent = torch.randn(wanted.shape, dtype=dtype)
    predicted = ours(fields, constants)
    assert predicted.dtype == dtype
    assert relative(predicted.detach(), wanted.detach()) < allowed
    predicted.backward(cotangent)
    wanted.backward(cotangent.double())
    plain(fields, constants).backward(cotangent)
    truth = gradients(exact)
    assert relative(gradients(ours), truth) < max(allowed, 2 * relative(gradients(plain), truth))


def test_it_needs_no_constants_and_any_depth():
    for depth in (1, 2):
        ours = network(constants=0, depth=depth).double()
        arguments = inputs(2, 8, constants=0, dtype=torch.float64)
        assert torch.allclose(ours(*arguments), ReferenceNetwork.of(ours)(*arguments), atol=1e-12)


@pytest.mark.parametrize(
    ("width", "modes", "parameters"),
    [(16, 4, 67_281), (16, 16, 1_050_321), (32, 32, 16_783_777), (128, 32, 268_535_425)],
    ids=["64K", "1M", "16M", "256M"],
)
def test_the_paper_sizes_have_the_published_number_of_parameters(width, modes, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in FourierNetwork(1, 3, 1, width, modes).parameters()) == parameters


def test_spectral_weights_start_uniform_between_zero_and_one_over_width_squared():
    weight = FourierNetwork(1, 3, 1, 16, 8).layers[2].spectral.weight * 16**2
    assert 0 <= weight.min() < 1e-3
    assert 1 - 1e-3 < weight.max() < 1
    assert abs(weight.mean() - 0.5) < 0.01


def test_the_state_dict_is_in_the_common_layout_and_survives_a_round_trip():
    ours, other = network(modes=3), network(modes=3)
    state = ours.state_dict()
    assert state["layers.0.spectral.weight"].shape == (6, 6, 6, 3, 2)
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in state.values())
    before = {name: tensor.clone() for name, tensor in state.items()}
    for weight in other.parameters():
        nn.init.zeros_(weight)
    other.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_a_checkpoint_of_another_shape_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        network(modes=3).load_state_dict(network(modes=4).state_dict())
    state = network(modes=3).state_dict()
    del state["layers.1.spectral.weight"]
    with pytest.raises(RuntimeError, match="Missing key"):
        network(modes=3).load_state_dict(state)


def test_negative_wavenumbers_are_stored_second_and_ascending():
    """One mode at a time: e^(i k y) times a real weight returns the same wave, in the row where it is documented."""
    n, m = 12, 3
    y = torch.arange(n, dtype=torch.float64) * 2 * torch.pi / n
    x = y[None, :]
    for row, k_y in enumerate([0, 1, 2, -3, -2, -1]):
        wave = torch.cos(k_y * y[:, None] + 2 * x).reshape(n, n, 1, 1)
        spectrum = spectrum_of(analyse(wave, m))[..., 0, 0]
        wanted = torch.zeros(2 * m, m, 2, dtype=torch.float64)
        wanted[row, 2, 0] = n / 2
        assert torch.allclose(spectrum, wanted, atol=1e-12)


def test_one_set_of_weights_fits_every_grid():
    """On wavenumbers that both grids resolve, a linear network gives the same function at 32² and 64²."""
    ours = network(modes=4, depth=1)
    ours.expand, ours.project = nn.Linear(6, 12), nn.Linear(12, 1)
    with torch.no_grad():  # far on the linear side of the GELU, so that no new wavenumbers arise
        ours.expand.bias.fill_(1e4)
    ours = ours.double()
    fine, constants = inputs(2, 64, dtype=torch.float64)
    spectrum = torch.fft.rfft2(fine, norm="forward")
    spectrum[..., 4:-3, :] = 0
    spectrum[..., 4:] = 0
    fine = torch.fft.irfft2(spectrum, s=(64, 64), norm="forward")
    assert torch.allclose(ours(fine, constants)[..., ::2, ::2], ours(fine[..., ::2, ::2], constants), atol=1e-9)


def test_chunks_of_the_batch_do_not_change_the_result(monkeypatch):
    ours = network().double()
    arguments = inputs(7, 16, dtype=torch.float64)
    whole = ours(*arguments)
    expected = torch.autograd.grad(whole.square().sum(), list(ours.parameters()))
    monkeypatch.setattr(module, "CHUNK", -(-2 * 2 * 16 * 16 * 6 // max(2, torch.get_num_threads())))
    found = ours(*arguments)
    assert torch.allclose(found, whole, atol=1e-13)
    for one, other in zip(torch.autograd.grad(found.square().sum(), list(ours.parameters())), expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)
    assert torch.allclose(ours(arguments[0][3:4], arguments[1][3:4]), whole[3:4], atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_written_in_place_without_gradients_moves_no_bit(dtype):
    ours = network().to(dtype)
    fields, constants = inputs(3, 16, dtype=dtype)
    given = fields.clone()
    expected = ours(fields, constants).detach()
    for without in (torch.no_grad, torch.inference_mode):
        with without():
            assert torch.equal(ours(fields, constants), expected)
    assert torch.equal(fields, given)


def test_what_the_projection_keeps_does_not_change_the_gradients(monkeypatch):
    """Kept or worked out again, the hidden planes are the same numbers."""
    arguments = inputs(2, 16)
    found = []
    for width in (0, 6):
        monkeypatch.setattr(activation, "KEPT_WIDTH", width)
        ours = network()
        ours(*arguments).square().sum().backward()
        found.append(gradients(ours))
    assert torch.equal(*found)


def test_a_second_backward_pass_gives_the_same_gradients():
    """Gradients are added up in place, in buffers that are theirs alone."""
    ours = network()
    loss = ours(*inputs(2, 16)).square().sum()
    leaves = list(ours.parameters())
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(loss, leaves), strict=True))


@pytest.mark.parametrize("kept", [0, 128])
def test_what_is_saved_for_the_backward_pass_is_planes_and_truncated_spectra(kept, monkeypatch):
    """Bytes per example: 2 · depth − 1 planes of the width, 4 more where the projection keeps its own, and spectra."""
    monkeypatch.setattr(activation, "KEPT_WIDTH", kept)
    n, width, modes, depth = 32, 6, 4, 4

    def saved(batch: int) -> int:
        storages: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            result = network(width=width, modes=modes, depth=depth)(*inputs(batch, n))
        assert result.requires_grad
        return sum(storages.values())

    plane, spectrum = n * n * width * 4, 4 * modes * modes * width * 4
    planes = 2 * depth - 1 + (4 if kept else 0)
    source = n * n * 4 + (2 * modes + 2) * 2 * modes * 4
    assert saved(8) - saved(4) <= 4 * (planes * plane + depth * spectrum + source + 4 * (width + 3))


def test_gradients_are_right_to_second_order():
    ours = network(width=2, modes=2, depth=2).double()
    arguments = [tensor.requires_grad_() for tensor in inputs(2, 5, dtype=torch.float64)]
    assert torch.autograd.gradcheck(ours, arguments)
    assert torch.autograd.gradgradcheck(ours, arguments)


def test_it_trains_under_autocast():
    ours = network()
    arguments = inputs(4, 16)
    wanted = ours(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predicted = ours(*arguments)
        predicted.float().square().sum().backward()
    assert relative(predicted.detach(), wanted.detach().double()) < 0.03
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in ours.parameters())


def test_it_trains_after_inference_on_the_same_grid():
    ours = network(modes=2)
    arguments = inputs(1, 14)
    with torch.inference_mode():
        ours(*arguments)
    ours(*arguments).sum().backward()


def test_a_copy_is_a_copy():
    ours = network()
    copied = copy.deepcopy(ours)
    assert torch.equal(copied(*inputs(2, 16)), ours(*inputs(2, 16)))
