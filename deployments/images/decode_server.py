"""A process that forks one child for each image: `python -m deployments.images.decode_server FD`.

The child limits itself, decodes and ends. Whatever an image does to a decoder, it does to one
child, which shares nothing with the gateway and outlives no other request.
"""

import math
import os
import resource
import signal
import socket
import socketserver
import struct
import sys

from deployments.images.decode import Pixels, decode_image
from model.errors import InvalidInputError

# Of a request: the most pixels, bytes of memory, and seconds; the file follows to the end. Of an
# answer: width and height, then the pixels; no width means that a problem follows in words.
REQUEST = struct.Struct(">QQd")
ANSWER = struct.Struct(">II")
MAX_CHILDREN = 4


class _Decode(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        max_pixels, max_bytes, max_seconds = REQUEST.unpack(self.rfile.read(REQUEST.size))
        _limit_this_process(max_bytes, max_seconds)
        try:
            pixels = decode_image(self.rfile.read(), max_pixels=max_pixels)
        except InvalidInputError as error:
            self._refuse(error.problem)
        except MemoryError:
            self._refuse("needs more memory than an image of its size; send another file")
        else:
            self._send(pixels)

    def _refuse(self, problem: str) -> None:
        self.wfile.write(ANSWER.pack(0, 0) + problem.encode())

    def _send(self, pixels: Pixels) -> None:
        self.wfile.write(ANSWER.pack(pixels.width, pixels.height))
        self.wfile.write(pixels.rgb)


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = MAX_CHILDREN

    def __init__(self, listener: socket.socket) -> None:
        super().__init__("", _Decode, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._parent = os.getppid()

    def service_actions(self) -> None:
        """Called about twice a second: ends with the gateway, however that ended."""
        super().service_actions()
        if os.getppid() != self._parent:
            sys.exit()


def _limit_this_process(max_bytes: int, max_seconds: float) -> None:
    cpu_seconds = math.ceil(max_seconds)
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, max_seconds)  # nobody handles it: it ends the process


def main() -> None:
    """Serves the listening socket whose number is the argument."""
    with _Server(socket.socket(fileno=int(sys.argv[1]))) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
