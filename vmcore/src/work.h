/*
 * vmcore/src/work.h - the thread that does what clients ask of the machine, one request after the
 * other: vm.h wants one controlling thread, and a request may take long (the first part of a first
 * cut, a read of a disk over the network) while the console must go on.
 *
 *   serving thread ── vm_work_submit(job) ─► [queue] ─► this thread ─► done ─► vm_work_finished()
 *
 * A cut belongs to the client that held it. When that client goes, or lets its time between hold
 * and resume run out, the guest goes on and the cut is abandoned: no client can stop a machine by
 * dying or by doing nothing.
 */
#ifndef VMCORE_WORK_H
#define VMCORE_WORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmcore/ctl.h"

struct vm_hub;
struct vm_machine;
struct vm_work;

/* Lives in its client: one at a time. Not touched by the submitter until it is finished. */
struct vm_job {
	struct vm_job *next;
	unsigned client;
	bool gone; /* no request: that client is not there any more */
	struct vm_ctl_msg request;
	struct vm_ctl_msg answer; /* its bytes point to .data */
	int fds[3];
	bool own[3]; /* to be closed when it is sent */
	uint8_t data[VM_CTL_DATA_MAX];
};
void vm_job_close_fds(struct vm_job *j);

int vm_work_create(struct vm_work **out, struct vm_machine *m, struct vm_hub *hub,
		   struct lb_err *err);
/* Joins; jobs that did not run are dropped. */
void vm_work_destroy(struct vm_work *w);
void vm_work_submit(struct vm_work *w, struct vm_job *j);
struct vm_job *vm_work_finished(struct vm_work *w); /* NULL: none */
/* STOP was asked for and done. */
bool vm_work_stopped(const struct vm_work *w);

#endif
