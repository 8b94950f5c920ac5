/*
 * vmcore/src/cut_int.h - what cuts and forks share.
 */
#ifndef VMCORE_CUT_INT_H
#define VMCORE_CUT_INT_H

#include <stdint.h>

struct lb_buf;
struct lb_err;
struct vm;

/* The state bytes of a machine whose vCPUs are parked. The board's lock is held. *@out is the
 * caller's. */
int vm_state_save(struct vm *vm, struct lb_buf **out, uint64_t seq, struct lb_err *err);
/* Of a machine that has none: nothing. */
void vm_stage_destroy(struct vm *vm);

#endif
