"""torch's compiler is imported when something is compiled; optimisers do without, with the same steps."""

from __future__ import annotations

import subprocess
import sys

import pytest

STEPS = """
import inspect, sys
import torch
from s3prl_aalbert.toolkit.repairs.compiler import import_compiler_when_used

def steps(optimizer, model, count):
    for _ in range(count):
        optimizer.zero_grad()
        model(torch.ones(3)).square().sum().backward()
        optimizer.step()
    return [weight.detach().clone() for weight in model.parameters()]

def new():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)

"""


def run(code: str) -> None:
    """In a process of its own: this one may have imported the compiler already."""
    done = subprocess.run([sys.executable, "-c", STEPS + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "use",
    [
        "from torch._dynamo import config; assert hasattr(config, 'suppress_errors')",
        "import torch._dynamo.config as config; assert hasattr(config, 'suppress_errors')",
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item() == 2",
        "torch._dynamo.reset()",
    ],
)
def test_optimisers_step_alike_without_the_compiler_and_once_it_is_used(use: str) -> None:
    run(
        f"""
import_compiler_when_used()
import_compiler_when_used()
model, optimizer = new()
before = steps(optimizer, model, 2)
inspect.getmodule(sys._getframe())  # asks every module for its file
assert "sympy" not in sys.modules and "torch._dynamo.eval_frame" not in sys.modules
{use}
assert "torch._dynamo.eval_frame" in sys.modules
after = steps(optimizer, model, 2)
model, optimizer = new()  # with torch as it is
assert all(map(torch.equal, before, steps(optimizer, model, 2)))
assert all(map(torch.equal, after, steps(optimizer, model, 2)))
"""
    )


def test_a_decorator_marks_a_method() -> None:
    """As transformers does, which upstreams of S3PRL import when a task has started."""
    run(
        """
import_compiler_when_used()

class Model:
    @torch.compiler.disable(recursive=False)
    def half(self, value, by=2):
        return value / by

assert Model().half(6) == 3 and Model().half(6, by=3) == 2
assert "torch._dynamo.eval_frame" not in sys.modules
torch._dynamo.reset()
assert Model().half(6) == 3
"""
    )
    pytest.importorskip("transformers", reason="needs the extra transformers: pip install transformers")
    run("import_compiler_when_used()\nfrom transformers import PreTrainedModel")


def test_a_compiler_that_is_there_stays() -> None:
    run(
        """
import torch._dynamo
before = sys.modules["torch._dynamo"]
import_compiler_when_used()
assert sys.modules["torch._dynamo"] is before
"""
    )


def test_the_check_of_a_tasks_optimiser_does_without_the_compiler() -> None:
    """Which is where a task first has one."""
    run(
        """
from s3prl_aalbert.config_kinds import read_config
from s3prl_aalbert.model.config import find_config
from s3prl_aalbert.toolkit.config_checks import check_config

config = read_config(find_config("aalbert_phone_demo", "downstream_configs"), "task")
check_config(config, "here", "train", {})
assert "s3prl.optimizers" in sys.modules and "torch._dynamo.eval_frame" not in sys.modules
"""
    )
