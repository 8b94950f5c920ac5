/*
 * vmcore/src/state.h - the container of a machine's state: docs/formats/vmstate.md.
 *
 *   header | section ... ; all little-endian; each section with type, instance, length, CRC32C
 *
 * Writing cannot fail but for room. Reading checks everything of the container before anything is
 * used: magic, version, lengths, checksums, which sections there are and in which order. What is in
 * the sections of KVM and of the devices is checked by those who load them.
 *
 * Thread: any.
 */
#ifndef VMCORE_STATE_H
#define VMCORE_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/wr.h"
#include "vmcore/cut.h"

struct lb_err;

enum vm_state_section {
	VM_STATE_MACHINE = 1, /* what a vm_cfg needs */
	VM_STATE_CPU = 2,     /* the template as the guest sees it */
	VM_STATE_HOST = 3,    /* where it was taken */
	VM_STATE_VCPU = 4,    /* instance: the processor's number */
	VM_STATE_CHIPS = 5,
	VM_STATE_BOARD = 6,
	VM_STATE_OPTIONAL = 0x8000, /* types from here on may be skipped */
};

enum {
	VM_STATE_MAX_BYTES = 8 << 20,
	VM_STATE_SECTIONS_MAX = 64
};

/* ---- writing ---- */

struct vm_state_wr {
	struct lb_wr wr;
	size_t at; /* of the open section's header */
	uint32_t sections;
};

void vm_state_begin(struct vm_state_wr *w, uint8_t *p, size_t cap);
/* The writer of a new section's bytes; until vm_state_close(). */
struct lb_wr *vm_state_open(struct vm_state_wr *w, uint32_t type, uint32_t instance);
void vm_state_close(struct vm_state_wr *w);
/* The whole length; 0: @cap was too small. */
size_t vm_state_end(struct vm_state_wr *w);

/* Fields of VM_STATE_MACHINE and VM_STATE_HOST. */
struct vm_state_machine {
	struct vm_state_info info; /* without .cpu */
	uint64_t boot_ns, seq;
	char serial[VM_DISKS_MAX][21];
};
struct vm_state_host {
	uint32_t tsc_khz;
	char cpu_model[49];
};
void vm_state_put_machine(struct lb_wr *wr, const struct vm_state_machine *m);
void vm_state_put_host(struct lb_wr *wr, const struct vm_state_host *h);

/* ---- reading ---- */

struct vm_state_bytes {
	const uint8_t *p;
	size_t len;
};
struct vm_state_view {
	struct vm_state_machine machine; /* with .info.cpu */
	struct vm_state_host host;
	struct vm_state_bytes vcpu[VM_VCPUS_MAX], chips, board; /* borrowed from the bytes read */
};
/* Errors: LB_ECORRUPT, LB_EVERSION. */
int vm_state_parse(struct vm_state_view *out, const void *p, size_t len, struct lb_err *err);

#endif
