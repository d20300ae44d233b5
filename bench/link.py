#!/usr/bin/env python3
"""A slow and lossy wire between two network interfaces, where the kernel has no netem.

  link.py DEVICE DEVICE DELAY_MS LOSS_PERCENT    each frame of one goes to the other that much later, or is lost; prints what it did when it is terminated
  link.py --plain DEVICE                         first, in the name space of each far end: its frames as they are on a wire, checksums in them, none longer than the MTU
"""
import ctypes
import fcntl
import heapq
import random
import select
import signal
import socket
import struct
import sys
import time

SIOCETHTOOL = 0x8946
# ETHTOOL_SRXCSUM, STXCSUM, SSG, STSO, SGSO, SGRO
OFFLOADS = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
PACKET_OUTGOING = 4


def plain(device):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for command in OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            try:
                fcntl.ioctl(s, SIOCETHTOOL, struct.pack("16sP16x", device.encode(), ctypes.addressof(value)))
            except OSError:
                pass  # a device may lack one


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--plain":
        return plain(sys.argv[2])
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    delay, loss = float(sys.argv[3]) / 1000, float(sys.argv[4]) / 100
    ends = []
    for device in sys.argv[1:3]:
        plain(device)
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        s.bind((device, 0))
        s.setblocking(False)
        ends.append(s)
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    going, seen, lost = [], 0, 0  # (when, number, end, frame)

    def stop(*_):
        print(f"{seen} frames, {lost} of them lost", flush=True)
        sys.exit()

    signal.signal(signal.SIGTERM, stop)
    print("linked", flush=True)
    while True:
        wait = max(0, going[0][0] - time.monotonic()) if going else None
        for s in select.select(ends, [], [], wait)[0]:
            frame, address = s.recvfrom(65536)
            if address[2] == PACKET_OUTGOING:
                continue
            seen += 1
            if random.random() < loss:
                lost += 1
            else:
                heapq.heappush(going, (time.monotonic() + delay, seen, other[s], frame))
        while going and going[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(going)
            try:
                end.send(frame)
            except OSError:
                lost += 1  # its queue is full, or it is down


if __name__ == "__main__":
    main()
