"""Make ``released_model/weights.safetensors``: one regression per Fourier mode towards Poisson's exact multiplier.

Run it in this folder, with the package installed: ``python make_weights.py``. The weights are committed and shipped as
they are; running it again moves their last bits at most.
"""

import torch
from released_model.network import RESOLUTION, WEIGHTS, Checkpoint
from safetensors.torch import save_file

import pdebench_fm

DISTRIBUTION = "ood_sys1:SYS-1(1,5)"
EXAMPLES = 1024


def make() -> torch.Tensor:
    """Fit each mode's polynomial in K to 1 / k·Kk, over the tensors of one distribution."""
    examples = pdebench_fm.load_examples(DISTRIBUTION, split="pretraining", count=EXAMPLES, grid=RESOLUTION)
    inputs, _ = examples.batch(range(EXAMPLES))
    tensor = torch.stack([inputs["k11"], inputs["k22"], inputs["k12"]], dim=1).double()
    tensor = tensor / (tensor[:, :1] + tensor[:, 1:2])
    features = Checkpoint.polynomial(tensor)
    wave = 2 * torch.pi * torch.fft.fftfreq(RESOLUTION, 1 / RESOLUTION, dtype=torch.float64)
    ky, kx = wave[:, None], wave[: RESOLUTION // 2 + 1].abs()
    symbol = torch.einsum("bc,cyx->byx", tensor, torch.stack([kx**2 + 0 * ky, ky**2 + 0 * kx, 2 * kx * ky]))
    symbol[:, 0, 0] = torch.inf
    fitted = torch.linalg.lstsq(features, (1 / symbol).flatten(1)).solution
    return fitted.T.reshape(RESOLUTION, RESOLUTION // 2 + 1, 6)


if __name__ == "__main__":
    save_file({"multipliers": make().float().contiguous()}, WEIGHTS)
