"""A storm of one request makes one job: `make bench-storm`, the short form."""

import asyncio

from sqlalchemy import create_engine

from benchmarks.storm import num_jobs, send_storm
from tests.support.server import Server, wait_for


def test_a_storm_of_one_request_makes_one_job(server: Server) -> None:
    storm = asyncio.run(send_storm(server.url, num_posts=60, num_at_once=20))
    assert set(storm.statuses) == {200}
    assert storm.num_hung_up > 5
    [video_id] = storm.ids
    engine = create_engine(server.config.gateway.store_url())
    with server.client() as client:
        assert wait_for(client, video_id)["status"] == "completed"
    assert num_jobs(engine) == 1
    engine.dispose()
