#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "mem.h"

static void test_bounds(void **state)
{
	struct vm_mem m;
	struct lb_err err = {0};
	uint8_t buf[8] = {1, 2, 3, 4, 5, 6, 7, 8}, back[8];

	(void)state;
	assert_int_equal(vm_mem_init(&m, VM_RAM_MIN_BYTES, &err), 0);
	assert_true(vm_mem_write(&m, (struct vm_gpa){VM_RAM_MIN_BYTES - 8}, buf, 8));
	assert_true(vm_mem_read(&m, back, (struct vm_gpa){VM_RAM_MIN_BYTES - 8}, 8));
	assert_memory_equal(buf, back, 8);
	assert_false(vm_mem_write(&m, (struct vm_gpa){VM_RAM_MIN_BYTES - 7}, buf, 8));
	assert_false(vm_mem_read(&m, back, (struct vm_gpa){UINT64_MAX - 3}, 8));
	assert_null(vm_mem_ptr(&m, (struct vm_gpa){0}, UINT64_MAX));
	assert_null(vm_mem_ptr(&m, (struct vm_gpa){VM_HIGH_GPA}, 1));
	vm_mem_fini(&m);
}

static void test_high_memory(void **state)
{
	struct vm_mem m;
	struct lb_err err = {0};
	uint32_t v = 0;

	(void)state;
	assert_int_equal(vm_mem_init(&m, VM_LOW_MAX_BYTES + VM_RAM_MIN_BYTES, &err), 0);
	assert_null(vm_mem_ptr(&m, (struct vm_gpa){VM_LOW_MAX_BYTES}, 1));
	assert_null(vm_mem_ptr(&m, (struct vm_gpa){VM_LOW_MAX_BYTES - 1}, 2));
	assert_true(vm_mem_write32(&m, (struct vm_gpa){VM_HIGH_GPA + 4}, 0x12345678));
	assert_true(vm_mem_read32(&m, (struct vm_gpa){VM_HIGH_GPA + 4}, &v));
	assert_int_equal(v, 0x12345678);
	assert_int_equal(m.base[VM_LOW_MAX_BYTES + 4], 0x78);
	assert_false(vm_mem_write32(&m, (struct vm_gpa){VM_HIGH_GPA + 2}, 1)); /* not aligned */
	assert_null(vm_mem_ptr(&m, (struct vm_gpa){VM_HIGH_GPA + VM_RAM_MIN_BYTES}, 1));
	vm_mem_fini(&m);
}

static void test_dirty(void **state)
{
	struct vm_mem m;
	struct lb_err err = {0};
	uint8_t buf[2] = {1, 2};

	(void)state;
	assert_int_equal(vm_mem_init(&m, VM_RAM_MIN_BYTES, &err), 0);
	assert_true(vm_mem_write(&m, (struct vm_gpa){2 * VM_PAGE_BYTES - 1}, buf, 2));
	assert_true(vm_mem_write(&m, (struct vm_gpa){70 * VM_PAGE_BYTES}, buf, 1));
	assert_int_equal(atomic_load(&m.dirty[0]), 0x6);
	assert_int_equal(atomic_load(&m.dirty[1]), UINT64_C(1) << 6);
	vm_mem_fini(&m);
}

static void test_sizes(void **state)
{
	struct vm_mem m;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(vm_mem_init(&m, 4096, &err), LB_EINPUT);
	assert_int_equal(vm_mem_init(&m, VM_RAM_MIN_BYTES + 1, &err), LB_EINPUT);
	assert_int_equal(vm_mem_init(&m, VM_RAM_MAX_BYTES * 2, &err), LB_EINPUT);
}

/* What could not be restored reads as zero, and nobody is told that it was read. */
static void test_lost(void **state)
{
	struct vm_mem m;
	struct lb_err err = {0};
	uint8_t buf[8];

	(void)state;
	assert_int_equal(vm_mem_init(&m, VM_RAM_MIN_BYTES, &err), 0);
	assert_true(vm_mem_settle(&m, (struct vm_gpa){4090}, 12288));
	assert_true(vm_mem_read(&m, buf, (struct vm_gpa){8}, sizeof(buf)));
	assert_false(vm_mem_settle(&m, (struct vm_gpa){VM_RAM_MIN_BYTES - 8}, 9));
	atomic_store(&m.lost, true);
	assert_false(vm_mem_settle(&m, (struct vm_gpa){8}, 1));
	assert_false(vm_mem_read(&m, buf, (struct vm_gpa){8}, sizeof(buf)));
	vm_mem_fini(&m);
}

static void test_pages(void **state)
{
	_Alignas(4096) static uint8_t page[4096], copy[4096];

	(void)state;
	assert_true(vm_mem_page_zero(page));
	for (size_t at = 0; at < sizeof(page); at++) {
		page[at] = 1;
		assert_false(vm_mem_page_zero(page));
		page[at] = 0;
	}
	for (size_t at = 0; at < sizeof(page); at++)
		page[at] = (uint8_t)(at * 7 / 3);
	vm_mem_page_copy(copy, page);
	assert_memory_equal(copy, page, sizeof(page));
}

/* What was written stays and is the base; what is written from here on is the machine's own. */
static void test_aside(void **state)
{
	static const char before[] = "before", after[] = "after!";
	struct vm_mem m;
	struct lb_err err = {0};
	char got[sizeof(before)];
	int fd = -1;

	(void)state;
	assert_int_equal(vm_mem_init(&m, VM_RAM_MIN_BYTES, &err), 0);
	assert_true(vm_mem_write(&m, (struct vm_gpa){5000}, before, sizeof(before)));
	assert_int_equal(vm_mem_set_aside(&m, &fd, &err), 0);
	assert_int_equal(m.fd, -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	assert_true(vm_mem_read(&m, got, (struct vm_gpa){5000}, sizeof(got)));
	assert_string_equal(got, before);
	assert_true(vm_mem_write(&m, (struct vm_gpa){5000}, after, sizeof(after)));
	assert_int_equal(pread(fd, got, sizeof(got), 5000), sizeof(got));
	assert_string_equal(got, before);
	assert_true(vm_mem_read(&m, got, (struct vm_gpa){5000}, sizeof(got)));
	assert_string_equal(got, after);
	vm_mem_fini(&m);
	assert_int_equal(close(fd), 0);
}

/* The kernel has no room for a second mapping, or does not move the first: all is as before. */
static void test_aside_refused(void **state)
{
	struct vm_mem m;
	struct lb_err err = {0};
	uint8_t *base;
	int fd = -1, of_memory;

	(void)state;
	assert_int_equal(vm_mem_init(&m, VM_RAM_MIN_BYTES, &err), 0);
	base = m.base;
	of_memory = m.fd;
	assert_true(vm_mem_write32(&m, (struct vm_gpa){64}, 7));
	m.volume_bytes = UINT64_C(1) << 60;
	assert_int_equal(vm_mem_set_aside(&m, &fd, &err), LB_ENOMEM);
	m.volume_bytes = vm_mem_volume_bytes(m.ram_bytes);
	m.base = base + 1; /* no page's address */
	assert_int_not_equal(vm_mem_set_aside(&m, &fd, &err), 0);
	m.base = base;
	assert_int_equal(fd, -1);
	assert_int_equal(m.fd, of_memory);
	assert_null(m.aside);
	assert_true(vm_mem_write32(&m, (struct vm_gpa){68}, 8));
	assert_int_equal(pread(of_memory, &fd, sizeof(fd), 68), sizeof(fd));
	assert_int_equal(fd, 8);
	vm_mem_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),        cmocka_unit_test(test_lost),
		cmocka_unit_test(test_high_memory),   cmocka_unit_test(test_dirty),
		cmocka_unit_test(test_sizes),         cmocka_unit_test(test_aside),
		cmocka_unit_test(test_aside_refused), cmocka_unit_test(test_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
