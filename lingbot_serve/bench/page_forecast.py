"""The cost model's part of docs/performance.md."""

from collections.abc import Iterator

from lingbot_serve.bench.forecast import NETWORK_BYTES_PER_S, STEPS, FittedModel, forecasts
from lingbot_serve.bench.markdown import NOT_MEASURED, markdown

_TERA = 1e12
_GIGA = 1e9


def cost_model_section(fitted: FittedModel | None) -> list[str]:
    """Rates, their error, and what they say of larger gangs."""
    title = ["## Beyond what was measured", ""]
    if fitted is None:
        return [*title, f"{NOT_MEASURED.capitalize()} yet: the model needs profiled forwards."]
    return [*title, *_rates(fitted), "", *_errors(fitted), "", *_expectations(fitted)]


def _rates(fitted: FittedModel) -> Iterator[str]:
    model = fitted.model
    yield "A model with one rate for each kind of work, fitted to the forwards above on"
    yield f"{fitted.rows[0].gpu} (compiled, whole weights, fastest attention);"
    yield "`lingbot_serve/bench/cost_model.py`."
    yield ""
    rates = [
        ("matrix products", f"{model.gemm_flop_per_s / _TERA:.0f} TFLOP/s"),
        ("attention", f"{model.attention_flop_per_s / _TERA:.0f} TFLOP/s"),
        ("element by element", f"{model.elementwise_s_per_token * 1e6:.2f} µs a token"),
        ("exchanges between ranks", f"{model.exchange_bytes_per_s / _GIGA:.0f} GB/s sent"),
        ("of which a guided step waits for", f"{model.exposed_in_pairs:.0%}"),
        ("two prompts together over one by one", f"{model.pair_factor:.3f}"),
    ]
    if model.gather_bytes_per_s is not None:
        rates.append(("gathering weights", f"{model.gather_bytes_per_s / _GIGA:.0f} GB/s"))
    yield from markdown(("", "rate of one GPU"), rates)


def _errors(fitted: FittedModel) -> Iterator[str]:
    cells = [
        (str(row.gpus), row.size, str(row.frames), f"{row.seconds:.3f}", f"{error:+.1%}")
        for row, error in zip(fitted.rows, fitted.errors, strict=True)
    ]
    yield "Its error on the points that were measured:"
    yield ""
    yield from markdown(("GPUs", "size", "frames", "measured s", "error"), cells)
    if fitted.held_out is not None:
        gpus = max(row.gpus for row in fitted.rows)
        yield ""
        yield f"Fitted without the rows of {gpus} GPUs it misses them by {fitted.held_out:+.1%} "
        yield "at most."


def _expectations(fitted: FittedModel) -> Iterator[str]:
    cells = [
        (
            *(each.layout.name, each.size, str(each.frames)),
            *(f"{each.step_s:.3f}", f"{each.clip_s:.0f}"),
        )
        for each in forecasts(fitted.model)
    ]
    yield f"Expected, not measured: a guided step, and the {STEPS} steps of a clip without encoding"
    yield "and decoding, camera modulations kept. Two hosts take a prompt each, because 16 ranks do"
    yield "not divide 40 heads and the network would carry what NVLink does; only the predicted"
    yield f"flows cross it, at {NETWORK_BYTES_PER_S / _GIGA:.0f} GB/s, which is an assumption."
    yield ""
    yield from markdown(("gang", "size", "frames", "step s", "clip s"), cells)
