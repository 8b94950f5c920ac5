/*
 * vmcore/launch.h - what lifeboat-vm is told at its start, once, over descriptor 3.
 *
 *   parent: socketpair(SEQPACKET) ─► exec lifeboat-vm with its end as 3 ─► LAUNCH + descriptors
 *   child:  decode ─► open devices, give up privileges ─► build machine ─► seccomp ─► start
 *           ─► OK, or ERROR with the reason (ctl.h) ─► both close the pair
 *
 * The program opens nothing by name but /dev/kvm and /dev/userfaultfd: every file, socket and tap
 * comes in as a descriptor. The message is from the parent, which is trusted; what is in the
 * descriptors (images, firmware, checkpoints) is not. docs/vm-control.md.
 */
#ifndef VMCORE_LAUNCH_H
#define VMCORE_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vmcore/ctl.h"
#include "vmcore/cut.h"
#include "vmcore/vm.h"

enum {
	VM_LAUNCH_FD = 3,
	VM_LAUNCH_BYTES_MAX = 16 << 10,
	VM_LAUNCH_CMDLINE_BYTES = 2048
};

/* What a descriptor is for; numbers are on the wire. */
enum vm_launch_role {
	VM_FD_LISTEN = 1,     /* listening SEQPACKET socket: control */
	VM_FD_HEARTBEAT = 2,  /* listening STREAM socket: the guest's agent port */
	VM_FD_SERIAL_LOG = 3, /* regular file, serial output; bounded */
	VM_FD_ROOT = 4,       /* empty directory to be shut up in */
	VM_FD_BIOS = 10,
	VM_FD_VGA_BIOS = 11,
	VM_FD_KERNEL = 12, /* LINUX; RESTORE, optional: what a reset starts */
	VM_FD_INITRD = 13,
	VM_FD_CPU = 14,       /* CPU template of a cold start (vmcore/host.h); optional */
	VM_FD_DISK_DATA = 20, /* raw image, or the overlay's blocks */
	VM_FD_DISK_VIEW = 21, /* connected NBD socket: what is below the overlay */
	VM_FD_DISK_MAP = 22,  /* the overlay's bitmap file */
	VM_FD_DISK_LOG = 23,  /* log of guest writes (imaging/cut.h) */
	VM_FD_DISK_SIDE = 24, /* with it, where a cut's old blocks go: cuts can be taken */
	VM_FD_TAP = 30,
	VM_FD_STATE = 40, /* checkpoint's state bytes, readable from 0 */
	VM_FD_RAM = 41,   /* connected NBD socket: checkpoint's memory */
	VM_FD_ORDER = 42, /* first-touch order, u32 little-endian each; optional */
};
struct vm_launch_fd {
	enum vm_launch_role role;
	uint32_t index; /* of the disk or NIC */
};

struct vm_launch_disk {
	enum vm_disk_bus bus;
	bool overlay;   /* VIEW + DATA + MAP; else DATA alone */
	bool read_only; /* DATA alone */
	char serial[21];
	uint64_t size_bytes;
	struct lb_hash point;          /* overlay: of the recovery point that VIEW shows */
	char label[VM_CTL_NAME_BYTES]; /* for messages */
};
struct vm_launch_nic {
	uint8_t mac[6];
	bool tap; /* else the card leads nowhere */
};
enum vm_launch_boot {
	VM_LAUNCH_BIOS = 1,
	VM_LAUNCH_LINUX = 2,
	VM_LAUNCH_RESTORE = 3,
};
struct vm_launch {
	char name[VM_CTL_NAME_BYTES];
	struct lb_id uuid;
	uint32_t uid, gid; /* to become; 0: stays what it is (not started by root) */
	uint64_t ram_bytes;
	uint32_t vcpus;
	enum vm_launch_boot boot;
	char cmdline[VM_LAUNCH_CMDLINE_BYTES]; /* with a kernel */
	enum vm_restore_mode restore_mode;     /* RESTORE: EAGER or LAZY */
	enum vm_clock_policy clock;
	bool announce;         /* RARP on every tap once it runs: after a failover */
	bool paused;           /* do not start: RESUME will */
	bool complement;       /* vm_cfg, TEST ONLY */
	uint64_t commit_bytes; /* packets held per NIC until their cut's receipt; 0: sent at once */
	uint32_t disks, nics;
	struct vm_launch_disk disk[VM_DISKS_MAX];
	struct vm_launch_nic nic[VM_NICS_MAX];
	uint32_t fds;
	struct vm_launch_fd fd[VM_CTL_FDS_MAX]; /* in the order of the descriptors */
};

/* Errors: LB_EINVAL (counts, does not fit). */
int vm_launch_encode(uint8_t *out, size_t cap, size_t *len, const struct vm_launch *l,
		     struct lb_err *err);
/* Every number is checked against what vm.h allows, every descriptor that the machine needs must be
 * there once. Errors: LB_EPROTO, LB_EVERSION, LB_EINPUT (what is missing). */
int vm_launch_decode(struct vm_launch *out, const void *p, size_t len, struct lb_err *err);
/* Position of the descriptor, or -1. */
int vm_launch_find(const struct vm_launch *l, enum vm_launch_role role, uint32_t index);

#endif
