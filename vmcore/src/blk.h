/*
 * vmcore/src/blk.h - a disk as IDE and virtio-blk use it: an img_dev served by threads of its own.
 *
 *   device (lock held) ─ vm_blk_submit ─► queue ─► worker: img_pread/pwrite/flush (no lock)
 *                                                     └► lock ─► req.done(req) ─► unlock
 *
 * A request names guest memory by bounds-checked pieces; the worker reads straight into it and
 * marks it dirty before done(). FLUSH is a barrier only as the guest expects of a disk: it covers
 * what was completed before it was submitted.
 *
 * A cut (lock held, vCPUs out) does not drain: a request that has not called done() belongs to the
 * device's saved state and is submitted again after a restore. That is right because the guest has
 * seen no completion: a write done twice writes the same bytes, a torn read is read again. What a
 * write in progress does to the cut's disk is the business of the cut device below (imaging).
 *
 * Thread: submit and count with the board's lock held; create, drain and destroy without it.
 */
#ifndef VMCORE_BLK_H
#define VMCORE_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include "mem.h"

struct img_dev;
struct lb_err;
struct vm_blk;
struct vm_board;

enum vm_blk_op {
	VM_BLK_READ,
	VM_BLK_WRITE,
	VM_BLK_FLUSH,
	VM_BLK_ZERO, /* discard or write-zeroes: off, len_bytes */
};

struct vm_blk_piece {
	struct vm_gpa gpa;
	uint32_t len_bytes;
};

/* Embedded in the device's own request; the device keeps it until done(). */
struct vm_blk_req {
	enum vm_blk_op op;
	uint64_t off, len_bytes; /* both multiples of 512, inside the disk (the device checked) */
	const struct vm_blk_piece *pieces; /* READ, WRITE: their sum is len_bytes; each is RAM */
	uint32_t piece_count;
	void *buffer; /* instead of pieces, when piece_count is 0: host memory (IDE PIO) */
	int rc;       /* in done(): 0 or a negative lb_code */
	void (*done)(struct vm_blk_req *req); /* on a worker, lock held */
	struct vm_blk_req *next;
};

/* @dev is borrowed. @threads 1..16. */
int vm_blk_create(struct vm_blk **out, struct vm_board *b, struct img_dev *dev, unsigned threads,
		  struct lb_err *err);
/* Lets running requests finish without calling done() for them or for queued ones; joins. */
void vm_blk_destroy(struct vm_blk *blk);
void vm_blk_submit(struct vm_blk *blk, struct vm_blk_req *req);
/* Forget all queued requests and wait for running ones, without done() (device reset, load). Lock
 * held; it is released while waiting. */
void vm_blk_cancel(struct vm_blk *blk);
/* Wait until no request is left (done() called for all). Lock not held. False: not within
 * @limit_ns. */
bool vm_blk_drain(struct vm_blk *blk, uint64_t limit_ns);
uint64_t vm_blk_bytes(const struct vm_blk *blk);
bool vm_blk_writable(const struct vm_blk *blk);

#endif
