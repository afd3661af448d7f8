# SPDX-License-Identifier: BSD-3-Clause
"""Frames in pcap files (for DPDK's net_pcap), made and judged without help of the code under test."""

import struct

MAC = bytes.fromhex("020000000001020000000002")


def write(path, frames):
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for frame in frames:
            f.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


def read(path):
    """The frames, whichever of the two time resolutions the file has."""
    frames = []
    with open(path, "rb") as f:
        f.seek(24)
        while header := f.read(16):
            frames.append(f.read(struct.unpack("<IIII", header)[2]))
    return frames


def checksum(data):
    """The Internet checksum; 0 over data that carries a right one."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(proto, payload):
    """An Ethernet frame with an IPv4 packet whose header is right."""
    header = bytearray(struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, proto, 0,
                                   bytes([198, 18, 0, 1]), bytes([198, 18, 0, 2])))
    struct.pack_into(">H", header, 10, checksum(header))
    return MAC + b"\x08\x00" + bytes(header) + payload


def tcp(data, seq=1000, flags=0x18):
    """A TCP segment with a wrong checksum: whoever is asked for it has to compute it."""
    return ipv4(6, struct.pack(">HHIIBBHHH", 1024, 1025, seq, 0, 0x50, flags, 1024, 0xBEEF, 0) + data)


def udp(data):
    """A UDP datagram with a wrong checksum."""
    return ipv4(17, struct.pack(">HHHH", 1024, 1025, 8 + len(data), 0xBEEF) + data)


def is_right(frame):
    """Are all checksums of this IPv4 TCP or UDP frame right?"""
    ip = frame[14:]
    length, proto = struct.unpack(">H", ip[2:4])[0], ip[9]
    segment = ip[20:length]
    pseudo = ip[12:20] + struct.pack(">BBH", 0, proto, len(segment))
    return checksum(ip[:20]) == 0 and checksum(pseudo + segment) == 0


def tcp_parts(frame):
    """(sequence number, flags, data) of a TCP frame."""
    length = struct.unpack(">H", frame[16:18])[0]
    return struct.unpack(">I", frame[38:42])[0], frame[47], frame[54:14 + length]
