"""A check in a real kernel: interrupted as with JupyterLab's stop button, and what its streams carry."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

SETUP = "import math\n\nimport torch\nfrom torch import nn\n\nfrom autograder import check, hint, trace"
ENDLESS = "def softmax(scores, dim=-1):\n    while True:\n        pass"
LOUD = (
    "import os, sys\n\n\ndef softmax(scores, dim=-1):\n    print('aloud')\n    sys.stderr.write('to stderr')\n"
    "    os.write(2, b'below Python')\n    return torch.exp(scores - scores.logsumexp(dim, True))"
)
SECONDS = 120


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSTALK_WORK", str(tmp_path_factory.mktemp("work")))
        patch.delenv("PYTEST_CURRENT_TEST", raising=False)
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=SECONDS)
    run(client, SETUP)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client: BlockingKernelClient, source: str) -> list[dict]:
    """The messages that a cell gives on the way."""
    seen: list[dict] = []
    client.execute_interactive(source, output_hook=seen.append, timeout=SECONDS)
    return seen


def html(messages: list[dict]) -> str:
    return next(m["content"]["data"]["text/html"] for m in messages if m["msg_type"] == "execute_result")


def test_the_stop_button_ends_a_check_and_the_next_one_works(
    kernel: tuple[KernelManager, BlockingKernelClient],
) -> None:
    manager, client = kernel
    run(client, ENDLESS)
    asked = client.execute('check("softmax")')
    while True:  # until the cell has begun
        message = client.get_iopub_msg(timeout=SECONDS)
        if message["parent_header"].get("msg_id") == asked and message["msg_type"] == "execute_input":
            break
    time.sleep(1.0)  # well into the loop; an interrupt any earlier would be as good
    manager.interrupt_kernel()
    messages = []
    while not (messages and messages[-1]["content"].get("execution_state") == "idle"):
        message = client.get_iopub_msg(timeout=SECONDS)
        if message["parent_header"].get("msg_id") == asked:
            messages.append(message)
    client.get_shell_msg(timeout=SECONDS)
    assert "You stopped the check: it was in line" in html(messages)
    assert [m for m in messages if m["msg_type"] == "error"] == []

    run(client, LOUD)
    assert "cases right, 2 of 2 points" in html(run(client, 'check("softmax")'))


def test_what_an_answer_prints_stays_in_the_report(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    """nbgrader takes all points from a cell that wrote to stderr."""
    _, client = kernel
    run(client, LOUD)
    messages = run(client, 'check("softmax")')
    assert [m["content"] for m in messages if m["msg_type"] == "stream"] == []
    assert all(word in html(messages) for word in ("aloud", "to stderr", "below Python"))
    result = next(m["content"]["data"]["text/plain"] for m in messages if m["msg_type"] == "execute_result")
    assert float(result) == 2.0


def test_cell_ids_are_told_by_a_front_end(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    """As JupyterLab sends them: the answer counts where it will be graded."""
    _, client = kernel

    def run_as(cell_id: str, source: str) -> None:
        message = client.session.msg("execute_request", {"code": source, "store_history": True, "silent": False})
        message["metadata"]["cellId"] = cell_id
        client.shell_channel.send(message)
        client.get_shell_msg(timeout=SECONDS)
        while client.get_iopub_msg(timeout=SECONDS)["content"].get("execution_state") != "idle":
            pass

    run_as("scratch", LOUD)
    assert "Only the answer cell counts" in html(run(client, 'check("softmax")'))
    run_as("answer-softmax", LOUD)
    assert "cases right, 2 of 2 points" in html(run(client, 'check("softmax")'))
