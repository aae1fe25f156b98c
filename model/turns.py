"""Several prompts through a DiT's blocks in turns: exchanges go on behind matrix products.

One prompt is half a block ahead of the next: while the queries, keys and values of one are on
their way, the other projects what its attention gave. Language models call it two-batch overlap.
"""

from collections.abc import Sequence
from itertools import product

from torch import Tensor

from model.block import Block, ClipCondition
from model.layers import BlockPrompt
from model.parallel.sequence import Exchange


def take_turns(
    blocks: Sequence[Block],
    tokens: Sequence[Tensor],
    time_B6D: Tensor,
    clip: ClipCondition,
    prompts: Sequence[tuple[BlockPrompt, ...]],
    num_tokens: int,
) -> list[Tensor]:
    """All blocks but the first, where prompts have no influence yet and share their exchanges.

    Every exchange has arrived before the next attention begins: see `Block.forward`. Two blocks
    are at work at a time, so the weights of both have to be there.

    Args:
        blocks: All of an expert's, two at least.
        tokens: What came out of the first block, [B, l, D] for each of two or more prompts.
        time_B6D: Modulation of the timestep.
        clip: What the prompts share.
        prompts: Each as all blocks read it.
        num_tokens: Of all ranks together.

    Returns:
        What comes out of the last block, [B, l, D] for each prompt.
    """
    tokens = list(tokens)
    turns = list(product(range(1, len(blocks)), range(len(tokens))))
    arrived = blocks[1].send(tokens[0], time_B6D, clip).wait()
    for (index, mine), following in zip(turns, [*turns[1:], None], strict=True):
        block = blocks[index]
        if mine == 0:
            modulation = block.camera_modulation(clip, clip.kept(index))
        attended = block.self_attn.attend(arrived, num_tokens)
        back = block.self_attn.send_back(attended)
        del attended
        sent = Exchange(())
        if following is not None:
            next_index, other = following
            sent = blocks[next_index].send(tokens[other], time_B6D, clip)
        middle = block.receive(tokens[mine], back, time_B6D, modulation)
        arrived = sent.wait()
        del back, sent
        tokens[mine] = block.finish(*middle, time_B6D, prompts[mine][index])
    return tokens
