/* CPU templates: intersection, check, bytes. No KVM. */
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "cpu_int.h"
#include "vmcore/host.h"

#define INTEL                                                                       \
	{                                                                           \
		.eax = 0xd, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69 \
	}
#define AMD                                                                         \
	{                                                                           \
		.eax = 0xd, .ebx = 0x68747541, .ecx = 0x444d4163, .edx = 0x69746e65 \
	}
#define SSE42 (1u << 20)
#define MOVBE (1u << 22)
#define AVX   (1u << 28)
#define AVX2  (1u << 5)

static struct vm_cpu old_host(void)
{
	return (struct vm_cpu){
		.count = 5,
		.leaf = {INTEL,
			 {.leaf = 1, .eax = 0x306a9, .ebx = 0x800, .ecx = SSE42 | AVX},
			 {.leaf = 7, .flags = 1, .ebx = 1},
			 {.leaf = 0x80000002, .eax = 1},
			 {.leaf = 0x80000008, .eax = 0x3024}},
	};
}

static struct vm_cpu new_host(void)
{
	return (struct vm_cpu){
		.count = 6,
		.leaf = {INTEL,
			 {.leaf = 1, .eax = 0x50654, .ebx = 0x800, .ecx = SSE42 | AVX | MOVBE},
			 {.leaf = 7, .flags = 1, .ebx = 1 | AVX2},
			 {.leaf = 0xd, .flags = 1, .eax = 7, .ecx = 832},
			 {.leaf = 0x80000002, .eax = 2},
			 {.leaf = 0x80000008, .eax = 0x302e}},
	};
}

static const struct vm_cpuid *leaf(const struct vm_cpu *c, uint32_t n)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (c->leaf[i].leaf == n)
			return &c->leaf[i];
	return NULL;
}

static void test_intersect(void **state)
{
	struct vm_cpu a = old_host(), b = new_host(), both, same;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(vm_cpu_intersect(&both, &a, &b, &err), 0);
	assert_int_equal(leaf(&both, 1)->ecx, SSE42 | AVX);
	assert_int_equal(leaf(&both, 1)->eax, 0x306a9);
	assert_int_equal(leaf(&both, 7)->ebx, 1);
	assert_int_equal(leaf(&both, 0x80000008)->eax, 0x3024);
	assert_null(leaf(&both, 0xd));        /* just one has it */
	assert_null(leaf(&both, 0x80000002)); /* two names: none */
	/* the order does not matter, and both hosts run it */
	assert_int_equal(vm_cpu_intersect(&same, &b, &a, &err), 0);
	assert_memory_equal(&same, &both, sizeof(same));
	assert_int_equal(vm_cpu_check(&both, &a, &err), 0);
	assert_int_equal(vm_cpu_check(&both, &b, &err), 0);
}

static void test_equal(void **state)
{
	struct vm_cpu a = old_host(), b = old_host();

	(void)state;
	assert_true(vm_cpu_equal(&a, &b));
	b.leaf[2].flags = 0;
	assert_false(vm_cpu_equal(&a, &b));
	b = old_host();
	b.leaf[4].eax ^= 1;
	assert_false(vm_cpu_equal(&a, &b));
	b = old_host();
	b.count--;
	assert_false(vm_cpu_equal(&a, &b));
	assert_false(vm_cpu_equal(&b, &a));
}

static void test_check_names_what_is_missing(void **state)
{
	struct vm_cpu a = old_host(), b = new_host();
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(vm_cpu_check(&a, &a, &err), 0);
	assert_int_equal(vm_cpu_check(&b, &a, &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "lacks movbe, avx2"));
	a.leaf[4].eax = 0x3034; /* 52 address bits */
	assert_int_equal(vm_cpu_check(&a, &b, &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "46 physical address bits, needed: 52"));
	/* a bit without a name, and too many for the message */
	a = old_host();
	a.leaf[1].ecx |= 1u << 2;
	assert_int_equal(vm_cpu_check(&a, &b, &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "cpuid 1.0 ecx bit 2"));
	a.leaf[1].ecx = a.leaf[1].edx = UINT32_MAX;
	assert_int_equal(vm_cpu_check(&a, &b, &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, ", ..."));
}

static void test_vendors(void **state)
{
	struct vm_cpu a = old_host(), b = {.count = 1, .leaf = {AMD}}, out;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(vm_cpu_intersect(&out, &a, &b, &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "GenuineIntel and of AuthenticAMD"));
	assert_int_equal(vm_cpu_check(&a, &b, &err), LB_EUNSUPPORTED);
}

static void test_bytes(void **state)
{
	struct vm_cpu a = new_host(), b;
	uint8_t p[VM_CPU_MAX_BYTES];
	struct lb_err err = {0};
	size_t len = vm_cpu_encode(p, sizeof(p), &a);

	(void)state;
	assert_int_equal(len, 4 + 6 * 28);
	assert_int_equal(vm_cpu_decode(&b, p, len, &err), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(vm_cpu_encode(p, len - 1, &a), 0);
	for (size_t n = 0; n < len; n++)
		assert_int_not_equal(vm_cpu_decode(&b, p, n, &err), 0);
	p[0] = 2;
	assert_int_equal(vm_cpu_decode(&b, p, len, &err), LB_EVERSION);
	p[0] = 1;
	p[2] = VM_CPUID_MAX + 1;
	assert_int_equal(vm_cpu_decode(&b, p, len, &err), LB_ECORRUPT);
	p[2] = 6;
	p[4 + 28] = 0; /* the second leaf is the first again */
	assert_int_equal(vm_cpu_decode(&b, p, len, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "out of order"));
	p[4 + 28] = 2; /* one that no template has */
	assert_int_equal(vm_cpu_decode(&b, p, len, &err), LB_ECORRUPT);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(vm_kvm_kind_name(VM_KVM_NONE), "none");
	assert_string_equal(vm_kvm_kind_name(VM_KVM_NATIVE), "native");
	assert_string_equal(vm_kvm_kind_name(VM_KVM_EMULATING), "emulating");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_intersect),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_check_names_what_is_missing),
		cmocka_unit_test(test_vendors),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
