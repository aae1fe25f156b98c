"""The labels of all metrics and the values they may take."""

from monitoring.metric import OTHER, Label

STAGES = ("text_encoder", "image_encoder", "vae_encoder", "denoiser", "vae_decoder")
COMPONENTS = (*STAGES, "pipeline", "gateway")

# Tokens of a clip's latents; 832x480x81 has 32,760, 1280x720x81 has 75,600.
_TOKENS_PER_K = 1024
CLIP_SIZES = ("1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k", "256k", "512k")

STAGE = Label("stage", STAGES)
COMPONENT = Label("component", COMPONENTS)
SOURCE = Label("source", COMPONENTS)
TARGET = Label("target", COMPONENTS)
JOB_CLASS = Label("job_class", ("deadline", "best_effort"))
PRIORITY = Label("priority", ("low", "normal", "high"))
ORIGIN = Label("origin", ("client", "canary"))
OUTCOME = Label("outcome", ("completed", "failed", "cancelled"))
SIZE = Label("size", CLIP_SIZES)

# A gang's is the number that Serve gives its replica, used again by the replica that follows.
# 10,000 GPUs in gangs of eight.
GANG = Label("gang", pattern=r"\d{1,4}", limit=1250)
RANK = Label("rank", pattern=r"\d{1,3}", limit=64)
VERSION = Label("version", pattern=r"[0-9A-Za-z.+_-]{1,40}", limit=4)
RAY_VERSION = Label("ray", pattern=r"[0-9A-Za-z.+_-]{1,40}", limit=4)


def clip_size(num_tokens: int) -> str:
    """The value of `SIZE` for a clip: the next power of two of its tokens.

    Args:
        num_tokens: Tokens of the whole clip, before it is shared out over ranks.
    """
    return next((s for s in CLIP_SIZES if num_tokens <= int(s[:-1]) * _TOKENS_PER_K), OTHER)
