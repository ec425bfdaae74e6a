"""Files in the authors' forms with few clusters and 16-bit values: VGG-16 is the least a NetVLAD can have."""

from pathlib import Path

import torch
from torch import Tensor

from cricavpr.models.netvlad import VLADNet

CLUSTERS, WHITENED = 4, 8
FORMS = {  # how the authors call the parts that we call backbone, pool and whitening
    "netvlad": {"backbone.": "encoder.", "pool.": "pool."},
    "sfrs": {"backbone.": "base_model.base.", "pool.": "net_vlad.", "whitening.": "pca_layer."},
    "patch_netvlad": {"backbone.": "encoder.", "pool.": "pool.", "whitening.": "WPCA.0."},
}


def network() -> VLADNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return VLADNet(CLUSTERS, "clusters", WHITENED)


def authors_state(method: str) -> dict[str, Tensor]:
    """Random weights under the names of a method's authors; NetVLAD's second form has no whitening."""
    state: dict[str, Tensor] = {}
    for name, value in network().state_dict().items():
        part = name[: name.index(".") + 1]
        if part in FORMS[method]:
            theirs = FORMS[method][part] + name.removeprefix(part)
            state[theirs] = (value[:, :, None, None] if name == "whitening.weight" else value).half()
    return state


def authors_file(method: str, folder: Path, **changes: Tensor | None) -> Path:
    """`changes` replace entries, or leave them out where None."""
    state = {**authors_state(method), **changes}
    path = folder / f"{method}.pth.tar"
    torch.save({"state_dict": {name: value for name, value in state.items() if value is not None}}, path)
    return path
