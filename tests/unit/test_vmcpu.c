/* CPU templates of several hosts as text: what is common to all, and what is no such text. */
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "vmcore/host.h"
#include "vms_int.h"

#define SSE42 (1u << 20)
#define AVX   (1u << 28)
#define AVX2  (1u << 5)

static char text[8 * VM_CPU_MAX_BYTES];

/* 'G' is of Intel, 'A' of AMD. */
static struct vm_cpu host(char vendor, uint32_t leaf1_ecx, uint32_t leaf7_ebx)
{
	struct vm_cpu c = {
		.count = 3,
		.leaf = {{.eax = 0xd, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
			 {.leaf = 1, .eax = 0x306a9, .ebx = 0x800, .ecx = leaf1_ecx},
			 {.leaf = 7, .flags = 1, .ebx = leaf7_ebx}},
	};

	if (vendor == 'A')
		c.leaf[0].ebx = 0x68747541;
	return c;
}

static void add_line(const struct vm_cpu *c, const char *end)
{
	uint8_t bytes[VM_CPU_MAX_BYTES];
	size_t n = vm_cpu_encode(bytes, sizeof(bytes), c);

	for (size_t i = 0; i < n; i++)
		(void)snprintf(text + strlen(text), 3, i % 2 != 0 ? "%02x" : "%02X", bytes[i]);
	(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s", end);
}

static void test_common(void **state)
{
	struct vm_cpu own = host('G', SSE42 | AVX, 1 | AVX2);
	const struct vm_cpu osaka = host('G', SSE42 | AVX, 1), kobe = host('G', SSE42, 3 | AVX2);
	struct lb_err err = {0};

	(void)state;
	(void)snprintf(text, sizeof(text), "%s", "# osaka: an older one\n\n");
	add_line(&osaka, " \r\n");
	add_line(&kobe, "");
	assert_int_equal(sa_vmcpu_intersect(&own, text, &err), 0);
	assert_int_equal(own.leaf[1].ecx, SSE42);
	assert_int_equal(own.leaf[2].ebx, 1);
	/* each of them can go on with it */
	assert_int_equal(vm_cpu_check(&own, &osaka, &err), 0);
	assert_int_equal(vm_cpu_check(&own, &kobe, &err), 0);
}

static void refused(enum lb_code code, const char *words)
{
	struct vm_cpu own = host('G', SSE42, 1);
	struct lb_err err = {0};

	assert_int_equal(sa_vmcpu_intersect(&own, text, &err), code);
	assert_int_equal(err.code, code);
	if (strstr(err.msg, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
}

static void test_wrong(void **state)
{
	const struct vm_cpu amd = host('A', SSE42, 1), same = host('G', SSE42, 1);

	(void)state;
	text[0] = '\0';
	add_line(&same, "\n");
	add_line(&amd, "\n");
	refused(LB_EUNSUPPORTED, "line 2");
	(void)snprintf(text, sizeof(text), "%s", "\nosaka\n");
	refused(LB_EINPUT, "line 2");
	(void)snprintf(text, sizeof(text), "%s", "0102030"); /* half a byte */
	refused(LB_EINPUT, "line 1");
	(void)snprintf(text, sizeof(text), "%s", "0100ffff"); /* far more leaves than bytes */
	refused(LB_EINPUT, "line 1");
	(void)snprintf(text, sizeof(text), "%s", "09000000"); /* a later version */
	refused(LB_EVERSION, "line 1");
	memset(text, '0', sizeof(text) - 1); /* longer than any */
	text[sizeof(text) - 1] = '\0';
	refused(LB_EINPUT, "line 1");
}

static void test_files(void **state)
{
	uint8_t out[VM_CPU_MAX_BYTES];
	struct lb_err err = {0};
	size_t n = 0;

	(void)state;
	assert_int_equal(sa_vmcpu_of_hosts(out, &n, "/nonexistent/cpu", &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "/nonexistent/cpu"));
	assert_int_equal(sa_vmcpu_of_hosts(out, &n, "/dev/null", &err), LB_EINPUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_common),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
