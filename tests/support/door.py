"""The real API over a real database, with a door that asks for keys; nothing behind it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from deployments.api.routes import build_api
from deployments.api.service import VideoService
from deployments.gateway_config import GatewayConfig
from deployments.jobs.database import open_database
from deployments.jobs.store import JobStore
from deployments.jobs.tables import COMPLETED, Job
from deployments.keys.rights import Quotas, Scope
from deployments.keys.settings import AuthMode, AuthSettings
from deployments.keys.store import KeyStore
from deployments.webhooks.deliveries import DeliveryQueue


@dataclass(frozen=True)
class Door:
    """An API that asks for keys, and what lies behind it."""

    client: TestClient
    keys: KeyStore
    jobs: JobStore
    deliveries: DeliveryQueue
    config: GatewayConfig

    def new_key(self, name: str, *scopes: Scope, **quotas: int) -> tuple[str, dict[str, str]]:
        """Id and headers of a new key."""
        new = self.keys.create(
            name, scopes=scopes or (Scope.READ, Scope.WRITE), quotas=Quotas(**quotas)
        )
        return new.record.key.id, {"authorization": f"Bearer {new.secret.text}"}

    def add_video(self, name: str, key_id: str) -> None:
        """A finished video."""
        self.jobs.add(
            Job(
                id=name,
                key_id=key_id,
                status=COMPLETED,
                model="m",
                prompt="p",
                width=96,
                height=64,
                num_frames=17,
                seed="1",
                num_inference_steps=3,
            )
        )
        folder = self.config.data_dir / "videos" / name
        folder.mkdir(parents=True)


@contextmanager
def open_door(folder: Path, **settings: Any) -> Iterator[Door]:
    """Builds the API; keys are asked for and never remembered unless `settings` say otherwise."""
    auth = AuthSettings(mode=AuthMode.REQUIRED, cache_s=0)
    config = GatewayConfig(data_dir=folder, **{"auth": auth, **settings})
    engine = open_database(config.store_url())
    service = VideoService(config)
    queue = DeliveryQueue(engine, config.webhooks)
    with TestClient(build_api(service), raise_server_exceptions=False) as client:
        yield Door(client, KeyStore(engine), JobStore(engine), queue, config)
    service.close()
    engine.dispose()
