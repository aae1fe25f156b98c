"""What is collected and what is not, over real databases and stores."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from deployments.artifacts.collector import GRACE_S, Collector, Reason
from deployments.artifacts.objects import Objects
from deployments.errors import ArtifactStoreError
from deployments.jobs.database import open_database
from deployments.jobs.store import JobStore
from deployments.jobs.tables import COMPLETED, FAILED, IN_PROGRESS, QUEUED, Job
from lingbot_serve.cli import app
from tests.support.s3 import BUCKET


@pytest.fixture(params=["sqlite, folder", "postgresql, s3"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Engine, Objects]]:
    if request.param == "sqlite, folder":
        engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
        objects = Objects((tmp_path / "videos").as_uri())
    else:
        request.getfixturevalue("s3")
        engine = open_database(request.getfixturevalue("postgres"))
        objects = Objects(f"s3://{BUCKET}/{tmp_path.name}/videos")
    yield engine, objects
    engine.dispose()


def add(engine: Engine, name: str, status: str, **columns: object) -> None:
    sizes = {"width": 96, "height": 64, "num_frames": 17, "num_inference_steps": 3}
    job = Job(id=name, model="m", prompt="p", seed="1", status=status, **sizes, **columns)
    JobStore(engine).add(job)


def video_of(name: str) -> dict[str, object]:
    return {"artifacts": {"video": {"name": name, "bytes": 1, "sha256": "", "media_type": ""}}}


def fill(engine: Engine, objects: Objects) -> None:
    now_s = time.time()
    add(engine, "kept", COMPLETED, **video_of("kept/2/video.mp4"), expires_at=now_s + 9e6)
    add(engine, "gone", COMPLETED, **video_of("gone/1/video.mp4"), expires_at=now_s - 1)
    add(engine, "failed", FAILED)
    add(engine, "waits", QUEUED)
    add(engine, "runs", IN_PROGRESS)
    # Made before rows named their files.
    add(engine, "old", COMPLETED)
    for name in (
        "kept/2/video.mp4",
        "kept/1/video.mp4",
        "gone/1/video.mp4",
        "gone/1/thumbnail.webp",
        "failed/latents.safetensors",
        "waits/inputs.safetensors",
        "runs/1/video.mp4",
        "old/video.mp4",
        "nobody/inputs.safetensors",
    ):
        objects.put(name, b"content")


def job_ids(engine: Engine) -> set[str]:
    with Session(engine) as session:
        return set(session.scalars(select(Job.id)))


def found(collector: Collector, now_s: float) -> dict[str, Reason]:
    return {garbage.file.name: garbage.reason for garbage in collector.find(now_s)}


def names(objects: Objects) -> set[str]:
    return {file.name for file in objects.list()}


def test_each_file_that_nobody_needs_has_its_reason(places: tuple[Engine, Objects]) -> None:
    engine, objects = places
    fill(engine, objects)
    collector, now_s = Collector(engine, objects), time.time()
    expired = {"gone/1/video.mp4": Reason.EXPIRED, "gone/1/thumbnail.webp": Reason.EXPIRED}
    assert found(collector, now_s) == expired
    assert found(collector, now_s + 2 * GRACE_S) == expired | {
        "kept/1/video.mp4": Reason.LEFTOVER,
        "failed/latents.safetensors": Reason.LEFTOVER,
        "nobody/inputs.safetensors": Reason.ORPHAN,
    }


def test_a_look_changes_nothing_and_two_collections_are_as_good_as_one(
    places: tuple[Engine, Objects],
) -> None:
    engine, objects = places
    fill(engine, objects)
    before = names(objects)
    first, second = Collector(engine, objects), Collector(engine, objects)
    looked = first.collect(delete=False)
    assert (looked[Reason.EXPIRED].num_files, looked[Reason.EXPIRED].num_bytes) == (2, 14)
    assert names(objects) == before
    assert first.collect(delete=True)[Reason.EXPIRED].num_files == 2
    assert second.collect(delete=True)[Reason.EXPIRED].num_files == 0
    assert names(objects) == before - {"gone/1/video.mp4", "gone/1/thumbnail.webp"}
    store = JobStore(engine)
    assert (store.get("gone").artifacts, store.get("gone").status) == ({}, COMPLETED)
    assert store.get("kept").artifacts != {}


def test_rows_without_files_are_forgotten_in_the_end(places: tuple[Engine, Objects]) -> None:
    engine, objects = places
    now_s = time.time()
    long_ago = {"completed_at": now_s - 101 * 86_400}
    add(engine, "kept", COMPLETED, **video_of("kept/1/video.mp4"), **long_ago)
    add(engine, "expired", COMPLETED, expires_at=now_s - 1, **long_ago)
    add(engine, "failed", FAILED, **long_ago)
    add(engine, "lately", FAILED, completed_at=now_s - 86_400)
    add(engine, "waits", QUEUED)
    everything = {"kept", "expired", "failed", "lately", "waits"}
    Collector(engine, objects, forget_after_s=None).collect(delete=True)
    assert job_ids(engine) == everything
    Collector(engine, objects, forget_after_s=90 * 86_400).collect(delete=False)
    assert job_ids(engine) == everything
    Collector(engine, objects, forget_after_s=90 * 86_400).collect(delete=True)
    assert job_ids(engine) == {"kept", "lately", "waits"}


def test_a_store_that_is_away_is_no_reason_to_forget(s3: dict[str, str], tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    add(engine, "gone", COMPLETED, **video_of("gone/1/video.mp4"), expires_at=time.time() - 1)
    with pytest.raises(ArtifactStoreError):
        Collector(engine, Objects("s3://no-such-bucket/videos")).collect(delete=True)
    assert JobStore(engine).get("gone").artifacts != {}
    engine.dispose()


def test_the_command_counts_first_and_deletes_when_told(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    objects = Objects((tmp_path / "videos").as_uri())
    fill(engine, objects)
    config = tmp_path / "config.yaml"
    settings = {"pipeline": {"checkpoint": "/models/x"}, "gateway": {"data_dir": str(tmp_path)}}
    config.write_text(yaml.safe_dump(settings))

    def gc(*flags: str) -> str:
        result = CliRunner().invoke(app, ["artifacts", "gc", "--config", str(config), *flags])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "would delete" in gc()
    counted = json.loads(gc("--dry-run", "--json"))
    assert counted["deleted"] is False
    assert counted["files"]["expired"] == {"num_files": 2, "num_bytes": 14}
    assert "gone/1/video.mp4" in names(objects)
    assert json.loads(gc("--delete", "--json"))["files"] == counted["files"]
    assert "gone/1/video.mp4" not in names(objects)
    engine.dispose()
