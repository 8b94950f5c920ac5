/*
 * tests/lib/kvm_point.h - a checkpoint outside of any machine, and a machine from it.
 */
#ifndef TESTS_KVM_POINT_H
#define TESTS_KVM_POINT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmcore/cut.h"

struct kvm_point {
	struct lb_buf *state;
	int ram_fd; /* sealed */
	struct img_dev *ram;
};

/* A sealed copy of the first @bytes of @from; the caller's. */
int kvm_image_copy(int from, uint64_t bytes);
/* A cut of @vm. Not resumed: the machine is to be destroyed, and says nothing more before that. */
void kvm_point_take(struct kvm_point *p, struct vm *vm, bool resume);
void kvm_point_drop(struct kvm_point *p);
struct vm_restore kvm_point_restore(const struct kvm_point *p, enum vm_restore_mode mode);
/* A machine of @cfg that goes on from @r; not started. */
struct vm *kvm_restored(const struct vm_cfg *cfg, const struct vm_restore *r);

#endif
