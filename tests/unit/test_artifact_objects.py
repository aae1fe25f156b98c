"""Objects by name: the same in a folder as on a real S3 server."""

import asyncio
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from deployments.artifacts.config import ArtifactSettings
from deployments.artifacts.objects import Objects
from deployments.errors import ArtifactMissingError, ArtifactStoreError
from tests.support.s3 import BUCKET, bucket_client

LARGE = bytes(range(256)) * (11 * 2**12)  # 11 MiB: three parts of an upload in parts


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return Objects((tmp_path / "a folder" / "videos").as_uri())
    request.getfixturevalue("s3")
    return Objects(f"s3://{BUCKET}/{tmp_path.name}/videos")


def test_what_was_put_is_there_whole_and_in_parts(objects: Objects) -> None:
    objects.put("v/1/video.mp4", LARGE, media_type="video/mp4", filename="v.mp4")
    assert objects.get("v/1/video.mp4") == LARGE
    part = asyncio.run(objects.get_range("v/1/video.mp4", 255, 258))
    assert part == b"\xff\x00\x01"
    [found] = objects.list("v/1")
    assert (found.name, found.num_bytes) == ("v/1/video.mp4", len(LARGE))


def test_an_object_is_replaced(objects: Objects) -> None:
    objects.put("v/a", b"long before")
    objects.put("v/a", b"after")
    assert objects.get("v/a") == b"after"


def test_folders_are_listed_and_deleted_alone(objects: Objects) -> None:
    for name in ("v/inputs", "v/1/video", "v/2/video", "va/inputs"):
        objects.put(name, name.encode())
    assert sorted(found.name for found in objects.list("v")) == [
        "v/1/video",
        "v/2/video",
        "v/inputs",
    ]
    assert len(list(objects.list())) == 4
    objects.delete_folder("v")
    assert [found.name for found in objects.list()] == ["va/inputs"]


def test_what_is_gone_may_be_deleted_again(objects: Objects) -> None:
    objects.put("v/a", b"a")
    objects.delete(["v/b", "v/a"])
    objects.delete(["v/a"])
    objects.delete_folder("v")
    assert list(objects.list()) == []


def test_what_was_never_there_is_missing(objects: Objects) -> None:
    with pytest.raises(ArtifactMissingError, match="the store has no v/a"):
        objects.get("v/a")
    with pytest.raises(ArtifactMissingError):
        asyncio.run(objects.get_range("v/a", 0, 1))


def test_a_folder_is_its_owners_alone_and_holds_nothing_unfinished(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    objects = Objects(root.as_uri())
    objects.put("v/a", b"a")
    objects.delete_folder("v")
    objects.put("v/a", b"a")
    assert root.stat().st_mode & 0o077 == 0
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["a"]


def test_a_folder_that_takes_nothing_says_so_without_its_path(tmp_path: Path) -> None:
    objects = Objects((tmp_path / "videos").as_uri())
    (tmp_path / "videos" / "v").write_text("a file where a folder should be")
    with pytest.raises(ArtifactStoreError) as raised:
        objects.put("v/a", b"a")
    assert str(tmp_path) not in str(raised.value)


def test_a_signed_url_gives_the_file_to_who_has_no_key(s3: dict[str, str]) -> None:
    objects = Objects(f"s3://{BUCKET}/signed/videos")
    objects.put("v/1/video.mp4", b"0123456789", media_type="video/mp4", filename="v.mp4")
    url = objects.signed_url("v/1/video.mp4", 60)
    assert s3["AWS_SECRET_ACCESS_KEY"] not in url
    answer = httpx.get(url, headers={"range": "bytes=2-4"}, trust_env=False)
    assert (answer.status_code, answer.content) == (206, b"234")
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"] == 'attachment; filename="v.mp4"'


def test_objects_lie_under_the_prefix(s3: dict[str, str]) -> None:
    Objects(f"s3://{BUCKET}/some/prefix/videos").put("v/inputs", b"a")
    stored = bucket_client(s3).list_objects_v2(Bucket=BUCKET, Prefix="some/")["Contents"]
    assert [entry["Key"] for entry in stored] == ["some/prefix/videos/v/inputs"]


def test_a_bucket_that_is_not_there_is_an_error(s3: dict[str, str]) -> None:
    with pytest.raises(ArtifactStoreError) as raised:
        Objects("s3://no-such-bucket/videos").put("v/a", b"a")
    # Nobody asked for a file that is missing.
    assert not isinstance(raised.value, ArtifactMissingError)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"url": "ftp://host/a"}, "must begin with one of"),
        ({"url": "clips"}, "must begin with one of"),
        ({"url": "s3://key:secret@clips"}, "takes no credentials"),
        ({"url": "s3://clips?secret=1"}, "takes no credentials"),
        ({"url": "file://relative/folder"}, "must name an absolute folder"),
        ({"url": "s3:///prefix"}, "must name a bucket"),
        ({"serve": "redirect"}, "redirect needs an object store"),
        ({"presign_expiry_s": 8 * 86_400}, "less than or equal to 604800"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ArtifactSettings.model_validate(settings)
