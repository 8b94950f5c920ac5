#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/rd.h"
#include "base/wr.h"
#include "cpu_int.h"
#include "kvm.h"

#define TEMPLATE_VERSION 1
#define KVM_ENTRIES_MAX  256

enum reg {
	EAX,
	EBX,
	ECX,
	EDX
};

static uint32_t *reg_of(struct vm_cpuid *l, enum reg r)
{
	uint32_t *regs[] = {&l->eax, &l->ebx, &l->ecx, &l->edx};

	return regs[r];
}

static uint32_t reg_get(const struct vm_cpuid *l, enum reg r)
{
	const uint32_t regs[] = {l->eax, l->ebx, l->ecx, l->edx};

	return regs[r];
}

/*
 * Registers that hold feature bits: what is combined by AND, compared bit by bit, and cut to .keep
 * in the default template. .keep leaves out what a checkpoint cannot carry to another host, or
 * what would be state that nobody saves: performance counters, processor trace, SGX, nested
 * virtualisation, AVX-512 and AMX (heavy and rare), invariant TSC, MONITOR, RDT.
 * [Intel SDM vol. 2A CPUID; AMD APM vol. 3 appendix E; Linux kvm/x86/cpuid.rst]
 */
static const struct feature_reg {
	uint32_t leaf, subleaf;
	enum reg reg;
	uint32_t keep;
} features[] = {
	{0x1, 0, ECX, ~((1u << 2) | (1u << 3) | (1u << 5) | (1u << 15))},
	{0x1, 0, EDX, ~(1u << 21)},
	{0x6, 0, EAX, 1u << 2},
	{0x7, 0, EBX,
	 ~((1u << 2) | (1u << 12) | (1u << 15) | (1u << 16) | (1u << 17) | (1u << 21) | (1u << 25) |
	   (1u << 26) | (1u << 27) | (1u << 28) | (1u << 30) | (1u << 31))},
	{0x7, 0, ECX,
	 ~((1u << 1) | (1u << 5) | (1u << 6) | (1u << 7) | (1u << 11) | (1u << 12) | (1u << 14) |
	   (1u << 24) | (1u << 28) | (1u << 30))},
	{0x7, 0, EDX,
	 ~((1u << 2) | (1u << 3) | (1u << 5) | (1u << 8) | (1u << 19) | (1u << 20) | (1u << 22) |
	   (1u << 23) | (1u << 24) | (1u << 25))},
	{0x7, 1, EAX, ~((1u << 5) | (1u << 17) | (1u << 21))},
	{0x7, 1, EBX, UINT32_MAX},
	{0x7, 1, ECX, 0},
	{0x7, 1, EDX, ~((1u << 8) | (1u << 18) | (1u << 19))},
	{0x7, 2, EDX, UINT32_MAX},
	{0xd, 0, EAX, 0x207},
	{0xd, 0, EDX, 0},
	{0xd, 1, EAX, 0xf},
	{0xd, 1, ECX, 0},
	{0xd, 1, EDX, 0},
	{0x80000001, 0, ECX,
	 ~((1u << 2) | (1u << 10) | (1u << 12) | (1u << 13) | (1u << 15) | (1u << 22) | (1u << 23) |
	   (1u << 24) | (1u << 28))},
	{0x80000001, 0, EDX, UINT32_MAX},
	{0x80000007, 0, EDX, 0},
	{0x80000008, 0, EBX, UINT32_MAX},
	{0x80000021, 0, EAX, UINT32_MAX},
	/* clocks and the I/O delay; no steal time, async page faults, PV EOI, PV spinlocks */
	{0x40000001, 0, EAX, (1u << 0) | (1u << 1) | (1u << 3) | (1u << 24)},
};
#define FEATURE_REGS (sizeof(features) / sizeof(features[0]))

/* Leaves of a template. What is not here a guest reads as zero: caches, topology (made for each
 * processor), crystal frequencies, trace, RDT, SGX, SVM, SEV, and what is not known yet. */
static bool leaf_wanted(uint32_t leaf, uint32_t subleaf)
{
	switch (leaf) {
	case 0x0:
	case 0x1:
	case 0x6:
	case 0x40000000:
	case 0x40000001:
	case 0x80000000:
	case 0x80000001:
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
	case 0x80000005:
	case 0x80000006:
	case 0x80000007:
	case 0x80000008:
	case 0x80000021:
		return subleaf == 0;
	case 0x7:
		return subleaf <= 2;
	case 0xd:
		return subleaf <= 2 || (subleaf >= 5 && subleaf <= 7) || subleaf == 9;
	default:
		return false;
	}
}

static struct vm_cpuid *find(struct vm_cpu *c, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (c->leaf[i].leaf == leaf && c->leaf[i].subleaf == subleaf)
			return &c->leaf[i];
	return NULL;
}

static const struct vm_cpuid *find_const(const struct vm_cpu *c, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (c->leaf[i].leaf == leaf && c->leaf[i].subleaf == subleaf)
			return &c->leaf[i];
	return NULL;
}

static bool before(const struct vm_cpuid *a, const struct vm_cpuid *b)
{
	return a->leaf != b->leaf ? a->leaf < b->leaf : a->subleaf < b->subleaf;
}

static void insert(struct vm_cpu *c, const struct vm_cpuid *l)
{
	uint32_t at = c->count;

	if (c->count == VM_CPUID_MAX || find(c, l->leaf, l->subleaf) != NULL)
		return;
	for (; at > 0 && before(l, &c->leaf[at - 1]); at--)
		c->leaf[at] = c->leaf[at - 1];
	c->leaf[at] = *l;
	c->count++;
}

/* ---- KVM ---- */

/* struct kvm_cpuid2 with its room */
struct kvm_list {
	uint32_t nent, padding;
	struct kvm_cpuid_entry2 entry[KVM_ENTRIES_MAX];
};

static void from_kvm(struct vm_cpu *out, const struct kvm_list *list)
{
	out->count = 0;
	for (uint32_t i = 0; i < list->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &list->entry[i];
		struct vm_cpuid l = {
			.leaf = e->function,
			.subleaf = e->index,
			.flags = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = e->eax,
			.ebx = e->ebx,
			.ecx = e->ecx,
			.edx = e->edx,
		};

		if (leaf_wanted(l.leaf, l.subleaf))
			insert(out, &l);
	}
}

/* What differs from one processor to the next, or follows from the rest. */
static void take_out_own(struct vm_cpu *c)
{
	struct vm_cpuid *one = find(c, 1, 0), *state = find(c, 0xd, 0), *compact = find(c, 0xd, 1);

	if (one != NULL) {
		one->ebx &= 0xff00; /* CLFLUSH size stays; APIC id and count go */
		one->ecx &= ~(1u << 27);
		one->edx &= ~(1u << 28);
	}
	/* The sizes for what the guest has enabled by now: KVM works them out. */
	if (state != NULL)
		state->ebx = 0;
	if (compact != NULL)
		compact->ebx = 0;
	if (find(c, 0, 0) != NULL)
		find(c, 0, 0)->eax = 0xd;
	if (find(c, 0x80000008, 0) != NULL)
		find(c, 0x80000008, 0)->ecx = 0;
}

int vm_cpu_supported(struct vm_cpu *out, int kvm_fd, struct lb_err *err)
{
	struct kvm_list list = {.nent = KVM_ENTRIES_MAX};
	int rc = VM_KVM(kvm_fd, KVM_GET_SUPPORTED_CPUID, &list, err);

	if (rc < 0)
		return rc;
	from_kvm(out, &list);
	take_out_own(out);
	return 0;
}

/* Highest end of the XSAVE components in @mask, uncompacted. */
static uint32_t xsave_end(const struct vm_cpu *c, uint32_t mask)
{
	uint32_t end = 512 + 64; /* x87, SSE and the header */

	for (uint32_t i = 2; i < 32; i++) {
		const struct vm_cpuid *l = find_const(c, 0xd, i);

		if ((mask >> i & 1) != 0 && l != NULL && l->eax <= 65536 && l->ebx <= 65536 &&
		    l->eax + l->ebx > end)
			end = l->eax + l->ebx;
	}
	return end;
}

static void fit_xsave(struct vm_cpu *c)
{
	struct vm_cpuid *state = find(c, 0xd, 0);

	if (state != NULL)
		state->ecx = xsave_end(c, state->eax);
}

int vm_cpu_default(struct vm_cpu *out, int kvm_fd, struct lb_err *err)
{
	int rc = vm_cpu_supported(out, kvm_fd, err);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < FEATURE_REGS; i++) {
		struct vm_cpuid *l = find(out, features[i].leaf, features[i].subleaf);

		if (l != NULL)
			*reg_of(l, features[i].reg) &= features[i].keep;
	}
	fit_xsave(out);
	return 0;
}

static void add_entry(struct kvm_list *list, const struct kvm_cpuid_entry2 *e)
{
	list->entry[list->nent++] = *e;
}

/* One thread a core, all cores in one package; x2APIC ids are the numbers of the processors. */
static void add_topology(struct kvm_list *list, uint32_t id, uint32_t count)
{
	uint32_t bits = 0;

	while ((1u << bits) < count)
		bits++;
	add_entry(list, &(struct kvm_cpuid_entry2){.function = 0xb,
						   .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
						   .ebx = 1,
						   .ecx = 1u << 8,
						   .edx = id});
	add_entry(list, &(struct kvm_cpuid_entry2){.function = 0xb,
						   .index = 1,
						   .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
						   .eax = bits,
						   .ebx = count,
						   .ecx = 2u << 8 | 1,
						   .edx = id});
}

int vm_cpu_apply(int vcpu_fd, const struct vm_cpu *c, unsigned id, unsigned count,
		 struct lb_err *err)
{
	struct kvm_list list = {0};
	int rc;

	for (uint32_t i = 0; i < c->count; i++) {
		const struct vm_cpuid *l = &c->leaf[i];
		struct kvm_cpuid_entry2 e = {
			.function = l->leaf,
			.index = l->subleaf,
			.flags = l->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = l->eax,
			.ebx = l->ebx,
			.ecx = l->ecx,
			.edx = l->edx,
		};

		if (l->leaf == 1) {
			e.ebx = (l->ebx & 0xff00) | id << 24 | count << 16;
			e.edx |= count > 1 ? 1u << 28 : 0;
		}
		add_entry(&list, &e);
	}
	add_topology(&list, id, count);
	rc = VM_KVM(vcpu_fd, KVM_SET_CPUID2, &list, err);
	return rc < 0 ? rc : 0;
}

int vm_cpu_read_back(struct vm_cpu *out, int vcpu_fd, struct lb_err *err)
{
	struct kvm_list list = {.nent = KVM_ENTRIES_MAX};
	int rc = VM_KVM(vcpu_fd, KVM_GET_CPUID2, &list, err);

	if (rc < 0)
		return rc;
	from_kvm(out, &list);
	take_out_own(out);
	return 0;
}

int vm_cpu_of_host(struct vm_cpu *out, struct lb_err *err)
{
	struct vm_cpu ask;
	int kvm_fd = -1, vm_fd = -1, vcpu_fd = -1;
	int rc = vm_kvm_open(&kvm_fd, err);

	if (rc != 0)
		return rc;
	rc = vm_cpu_default(&ask, kvm_fd, err);
	if (rc != 0)
		goto out;
	rc = vm_fd = VM_KVM(kvm_fd, KVM_CREATE_VM, NULL, err);
	if (rc < 0)
		goto out;
	rc = vcpu_fd = VM_KVM(vm_fd, KVM_CREATE_VCPU, NULL, err);
	if (rc < 0)
		goto out;
	rc = vm_cpu_apply(vcpu_fd, &ask, 0, 1, err);
	if (rc == 0)
		rc = vm_cpu_read_back(out, vcpu_fd, err);
out:
	if (vcpu_fd >= 0)
		(void)close(vcpu_fd);
	if (vm_fd >= 0)
		(void)close(vm_fd);
	(void)close(kvm_fd);
	return rc < 0 ? rc : 0;
}

/* ---- two templates ---- */

static void vendor_of(char out[13], const struct vm_cpu *c)
{
	const struct vm_cpuid *l = find_const(c, 0, 0);

	memset(out, 0, 13);
	if (l == NULL)
		return;
	memcpy(out, &l->ebx, 4);
	memcpy(out + 4, &l->edx, 4);
	memcpy(out + 8, &l->ecx, 4);
	for (size_t i = 0; i < 12; i++)
		if (out[i] != '\0' && (out[i] < ' ' || out[i] > '~'))
			out[i] = '?';
}

static int same_vendor(const struct vm_cpu *a, const struct vm_cpu *b, struct lb_err *err)
{
	char va[13], vb[13];

	vendor_of(va, a);
	vendor_of(vb, b);
	if (strcmp(va, vb) != 0)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "processors of %s and of %s", va, vb);
	return 0;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Registers that are sizes or highest numbers: the smaller one. */
static void intersect_least(struct vm_cpuid *l, const struct vm_cpuid *o)
{
	if (l->leaf == 0 || l->leaf == 0x80000000 || l->leaf == 0x40000000 ||
	    (l->leaf == 7 && l->subleaf == 0))
		l->eax = least(l->eax, o->eax);
	if (l->leaf == 1)
		l->eax = least(l->eax, o->eax); /* family, model, stepping: the older */
	if (l->leaf == 0x80000008)
		l->eax = least(l->eax & 0xff, o->eax & 0xff) |
			 least(l->eax & 0xff00, o->eax & 0xff00);
}

/* Names and cache sizes are no features: of two different ones none is true. */
static bool informative(uint32_t leaf)
{
	return leaf >= 0x80000002 && leaf <= 0x80000006;
}

static bool leaf_equal(const struct vm_cpuid *a, const struct vm_cpuid *b)
{
	return a->eax == b->eax && a->ebx == b->ebx && a->ecx == b->ecx && a->edx == b->edx;
}

bool vm_cpu_equal(const struct vm_cpu *a, const struct vm_cpu *b)
{
	for (uint32_t i = 0; i < a->count && a->count == b->count; i++) {
		const struct vm_cpuid *l = &a->leaf[i], *o = &b->leaf[i];

		if (l->leaf != o->leaf || l->subleaf != o->subleaf || l->flags != o->flags ||
		    !leaf_equal(l, o))
			return false;
	}
	return a->count == b->count;
}

int vm_cpu_intersect(struct vm_cpu *out, const struct vm_cpu *a, const struct vm_cpu *b,
		     struct lb_err *err)
{
	struct vm_cpu both = {0};
	int rc = same_vendor(a, b, err);

	if (rc != 0)
		return rc;
	for (uint32_t i = 0; i < a->count; i++) {
		struct vm_cpuid l = a->leaf[i];
		const struct vm_cpuid *o = find_const(b, l.leaf, l.subleaf);

		if (o == NULL || (informative(l.leaf) && !leaf_equal(&l, o)))
			continue;
		for (size_t k = 0; k < FEATURE_REGS; k++)
			if (features[k].leaf == l.leaf && features[k].subleaf == l.subleaf)
				*reg_of(&l, features[k].reg) &= reg_get(o, features[k].reg);
		intersect_least(&l, o);
		insert(&both, &l);
	}
	fit_xsave(&both);
	*out = both;
	return 0;
}

void vm_cpu_unite(struct vm_cpu *c, const struct vm_cpu *other)
{
	for (uint32_t i = 0; i < other->count; i++)
		insert(c, &other->leaf[i]); /* what is there already stays */
	for (size_t k = 0; k < FEATURE_REGS; k++) {
		struct vm_cpuid *l = find(c, features[k].leaf, features[k].subleaf);
		const struct vm_cpuid *o = find_const(other, features[k].leaf, features[k].subleaf);

		if (l != NULL && o != NULL)
			*reg_of(l, features[k].reg) |= reg_get(o, features[k].reg);
	}
}

/* As in /proc/cpuinfo. */
static const struct {
	uint32_t leaf;
	enum reg reg;
	unsigned bit;
	const char *name;
} names[] = {
	{0x1, ECX, 0, "sse3"},
	{0x1, ECX, 1, "pclmulqdq"},
	{0x1, ECX, 9, "ssse3"},
	{0x1, ECX, 12, "fma"},
	{0x1, ECX, 13, "cx16"},
	{0x1, ECX, 17, "pcid"},
	{0x1, ECX, 19, "sse4_1"},
	{0x1, ECX, 20, "sse4_2"},
	{0x1, ECX, 21, "x2apic"},
	{0x1, ECX, 22, "movbe"},
	{0x1, ECX, 23, "popcnt"},
	{0x1, ECX, 24, "tsc_deadline_timer"},
	{0x1, ECX, 25, "aes"},
	{0x1, ECX, 26, "xsave"},
	{0x1, ECX, 28, "avx"},
	{0x1, ECX, 29, "f16c"},
	{0x1, ECX, 30, "rdrand"},
	{0x7, EBX, 0, "fsgsbase"},
	{0x7, EBX, 3, "bmi1"},
	{0x7, EBX, 5, "avx2"},
	{0x7, EBX, 7, "smep"},
	{0x7, EBX, 8, "bmi2"},
	{0x7, EBX, 9, "erms"},
	{0x7, EBX, 10, "invpcid"},
	{0x7, EBX, 16, "avx512f"},
	{0x7, EBX, 18, "rdseed"},
	{0x7, EBX, 19, "adx"},
	{0x7, EBX, 20, "smap"},
	{0x7, EBX, 23, "clflushopt"},
	{0x7, EBX, 24, "clwb"},
	{0x7, EBX, 29, "sha_ni"},
	{0x7, ECX, 3, "pku"},
	{0x7, ECX, 8, "gfni"},
	{0x7, ECX, 9, "vaes"},
	{0x7, ECX, 10, "vpclmulqdq"},
	{0x7, ECX, 22, "rdpid"},
	{0x7, EDX, 26, "ibrs"},
	{0x7, EDX, 27, "stibp"},
	{0x7, EDX, 31, "ssbd"},
	{0x80000001, ECX, 5, "abm"},
	{0x80000001, ECX, 6, "sse4a"},
	{0x80000001, EDX, 20, "nx"},
	{0x80000001, EDX, 26, "pdpe1gb"},
	{0x80000001, EDX, 27, "rdtscp"},
	{0x80000001, EDX, 29, "lm"},
};

static void name_bit(char *out, size_t cap, const struct feature_reg *f, unsigned bit)
{
	static const char *const regs[] = {"eax", "ebx", "ecx", "edx"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].leaf != f->leaf || f->subleaf != 0 || names[i].reg != f->reg ||
		    names[i].bit != bit)
			continue;
		(void)snprintf(out, cap, "%s", names[i].name);
		return;
	}
	(void)snprintf(out, cap, "cpuid %" PRIx32 ".%" PRIu32 " %s bit %u", f->leaf, f->subleaf,
		       regs[f->reg], bit);
}

/* Append the names of the bits of @missing; a text that is full ends in "...". */
static void name_bits(char *text, size_t cap, const struct feature_reg *f, uint32_t missing)
{
	for (unsigned bit = 0; bit < 32; bit++) {
		char one[40];
		size_t len = strlen(text);

		if ((missing >> bit & 1) == 0)
			continue;
		name_bit(one, sizeof(one), f, bit);
		if (len + strlen(one) + 8 > cap) {
			if (len < 3 || strcmp(text + len - 3, "...") != 0)
				(void)snprintf(text + len, cap - len, ", ...");
			return;
		}
		(void)snprintf(text + len, cap - len, "%s%s", len > 0 ? ", " : "", one);
	}
}

static unsigned address_bits(const struct vm_cpu *c)
{
	const struct vm_cpuid *l = find_const(c, 0x80000008, 0);

	return l == NULL ? 36 : l->eax & 0xff;
}

int vm_cpu_check(const struct vm_cpu *need, const struct vm_cpu *have, struct lb_err *err)
{
	char text[160] = "";
	int rc = same_vendor(need, have, err);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < FEATURE_REGS; i++) {
		const struct feature_reg *f = &features[i];
		const struct vm_cpuid *n = find_const(need, f->leaf, f->subleaf);
		const struct vm_cpuid *h = find_const(have, f->leaf, f->subleaf);

		if (n != NULL)
			name_bits(text, sizeof(text), f,
				  reg_get(n, f->reg) & ~(h != NULL ? reg_get(h, f->reg) : 0));
	}
	if (text[0] != '\0')
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "this host's processor lacks %s", text);
	if (address_bits(need) > address_bits(have))
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "this host's processor has %u physical address bits, needed: %u",
				  address_bits(have), address_bits(need));
	return 0;
}

/* ---- bytes ---- */

size_t vm_cpu_encode(uint8_t *out, size_t cap, const struct vm_cpu *c)
{
	struct lb_wr wr = lb_wr_init(out, cap);

	lb_wr_u16le(&wr, TEMPLATE_VERSION);
	lb_wr_u16le(&wr, (uint16_t)c->count);
	for (uint32_t i = 0; i < c->count; i++) {
		const struct vm_cpuid *l = &c->leaf[i];

		lb_wr_u32le(&wr, l->leaf);
		lb_wr_u32le(&wr, l->subleaf);
		lb_wr_u32le(&wr, l->flags);
		for (unsigned r = EAX; r <= EDX; r++)
			lb_wr_u32le(&wr, reg_get(l, (enum reg)r));
	}
	return lb_wr_done(&wr) ? wr.len : 0;
}

int vm_cpu_decode(struct vm_cpu *out, const void *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	uint16_t version = lb_rd_u16le(&rd), count = lb_rd_u16le(&rd);
	struct vm_cpu c = {.count = count};

	if (!rd.bad && version != TEMPLATE_VERSION)
		return lb_err_set(err, LB_EVERSION, 0, "CPU template of version %u, known: %d",
				  version, TEMPLATE_VERSION);
	if (rd.bad || count > VM_CPUID_MAX)
		return lb_err_set(err, LB_ECORRUPT, 0, "CPU template of %u leaves", count);
	for (uint32_t i = 0; i < count; i++) {
		struct vm_cpuid *l = &c.leaf[i];

		l->leaf = lb_rd_u32le(&rd);
		l->subleaf = lb_rd_u32le(&rd);
		l->flags = lb_rd_u32le(&rd);
		for (unsigned r = EAX; r <= EDX; r++)
			*reg_of(l, (enum reg)r) = lb_rd_u32le(&rd);
		if (i > 0 && !before(&c.leaf[i - 1], l))
			return lb_err_set(err, LB_ECORRUPT, 0,
					  "CPU template: leaf 0x%" PRIx32 " is out of order",
					  l->leaf);
		if (!leaf_wanted(l->leaf, l->subleaf))
			return lb_err_set(err, LB_ECORRUPT, 0,
					  "CPU template: leaf 0x%" PRIx32 ".%" PRIu32, l->leaf,
					  l->subleaf);
	}
	if (!lb_rd_done(&rd))
		return lb_err_set(err, LB_ECORRUPT, 0, "CPU template of %zu bytes", len);
	*out = c;
	return 0;
}
