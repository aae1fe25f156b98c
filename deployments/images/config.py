"""Settings of first frames that are named by address."""

from deployments.outbound import OutboundSettings


class FetchConfig(OutboundSettings):
    """Whether and from where `input_reference.image_url` is fetched.

    Args:
        enabled: Otherwise only images inside the request are taken.
    """

    enabled: bool = False
