/*
 * vmcore/src/machine.h - the machine of one lifeboat-vm: its devices from the descriptors of the
 * launch message, and the vm on top.
 *
 *   disk i:  DATA                              raw image
 *            VIEW (NBD) + DATA + MAP           overlay.h: guest writes beside a point's view
 *            [+ SIDE + LOG]                    a cut device on top: cuts can be taken
 *   NIC i:   TAP | nothing, [hold]
 */
#ifndef VMCORE_MACHINE_H
#define VMCORE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmcore/launch.h"

struct img_dev;
struct vm;
struct vm_hub;
struct vm_net;

struct vm_machine {
	struct vm_launch l;
	int fd[VM_CTL_FDS_MAX]; /* of l.fd; -1: taken by what was made of it */
	int kvm_fd, uffd;       /* as in vm_cfg; until the machine is built */
	struct img_dev *base[VM_DISKS_MAX], *view[VM_DISKS_MAX], *map[VM_DISKS_MAX];
	struct img_dev *disk[VM_DISKS_MAX]; /* may be one of the above */
	struct img_dev *side[VM_DISKS_MAX], *log[VM_DISKS_MAX];
	struct img_dev *cut[VM_DISKS_MAX]; /* what the guest sees when the disk can be cut */
	struct vm_net *net[VM_NICS_MAX], *hold[VM_NICS_MAX];
	struct img_dev *ram;
	uint8_t *state; /* checkpoint */
	size_t state_bytes;
	uint32_t *order;
	struct vm *vm;
	uint64_t started_boot_ns;
	uint32_t jail;
};

/* Build everything; nothing runs yet. @m's launch and descriptors are set (taken whatever happens).
 * Errors: those of vm_create(), of the devices, LB_EINPUT (checkpoint and launch differ). */
int vm_machine_build(struct vm_machine *m, struct vm_hub *hub, struct lb_err *err);
void vm_machine_fini(struct vm_machine *m);
int vm_machine_start(struct vm_machine *m, struct lb_err *err);

/* For vm_cut_take(): every disk's mark, and what held frames belong to the cut. */
int vm_machine_mark(void *arg, uint64_t seq, struct lb_err *err);
/* Disk @i as of the open cut. Errors: LB_EUNSUPPORTED (it cannot be cut), LB_EIO. */
int vm_machine_read(struct vm_machine *m, uint32_t i, void *buf, uint32_t len, uint64_t off,
		    struct lb_err *err);
/* One bit a 4 KiB block, LSB first, of what may differ from the last kept cut, the caller's (free);
 * *map NULL: not known, compare all. *base: what that cut was kept as, zeros: nobody said. */
int vm_machine_changed(struct vm_machine *m, uint32_t i, uint8_t **map, uint64_t *bytes,
		       struct lb_hash *base, struct lb_err *err);
int vm_machine_check(struct vm_machine *m, struct lb_err *err); /* LB_ECHANGED: cut given up */
/* @base: what the kept cut became; may be NULL. */
void vm_machine_cut_end(struct vm_machine *m, bool kept, const struct lb_hash *base);

#endif
