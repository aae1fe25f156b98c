"""A collector as a process: takes OTLP over HTTP and writes each span as a line of JSON.

`python -m tests.support.otlp_receiver FILE` prints the port that it listens on.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


def read_spans(body: bytes) -> list[dict]:
    """The spans of one request, with their ids in hex and the service that sent them."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        {
            "service": {a.key: a.value.string_value for a in resource.resource.attributes}[
                "service.name"
            ],
            "name": span.name,
            "trace_id": span.trace_id.hex(),
            "span_id": span.span_id.hex(),
            "parent_id": span.parent_span_id.hex(),
            "start_ns": span.start_time_unix_nano,
            "end_ns": span.end_time_unix_nano,
            "job_id": {a.key: a.value.string_value for a in span.attributes}.get("job_id"),
        }
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def main(path: Path) -> None:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces", self.path
            spans = read_spans(self.rfile.read(int(self.headers["content-length"])))
            with path.open("a") as file:
                file.writelines(json.dumps(span) + "\n" for span in spans)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
