/*
 * vmcore/src/virtq.h - the device's side of one split virtqueue. [VIRTIO 1.2, 2.7]
 *
 *   available ring ─ pop ─► chain ─ device works ─► put + publish ─► used ring ─► interrupt?
 *
 * Rings and descriptors lie in guest memory and may change at any time. Each is copied once, the
 * copy is checked, and memory is not read again for it. A queue that breaks a rule (a head, a next
 * index or an address out of range, a loop, a chain longer than its table, a piece of no bytes, a
 * readable piece after a writable one, indirect inside indirect) is BROKEN: nothing moves on it any
 * more until the driver resets the device.
 *
 * Our own positions (next_avail, next_used) are kept here, never read back from the guest.
 * Thread: the board's lock held.
 */
#ifndef VMCORE_VIRTQ_H
#define VMCORE_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rd.h"
#include "base/wr.h"
#include "mem.h"

struct lb_err;

enum {
	VM_VIRTQ_SIZE_MAX = 256,
	VM_CHAIN_PIECES = 256
};

struct vm_piece {
	struct vm_gpa gpa; /* all of it is RAM, in one piece */
	uint32_t len_bytes;
};

/* A buffer of the driver: first what the device may read, then what it may write. */
struct vm_chain {
	uint16_t head;
	uint32_t out, in; /* piece[0 .. out) readable, piece[out .. out+in) writable */
	uint64_t out_bytes, in_bytes;
	struct vm_piece piece[VM_CHAIN_PIECES];
};

struct vm_virtq {
	struct vm_mem *mem;
	uint16_t size_max; /* what the device offers; power of two */
	uint16_t size;     /* what the driver chose: a power of two <= size_max */
	uint16_t vector;   /* MSI-X vector; the transport's */
	bool enabled, broken;
	bool indirect, event_idx; /* negotiated */
	struct vm_gpa desc, avail, used;
	uint16_t next_avail, next_used;
	uint16_t signalled; /* next_used at the last look at used_event */
};

/* Back to what it is before a driver uses it. */
void vm_virtq_reset(struct vm_virtq *q);
/* Lay the three parts out at @base as legacy drivers do. [2.7.2: align 4096] */
void vm_virtq_legacy_layout(struct vm_virtq *q, uint64_t base);

/* Is there a chain? False also for a broken or a disabled queue. */
bool vm_virtq_pop(struct vm_virtq *q, struct vm_chain *c);
/* The last @n chains popped were not looked at: they come again. */
void vm_virtq_unpop(struct vm_virtq *q, uint16_t n);
/* Read the chain that begins at @head, which the driver gave us earlier (restore). False: the queue
 * is broken now. */
bool vm_virtq_chain(struct vm_virtq *q, struct vm_chain *c, uint16_t head);

/* Write the used entry @ahead of the next one; the driver sees it after publish. */
void vm_virtq_put(struct vm_virtq *q, uint16_t ahead, uint16_t head, uint32_t written);
void vm_virtq_publish(struct vm_virtq *q, uint16_t count);
/* After publish: does the driver want an interrupt? [2.7.7] */
bool vm_virtq_wants_interrupt(struct vm_virtq *q);

/* Copy @len bytes that begin @skip bytes into the readable part, to @to. Returns how many there
 * were; less than that when memory was lost (mem.h). */
uint64_t vm_chain_read(struct vm_mem *m, const struct vm_chain *c, uint64_t skip, void *to,
		       uint64_t len);
/* The same into the writable part. */
uint64_t vm_chain_write(struct vm_mem *m, const struct vm_chain *c, uint64_t skip, const void *from,
			uint64_t len);

void vm_virtq_save(const struct vm_virtq *q, struct lb_wr *wr);
/* Errors: LB_ECORRUPT (a size that is none). Addresses are checked when used. */
int vm_virtq_load(struct vm_virtq *q, struct lb_rd *rd, struct lb_err *err);

#endif
