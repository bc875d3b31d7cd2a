#!/usr/bin/env python3
"""Writes the seeds of fuzzing. Cases that fuzzing found are kept unchanged.

Usage: tests/corpora/make.py      (writes into its own folder; the seeds are committed)

A `wire` case is one byte that names the link type (0 Ethernet, 1 Linux cooked v1, 2 cooked v2, 3 raw IP), then the frame.
A `layers` case is the same, with 4 loopback, 5 PPP and 6 PPPoE. A `datagram` case is one byte that names the ports, then the
payload; a `capture` case one byte for the size of the pieces in which the file is read, then the file. The other cases are the
parsed text or file itself.
"""

import json
import pathlib
import socket
import struct
import zlib

HERE = pathlib.Path(__file__).parent

CLIENT, CLUSTER_IP, BACKEND = "100.96.54.240", "100.67.30.133", "100.96.54.247"
CLIENT6, BACKEND6 = "fd00:96:1::10", "fd00:96:1::20"
MAC_A, MAC_B = bytes.fromhex("0a5864603610"), bytes.fromhex("0a5864603620")


def keep(target, name, content):
    folder = HERE / target
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def raw(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def ip(src, dst, protocol, payload, ttl=64, options=b"", ident=7):
    if ":" in src:
        return struct.pack(">IHBB", 6 << 28, len(payload), protocol, ttl) + raw(src) + raw(dst) + payload
    head = struct.pack(
        ">BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), ident, 0x4000, ttl, protocol, 0
    )
    head += raw(src) + raw(dst) + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def pseudo(src, dst, protocol, payload):
    if ":" in src:
        return raw(src) + raw(dst) + struct.pack(">IHBB", len(payload), 0, 0, protocol) + payload
    return raw(src) + raw(dst) + struct.pack(">BBH", 0, protocol, len(payload)) + payload


SYN_OPTIONS = bytes.fromhex("020405b40402080a000003e80000000001030307")


def tcp(src, dst, sport, dport, seq, ack, flags, payload=b"", options=b"", ttl=64, offset=None):
    words = 5 + len(options) // 4 if offset is None else offset
    head = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, words << 4, flags, 64240, 0, 0) + options + payload
    sum_ = checksum(pseudo(src, dst, 6, head))
    return ip(src, dst, 6, head[:16] + struct.pack(">H", sum_) + head[18:], ttl)


def icmp(src, dst, kind, code, rest, quoted, ttl=63):
    body = struct.pack(">BBHI", kind, code, 0, rest) + quoted
    if ":" in src:
        sum_ = checksum(pseudo(src, dst, 58, body))
    else:
        sum_ = checksum(body)
    body = body[:2] + struct.pack(">H", sum_) + body[4:]
    return ip(src, dst, 58 if ":" in src else 1, body, ttl)


def ethernet(packet, kind=None):
    if kind is None:
        kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    return MAC_B + MAC_A + struct.pack(">H", kind) + packet


SYN, RST, ACK, PSH, FIN = 2, 4, 16, 8, 1
SYN_V4 = tcp(CLIENT, CLUSTER_IP, 40000, 80, 1000, 0, SYN, options=SYN_OPTIONS)
SYN_V6 = tcp(CLIENT6, BACKEND6, 40000, 80, 1000, 0, SYN, options=SYN_OPTIONS)
# The founding incident: a SYN to the ClusterIP, an answer from the pod.
FROM_POD = tcp(BACKEND, CLIENT, 80, 40000, 5000, 1001, SYN | ACK, options=SYN_OPTIONS)
OWN_RST = tcp(CLIENT, BACKEND, 40000, 80, 1001, 0, RST)
INCIDENT = [SYN_V4, FROM_POD, OWN_RST]


def wire():
    def frame(name, packet, link=0):
        keep("wire", name, bytes([link]) + packet)

    frame("syn-v4", ethernet(SYN_V4))
    frame("syn-v6", ethernet(SYN_V6))
    frame("syn-ack-from-wrong-source", ethernet(FROM_POD))
    frame("rst", ethernet(OWN_RST))
    frame("data", ethernet(tcp(CLIENT, BACKEND, 40000, 80, 1001, 5001, PSH | ACK, b"hello\n")))
    frame("fin-v6", ethernet(tcp(CLIENT6, BACKEND6, 40000, 80, 1001, 5001, FIN | ACK)))
    frame("raw-v4", SYN_V4, 3)
    frame("raw-v6", SYN_V6, 3)
    cooked1 = struct.pack(">HHH8sH", 4, 1, 6, MAC_A + b"\0\0", 0x0800)
    frame("cooked-v1", cooked1 + SYN_V4, 1)
    cooked2 = struct.pack(">HHIHBB8s", 0x0800, 0, 3, 1, 4, 6, MAC_A + b"\0\0")
    frame("cooked-v2", cooked2 + SYN_V4, 2)
    frame("vlan", ethernet(struct.pack(">HH", 7, 0x0800) + SYN_V4, 0x8100))
    frame("port-unreachable", ethernet(icmp("100.96.54.1", CLIENT, 3, 3, 0, SYN_V4)))
    frame("host-unreachable-quotes-eight-bytes", ethernet(icmp("100.96.54.1", CLIENT, 3, 1, 0, SYN_V4[:28])))
    frame("time-exceeded", ethernet(icmp(CLUSTER_IP, CLIENT, 11, 0, 0, SYN_V4)))
    frame("fragmentation-needed", ethernet(icmp("100.96.54.1", CLIENT, 3, 4, 1450, SYN_V4)))
    frame("redirect", ethernet(icmp("100.96.54.1", CLIENT, 5, 1, 0x646036F7, SYN_V4)))
    frame("echo-request", ethernet(icmp(CLIENT, BACKEND, 8, 0, 1, b"ping")))
    frame("unreachable-v6", ethernet(icmp("fd00:96:1::1", CLIENT6, 1, 4, 0, SYN_V6)))
    frame("packet-too-big-v6", ethernet(icmp("fd00:96:1::1", CLIENT6, 2, 0, 1450, SYN_V6)))
    solicitation = raw(BACKEND6) + b"\x01\x01" + MAC_A
    frame("neighbour-solicitation", ethernet(icmp(CLIENT6, "ff02::1:ff00:20", 135, 0, 0, solicitation, 255)))
    advertisement = raw(BACKEND6) + b"\x02\x01" + MAC_B
    frame("neighbour-advertisement", ethernet(icmp(BACKEND6, CLIENT6, 136, 0, 0x60000000, advertisement, 255)))
    neighbour_option_of_no_length = raw(BACKEND6) + b"\x01\x00" + MAC_A
    frame("neighbour-option-of-no-length", ethernet(icmp(CLIENT6, BACKEND6, 135, 0, 0, neighbour_option_of_no_length)))
    arp = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + MAC_A + raw(CLIENT) + bytes(6) + raw(BACKEND)
    frame("arp-request", ethernet(arp, 0x0806))
    reply = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 2) + MAC_B + raw(BACKEND) + MAC_A + raw(CLIENT)
    frame("arp-reply", ethernet(reply, 0x0806))
    frame("arp-of-odd-lengths", ethernet(reply[:4] + b"\xff\xff" + reply[6:], 0x0806))
    frame("ip-options", ethernet(ip(CLIENT, BACKEND, 6, SYN_V4[20:], options=b"\x94\x04\0\0")))
    hop_by_hop = b"\x06\x00\x01\x04\x00\x00\x00\x00" + SYN_V6[40:]
    frame("v6-hop-by-hop", ethernet(ip(CLIENT6, BACKEND6, 0, hop_by_hop)))
    frame("v6-extension-that-is-cut", ethernet(ip(CLIENT6, BACKEND6, 0, b"\x06\xff")))
    frame("v6-fragment", ethernet(ip(CLIENT6, BACKEND6, 44, b"\x06\x00\x00\x10\x00\x00\x00\x01" + SYN_V6[40:])))
    later = ethernet(SYN_V4[:6] + b"\x00\x10" + SYN_V4[8:])
    frame("later-fragment", later)
    vxlan = struct.pack(">HHHHII", 50000, 8472, 8 + 8 + 14 + len(SYN_V4), 0, 0x08000000, 1 << 8) + ethernet(SYN_V4)
    frame("vxlan", ethernet(ip("172.20.0.11", "172.20.0.12", 17, vxlan)))
    frame("empty", b"")
    frame("unknown-link-type", SYN_V4, 200)
    frame("header-length-four", ethernet(b"\x44" + SYN_V4[1:]))
    frame("header-length-beyond-the-end", ethernet(b"\x4f" + SYN_V4[1:24]))
    frame("total-length-zero", ethernet(SYN_V4[:2] + b"\0\0" + SYN_V4[4:]))
    frame("total-length-too-small", ethernet(SYN_V4[:2] + b"\0\x08" + SYN_V4[4:]))
    frame("total-length-too-large", ethernet(SYN_V4[:2] + b"\xff\xff" + SYN_V4[4:]))
    frame("data-offset-zero", ethernet(tcp(CLIENT, BACKEND, 1, 2, 3, 4, SYN, offset=0)))
    frame("data-offset-beyond-the-end", ethernet(tcp(CLIENT, BACKEND, 1, 2, 3, 4, SYN, offset=15)))
    frame("option-of-no-length", ethernet(tcp(CLIENT, BACKEND, 1, 2, 3, 4, SYN, options=b"\x02\x00\x05\xb4")))
    frame("option-beyond-the-end", ethernet(tcp(CLIENT, BACKEND, 1, 2, 3, 4, SYN, options=b"\x01\x01\x01\x08")))
    frame("v6-payload-length-too-large", ethernet(SYN_V6[:4] + b"\xff\xff" + SYN_V6[6:]))
    frame("icmp-quotes-an-icmp", ethernet(icmp("100.96.54.1", CLIENT, 3, 1, 0, icmp(CLIENT, BACKEND, 3, 1, 0, SYN_V4))))
    frame("icmp-quotes-nothing", ethernet(icmp("100.96.54.1", CLIENT, 3, 3, 0, b"")))
    frame("ends-in-the-tcp-header", ethernet(SYN_V4)[:40])
    frame("wrong-checksum", ethernet(SYN_V4[:36] + b"\xde\xad" + SYN_V4[38:]))


def pcap(packets, order="<", magic=0xA1B2C3D4, link=1, scale=1_000_000, snaplen=262144):
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)
    for at, packet in packets:
        cut = packet[:snaplen]
        out += struct.pack(order + "IIII", at // scale, at % scale, len(cut), len(packet)) + cut
    return out


def block(kind, body, order="<"):
    body += b"\0" * (-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def pcapng(interfaces, packets, order="<"):
    out = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    for link, options in interfaces:
        out += block(1, struct.pack(order + "HHI", link, 0, 0) + options, order)
    for interface, at, packet in packets:
        head = struct.pack(order + "IIIII", interface, at >> 32, at & 0xFFFFFFFF, len(packet), len(packet))
        out += block(6, head + packet + b"\0" * (-len(packet) % 4), order)
    return out


def replay():
    start = 1_700_000_000_000_000
    frames = [(start + 100 * n, ethernet(packet)) for n, packet in enumerate(INCIDENT)]
    again = [(at + 1_000_000, frame) for at, frame in frames]
    whole = pcap(frames + again)
    keep("replay", "incident.pcap", whole)
    nanos = [(at * 1000, frame) for at, frame in frames + again]
    keep("replay", "nanoseconds-big-endian.pcap", pcap(nanos, ">", 0xA1B23C4D, scale=1_000_000_000))
    keep("replay", "raw-ip.pcap", pcap([(start, SYN_V4), (start + 50, SYN_V6)], link=101))
    keep("replay", "cut-in-a-record.pcap", whole[:-30])
    keep("replay", "cut-in-a-record-header.pcap", whole[:30])
    keep("replay", "snaplen-54.pcap", pcap(frames, snaplen=54))
    lying = bytearray(whole)
    lying[32:36] = b"\xff\xff\xff\xff"
    keep("replay", "a-record-of-four-gigabytes.pcap", bytes(lying))
    keep("replay", "unknown-link-type.pcap", pcap(frames, link=195))
    keep("replay", "no-packets.pcap", pcap([]))
    nanosecond = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
    both = [(0, at, frame) for at, frame in frames] + [(1, at * 1000, frame[14:]) for at, frame in frames]
    keep("replay", "two-interfaces.pcapng", pcapng([(1, b""), (101, nanosecond)], both))
    keep("replay", "big-endian.pcapng", pcapng([(1, b"")], [(0, at, frame) for at, frame in frames], ">"))
    keep("replay", "no-interface.pcapng", pcapng([], [(0, start, frames[0][1])]))
    # A resolution of 2^-127 seconds, and one of 10^-127.
    for name, resolution in [("two", 0xFF), ("ten", 0x7F)]:
        fine = struct.pack("<HHB3xHH", 9, 1, resolution, 0, 0)
        keep("replay", f"absurd-resolution-of-{name}.pcapng", pcapng([(1, fine)], [(0, start, frames[0][1])]))
    good = pcapng([(1, b"")], [(0, start, frames[0][1])])
    keep("replay", "a-block-of-no-length.pcapng", good[:28] + struct.pack("<II", 1, 0) + good[36:])
    keep("replay", "a-block-of-four-gigabytes.pcapng", good[:28] + struct.pack("<II", 1, 0xFFFFFFFC) + good[36:])
    keep("replay", "last-stamp-there-is.pcapng", pcapng([(1, b"")], [(0, 2**64 - 1, frames[0][1])]))
    keep("replay", "empty", b"")
    keep("replay", "not-a-capture", b"#!/bin/sh\necho this is no capture\n")


def udp(sport, dport, payload):
    return struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload


NODE_1, NODE_2 = "172.20.0.11", "172.20.0.12"
VXLAN = struct.pack(">II", 0x08000000, 42 << 8) + ethernet(SYN_V4)
GENEVE = bytes.fromhex("0100655800000900 01028000") + ethernet(SYN_V4)
QUERY = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + b"\x0akubernetes\x07default\x03svc\0" + struct.pack(">HH", 1, 1)
ANSWER = struct.pack(">6H", 7, 0x8183, 1, 0, 0, 0) + QUERY[12:]
DISCOVER = struct.pack(">BBBBI", 1, 1, 6, 0, 9) + bytes(228) + bytes.fromhex("63825363") + b"\x35\x01\x01\xff"
WIREGUARD = bytes.fromhex("04000000 07000000 0100000000000000") + bytes(32)


def layers():
    def frame(name, packet, link=0):
        keep("layers", name, bytes([link]) + packet)

    def between(protocol, payload):
        return ethernet(ip(NODE_1, NODE_2, protocol, payload))

    frame("syn", ethernet(SYN_V4))
    frame("vxlan", between(17, udp(50000, 8472, VXLAN)))
    frame("vxlan-that-is-cut", between(17, udp(50000, 8472, VXLAN))[:80])
    frame("geneve", between(17, udp(50000, 6081, GENEVE)))
    frame("gre-with-key", between(47, bytes.fromhex("2000080000000005") + SYN_V4))
    frame("gre-bridged", between(47, bytes.fromhex("00006558") + ethernet(SYN_V4)))
    frame("erspan-ii", between(47, bytes.fromhex("100088be00000001 1000006500000000") + ethernet(SYN_V4)))
    frame("erspan-iii", between(47, bytes.fromhex("100022eb00000001 2000006500000000 00000001 0000000000000000") + ethernet(SYN_V4)))
    frame("ip-in-ip-in-ip-in-ip-in-ip", ip(NODE_1, NODE_2, 4, ip(NODE_1, NODE_2, 4, ip(NODE_1, NODE_2, 4, ip(NODE_1, NODE_2, 4, SYN_V4)))), 3)
    frame("v6-in-v4", between(41, SYN_V6))
    frame("v4-in-v6", ethernet(ip(CLIENT6, BACKEND6, 4, SYN_V4)))
    frame("wireguard", between(17, udp(51820, 51820, WIREGUARD)))
    frame("esp", between(50, bytes.fromhex("0000010000000001") + bytes(40)))
    frame("dns", between(17, udp(40000, 53, QUERY)))
    frame("sctp", between(132, bytes(12)))
    frame("lldp", ethernet(bytes(20), 0x88CC))
    frame("port-unreachable-quotes-udp", ethernet(icmp(NODE_1, CLIENT, 3, 3, 0, ip(CLIENT, BACKEND, 17, udp(40000, 53, QUERY)))))
    frame("double-tagged", ethernet(struct.pack(">HHHH", 100, 0x8100, 7, 0x0800) + SYN_V4, 0x88A8))
    frame("labelled", ethernet(bytes.fromhex("00011040 00020140") + SYN_V4, 0x8847))
    frame("pppoe", ethernet(bytes.fromhex("11000001002a0021") + SYN_V4, 0x8864))
    frame("backbone", ethernet(bytes(4) + ethernet(SYN_V4), 0x88E7))
    frame("snap", ethernet(bytes.fromhex("aaaa030000000800") + SYN_V4, 48))
    first = bytearray(ip(NODE_1, NODE_2, 17, udp(50000, 8472, VXLAN)))
    first[6] = 0x20
    frame("first-fragment-of-vxlan", ethernet(bytes(first)))
    first[6:8] = b"\0\x10"
    frame("later-fragment", ethernet(bytes(first)))
    frame("v6-later-fragment", ethernet(ip(CLIENT6, BACKEND6, 44, bytes.fromhex("1100000900000102") + bytes(16))))
    frame("loopback-little-endian", bytes.fromhex("1e000000") + SYN_V6, 4)
    frame("loopback-big-endian", bytes.fromhex("00000002") + SYN_V4, 4)
    frame("ppp", bytes.fromhex("ff030021") + SYN_V4, 5)
    frame("ppp-of-one-byte", bytes.fromhex("21") + SYN_V4, 5)
    frame("pppoe-without-ethernet", bytes.fromhex("11000001002a0057") + SYN_V6, 6)
    frame("udp-of-no-length", between(17, struct.pack(">HHHH", 1, 2, 4, 0)))
    frame("empty", b"")
    frame("cut", ethernet(SYN_V4)[:30])


def datagram():
    keep("datagram", "query", b"\0" + QUERY)
    keep("datagram", "no-such-name", b"\1" + ANSWER)
    keep("datagram", "query-that-is-cut", b"\0" + QUERY[:20])
    keep("datagram", "pointer-to-itself", b"\0" + QUERY[:12] + b"\xc0\x0c\0\1\0\1")
    keep("datagram", "label-that-is-no-label", b"\0" + QUERY[:12] + b"\x80abc")
    keep("datagram", "long-name", b"\0" + QUERY[:12] + (b"\x3f" + b"x" * 63) * 4 + b"\0\0\1\0\1")
    keep("datagram", "discover", b"\2" + DISCOVER)
    keep("datagram", "bootp", b"\2" + DISCOVER[:236])
    keep("datagram", "option-beyond-the-end", b"\2" + DISCOVER[:240] + b"\x0c\xff")
    keep("datagram", "solicit", b"\3" + bytes.fromhex("01000009"))
    keep("datagram", "vxlan", b"\4" + VXLAN)
    keep("datagram", "geneve", b"\5" + GENEVE)
    keep("datagram", "esp", b"\6" + bytes.fromhex("0000010000000001"))
    keep("datagram", "keep-alive-of-esp", b"\6\xff")
    keep("datagram", "wireguard", b"\4" + WIREGUARD)
    keep("datagram", "nothing", b"\4")


def capture():
    def file(name, content, piece=16):
        keep("capture", name, bytes([piece]) + content)

    start = 1_700_000_000_000_000
    packets = [(start + 100 * n, packet) for n, packet in enumerate(INCIDENT)]
    whole = pcap(packets, link=101)
    file("classic", whole)
    file("classic-in-single-bytes", pcap(packets, ">", link=101), 0)
    file("cut", whole[:-9])
    modified = struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 101)
    for at, packet in packets:
        modified += struct.pack("<IIIIIHBB", at // 10**6, at % 10**6, len(packet), len(packet), 3, 0x0800, 4, 0) + packet
    file("modified", modified)
    simple = block(3, struct.pack("<I", len(SYN_V4)) + SYN_V4)
    old = block(2, struct.pack("<HHIIII", 0, 0, 0, 9, len(SYN_V4), len(SYN_V4)) + SYN_V4)
    section = pcapng([(101, b""), (147, b"")], [(0, start, SYN_V4), (1, start, b"abc"), (7, start, SYN_V4)])
    file("every-block", section + simple + old + block(5, bytes(40)) + pcapng([(101, b"")], [(0, start, SYN_V6)], ">"))
    comment = struct.pack("<HH", 1, 5) + b"hello" + bytes(3) + struct.pack("<HHI", 2, 4, 2) + bytes(4)
    head = struct.pack("<IIIII", 0, 0, 9, len(SYN_V4), len(SYN_V4)) + SYN_V4 + bytes(-len(SYN_V4) % 4)
    file("commented", pcapng([(101, struct.pack("<HH", 2, 4) + b"eth0")], []) + block(6, head + comment))
    file("two-lengths", section[:-4] + bytes(4))
    file("no-order", b"\x0a\x0d\x0d\x0a" + bytes(24))
    file("link-type-that-is-not-read", pcap(packets, link=195))
    file("text", b"hello")
    file("header-that-is-cut", whole[:20])
    file("empty", b"")


def compressed():
    content = pcap([(1, SYN_V4)] * 40, link=101)
    # The header's time and system differ between versions of the library.
    member = b"\x1f\x8b\x08" + bytes(6) + b"\xff" + zlib.compress(content, 9)[2:-4]
    member += struct.pack("<II", zlib.crc32(content), len(content))
    keep("compressed", "gzip", member)
    keep("compressed", "two-members", member * 2)
    keep("compressed", "gzip-that-is-cut", member[:-9])
    keep("compressed", "gzip-of-another-sum", member[:-8] + bytes(8))
    # RFC 8878: a frame with a single segment, of one raw block and one of a repeated byte.
    frame = bytes.fromhex("28b52ffd 20 0d") + struct.pack("<I", 5 << 3)[:3] + b"hello" + struct.pack("<I", 8 << 3 | 3)[:3] + b"x"
    keep("compressed", "zstandard", frame)
    keep("compressed", "frame-to-skip", struct.pack("<II", 0x184D2A50, 3) + b"abc" + frame)
    keep("compressed", "two-frames-and-one-to-skip", frame + struct.pack("<II", 0x184D2A50, 3) + b"abc" + frame)
    keep("compressed", "zstandard-that-is-cut", frame[:-2])
    keep("compressed", "a-window-of-terabytes", bytes.fromhex("28b52ffd 00 ff 010000"))
    keep("compressed", "plain", content[:100])
    keep("compressed", "empty", b"")


PLAN = {
    "schema": "prober.dev/plan/v1",
    "run": "r1",
    "generation": 1,
    "agent": {"node": "node-1", "pod": "client"},
    "nonce": 42,
    "responder": {"ports": [8080, 8081], "accept": "running"},
    "probes": [],
}


def probe(target="100.67.30.133:80", count=5, method=None):
    return {
        "path": 0,
        "method": method or {"kind": "exchange", "echo_bytes": 20000},
        "target": target,
        "count": count,
        "start_ms": 0,
        "interval_ms": 20,
        "deadline_ms": 4000,
    }


def plan():
    def written(name, **changes):
        keep("plan", name, json.dumps(PLAN | changes))

    written("nothing-to-do.json")
    ttl_probe = {"kind": "ttl-probe", "hop_limits": [1, 2, 3, 64], "tries": 3}
    written(
        "every-method.json",
        probes=[
            probe(method={"kind": "connect", "echo_bytes": 0}),
            probe(method={"kind": "syn"}),
            probe("[fd00:96:1::20]:8080"),
            probe(method=ttl_probe),
        ],
    )
    written("paused.json", responder={"ports": [], "accept": "paused"})
    written("foreign-target.json", probes=[probe("8.8.8.8:53")])
    written("mapped-target.json", probes=[probe("[::ffff:100.67.30.133]:80")])
    written("other-agent.json", agent={"node": "node-2", "pod": "client"})
    written("unattended.json", log_reading="unattended", probes=[probe()])
    written("other-schema.json", schema="prober.dev/plan/v9")
    written("too-many.json", probes=[probe(count=2**32 - 1)] * 3)
    written("negative-count.json", probes=[probe(count=-1)])
    keep("plan", "cut.json", json.dumps(PLAN)[:-20])
    keep("plan", "deep.json", "[" * 5000)
    keep("plan", "empty.json", "")


STANDING_PLAN = {
    "schema": "prober.dev/standing-plan/v1",
    "generation": 4,
    "nonce": 42,
    "interval_ms": 10000,
    "deadline_ms": 3000,
    "confirm": {"failures": 3, "of": 4},
    "families": ["ipv4", "ipv6"],
    "access_paths": ["pod-ip", "cluster-ip", "cluster-ip-any", "cluster-ip-local", "hairpin", "node-port"],
    "peers": 3,
    "local": ["100.67.30.134:8080", "[fd00:67::134]:8080"],
    "any": ["100.67.30.133:9100"],
    "slots": [],
    "allowed": ["100.64.0.0/10", "fd00::/8"],
}


def standing_plan():
    def written(name, **changes):
        keep("standing_plan", name, json.dumps(STANDING_PLAN | changes))

    slot = {
        "node": "node-1",
        "pod": "server",
        "addresses": ["100.96.1.20", "fd00:96:1::20"],
        "service": ["100.67.30.133:9000", "[fd00:67::133]:9000"],
        "node_port": ["100.64.0.1:30000"],
    }
    written("without-slots.json")
    written("one-slot.json", slots=[slot])
    written("the-same-slot-64-times.json", slots=[slot] * 64)
    written("65-slots.json", slots=[slot] * 65)
    written("paused.json", paused=True)
    written("fast.json", interval_ms=500, peers=0, families=["ipv4"])
    written("too-fast.json", interval_ms=500, slots=[slot] * 64, peers=64)
    written("foreign-target.json", any=["8.8.8.8:9100"])
    written("foreign-port.json", any=["100.67.30.133:22"])
    written("mapped-target.json", any=["[::ffff:100.67.30.133]:9100"], allowed=["::/0", "0.0.0.0/0"])
    written("scoped-target.json", any=["[fd00::1%5]:9100"])
    written("other-schema.json", schema="prober.dev/standing-plan/v9")
    written("no-confirmation.json", confirm={"failures": 0, "of": 0})
    written("negative-interval.json", interval_ms=-1)
    keep("standing_plan", "cut.json", json.dumps(STANDING_PLAN)[:-20])
    keep("standing_plan", "deep.json", "[" * 5000)


def banner():
    first = "PROBER/1 nonce=000000000000002a pod=server node=node-1 peer=100.96.1.10:61000"
    keep("banner", "of-a-run", first + "\n")
    keep("banner", "standing", first + " addresses=100.96.1.20,fd00:96:1::20\n")
    keep("banner", "of-a-later-release", first + " addresses=100.96.1.20 colour=blue\n")
    keep("banner", "ipv6", "PROBER/1 nonce=+2a pod=s node=n peer=[fd00::1]:61000")
    keep("banner", "without-address", first + " addresses=\n")
    keep("banner", "malformed-address", first + " addresses=100.96.1.20,\n")
    keep("banner", "without-peer", "PROBER/1 nonce=2a pod=server node=node-1\n")
    keep("banner", "http", "HTTP/1.1 400 Bad Request\r\n")
    keep("banner", "empty", b"")
    keep("banner", "not-utf-8", b"PROBER/1 nonce=\xff\n")


def agent_line():
    def line(name, **event):
        keep("agent_line", name, json.dumps(event))

    agent = {"node": "node-1", "pod": "client"}
    line(
        "hello-of-a-run", event="hello", schema="prober.dev/agent/v1", agent=agent, version="0.1.0", tier="T1",
        addresses=["100.96.1.10"], limits=[], at=1, run="canary-7",
    )
    line(
        "standing-failure", event="standing-failure", access_path="cluster-ip", server=agent, generation=4, stale=True,
        result={
            "path": 3, "engine": "kernel", "src": "100.96.1.10:61000", "dst": "100.67.30.133:9000", "started": 1,
            "isn": None, "server_isn": None, "outcome": {"kind": "timeout"}, "syns": 3, "exchange": {"kind": "not-tried"},
            "observations": [],
        },
    )
    line(
        "hello", event="hello", schema="prober.dev/agent/v1", agent=agent, version="0.1.0", tier="T1",
        addresses=["100.96.1.10", "fd00:96:1::10"], limits=["no CAP_NET_ADMIN"], at=1,
    )
    line("plan-accepted", event="plan-accepted", generation=1)
    line("plan-refused", event="plan-refused", reason="the plan does not parse:\n\"line\"\u2028two")
    counts = {"established": 3, "reset": 0, "timeout": 1, "unreachable": 0, "mismatched": 2}
    tally = {"event": "tally", "path": 0, "engine": "raw", "first_syn_success": 3}
    line("tally", **tally, outcomes=counts, rtt=[[100_000, 2], [250_000, 1]])
    most = 2**64 - 1
    line("tally-of-the-most", **tally, outcomes={name: most for name in counts}, rtt=[[60_000_000_000, 2**32 - 1]] * 2)
    line("tally-of-a-minute-and-more", **tally, outcomes=counts, rtt=[[60_000_000_001, 1]])
    ip_ = {"src": CLIENT, "dst": CLUSTER_IP, "hop_limit": 64, "ident": 7}
    syn = {
        "src_port": 40000, "dst_port": 80, "seq": 1000, "ack": 0, "flags": 2, "window": 64240,
        "options": {"mss": 1460, "sack_permitted": True, "timestamps": [1000, 0]}, "payload_len": 0,
    }
    link = {"src": "0a:58:64:60:36:10", "dst": "0a:58:64:60:36:01"}
    seen = [{"at": 5, "direction": "sent", "packet": {"link": link, "body": {"tcp": [ip_, syn]}}}]
    line(
        "probe", event="probe", path=0, engine="raw", src=f"{CLIENT}:40000", dst=f"{CLUSTER_IP}:80", started=5, isn=1000,
        server_isn=None, outcome={"kind": "mismatched", "from": f"{BACKEND}:80"}, syns=2, exchange={"kind": "not-tried"},
        observations=seen,
    )
    line(
        "server-trace", event="server-trace",
        handshakes=[{
            "isn": 1000, "peer": f"{CLIENT}:40000", "local": f"{BACKEND}:80", "syns": 2, "syn_acks": 2, "acks": 0,
            "resets_received": 2, "resets_sent": 0, "observations": seen,
        }],
    )
    line(
        "ttl-probe", event="ttl-probe", path=0, target=f"{CLUSTER_IP}:80",
        steps=[
            {"hop_limit": 1, "tries": 1, "answer": {"kind": "time-exceeded", "by": CLUSTER_IP, "hop_limit": 64}},
            {"hop_limit": 2, "tries": 3, "answer": {"kind": "silent"}},
        ],
    )
    line("capture", event="capture", received=10, dropped=most)
    line("done", event="done", generation=1)
    line("starved", event="starved", late_ns=most)
    line("alert", event="alert")
    line("notice", event="notice", text="")
    line("unknown-event", event="unheard-of")
    keep("agent_line", "not-json", "thread 'main' panicked at src/main.rs:1:1:")
    keep("agent_line", "cut", '{"event":"done","gener')
    keep("agent_line", "long", '{"event":"' + "\u00e9" * 5000)
    keep("agent_line", "not-utf-8", b'{"event":"notice","text":"\xff"}')


def conntrack():
    def tuple_(src, dst, sport, dport):
        return f"src={src} dst={dst} sport={sport} dport={dport}"

    original, reply = tuple_(CLIENT, CLUSTER_IP, 61000, 80), tuple_(BACKEND, CLIENT, 8080, 61000)
    end = "mark=0 zone=0 use=2"
    tcp = "ipv4     2 tcp      6"
    keep("conntrack", "unreplied", f"{tcp} 117 SYN_SENT {original} [UNREPLIED] {reply} {end}\n")
    keep("conntrack", "assured", f"{tcp} 431999 ESTABLISHED {original} {reply} [ASSURED] {end}\n")
    keep("conntrack", "counted", f"{tcp} 58 SYN_RECV {original} packets=1 bytes=60 {reply} packets=3 bytes=180 {end}")
    keep("conntrack", "offloaded", f"{tcp} ESTABLISHED {original} {reply} [OFFLOAD] {end}")
    original6, reply6 = tuple_(CLIENT6, BACKEND6, 61000, 8080), tuple_(BACKEND6, CLIENT6, 8080, 61000)
    keep("conntrack", "ipv6", f"ipv6     10 tcp      6 9 CLOSE {original6} {reply6} {end}")
    keep("conntrack", "udp", f"ipv4     2 udp      17 29 {original} [UNREPLIED] {reply} {end}")
    keep("conntrack", "cut", f"{tcp} 117 SYN_SENT {original} [UNREPLIED] src=")
    keep("conntrack", "no-state", f"{tcp} 117 {original} {reply}")
    keep("conntrack", "mixed-families", f"{tcp} 117 SYN_SENT {original6} {reply} {end}")
    keep("conntrack", "empty", "")


def evidence():
    client, server = {"node": "node-1", "pod": "client"}, {"node": "node-1", "pod": "server"}
    other = {"node": "node-2", "pod": "server"}

    def seen(at, direction, src, dst, **fields):
        ip_ = {"src": src[0], "dst": dst[0], "hop_limit": 64, "ident": 7}
        tcp_ = {
            "src_port": src[1], "dst_port": dst[1], "seq": 1000, "ack": 0, "flags": 2, "window": 64240,
            "options": {}, "payload_len": 0, **fields,
        }
        return {"at": at, "direction": direction, "packet": {"link": None, "body": {"tcp": [ip_, tcp_]}}}

    def path(access_path, target, outcome, observations, syns=2, server=server, trace=None, **rest):
        probe_ = {
            "path": 0, "engine": "raw", "src": f"{CLIENT}:40000", "dst": f"{target[0]}:{target[1]}", "started": 5,
            "isn": 1000, "server_isn": None, "outcome": outcome, "syns": syns, "exchange": {"kind": "not-tried"},
            "observations": observations,
        }
        identity = {"client": client, "server": server, "access_path": access_path, "family": "ipv4"}
        return {"path": identity, "target": probe_["dst"], "probes": [[probe_, trace]], **rest}

    def hello(agent, address):
        return {
            "schema": "prober.dev/agent/v1", "agent": agent, "version": "0.1.0", "tier": "T1", "addresses": [address],
            "limits": [], "at": 1,
        }

    def written(name, paths, nodes={}, agents=(), **rest):
        document = {"paths": paths, "agents": list(agents), "nodes": nodes, **rest}
        keep("evidence", f"{name}.json", json.dumps(document))

    here, service, pod = (CLIENT, 40000), (CLUSTER_IP, 80), (BACKEND, 8080)
    syn = seen(5, "sent", here, service)
    syn_ack = dict(seq=5000, ack=1001, flags=18)
    reset = seen(9, "sent", here, pod, seq=1001, flags=4)
    trace = {
        "isn": 1000, "peer": f"{CLIENT}:40000", "local": f"{BACKEND}:8080", "syns": 1, "syn_acks": 1, "acks": 0,
        "resets_received": 1, "resets_sent": 0,
        "observations": [seen(6, "received", here, pod), seen(7, "sent", pod, here, **syn_ack)],
    }
    established = {"kind": "established", "rtt_ns": 3, "connect_ns": 3}
    answered = [seen(5, "sent", here, pod), seen(8, "received", pod, here, **syn_ack)]
    healthy = path("pod-ip", pod, established, answered, syns=1)
    bypassed = path(
        "cluster-ip", service, {"kind": "mismatched", "from": f"{BACKEND}:8080"},
        [syn, seen(8, "received", pod, here, **syn_ack), reset], trace=trace,
    )
    ladder = [
        {"hop_limit": 1, "tries": 1, "answer": {"kind": "time-exceeded", "by": "100.96.54.1", "hop_limit": 64}},
        {"hop_limit": 2, "tries": 3, "answer": {"kind": "silent"}},
        {"hop_limit": 64, "tries": 3, "answer": {"kind": "silent"}},
    ]
    silent = path(
        "pod-ip", ("100.96.55.20", 8080), {"kind": "timeout"}, [seen(5, "sent", here, ("100.96.55.20", 8080))],
        server=other, ttl_probe={"path": 0, "target": "100.96.55.20:8080", "steps": ladder},
    )
    bridge = {"name": "cni0", "index": 3, "kind": "bridge", "up": True, "carrier": True}
    facts = {
        "bridge_nf_call_iptables": "absent", "ip_forward": {"value": 1}, "kube_proxy": "iptables", "links": [bridge],
        "addresses": [{"prefix": "100.96.54.1/24", "dev": "cni0"}],
        "routes": [
            {"destination": "100.96.54.0/24", "kind": "unicast", "dev": "cni0", "table": 254},
            {"destination": "100.96.55.0/24", "kind": "unicast", "dev": "gone0", "gateway": "100.96.55.0", "table": 254},
        ],
        "rules": [], "unread": [],
    }
    agents = [hello(client, CLIENT), hello(server, BACKEND), hello(other, "100.96.55.20")]
    written("nothing", [])
    written("healthy", [healthy], {"node-1": facts}, agents)
    written("bypassed", [healthy, bypassed], {"node-1": facts}, agents)
    written("silent", [healthy, silent], {"node-1": facts, "node-2": {}}, agents)
    written("no-agent", [bypassed, silent])
    written("unknown-field", [], fault="br-netfilter")
    written("path-without-client", [{**healthy, "path": {"server": server, "access_path": "pod-ip", "family": "ipv4"}}])
    whole = json.dumps({"paths": [bypassed], "agents": agents, "nodes": {"node-1": facts}})
    keep("evidence", "cut.json", whole[: len(whole) // 2])


if __name__ == "__main__":
    wire()
    replay()
    capture()
    layers()
    datagram()
    compressed()
    plan()
    standing_plan()
    banner()
    agent_line()
    conntrack()
    evidence()
