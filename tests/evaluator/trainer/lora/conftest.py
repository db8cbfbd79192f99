"""Small strong models that all tests of LoRA students share, on one thread."""

import pytest
import torch
from lora_examples import CASES, all_trunks


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def trunks(tmp_path_factory):
    return all_trunks(tmp_path_factory.mktemp("lora"))


@pytest.fixture(params=CASES, ids="-".join)
def trunk(request, trunks):
    return trunks[request.param]
