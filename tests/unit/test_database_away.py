"""A database that does not answer is the server's trouble, and said so; waits in it are bounded."""

import asyncio
import time
from pathlib import Path

from sqlalchemy import create_engine, text

from deployments.api.identity import ANYONE
from deployments.api.service import VideoService
from deployments.errors import JobNotFoundError
from deployments.gateway_config import GatewayConfig
from deployments.jobs.database import open_database
from deployments.jobs.store import JobStore
from deployments.keys.settings import AuthMode, AuthSettings
from tests.support.door import open_door
from tests.unit.test_repeats import row


def test_requests_are_answered_503_while_the_database_is_away(tmp_path: Path) -> None:
    with open_door(tmp_path, auth=AuthSettings(mode=AuthMode.OFF)) as door:
        engine = create_engine(door.config.store_url())
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
        for path in ("/v1/videos", "/v1/videos/video_1", "/v1/videos/video_1/content"):
            answer = door.client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                503,
                "database_unavailable",
            )
            assert int(answer.headers["retry-after"]) > 0
            assert "gone" not in answer.text and "jobs" not in answer.text.replace("of jobs", "")
        engine.dispose()


def test_no_session_waits_for_ever(postgres: str) -> None:
    engine = open_database(postgres)
    with engine.connect() as connection:
        for setting in ("lock_timeout", "idle_in_transaction_session_timeout"):
            assert connection.scalar(text(f"SHOW {setting}")) not in ("0", None)
    engine.dispose()


def test_a_delete_goes_on_when_its_client_leaves(tmp_path: Path) -> None:
    config = GatewayConfig(data_dir=tmp_path)
    video = tmp_path / "videos" / "video_1" / "1" / "video.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"clip")

    async def scenario() -> None:
        service = VideoService(config)
        store = JobStore(create_engine(config.store_url()))
        finished = row("video_1")
        finished.status = "completed"
        store.add(finished)
        request = asyncio.create_task(service.delete("video_1", ANYONE))
        while exists(store):
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait({request})
        deadline_s = time.monotonic() + 60
        while video.exists() and time.monotonic() < deadline_s:
            await asyncio.sleep(0.02)
        service.close()
        store.close()

    asyncio.run(scenario())
    assert not video.exists()


def exists(store: JobStore) -> bool:
    try:
        store.get("video_1")
    except JobNotFoundError:
        return False
    return True
