"""Prompts that reach the text encoder while it is busy."""

import numpy as np
from ray import serve

from deployments.names import PIPELINE
from tests.support.server import Server


def test_prompts_that_wait_are_encoded_together(server: Server) -> None:
    text_encoder = serve.get_deployment_handle("text_encoder", PIPELINE)
    before = text_encoder.batches.remote().result()
    prompts = [f"street number {index} {'of many ' * index}" for index in range(8)]
    waiting = [text_encoder.encode.remote(prompt) for prompt in prompts for _ in range(2)]
    embeds = [answer.result().embeds for answer in waiting]
    assert before < text_encoder.batches.remote().result() < before + len(prompts)
    for index in range(len(prompts)):
        np.testing.assert_array_equal(embeds[2 * index], embeds[2 * index + 1])
    lengths = [len(embeds[2 * index]) for index in range(len(prompts))]
    assert lengths == sorted(set(lengths))  # each caller has the answer to its own prompt
