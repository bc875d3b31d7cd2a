#!/usr/bin/env python3
"""Makes the captures beside it: one run of the lab for each fault, its failing probes as pcapng, some of them kept.

    cargo build -p prober && tests/captures/lab/make.py target/debug/prober [FAULT...]

A run's own --probes 1 --pcapng file holds both ends of every probe that failed or was late. Of those at most KEPT are
kept, spread over the run by the client's port, so that the files stay small; neighbour discovery is kept whole.
"""

import pathlib
import struct
import subprocess
import sys
import tempfile

KEPT = 30

# One fault for each cause of the catalogue, and the founding fault's twin in IPv6.
FAULTS = """
bridge-netfilter-off bridge-netfilter-off-v6 reply-bypasses-nat forward-drop network-policy no-endpoints reject-reset
not-listening stale-endpoint stale-rules service-rules-missing no-local-endpoint overlay-blocked-in
stale-overlay-neighbour route-missing ip-forward-off mtu-black-hole packet-loss rp-filter hairpin-off
missing-masquerade accept-queue-full endpoint-frozen duplicate-ip conntrack-full forward-heals
wire-drop-from-pods pod-route-missing invalid-reset snat-port-collision bad-checksum wrong-next-hop
encapsulation-mismatch
""".split()

# The data plane of the faults that the default one does not have.
DATA_PLANES = {
    "wire-drop-from-pods": "bridge-host-gw",
    "wrong-next-hop": "bridge-host-gw",
    "pod-route-missing": "routed-veth",
}

ENHANCED_PACKET = 6
# Agents probe from ports of this range on; responders listen below.
CLIENT_PORTS = 20_000


def client_port(frame):
    """The client's port of a TCP segment, or of the one that an ICMP error quotes; None for anything else."""
    ethertype = struct.unpack_from(">H", frame, 12)[0]
    return of_packet(ethertype, frame[14:])


def of_packet(ethertype, packet):
    if ethertype == 0x0800:
        protocol, rest = packet[9], packet[(packet[0] & 15) * 4 :]
    elif ethertype == 0x86DD:
        protocol, rest = packet[6], packet[40:]
    else:
        return None
    if protocol == 6:
        return next((port for port in struct.unpack_from(">HH", rest) if port >= CLIENT_PORTS), None)
    if protocol == 1 and rest[0] in (3, 11) or protocol == 58 and rest[0] in (1, 2, 3):
        return of_packet(ethertype, rest[8:])
    return None


def trimmed(data):
    """The same file with the packets of at most KEPT ports."""
    blocks, at = [], 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        blocks.append((kind, data[at : at + length]))
        at += length
    ports = {}
    for kind, block in blocks:
        if kind == ENHANCED_PACKET:
            captured = struct.unpack_from("<I", block, 20)[0]
            ports[id(block)] = client_port(block[28 : 28 + captured])
    seen = list(dict.fromkeys(port for port in ports.values() if port is not None))
    step = max(1, -(-len(seen) // KEPT))
    kept = set(seen[::step])
    return b"".join(block for kind, block in blocks if ports.get(id(block)) in kept | {None})


def main():
    prober, *faults = sys.argv[1:]
    here = pathlib.Path(__file__).parent
    for fault in faults or FAULTS:
        family = "ipv6" if fault.endswith("-v6") else "ipv4"
        with tempfile.NamedTemporaryFile(suffix=".pcapng") as whole:
            words = ["run", "--lab", "--quiet", "--family", family, "--fault", fault, "--probes", "1"]
            if fault in DATA_PLANES:
                words += ["--data-plane", DATA_PLANES[fault]]
            done = subprocess.run([prober, *words, "--pcapng", whole.name], stdout=subprocess.DEVNULL)
            if done.returncode != 1:
                sys.exit(f"prober {' '.join(words)} ended with {done.returncode}, 1 was expected")
            small = trimmed(pathlib.Path(whole.name).read_bytes())
        (here / f"{fault}.pcapng").write_bytes(small)
        print(fault, len(small))


if __name__ == "__main__":
    main()
