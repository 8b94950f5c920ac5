/* The container of a machine's state: what is written is read back, what is damaged is named. With
 * a folder as argument: compare with its vmstate.hex (--write FOLDER: make it). */
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "state_fix.h"

static void test_round_trip(void **state)
{
	uint8_t p[FIX_STATE_MAX];
	size_t len = fix_state(p);
	struct vm_state_machine want = fix_state_machine();
	struct vm_state_view v;
	struct vm_state_info info;
	struct lb_err err = {0};

	(void)state;
	assert_true(len > 0);
	if (vm_state_parse(&v, p, len, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(v.machine.info.ram_bytes, want.info.ram_bytes);
	assert_int_equal(v.machine.info.vcpus, 2);
	assert_int_equal(v.machine.info.bus[0], VM_DISK_IDE);
	assert_int_equal(v.machine.info.bus[1], VM_DISK_VIRTIO);
	assert_int_equal(v.machine.info.disk_bytes[1], UINT64_C(5) << 30);
	assert_string_equal(v.machine.serial[1], "disk-1");
	assert_memory_equal(v.machine.info.mac, want.info.mac, sizeof(want.info.mac));
	assert_memory_equal(&v.machine.info.uuid, &want.info.uuid, sizeof(want.info.uuid));
	assert_int_equal(v.machine.seq, 42);
	assert_int_equal(v.machine.boot_ns, 123456789);
	assert_int_equal(v.host.tsc_khz, 2400000);
	assert_string_equal(v.host.cpu_model, "A processor");
	assert_int_equal(v.vcpu[1].len, 11);
	assert_memory_equal(v.vcpu[1].p, "processor 1", 11);
	assert_memory_equal(v.board.p, "board", 5);
	assert_int_equal(vm_state_peek(&info, p, len, &err), 0);
	assert_int_equal(info.cpu.count, 2);
	assert_int_equal(info.wall_ns, want.info.wall_ns);
}

static void test_every_bit_counts(void **state)
{
	uint8_t p[FIX_STATE_MAX];
	size_t len = fix_state(p);
	struct vm_state_view v;

	(void)state;
	for (size_t bit = 0; bit < len * 8; bit++) {
		p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		if (vm_state_parse(&v, p, len, NULL) == 0)
			fail_msg("bit %zu", bit);
		p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	for (size_t short_len = 0; short_len < len; short_len++)
		assert_int_not_equal(vm_state_parse(&v, p, short_len, NULL), 0);
}

/* With checksums mended, so that what lies behind them is reached. */
static void test_wrong_content(void **state)
{
	static const struct {
		size_t at; /* from the first section's bytes */
		unsigned width;
		uint64_t value;
		int code;
		const char *says;
	} wrong[] = {
		{0, 2, 2, LB_EVERSION, "machine type 2"},
		{2, 2, 0, LB_ECORRUPT, "number of processors (0)"},
		{2, 2, 3, LB_ECORRUPT, "processors do not fit their number (3)"},
		{2, 2, 17, LB_ECORRUPT, "number of processors (17)"},
		{4, 8, 0, LB_ECORRUPT, "RAM size"},
		{4, 8, (64 << 20) + 4096, LB_ECORRUPT, "RAM size"},
		{4, 8, UINT64_MAX, LB_ECORRUPT, "RAM size"},
		{52, 2, 9, LB_ECORRUPT, "number of disks"},
		{54, 2, 9, LB_ECORRUPT, "network cards"},
		{56, 2, 2, LB_ECORRUPT, "bus of a disk (2)"},
		{66, 2, 400, LB_ECORRUPT, "machine section"},
	};
	uint8_t p[FIX_STATE_MAX];
	struct vm_state_view v;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		size_t len = fix_state(p);
		struct lb_err err = {0};

		for (unsigned k = 0; k < wrong[i].width; k++)
			p[40 + wrong[i].at + k] = (uint8_t)(wrong[i].value >> (8 * k));
		fix_state_mend(p, len);
		assert_int_equal(vm_state_parse(&v, p, len, &err), wrong[i].code);
		if (strstr(err.msg, wrong[i].says) == NULL)
			fail_msg("case %zu: %s", i, err.msg);
	}
}

static void test_sections(void **state)
{
	uint8_t p[FIX_STATE_MAX];
	size_t len = fix_state(p), cpu = 40 + fix_get32(p + 32);
	struct vm_state_view v;
	struct lb_err err = {0};

	(void)state;
	p[cpu] = 7; /* a type that is not known */
	fix_state_mend(p, len);
	assert_int_equal(vm_state_parse(&v, p, len, &err), LB_EVERSION);
	assert_non_null(strstr(err.msg, "unknown type 7"));
	p[cpu + 1] = 0x80; /* one that may be skipped: but now there is no template */
	fix_state_mend(p, len);
	assert_int_equal(vm_state_parse(&v, p, len, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "no CPU template"));
	p[cpu] = VM_STATE_MACHINE; /* twice */
	p[cpu + 1] = 0;
	fix_state_mend(p, len);
	assert_int_equal(vm_state_parse(&v, p, len, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "order of sections"));
	p[8] = 2;
	assert_int_equal(vm_state_parse(&v, p, len, &err), LB_EVERSION);
}

static void test_optional_section_is_skipped(void **state)
{
	uint8_t p[FIX_STATE_MAX], more[FIX_STATE_MAX];
	size_t len = fix_state(p);
	struct vm_state_wr w;
	struct vm_state_view v;
	struct lb_err err = {0};
	size_t n;

	(void)state;
	vm_state_begin(&w, more, sizeof(more));
	w.wr.len = 0;
	lb_wr_bytes(&w.wr, p, len);
	w.sections = 7;
	fix_section(&w, VM_STATE_OPTIONAL + 5, 3, "of a later version", 18);
	n = vm_state_end(&w);
	assert_int_equal(n, len + 16 + 18);
	if (vm_state_parse(&v, more, n, &err) != 0)
		fail_msg("%s", err.msg);
}

static void test_room(void **state)
{
	uint8_t p[100];
	struct vm_state_wr w;
	struct vm_state_machine m = fix_state_machine();

	(void)state;
	vm_state_begin(&w, p, sizeof(p));
	vm_state_put_machine(vm_state_open(&w, VM_STATE_MACHINE, 0), &m);
	vm_state_close(&w);
	assert_int_equal(vm_state_end(&w), 0);
}

/* ---- the frozen vector ---- */

static const char *folder;
static bool writing;

static void test_golden(void **state)
{
	static char text[2 * FIX_STATE_MAX + 1];
	uint8_t p[FIX_STATE_MAX], want[FIX_STATE_MAX];
	size_t len = fix_state(p), n = 0;
	char path[4096];
	FILE *f;

	(void)state;
	if (folder == NULL)
		return;
	(void)snprintf(path, sizeof(path), "%s/vmstate.hex", folder);
	f = fopen(path, writing ? "w" : "r");
	assert_non_null(f);
	for (size_t i = 0; writing && i < len; i++)
		(void)fprintf(f, "%02x%s", p[i], i + 1 == len || i % 32 == 31 ? "\n" : "");
	for (int c = 0; !writing && (c = fgetc(f)) != EOF;)
		if (c != '\n' && n < sizeof(text) - 1)
			text[n++] = (char)c;
	(void)fclose(f);
	if (writing)
		return;
	text[n] = '\0';
	assert_int_equal(check_unhex(want, sizeof(want), text), len);
	assert_memory_equal(p, want, len);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_every_bit_counts),
		cmocka_unit_test(test_wrong_content),
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_optional_section_is_skipped),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_golden),
	};

	writing = argc == 3;
	folder = argc > 1 ? argv[argc - 1] : NULL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
