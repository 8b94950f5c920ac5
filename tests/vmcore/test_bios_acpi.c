/*
 * Debian's SeaBIOS links pc1's ACPI tables by our commands: the root pointer is in its F segment,
 * every table it leads to is whole, and lies where the memory map keeps systems away from it.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "kvm_guest.h"
#include "vm_int.h"
#include "vmgenid.h"

#define BIOS      "/usr/share/seabios/bios-256k.bin"
#define RAM_BYTES (UINT64_C(64) << 20)

struct fix {
	struct vm_cfg cfg;
	struct kvm_guest g;
	struct vm *vm;
};

static const uint8_t *at(struct fix *f, uint64_t gpa, uint64_t len)
{
	const uint8_t *p = vm_mem_ptr(&f->vm->mem, (struct vm_gpa){gpa}, len);

	if (p == NULL)
		fail_msg("0x%llx is not RAM", (unsigned long long)gpa);
	return p;
}

static uint64_t le(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static uint8_t sum(const uint8_t *p, uint64_t len)
{
	uint8_t s = 0;

	for (uint64_t i = 0; i < len; i++)
		s += p[i];
	return s;
}

static const uint8_t *table(struct fix *f, uint64_t gpa, const char *signature)
{
	uint64_t len = le(at(f, gpa, 36) + 4, 4);
	const uint8_t *p = at(f, gpa, len);

	assert_memory_equal(p, signature, 4);
	assert_memory_equal(p + 10, "LIFEBT", 6);
	assert_int_equal(sum(p, len), 0);
	assert_true(gpa + len <= vm_genid_gpa(&f->vm->mem).a);
	return p;
}

static const uint8_t *root(struct fix *f)
{
	for (uint64_t gpa = 0xe0000; gpa < 0x100000; gpa += 16) {
		const uint8_t *p = at(f, gpa, 36);

		if (memcmp(p, "RSD PTR ", 8) == 0 && sum(p, 20) == 0)
			return p;
	}
	fail_msg("no root pointer; SeaBIOS said:\n%s", f->g.debug);
	return NULL;
}

static void test_tables_are_linked(void **state)
{
	struct fix *f = *state;
	const uint8_t *rsdp, *xsdt, *rsdt, *fadt;

	kvm_guest_wait_debug(&f->g, "No bootable device");
	rsdp = root(f);
	assert_memory_equal(rsdp + 9, "LIFEBT", 6);
	assert_int_equal(sum(rsdp, 36), 0);
	xsdt = table(f, le(rsdp + 24, 8), "XSDT");
	rsdt = table(f, le(rsdp + 16, 4), "RSDT");
	assert_int_equal(le(xsdt + 36, 8), le(rsdt + 36, 4));
	fadt = table(f, le(xsdt + 36, 8), "FACP");
	(void)table(f, le(xsdt + 44, 8), "APIC");
	(void)table(f, le(fadt + 40, 4), "DSDT");
	assert_int_equal(le(fadt + 40, 4), le(fadt + 140, 8));
	assert_memory_equal(at(f, le(fadt + 36, 4), 64), "FACS", 4);
	assert_int_equal(le(fadt + 36, 4) % 64, 0);
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct lb_err err = {0};

	assert_non_null(f);
	f->cfg = (struct vm_cfg)VM_CFG_DEFAULTS;
	f->cfg.ram_bytes = RAM_BYTES;
	f->cfg.bios_fd = open(BIOS, O_RDONLY | O_CLOEXEC);
	kvm_guest_init(&f->g, &f->cfg);
	if (vm_create(&f->vm, lb_env_real(), &f->cfg, &err) != 0 || vm_start(f->vm, &err) != 0)
		fail_msg("%s", err.msg);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vm_destroy(f->vm);
	kvm_guest_fini(&f->g);
	(void)close(f->cfg.bios_fd);
	free(f);
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tables_are_linked, setup, teardown),
	};

	if (access(BIOS, R_OK) != 0) {
		(void)fprintf(stderr, "skipped: no %s (package seabios)\n", BIOS);
		return 77;
	}
	(void)kvm_guest_main(110);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
