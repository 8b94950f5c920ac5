/*
 * vmcore/src/jail.h - what lifeboat-vm gives up, in three steps.
 *
 *   enter   no-new-privs; own uid and gid, no groups but that of /dev/kvm; the capabilities that
 *           opening /dev/kvm and a userfaultfd takes are kept: the caller opens them now
 *   drop    before the first foreign byte (image, checkpoint, firmware, guest): root is an empty
 *           directory; no capability; Landlock: nothing
 *   close   before the guest runs: seccomp, all threads: no opening, no sockets, no exec, no
 *           signals to others, no executable memory
 *
 * Capabilities and Landlock are a thread's own, and handed on to those it starts: no thread is
 * started before drop. After close a guest that breaks out holds: its own memory and descriptors
 * (its disks, its tap), KVM ioctls, memory allocation, time.
 */
#ifndef VMCORE_JAIL_H
#define VMCORE_JAIL_H

#include <stdint.h>

struct lb_err;

/* @uid, @gid 0: stay who we are (not root, or a test). *parts: enum vm_jail_part reached. Landlock
 * that the kernel lacks is no error; everything else is. */
int vm_jail_enter(uint32_t uid, uint32_t gid, uint32_t *parts, struct lb_err *err);
/* @root_fd: the empty directory, or -1. */
int vm_jail_drop(int root_fd, uint32_t *parts, struct lb_err *err);
int vm_jail_close(uint32_t *parts, struct lb_err *err);

#endif
