# SPDX-License-Identifier: BSD-3-Clause
"""A go-between that writes down what a real front-end says to a back-end, and can say something in its place.

    with Recorder(folder / "front", folder / "back") as recorder:   # the back-end listens at "back"
        ...                                                          # the front-end connects to "front"
        recorder.say("SEND_RARP", mac)
    print("\\n".join(recorder.lines))

A line is a request: its name, then what matters of it (ring index and number, or which of some features), `fd` if a
descriptor came along, `!` if it asks for an acknowledgement. test/vhost_user/test_recorded.c sends such lines again.
"""

import collections
import os
import select
import socket
import struct
import threading

NAMES = {
    1: "GET_FEATURES", 2: "SET_FEATURES", 3: "SET_OWNER", 4: "RESET_OWNER", 5: "SET_MEM_TABLE", 6: "SET_LOG_BASE",
    7: "SET_LOG_FD", 8: "SET_VRING_NUM", 9: "SET_VRING_ADDR", 10: "SET_VRING_BASE", 11: "GET_VRING_BASE",
    12: "SET_VRING_KICK", 13: "SET_VRING_CALL", 14: "SET_VRING_ERR", 15: "GET_PROTOCOL_FEATURES",
    16: "SET_PROTOCOL_FEATURES", 17: "GET_QUEUE_NUM", 18: "SET_VRING_ENABLE", 19: "SEND_RARP", 20: "NET_SET_MTU",
    21: "SET_BACKEND_REQ_FD", 22: "IOTLB_MSG", 24: "GET_CONFIG", 25: "SET_CONFIG", 28: "POSTCOPY_ADVISE",
    29: "POSTCOPY_LISTEN", 30: "POSTCOPY_END", 31: "GET_INFLIGHT_FD", 32: "SET_INFLIGHT_FD", 34: "RESET_DEVICE",
    36: "GET_MAX_MEM_SLOTS", 37: "ADD_MEM_REG", 38: "REM_MEM_REG", 39: "SET_STATUS", 40: "GET_STATUS",
}
HEADER = struct.Struct("=III")
VERSION, NEED_REPLY = 1, 1 << 3
FEATURES = {26: "log", 30: "protocol", 34: "packed"}


def line_of(request, flags, payload, fds):
    name = NAMES.get(request, f"REQUEST_{request}")
    words = [name]
    if name == "SET_FEATURES":
        value = int.from_bytes(payload, "little")
        words += [word for bit, word in FEATURES.items() if value >> bit & 1]
    elif name in ("SET_PROTOCOL_FEATURES", "SET_STATUS"):
        words.append(hex(int.from_bytes(payload, "little")))
    elif name == "SET_MEM_TABLE":
        words.append(str(struct.unpack_from("=I", payload)[0]))
    elif name in ("SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ERR"):
        words.append(str(payload[0]))
    elif name == "SET_VRING_ADDR":
        words.append(str(struct.unpack_from("=I", payload)[0]))
    elif name == "GET_VRING_BASE":
        words.append(str(struct.unpack_from("=I", payload)[0]))
    elif name in ("SET_VRING_NUM", "SET_VRING_BASE", "SET_VRING_ENABLE"):
        index, number = struct.unpack("=II", payload)
        words += [str(index), hex(number) if name == "SET_VRING_BASE" else str(number)]
    words += ["fd"] * bool(fds) + ["!"] * bool(flags & NEED_REPLY)
    return " ".join(words)


def read_exactly(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("cut off")
        data += more
    return data


class Recorder(threading.Thread):
    """Serves one front-end after another; lines holds what they said, and marks of ours."""

    def __init__(self, front, back):
        super().__init__(daemon=True)
        self.back, self.lines, self._ended, self._to_say = str(back), [], False, collections.deque()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(front))
        self._listener.listen()
        self._path = front

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended = True
        self.join()
        self._listener.close()
        os.unlink(self._path)

    def mark(self, text):
        self.lines.append(f"-- {text}")

    def say(self, name, payload=b""):
        """Send the back-end a request of ours, one without an answer."""
        (request,) = (number for number, known in NAMES.items() if known == name)
        self._to_say.append(HEADER.pack(request, VERSION, len(payload)) + payload)

    def run(self):
        while not self._ended:
            if not select.select([self._listener], [], [], 0.1)[0]:
                continue
            front = self._listener.accept()[0]
            with front, socket.socket(socket.AF_UNIX) as back:
                back.connect(self.back)
                try:
                    self._serve(front, back)
                except (ConnectionError, BrokenPipeError):
                    pass

    def _serve(self, front, back):
        while not self._ended:
            ready = select.select([front, back], [], [], 0.1)[0]
            if front in ready and not self._request(front, back):
                return
            if back in ready and not self._answer(back, front):
                return
            while self._to_say:
                back.sendall(self._to_say.popleft())

    def _request(self, front, back):
        # The header by itself: descriptors come with its first byte, and with no other message's.
        header, fds, _, _ = socket.recv_fds(front, HEADER.size, 8)
        if not header:
            return False
        header += read_exactly(front, HEADER.size - len(header))
        request, flags, size = HEADER.unpack(header)
        payload = read_exactly(front, size)
        self.lines.append(line_of(request, flags, payload, fds))
        self._pass_on(back, header + payload, fds)
        return True

    def _answer(self, back, front):
        data, fds, _, _ = socket.recv_fds(back, 4096, 8)
        if data:
            self._pass_on(front, data, fds)
        return bool(data)

    @staticmethod
    def _pass_on(sock, data, fds):
        socket.send_fds(sock, [data], fds)
        for fd in fds:
            os.close(fd)
