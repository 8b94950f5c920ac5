/* Memory and disk of one cut agree: a guest writes hash-chained records to a virtio disk and keeps
 * their hashes in memory. From any cut it goes on; from its disk alone it starts anew. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "payload.h"
#include "vm_int.h"

#define LIMIT_NS   UINT64_C(20000000000)
#define DISK_BYTES (UINT64_C(8) << 20)
#define CMDLINE    "prog=records every=50"

struct fix {
	struct vm_cfg cfg;
	struct vm_disk_cfg disk;
	struct kvm_guest g;
	struct vm *vm;
};

/* A point: memory and disk as they were. */
struct point {
	struct lb_buf *state;
	struct img_dev *ram, *disk;
	struct img_dev *source; /* during the cut: the machine's disk */
	uint64_t record;        /* that memory knows */
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static int setup(void **state)
{
	static struct fix f;
	struct lb_err err = {0};

	f = (struct fix){.cfg = VM_CFG_DEFAULTS, .disk = {.bus = VM_DISK_VIRTIO}};
	must(img_mem_create(&f.disk.dev, DISK_BYTES, &err), &err);
	f.cfg.ram_bytes = 32 << 20;
	f.cfg.reset_stops = true;
	f.cfg.disks = &f.disk;
	f.cfg.disk_count = 1;
	kvm_guest_init(&f.g, &f.cfg);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vm_destroy(f->vm);
	img_dev_destroy(f->disk.dev);
	kvm_guest_fini(&f->g);
	return 0;
}

static void boot(struct fix *f)
{
	struct lb_err err = {0};

	f->cfg.restore = NULL;
	f->cfg.kernel_fd = kvm_guest_payload_fd();
	f->cfg.cmdline = CMDLINE;
	must(vm_create(&f->vm, lb_env_real(), &f->cfg, &err), &err);
	(void)close(f->cfg.kernel_fd);
	f->cfg.kernel_fd = -1;
	must(vm_start(f->vm, &err), &err);
}

static void wait_record(struct fix *f, uint64_t n)
{
	volatile struct payload_ctl *c =
		vm_mem_ptr(&f->vm->mem, (struct vm_gpa){PAYLOAD_CTL}, sizeof(*c));

	while (c->record < n)
		if (vm_state(f->vm) != VM_RUNNING || kvm_guest_said(&f->g, "BAD"))
			fail_msg("guest: %s%s%s", f->g.fault, f->g.debug, f->g.serial);
}

/* The disk at the instant, as a volume's mark would hold it. */
static int copy_disk(void *arg, uint64_t seq, struct lb_err *err)
{
	struct point *p = arg;
	uint8_t *buf = malloc(DISK_BYTES);
	int rc;

	(void)seq;
	assert_non_null(buf);
	rc = img_pread(p->source, buf, DISK_BYTES, 0, err);
	if (rc == 0)
		rc = img_pwrite(p->disk, buf, DISK_BYTES, 0, err);
	free(buf);
	return rc;
}

static void take(struct point *p, struct fix *f)
{
	struct lb_err err = {0};
	struct vm_cut c;
	struct payload_ctl ctl;
	uint8_t *buf;

	*p = (struct point){.source = f->disk.dev};
	must(img_mem_create(&p->disk, DISK_BYTES, &err), &err);
	must(vm_cut_hold(f->vm, LIMIT_NS, &err), &err);
	must(vm_cut_take(f->vm, &c, copy_disk, p, &err), &err);
	vm_cut_resume(f->vm, &c);
	p->state = lb_buf_ref(c.state);
	must(img_mem_create(&p->ram, c.ram_bytes, &err), &err);
	buf = malloc(c.ram_bytes);
	assert_non_null(buf);
	assert_int_equal(pread(c.ram_fd, buf, c.ram_bytes, 0), (ssize_t)c.ram_bytes);
	must(img_pwrite(p->ram, buf, c.ram_bytes, 0, &err), &err);
	memcpy(&ctl, buf + PAYLOAD_CTL, sizeof(ctl));
	p->record = ctl.record;
	free(buf);
	vm_cut_end(f->vm, true);
}

static void drop(struct point *p)
{
	lb_buf_unref(p->state);
	img_dev_destroy(p->ram);
	img_dev_destroy(p->disk);
}

/* The machine and its disk are gone; the point's are there. */
static void lose_all(struct fix *f, struct point *p)
{
	vm_destroy(f->vm);
	f->vm = NULL;
	img_dev_destroy(f->disk.dev);
	f->disk.dev = p->disk;
	p->disk = NULL;
}

static void test_goes_on_from_any_cut(void **state)
{
	struct fix *f = *state;
	struct lb_err err = {0};

	boot(f);
	wait_record(f, 100);
	for (uint64_t i = 0; i < 8; i++) {
		struct vm_restore r = {.mode = i % 2 == 0 ? VM_RESTORE_EAGER : VM_RESTORE_LAZY};
		struct point p;

		take(&p, f);
		wait_record(f, p.record + 30); /* what is lost */
		lose_all(f, &p);
		r.state = p.state->p;
		r.state_bytes = p.state->len;
		r.ram = p.ram;
		f->cfg.restore = &r;
		must(vm_create(&f->vm, lb_env_real(), &f->cfg, &err), &err);
		must(vm_start(f->vm, &err), &err);
		wait_record(f, p.record + 100);
		if (i % 2 == 1) {
			struct vm_stats st;

			do
				vm_stats(f->vm, &st);
			while (st.lazy_left_pages > 0);
		}
		drop(&p);
	}
	assert_false(kvm_guest_said(&f->g, "BAD"));
}

/* A cold start on a cut's disk finds every record that the cut's memory knew, and at most one
 * more: the one that was being written. */
static void test_disk_of_a_cut_is_of_its_instant(void **state)
{
	struct fix *f = *state;

	boot(f);
	wait_record(f, 50);
	for (int i = 0; i < 5; i++) {
		struct point p;
		const char *check;
		uint64_t found;

		take(&p, f);
		lose_all(f, &p);
		f->g.serial_len = 0;
		memset(f->g.serial, 0, sizeof(f->g.serial));
		boot(f);
		kvm_guest_wait_serial(&f->g, "check ");
		wait_record(f, p.record + 60);
		check = strstr(f->g.serial, "check ");
		found = strtoull(check + 6, NULL, 10);
		assert_in_range(found, p.record, p.record + 1);
		drop(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_goes_on_from_any_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_of_a_cut_is_of_its_instant, setup,
						teardown),
	};

	(void)kvm_guest_main(110);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
