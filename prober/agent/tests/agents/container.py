"""Starts an agent as a container runtime does: an empty root, read-only, few devices, few capabilities.

Usage, as root in new mount and PID namespaces: container.py ROOT PLANS UID CAPABILITIES PROGRAM ARGUMENT...

PLANS becomes /etc/prober, as a volume would. CAPABILITIES are the numbers of those that are not dropped, or "-".
"""

import ctypes
import os
import subprocess
import sys

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38

root, plans, uid, kept, *command = sys.argv[1:]
uid = int(uid)
kept = [] if kept == "-" else [int(number) for number in kept.split(",")]


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def folder(path):
    os.makedirs(root + path, exist_ok=True)
    return root + path


mount("--bind", root, root)
mount("-t", "proc", "proc", folder("/proc"))
mount("--bind", root + "/proc/sys", root + "/proc/sys")
mount("-o", "remount,bind,ro", root + "/proc/sys")
mount("-t", "tmpfs", "tmpfs", folder("/dev"))
for device in ["null", "urandom"]:
    open(f"{root}/dev/{device}", "w").close()
    mount("--bind", f"/dev/{device}", f"{root}/dev/{device}")
mount("--bind", plans, folder("/etc/prober"))
mount("-o", "remount,bind,ro", root)
os.chroot(root)
os.chdir("/")

libc = ctypes.CDLL(None)
for capability in range(64):
    if capability not in kept:
        # Refused for numbers that this kernel does not know.
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
    sys.exit("cannot set no_new_privs")
os.execv(command[0], command)
