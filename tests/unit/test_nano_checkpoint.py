"""The shipped checkpoint is whole, small enough, judged, and served as it was judged."""

import re
from pathlib import Path

from deployments.app import check_checkpoint
from deployments.config import ServeConfig
from deployments.pipeline_config import PipelineConfig
from model.nano.export import MOST_BYTES
from model.nano.sizes import NANO
from model.nano.trials import WRONG
from model.verify import verify_weights

EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKPOINT = EXAMPLES / "nano"


def test_it_is_whole_and_of_the_size_that_is_trained() -> None:
    paths, dit = check_checkpoint(PipelineConfig(checkpoint=CHECKPOINT))
    verify_weights(paths)
    assert dit == NANO.dit
    assert paths.image_encoder is not None


def test_it_is_small_enough_for_a_repository() -> None:
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= MOST_BYTES


def test_its_card_tells_what_was_found() -> None:
    card = (CHECKPOINT / "README.md").read_text()
    assert "Not evaluated yet" not in card
    for name in WRONG:
        row = rf"\| PSNR of the right path above {name.replace('_', ' ')} \| (-?[\d.]+) dB"
        assert re.search(row, card), name


def test_it_is_served_as_its_card_says_it_was_judged() -> None:
    card = (CHECKPOINT / "README.md").read_text()
    judged = re.search(r"(\d+) steps, guidance ([\d.]+)\.\n", card)
    assert judged is not None
    served = ServeConfig.from_yaml(EXAMPLES / "nano.yaml").gateway.generation
    assert served.num_inference_steps == int(judged[1])
    assert served.guidance_scale == served.guidance_scale_2 == float(judged[2])
