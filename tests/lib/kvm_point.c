#include "kvm_point.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"

#define LIMIT_NS UINT64_C(20000000000)

int kvm_image_copy(int from, uint64_t bytes)
{
	int fd = memfd_create("point", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *p;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, from, 0);
	assert_true(p != MAP_FAILED);
	assert_int_equal(pwrite(fd, p, bytes, 0), (ssize_t)bytes);
	(void)munmap(p, bytes);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
	return fd;
}

static void point_ram(struct kvm_point *p)
{
	struct lb_err err = {0};
	char path[32];
	struct img_file_cfg cfg = {.path = path};

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", p->ram_fd);
	if (img_file_create(&p->ram, &cfg, &err) != 0)
		fail_msg("%s", err.msg);
}

void kvm_point_take(struct kvm_point *p, struct vm *vm, bool resume)
{
	struct lb_err err = {0};
	struct vm_cut c;

	if (vm_cut_hold(vm, LIMIT_NS, &err) != 0 || vm_cut_take(vm, &c, NULL, NULL, &err) != 0)
		fail_msg("%s", err.msg);
	if (resume)
		vm_cut_resume(vm, &c);
	p->state = lb_buf_ref(c.state);
	p->ram_fd = kvm_image_copy(c.ram_fd, c.ram_bytes);
	vm_cut_end(vm, true);
	point_ram(p);
}

void kvm_point_drop(struct kvm_point *p)
{
	lb_buf_unref(p->state);
	img_dev_destroy(p->ram);
	(void)close(p->ram_fd);
}

struct vm_restore kvm_point_restore(const struct kvm_point *p, enum vm_restore_mode mode)
{
	return (struct vm_restore){
		.state = p->state->p,
		.state_bytes = p->state->len,
		.mode = mode,
		.ram = p->ram,
		.ram_fd = p->ram_fd,
	};
}

struct vm *kvm_restored(const struct vm_cfg *cfg, const struct vm_restore *r)
{
	struct vm_cfg c = *cfg;
	struct lb_err err = {0};
	struct vm *vm = NULL;

	c.restore = r;
	if (vm_create(&vm, lb_env_real(), &c, &err) != 0)
		fail_msg("%s", err.msg);
	return vm;
}
