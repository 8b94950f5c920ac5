#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "cut_int.h"
#include "pager.h"
#include "vm_int.h"

#define RESET_NS UINT64_C(10000000000) /* of a paused machine that was asked for one */

/* A copy of memory in a memfd of its own, holes left out: of a machine whose memory is private
 * already, that is, one that was forked or restored from a mapping. */
static int copy_out(struct vm *vm, int *out, struct lb_err *err)
{
	uint64_t bytes = vm->mem.volume_bytes;
	int fd = memfd_create("lifeboat-fork", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc = 0;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
		rc = lb_err_errno(err, errno, "base of %" PRIu64 " bytes", bytes);
	for (uint64_t off = 0; rc == 0 && off < bytes; off += VM_PAGE_BYTES) {
		const uint8_t *p = vm->mem.base + off;

		if (vm_mem_page_zero(p))
			continue;
		if (pwrite(fd, p, VM_PAGE_BYTES, (off_t)off) != (ssize_t)VM_PAGE_BYTES)
			rc = lb_err_errno(err, errno, "copy of memory at %" PRIu64, off);
	}
	if (rc != 0 && fd >= 0)
		(void)close(fd);
	if (rc == 0)
		*out = fd;
	return rc;
}

/* F_SEAL_WRITE would look at every page first; the one mapping that the weaker seal leaves writable
 * was put aside, where nobody finds it. */
static int seal(int fd, struct lb_err *err)
{
	if (fcntl(fd, F_ADD_SEALS,
		  F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return lb_err_errno(err, errno, "seals of memory");
	return 0;
}

/* Memory as it is becomes a base that nobody can write any more; the machine goes on over a private
 * view of it. *@base is the caller's. */
static int freeze(struct vm *vm, int *base, struct lb_err *err)
{
	int rc = vm->mem.fd < 0 ? copy_out(vm, base, err) : vm_mem_set_aside(&vm->mem, base, err);

	return rc != 0 ? rc : seal(*base, err);
}

static int base_and_state(struct vm *vm, int *base, struct lb_buf **state, struct lb_err *err)
{
	int rc;

	/* With the lock no card puts a frame into memory between its state and its base. */
	vm_board_lock(&vm->board);
	rc = vm_state_save(vm, state, 0, err);
	if (rc == 0)
		rc = freeze(vm, base, err);
	vm_board_unlock(&vm->board);
	return rc;
}

int vm_fork(struct vm **out, struct vm *vm, const struct vm_cfg *cfg, struct lb_err *err)
{
	struct vm_restore r = {.mode = VM_RESTORE_MAPPED, .ram_fd = -1, .clock = VM_CLOCK_FROZEN};
	struct vm_cfg c = *cfg;
	struct lb_buf *state = NULL;
	int rc;

	if (vm_state(vm) != VM_PAUSED)
		return lb_err_set(err, LB_EINVAL, 0, "%s: fork of a machine that is not paused",
				  vm->name);
	if (cfg->bios_fd >= 0 || cfg->restore != NULL)
		return lb_err_set(err, LB_EINPUT, 0, "%s: a fork starts from its machine",
				  vm->name);
	rc = vm_vcpus_park(vm, RESET_NS, err);
	if (rc != 0)
		return lb_err_wrap(err, rc, "%s: fork while it is reset", vm->name);
	if (vm_pager_left(vm->pager) > 0)
		return lb_err_set(err, LB_EBUSY, 0, "%s: its memory is not all restored yet",
				  vm->name);
	rc = base_and_state(vm, &r.ram_fd, &state, err);
	if (rc == 0) {
		r.state = state->p;
		r.state_bytes = state->len;
		c.restore = &r;
		rc = vm_build(out, vm->env, &c, err); /* no vm_create(): we know the base */
	}
	if (r.ram_fd >= 0)
		(void)close(r.ram_fd);
	lb_buf_unref(state);
	return rc != 0 ? lb_err_wrap(err, rc, "%s: fork", vm->name) : 0;
}
