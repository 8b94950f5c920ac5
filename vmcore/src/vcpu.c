#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/thread.h"
#include "complement.h"
#include "cpu_int.h"
#include "kvm.h"
#include "vm_int.h"

/* ---- create ---- */

/* What vm_want() may look at already: the pager can lose its source while the machine is built. */
static void publish(struct vm *vm, struct vm_vcpu *vcpus, struct vm_vcpu *v, struct kvm_run *run)
{
	(void)pthread_mutex_lock(&vm->kick_lock);
	vm->vcpus = vcpus;
	if (v != NULL)
		v->run = run;
	(void)pthread_mutex_unlock(&vm->kick_lock);
}

static int vcpu_create(struct vm *vm, struct vm_vcpu *v, struct lb_err *err)
{
	void *run;
	int rc = VM_KVM_NUMBER(vm->fd, KVM_CREATE_VCPU, v->id, err);

	if (rc < 0)
		return rc;
	v->fd = rc;
	run = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED)
		return lb_err_errno(err, errno, "mapping of processor %u", v->id);
	publish(vm, vm->vcpus, v, run);
	return vm_cpu_apply(v->fd, &vm->cpu, v->id, vm->cfg.vcpus, err);
}

int vm_vcpus_create(struct vm *vm, struct lb_err *err)
{
	struct vm_vcpu *vcpus = calloc(vm->cfg.vcpus, sizeof(*vcpus));
	int rc = 0;

	if (vcpus == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "%u processors", vm->cfg.vcpus);
	for (unsigned i = 0; i < vm->cfg.vcpus; i++)
		vcpus[i] = (struct vm_vcpu){.vm = vm, .id = i, .fd = -1};
	publish(vm, vcpus, NULL, NULL);
	for (unsigned i = 0; rc == 0 && i < vm->cfg.vcpus; i++)
		rc = vcpu_create(vm, &vcpus[i], err);
	return rc;
}

void vm_vcpus_destroy(struct vm *vm)
{
	for (unsigned i = 0; vm->vcpus != NULL && i < vm->cfg.vcpus; i++) {
		struct vm_vcpu *v = &vm->vcpus[i];

		if (v->run != NULL)
			(void)munmap(v->run, vm->run_bytes);
		if (v->fd >= 0)
			(void)close(v->fd);
	}
	free(vm->vcpus);
	vm->vcpus = NULL;
}

/* ---- getting vCPUs out of the guest ---- */

static void set_immediate_exit(struct vm_vcpu *v, uint8_t value)
{
	__atomic_store_n(&v->run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

/* The flag alone is seen by the next KVM_RUN, the signal by the one that is under way. */
void vm_want(struct vm *vm, unsigned flags)
{
	atomic_fetch_or(&vm->want, flags);
	(void)pthread_mutex_lock(&vm->kick_lock);
	for (unsigned i = 0; vm->vcpus != NULL && i < vm->cfg.vcpus; i++) {
		struct vm_vcpu *v = &vm->vcpus[i];

		if (v->run != NULL)
			set_immediate_exit(v, 1);
		if (v->tid != 0)
			(void)tgkill(getpid(), v->tid, SIGRTMIN);
	}
	(void)pthread_mutex_unlock(&vm->kick_lock);
}

static void vcpu_dispatch(struct vm_vcpu *v);

/* An access is complete for KVM only at the next entry, which immediate_exit ends at once. Until
 * then the instruction is half done and the registers are not those of any instant. */
static void finish_io(struct vm_vcpu *v)
{
	while (v->io_pending) {
		set_immediate_exit(v, 1);
		v->io_pending = false;
		if (ioctl(v->fd, KVM_RUN, 0) == 0)
			vcpu_dispatch(v);
	}
}

/* Without the lock, for it waits for the disks: who stops the vCPUs within a limit is not to wait
 * for a disk that does not answer. RESET stays up meanwhile, and keeps the others here; one that is
 * asked for once more is this one. */
static void reset_parked(struct vm *vm)
{
	struct lb_err err = {0};
	int rc = 0;

	vm->resetting = true;
	(void)pthread_mutex_unlock(&vm->lock);
	if ((atomic_load(&vm->want) & VM_WANT_OFF) == 0)
		rc = vm_cold(vm, &err);
	if (rc != 0 && !atomic_load(&vm->mem.lost)) /* else that is the reason, and was said */
		vm_fault(vm, VM_EVENT_FAULT, 0, err.msg);
	(void)pthread_mutex_lock(&vm->lock);
	vm->resetting = false;
	atomic_fetch_and(&vm->want, ~(unsigned)VM_WANT_RESET);
	(void)pthread_cond_broadcast(&vm->parked_cond);
}

/* Stay here while anybody wants vCPUs out. False: the thread ends. */
static bool gate(struct vm_vcpu *v)
{
	struct vm *vm = v->vm;
	unsigned want;

	finish_io(v);
	(void)pthread_mutex_lock(&vm->lock);
	vm->parked++;
	(void)pthread_cond_broadcast(&vm->parked_cond);
	while ((want = atomic_load(&vm->want)) != 0 && (want & VM_WANT_QUIT) == 0) {
		if ((want & VM_WANT_RESET) != 0 && vm->parked == vm->threads && !vm->resetting)
			reset_parked(vm);
		else
			(void)pthread_cond_wait(&vm->parked_cond, &vm->lock);
	}
	vm->parked--;
	set_immediate_exit(v, 0);
	(void)pthread_mutex_unlock(&vm->lock);
	if (vm->complement != NULL)
		vm_complement_arm(vm->complement);
	return (want & VM_WANT_QUIT) == 0;
}

int vm_vcpus_park(struct vm *vm, uint64_t limit_ns, struct lb_err *err)
{
	struct timespec until = lb_cond_deadline(limit_ns);
	unsigned parked;
	int rc = 0;

	vm_want(vm, VM_WANT_PAUSE);
	(void)pthread_mutex_lock(&vm->lock);
	while (rc == 0 &&
	       (vm->parked < vm->threads || (atomic_load(&vm->want) & VM_WANT_RESET) != 0))
		rc = pthread_cond_timedwait(&vm->parked_cond, &vm->lock, &until);
	parked = vm->parked;
	(void)pthread_mutex_unlock(&vm->lock);
	if (rc != 0)
		return lb_err_set(err, LB_ETIMEDOUT, rc, "%u of %u processors stopped", parked,
				  vm->threads);
	return 0;
}

void vm_vcpus_unpark(struct vm *vm)
{
	(void)pthread_mutex_lock(&vm->lock);
	atomic_fetch_and(&vm->want, ~(unsigned)VM_WANT_PAUSE);
	(void)pthread_cond_broadcast(&vm->parked_cond);
	(void)pthread_mutex_unlock(&vm->lock);
}

/* ---- exits ---- */

static void count(_Atomic uint64_t *n)
{
	atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

static void exit_io(struct vm_vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *p = (uint8_t *)run + run->io.data_offset;
	unsigned size = run->io.size;

	count(&v->pio);
	v->io_pending = true;
	for (uint32_t i = 0; i < run->io.count; i++, p += size) {
		uint64_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_IN) {
			value = vm_board_pio_read(&v->vm->board, run->io.port, size);
			memcpy(p, &value, size);
		} else {
			memcpy(&value, p, size);
			vm_board_pio_write(&v->vm->board, run->io.port, size, value);
		}
	}
}

static void exit_mmio(struct vm_vcpu *v)
{
	struct kvm_run *run = v->run;
	uint64_t value = 0;

	count(&v->mmio);
	v->io_pending = true;
	if (run->mmio.is_write) {
		memcpy(&value, run->mmio.data, run->mmio.len);
		vm_board_mmio_write(&v->vm->board, run->mmio.phys_addr, run->mmio.len, value);
	} else {
		value = vm_board_mmio_read(&v->vm->board, run->mmio.phys_addr, run->mmio.len);
		memcpy(run->mmio.data, &value, run->mmio.len);
	}
}

static uint64_t rip_of(const struct vm_vcpu *v)
{
	struct kvm_regs regs = {0};

	return ioctl(v->fd, KVM_GET_REGS, &regs) == 0 ? regs.rip : 0;
}

/* KVM could not go on: say what lies at the instruction pointer. */
static void exit_internal_error(struct vm_vcpu *v)
{
	const struct kvm_run *run = v->run;
	char text[160];
	size_t at;
	unsigned n = 0;

	at = (size_t)snprintf(text, sizeof(text), "processor %u: KVM internal error %" PRIu32,
			      v->id, run->internal.suberror);
	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
	    run->emulation_failure.ndata >= 3 &&
	    (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) !=
		    0)
		n = run->emulation_failure.insn_size;
	if (n > sizeof(run->emulation_failure.insn_bytes))
		n = sizeof(run->emulation_failure.insn_bytes);
	if (n > 0)
		at += (size_t)snprintf(text + at, sizeof(text) - at,
				       ": it cannot emulate the instruction");
	for (unsigned i = 0; i < n; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, " %02x",
				       run->emulation_failure.insn_bytes[i]);
	vm_fault(v->vm, VM_EVENT_FAULT, rip_of(v), text);
}

static void exit_other(struct vm_vcpu *v)
{
	char text[96];

	(void)snprintf(text, sizeof(text), "processor %u: KVM exit %" PRIu32, v->id,
		       v->run->exit_reason);
	vm_fault(v->vm, VM_EVENT_FAULT, rip_of(v), text);
}

static void exit_reset(struct vm_vcpu *v)
{
	struct vm_event e = {.type = VM_EVENT_RESET, .rip = rip_of(v)};

	v->vm->board.ops->event(v->vm->board.arg, &e);
}

static void vcpu_dispatch(struct vm_vcpu *v)
{
	count(&v->exits);
	/* What it would do comes of zeros that are not its own. */
	if (atomic_load(&v->vm->mem.lost))
		return;
	if (v->vm->complement != NULL && vm_complement_exit(v->vm->complement, v->run))
		return;
	switch (v->run->exit_reason) {
	case KVM_EXIT_IO:
		exit_io(v);
		break;
	case KVM_EXIT_MMIO:
		exit_mmio(v);
		break;
	case KVM_EXIT_SHUTDOWN: /* a triple fault resets a PC, and some kernels restart so */
		exit_reset(v);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		exit_internal_error(v);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	default:
		exit_other(v);
		break;
	}
}

static void vcpu_run(struct vm_vcpu *v)
{
	char text[96];

	v->io_pending = false;
	if (ioctl(v->fd, KVM_RUN, 0) == 0) {
		vcpu_dispatch(v);
		return;
	}
	if (errno == EINTR || errno == EAGAIN) {
		/* Whoever set it had set .want before, which is looked at next. */
		set_immediate_exit(v, 0);
		return;
	}
	(void)snprintf(text, sizeof(text), "processor %u: KVM_RUN: errno %d", v->id, errno);
	vm_fault(v->vm, VM_EVENT_FAULT, rip_of(v), text);
}

/* ---- threads ---- */

static void on_kick(int sig)
{
	(void)sig;
}

static void set_tid(struct vm_vcpu *v, pid_t tid)
{
	(void)pthread_mutex_lock(&v->vm->kick_lock);
	v->tid = tid;
	(void)pthread_mutex_unlock(&v->vm->kick_lock);
}

static void *vcpu_main(void *arg)
{
	struct vm_vcpu *v = arg;
	struct vm *vm = v->vm;

	set_tid(v, gettid());
	if (vm->complement != NULL)
		vm_complement_arm(vm->complement);
	for (bool on = true; on;) {
		if (atomic_load(&vm->want) != 0)
			on = gate(v);
		else
			vcpu_run(v);
	}
	set_tid(v, 0);
	return NULL;
}

/* vCPU threads take no signal but ours. */
static int thread_start(struct vm_vcpu *v, struct lb_err *err)
{
	sigset_t all, before;
	int rc;

	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGRTMIN);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&v->thread, NULL, vcpu_main, v);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return lb_err_errno(err, rc, "thread of processor %u", v->id);
	return 0;
}

int vm_vcpus_start(struct vm *vm, struct lb_err *err)
{
	struct sigaction sa = {.sa_handler = on_kick};
	int rc = 0;

	(void)sigemptyset(&sa.sa_mask);
	if (sigaction(SIGRTMIN, &sa, NULL) != 0)
		return lb_err_errno(err, errno, "sigaction of SIGRTMIN");
	while (rc == 0 && vm->threads < vm->cfg.vcpus) {
		rc = thread_start(&vm->vcpus[vm->threads], err);
		if (rc == 0) {
			(void)pthread_mutex_lock(&vm->lock);
			vm->threads++;
			(void)pthread_mutex_unlock(&vm->lock);
		}
	}
	if (rc != 0)
		vm_vcpus_join(vm);
	return rc;
}

void vm_vcpus_join(struct vm *vm)
{
	if (vm->threads == 0)
		return;
	vm_want(vm, VM_WANT_QUIT);
	(void)pthread_mutex_lock(&vm->lock);
	(void)pthread_cond_broadcast(&vm->parked_cond);
	(void)pthread_mutex_unlock(&vm->lock);
	for (unsigned i = 0; i < vm->threads; i++)
		(void)pthread_join(vm->vcpus[i].thread, NULL);
	vm->threads = 0;
	atomic_fetch_and(&vm->want, ~(unsigned)VM_WANT_QUIT);
}
