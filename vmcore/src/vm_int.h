/*
 * vmcore/src/vm_int.h - the inside of struct vm: KVM's descriptors, vCPU threads, the barrier.
 *
 *              kick: flag, immediate_exit, SIGRTMIN
 *   vCPU ── run ──────────────────────────────────► gate: finish I/O, count as parked
 *     ▲                                               │ all parked: reset, if it was asked for
 *     └──────────── no flag is set any more ──────────┘
 *
 * .want says why vCPUs must not run. It is set from any thread without a lock (a device asks for a
 * reset while it holds the board's lock); only the gate and the controlling thread clear it.
 *
 * Locks: .lock (the barrier) before the board's; .kick_lock innermost.
 */
#ifndef VMCORE_VM_INT_H
#define VMCORE_VM_INT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "board.h"
#include "boot.h"
#include "mem.h"
#include "pc1.h"
#include "vmcore/cut.h"
#include "vmcore/vm.h"
#include "x86_state.h"

struct kvm_run;
struct vm_complement;
struct lb_buf;
struct vm_pager;
struct vm_stage;
struct vm_state_view;

enum vm_want {
	VM_WANT_PAUSE = 1, /* the controlling thread: pause or cut */
	VM_WANT_RESET = 2, /* the guest: the last to park does it */
	VM_WANT_OFF = 4,   /* the machine has ended: switched off or faulted */
	VM_WANT_QUIT = 8,  /* threads end */
};

struct vm_vcpu {
	struct vm *vm;
	unsigned id;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	pid_t tid;       /* to signal; 0: not running. kick_lock */
	bool io_pending; /* KVM waits for the result of an access */
	_Atomic uint64_t exits, pio, mmio;
};

struct vm {
	struct lb_env *env;
	/* As given, but for what was borrowed during create: descriptors are duplicates of ours,
	 * texts and lists copies. */
	struct vm_cfg cfg;
	char name[64];
	struct vm_cpu cpu; /* as the guest sees it: read back from KVM */

	int kvm_fd, fd;
	size_t run_bytes;
	struct vm_mem mem;
	struct vm_board board;
	struct vm_pc1 pc1;
	bool board_made;
	struct vm_x86 x86;
	struct vm_vcpu *vcpus;
	struct vm_complement *complement; /* tests only; NULL: none */
	struct lb_buf *power_on;          /* processors and chips as after power-on */
	struct vm_stage *stage;           /* cut.c; NULL: no cut was asked for yet */
	struct vm_pager *pager;           /* pager.c; NULL: memory is all there */

	pthread_mutex_t lock, kick_lock;
	pthread_cond_t parked_cond;
	unsigned parked; /* lock */
	bool resetting;  /* lock: a vCPU thread does it, without the lock */
	unsigned threads;
	_Atomic unsigned want;
	_Atomic int state; /* enum vm_state */
	_Atomic uint64_t irqs;
	_Atomic uint64_t cuts, pause_last_ns, pause_max_ns, dirty_last;
};

/* ---- vm.c ---- */

/* All of vm_create() but the boot: no firmware, no kernel, processors as after power-on. */
int vm_build(struct vm **out, struct lb_env *env, const struct vm_cfg *cfg, struct lb_err *err);
/* Tell KVM of a piece of memory, or change whether it keeps a dirty log of it. */
int vm_slot_set(struct vm *vm, unsigned slot, bool log_dirty, struct lb_err *err);
enum {
	VM_SLOT_LOW,
	VM_SLOT_HIGH,
	VM_SLOT_ROM,
	VM_SLOTS
};
/* Put the first vCPU at @e. No vCPU runs. */
int vm_enter(struct vm *vm, const struct vm_entry *e, struct lb_err *err);
/* Cold start of a parked machine: devices, processors, chips, firmware. */
int vm_cold(struct vm *vm, struct lb_err *err);
/* The machine cannot go on: event and VM_CRASHED. Any thread. */
void vm_fault(struct vm *vm, enum vm_event_type type, uint64_t rip, const char *text);

/* ---- restore.c ---- */

/* Does the machine of @cfg have what the checkpoint's had? LB_EINPUT naming the difference. */
int vm_restore_check(const struct vm_state_view *v, const struct vm_cfg *cfg, struct lb_err *err);
/* Can nobody write the memory that MAPPED maps? Seals, or a file that is open for reading only.
 * Errors: LB_EINPUT. */
int vm_restore_frozen(int fd, uint64_t ram_bytes, struct lb_err *err);
/* Make vm->mem as @r says; LAZY starts the pager. */
int vm_restore_memory(struct vm *vm, const struct vm_restore *r, struct lb_err *err);
/* Devices, processors, chips. */
int vm_restore_state(struct vm *vm, const struct vm_state_view *v, const struct vm_restore *r,
		     struct lb_err *err);

/* ---- vcpu.c ---- */

int vm_vcpus_create(struct vm *vm, struct lb_err *err);
void vm_vcpus_destroy(struct vm *vm); /* threads have ended */
int vm_vcpus_start(struct vm *vm, struct lb_err *err);
void vm_vcpus_join(struct vm *vm);
/* Add to .want and get every vCPU out of the guest. Any thread, any lock held. */
void vm_want(struct vm *vm, unsigned flags);
/* All vCPUs parked, with their I/O finished; LB_ETIMEDOUT: not within @limit_ns, PAUSE is still
 * wanted. */
int vm_vcpus_park(struct vm *vm, uint64_t limit_ns, struct lb_err *err);
void vm_vcpus_unpark(struct vm *vm);

#endif
