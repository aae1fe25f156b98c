"""The text_encoder stage: T5, with the results of recent prompts at hand."""

import asyncio
import hashlib
from collections import OrderedDict

from ray import serve

from cluster.logs import LogConfig
from cluster.metrics import count, declare
from deployments.logs import configure_replica_logging
from deployments.messages import Stage
from deployments.model_thread import ModelThread
from deployments.pipeline_config import StageConfig
from deployments.startup import loading
from model.checkpoint.layout import locate_checkpoint
from model.types import TextEmbeds
from monitoring.stages import CACHE_LOOKUPS

_MAX_BATCH_SIZE = 8  # 64 heads of 512 x 512 scores: half a GiB of float32
# A clip's two prompts come within a millisecond or two of each other.
_BATCH_WAIT_S = 0.005


class TextEncoderStage:
    """One replica of the text encoder.

    Args:
        checkpoint: Directory of the checkpoint.
        config: Device, dtype and threads.
        cache_entries: Prompts to remember; each takes up to 512 rows of features.
        logs: How the replica writes its log.
    """

    def __init__(
        self, checkpoint: str, config: StageConfig, cache_entries: int, logs: LogConfig
    ) -> None:
        from model.text_encoder import TextEncoder
        from model.tokenizer import PromptTokenizer

        configure_replica_logging(logs, Stage.TEXT_ENCODER.value)
        paths = locate_checkpoint(checkpoint)
        self._thread = ModelThread(config, Stage.TEXT_ENCODER)
        with loading(Stage.TEXT_ENCODER):
            self._model = TextEncoder.load(
                paths, device=self._thread.device, dtype=self._thread.dtype
            )
        # Counted on its own thread: a client waits for the count while the model may be busy.
        self._tokenizer = PromptTokenizer.load(paths)
        self._counting = ModelThread(config, Stage.TEXT_ENCODER)
        self._cache_entries = cache_entries
        declare(CACHE_LOOKUPS, stage=Stage.TEXT_ENCODER.value)
        self._cache: OrderedDict[bytes, asyncio.Task[TextEmbeds]] = OrderedDict()
        self._num_hits = 0
        self._num_batches = 0

    async def encode(self, prompt: str) -> TextEmbeds:
        """Features of a prompt, from the cache where it was encoded before.

        The cache holds tasks, so that a prompt which arrives twice at once is encoded once.
        """
        key = hashlib.sha256(prompt.encode()).digest()
        task = self._cache.get(key)
        result = "miss" if task is None else "hit"
        count(CACHE_LOOKUPS, stage=Stage.TEXT_ENCODER.value, result=result)
        if task is None:
            task = asyncio.create_task(self._encode_with_others(prompt))
            self._cache[key] = task
            task.add_done_callback(lambda done: self._forget_failure(key, done))
        else:
            self._num_hits += 1
        self._cache.move_to_end(key)
        while len(self._cache) > self._cache_entries:
            self._cache.popitem(last=False)
        # Shielded: one caller that is cancelled must not take the result from the others.
        return await asyncio.shield(task)

    @serve.batch(max_batch_size=_MAX_BATCH_SIZE, batch_wait_timeout_s=_BATCH_WAIT_S)
    async def _encode_with_others(self, prompts: list[str]) -> list[TextEmbeds]:
        """Takes the prompts that wait; Serve calls it with one each and hands out the results."""
        self._num_batches += 1
        return await self._thread.call(self._model.encode_batch, prompts)

    async def num_tokens(self, prompt: str) -> int:
        """Tokens of a prompt, uncut."""
        return await self._counting.call(self._tokenizer.num_tokens, prompt)

    async def cache_hits(self) -> int:
        """Calls that the cache has answered."""
        return self._num_hits

    async def batches(self) -> int:
        """Passes of the model; one may serve several prompts."""
        return self._num_batches

    def _forget_failure(self, key: bytes, done: "asyncio.Task[TextEmbeds]") -> None:
        failed = done.cancelled() or done.exception() is not None
        if failed and self._cache.get(key) is done:
            del self._cache[key]
