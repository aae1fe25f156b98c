"""What a forward takes on gangs that were not measured, from rates fitted to those that were.

A forward's time is the sum of four: matrix products, attention, everything that is done element by
element, and the exchanges of sequence parallelism. Each has one rate, the sum of its work over the
sum of its time in all fitted rows; nothing else is adjusted, so the error on the rows is a test.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from autoscaling.cost import latent_tokens
from lingbot_serve.bench.flops import DiTSizes
from lingbot_serve.bench.records import DitRow, VaeRow

TEXT_TOKENS = 512
BF16_BYTES = 2
EXPERT_PARAMETERS = 18.54e9
_CAMERA_PRODUCTS = 4  # square products of a block that a kept modulation saves


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one rank does in one forward.

    Args:
        gemm_flop: Of the products that are computed: kept camera modulations cost none.
        attention_flop: Self- and cross-attention.
        tokens: Of this rank.
        exchanged_bytes: That it sends to other ranks.
    """

    gemm_flop: float
    attention_flop: float
    tokens: float
    exchanged_bytes: float


def rank_work(
    num_tokens: int, gpus: int, *, kept_modulations: float = 1.0, sizes: DiTSizes | None = None
) -> Work:
    """One rank's part of a forward.

    Args:
        num_tokens: Of the clip.
        gpus: Ranks that share them.
        kept_modulations: Share of the blocks whose camera modulation is not computed anew.
        sizes: Of the DiT; None means the published ones.
    """
    sizes = sizes or DiTSizes()
    camera_flop = 2.0 * _CAMERA_PRODUCTS * sizes.dim**2 * sizes.num_layers * kept_modulations
    pairs = num_tokens * (num_tokens + TEXT_TOKENS)
    mine = num_tokens / gpus
    # q, k, v and o of every token, except for what stays here.
    exchanged = 4 * sizes.num_layers * mine * sizes.dim * BF16_BYTES * (gpus - 1) / gpus
    return Work(
        gemm_flop=(sizes.linear_flop_per_token - camera_flop) * mine,
        attention_flop=sizes.attention_flop_per_pair * pairs / gpus,
        tokens=mine,
        exchanged_bytes=exchanged,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardModel:
    """Rates of one rank.

    Args:
        gemm_flop_per_s: In matrix products.
        attention_flop_per_s: In attention.
        elementwise_s_per_token: Norms, activations, copies, all blocks together.
        exchange_bytes_per_s: In the exchanges; infinite where no gang was measured.
        exposed_in_pairs: Share of the exchanges' time that remains when two prompts run together.
        pair_factor: Two prompts' computing together, over twice that of one.
        gather_bytes_per_s: When sharded weights are fetched; None where it was not measured.
    """

    gemm_flop_per_s: float
    attention_flop_per_s: float
    elementwise_s_per_token: float
    exchange_bytes_per_s: float
    exposed_in_pairs: float
    pair_factor: float
    gather_bytes_per_s: float | None

    def compute_s(self, work: Work) -> float:
        """A forward without its exchanges."""
        return (
            work.gemm_flop / self.gemm_flop_per_s
            + work.attention_flop / self.attention_flop_per_s
            + work.tokens * self.elementwise_s_per_token
        )

    def forward_s(self, work: Work) -> float:
        """A forward of one prompt, alone."""
        return self.compute_s(work) + work.exchanged_bytes / self.exchange_bytes_per_s

    def pair_s(self, work: Work) -> float:
        """A guided step on one group of ranks: two prompts together."""
        exchanges_s = 2 * work.exchanged_bytes / self.exchange_bytes_per_s
        return 2 * self.pair_factor * self.compute_s(work) + self.exposed_in_pairs * exchanges_s

    def gather_s(self, gpus: int) -> float | None:
        """Fetching an expert that is sharded over some ranks."""
        if self.gather_bytes_per_s is None:
            return None
        fetched = EXPERT_PARAMETERS * BF16_BYTES * (gpus - 1) / gpus
        return fetched / self.gather_bytes_per_s


def row_tokens(row: DitRow | VaeRow) -> int:
    """Tokens of a row's clip."""
    width, height = (int(side) for side in row.size.split("x"))
    return latent_tokens(row.frames, height, width)


def row_work(row: DitRow) -> Work:
    """What a rank did in a row's forward."""
    return rank_work(row_tokens(row), row.gpus, kept_modulations=row.kept_modulations)


def fitted_rows(rows: Iterable[DitRow], *, gpu: str) -> list[DitRow]:
    """Rows of one GPU type that are comparable: published sizes, compiled, whole weights, all ranks
    one Ulysses group, the attention kernel that is the fastest on one GPU, and of the same case
    with one expert held and with both the latter."""
    candidates = [
        row
        for row in sorted(rows, key=lambda row: row.experts)
        if row.gpu == gpu
        and row.model == "base-cam"
        and row.compile
        and row.sharding == "none"
        and not row.cfg_parallel
    ]
    alone = [row for row in candidates if row.gpus == 1]
    if not alone:
        return []
    best = max(alone, key=lambda row: row.tflops).attention
    chosen = {(row.gpus, row.size, row.frames): row for row in candidates if row.attention == best}
    return list(chosen.values())


def fit(rows: Sequence[DitRow], sharded: Iterable[DitRow] = ()) -> ForwardModel:
    """Finds the rates.

    Args:
        rows: Comparable ones with shares by kind of kernel.
        sharded: Rows that say how long gathering an expert takes.

    Raises:
        ValueError: No row has been profiled.
    """
    profiled = [(row, row_work(row)) for row in rows if row.kernel_shares]
    if not profiled:
        raise ValueError("none of the rows has shares by kind of kernel")
    model = ForwardModel(
        gemm_flop_per_s=_rate((w.gemm_flop, _share_s(r, "gemm")) for r, w in profiled),
        attention_flop_per_s=_rate(
            (w.attention_flop, _share_s(r, "attention")) for r, w in profiled
        ),
        elementwise_s_per_token=1
        / _rate((w.tokens, _share_s(r, "norm_elementwise", "copy")) for r, w in profiled),
        exchange_bytes_per_s=_rate(
            (row_work(r).exchanged_bytes, r.seconds - r.silent_seconds)
            for r in rows
            if r.silent_seconds is not None
        ),
        exposed_in_pairs=0.0,
        pair_factor=1.0,
        gather_bytes_per_s=None,
    )
    return replace(
        model,
        exposed_in_pairs=_exposed_in_pairs(rows, model),
        pair_factor=_pair_factor(rows),
        gather_bytes_per_s=_gather_rate(sharded),
    )


def relative_error(model: ForwardModel, row: DitRow) -> float:
    """By how much a row's forward is predicted too long."""
    return model.forward_s(row_work(row)) / row.seconds - 1


def _share_s(row: DitRow, *kinds: str) -> float:
    return row.seconds * sum(row.kernel_shares.get(kind, 0.0) for kind in kinds)


def _rate(work_and_s: Iterable[tuple[float, float]]) -> float:
    """Sum of work over sum of time: long runs, which are measured best, weigh most."""
    pairs = list(work_and_s)
    seconds = sum(s for _, s in pairs)
    return sum(work for work, _ in pairs) / seconds if seconds > 0 else float("inf")


def _exposed_in_pairs(rows: Iterable[DitRow], model: ForwardModel) -> float:
    """Of the exchanges' time of two prompts together, what the gang waits for."""
    exposed_s = total_s = 0.0
    for row in rows:
        if row.pair_seconds is not None and row.silent_pair_seconds is not None:
            exposed_s += max(0.0, row.pair_seconds - row.silent_pair_seconds)
            total_s += 2 * row_work(row).exchanged_bytes / model.exchange_bytes_per_s
    return exposed_s / total_s if total_s else 1.0


def _pair_factor(rows: Iterable[DitRow]) -> float:
    together_s = alone_s = 0.0
    for row in rows:
        together = row.pair_seconds if row.gpus == 1 else row.silent_pair_seconds
        alone = row.seconds if row.gpus == 1 else row.silent_seconds
        if together is not None and alone is not None:
            together_s += together
            alone_s += 2 * alone
    return together_s / alone_s if alone_s else 1.0


def _gather_rate(rows: Iterable[DitRow]) -> float | None:
    fetched = [
        (EXPERT_PARAMETERS * BF16_BYTES * (row.gpus - 1) / row.gpus, row.gather_s)
        for row in rows
        if row.gather_s
    ]
    return _rate(fetched) if fetched else None
