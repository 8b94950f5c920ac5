/*
 * A kernel file becomes a machine's memory: bzImages made here, whole and in every broken way.
 */
#include <elf.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/wr.h"
#include "boot.h"
#include "check.h"
#include "vmgenid.h"

#define RAM_BYTES (UINT64_C(64) << 20)
#define PREFERRED UINT64_C(0x1000000)

enum {
	SETUP_BYTES = 2 * 512, /* one sector of setup code */
	BODY_BYTES = 8192,
	FILE_BYTES = SETUP_BYTES + BODY_BYTES,
	PAYLOAD = 1024 /* offset in the body */
};

struct image {
	uint8_t p[FILE_BYTES];
	size_t len;
};

static void put(struct image *im, size_t off, unsigned bytes, uint64_t v)
{
	struct lb_wr wr = lb_wr_init(im->p + off, bytes);

	for (unsigned i = 0; i < bytes; i++)
		lb_wr_u8(&wr, (uint8_t)(v >> (8 * i)));
}

static void make_image(struct image *im)
{
	*im = (struct image){.len = FILE_BYTES};
	for (size_t i = 0; i < BODY_BYTES; i++)
		im->p[SETUP_BYTES + i] = (uint8_t)(i * 7 + 1);
	put(im, 0x1f1, 1, 1);
	put(im, 0x1fe, 2, 0xaa55);
	put(im, 0x200, 2, 0x6aeb); /* jmp: the header ends at 0x26c */
	put(im, 0x202, 4, 0x53726448);
	put(im, 0x206, 2, 0x020f);
	put(im, 0x22c, 4, 0x7fffffff);
	put(im, 0x230, 4, 0x200000);
	put(im, 0x234, 1, 1);
	put(im, 0x235, 1, 21);
	put(im, 0x236, 2, 0x3f);
	put(im, 0x238, 4, 2047);
	put(im, 0x258, 8, PREFERRED);
	put(im, 0x260, 4, 0x800000);
}

static int file_of(const void *p, size_t len)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, len), len);
	return fd;
}

struct fix {
	struct vm_mem mem;
	struct vm_boot_linux cfg;
	struct vm_entry entry;
	struct lb_err err;
};

static void setup(struct fix *f, const void *kernel, size_t len)
{
	*f = (struct fix){.cfg = {.kernel_fd = file_of(kernel, len), .initrd_fd = -1}};
	assert_int_equal(vm_mem_init(&f->mem, RAM_BYTES, &f->err), 0);
}

static void teardown(struct fix *f)
{
	(void)close(f->cfg.kernel_fd);
	if (f->cfg.initrd_fd >= 0)
		(void)close(f->cfg.initrd_fd);
	vm_mem_fini(&f->mem);
}

static int boot(struct fix *f)
{
	return vm_boot_linux(&f->entry, &f->mem, &f->cfg, &f->err);
}

static uint64_t get(struct fix *f, uint64_t gpa, unsigned bytes)
{
	uint64_t v = 0;

	assert_true(vm_mem_read(&f->mem, &v, (struct vm_gpa){gpa}, bytes));
	return v;
}

static void test_bzimage(void **state)
{
	struct image im;
	struct fix f;
	uint64_t bp;

	(void)state;
	make_image(&im);
	setup(&f, im.p, im.len);
	f.cfg.cmdline = "console=ttyS0";
	f.cfg.rsdp.a = 0xe0000;
	f.cfg.initrd_fd = file_of("initrd!", 7);
	assert_int_equal(boot(&f), 0);
	assert_true(f.entry.long_mode);
	assert_int_equal(f.entry.rip, PREFERRED + 0x200);
	assert_memory_equal(vm_mem_ptr(&f.mem, (struct vm_gpa){PREFERRED}, BODY_BYTES),
			    im.p + SETUP_BYTES, BODY_BYTES);
	bp = f.entry.rsi;
	assert_int_equal(get(&f, bp + 0x202, 4), 0x53726448);
	assert_int_equal(get(&f, bp + 0x210, 1), 0xff);
	assert_int_equal(get(&f, bp + 0x211, 1) & 1, 1);
	assert_int_equal(get(&f, bp + 0x70, 8), 0xe0000);
	assert_string_equal(vm_mem_ptr(&f.mem, (struct vm_gpa){get(&f, bp + 0x228, 4)}, 14),
			    "console=ttyS0");
	assert_int_equal(get(&f, bp + 0x21c, 4), 7);
	assert_memory_equal(vm_mem_ptr(&f.mem, (struct vm_gpa){get(&f, bp + 0x218, 4)}, 7),
			    "initrd!", 7);
	assert_int_equal(get(&f, bp + 0x218, 4) % 4096, 0);
	teardown(&f);
}

/* Every address of the first 4 GiB maps to itself. */
static void test_identity_map(void **state)
{
	static const uint64_t probes[] = {0, 0x8000, PREFERRED, 0xfee00000, 0xffffffff};
	struct image im;
	struct fix f;

	(void)state;
	make_image(&im);
	setup(&f, im.p, im.len);
	assert_int_equal(boot(&f), 0);
	for (unsigned i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		uint64_t va = probes[i], e = get(&f, f.entry.cr3 + 8 * (va >> 39 & 511), 8);

		assert_int_equal(e & 1, 1);
		e = get(&f, (e & ~UINT64_C(0xfff)) + 8 * (va >> 30 & 511), 8);
		assert_int_equal(e & 0x81, 1);
		e = get(&f, (e & ~UINT64_C(0xfff)) + 8 * (va >> 21 & 511), 8);
		assert_int_equal(e & 0x81, 0x81);
		assert_int_equal(e & ~UINT64_C(0x1fffff), va & ~UINT64_C(0x1fffff));
	}
	assert_int_equal(get(&f, f.entry.gdt.a + 0x10, 8), UINT64_C(0x00af9b000000ffff));
	teardown(&f);
}

static void check_map(const struct vm_e820 *map, size_t n, const struct vm_mem *m)
{
	uint64_t ram = 0;

	for (size_t i = 0; i < n; i++) {
		assert_true(map[i].len > 0);
		if (i > 0)
			assert_true(map[i - 1].base + map[i - 1].len <= map[i].base);
		if (map[i].type == VM_E820_RAM)
			ram += map[i].len;
		if (map[i].base == vm_genid_gpa(m).a)
			assert_int_equal(map[i].type, VM_E820_RESERVED);
	}
	assert_true(ram < m->ram_bytes && ram > m->ram_bytes - (1 << 20));
}

static void test_memory_map(void **state)
{
	static const uint64_t sizes[] = {RAM_BYTES, VM_LOW_MAX_BYTES, VM_LOW_MAX_BYTES + RAM_BYTES};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct vm_e820 map[VM_E820_MAX];
		struct lb_err err = {0};
		struct vm_mem m;

		assert_int_equal(vm_mem_init(&m, sizes[i], &err), 0);
		check_map(map, vm_boot_e820(map, &m, false), &m);
		check_map(map, vm_boot_e820(map, &m, true), &m);
		assert_int_equal(map[0].base, 0);
		vm_mem_fini(&m);
	}
}

static void test_small_memory_moves_the_kernel(void **state)
{
	struct image im;
	struct fix f;

	(void)state;
	make_image(&im);
	put(&im, 0x258, 8, RAM_BYTES);
	setup(&f, im.p, im.len);
	assert_int_equal(boot(&f), 0);
	assert_int_equal(f.entry.rip, 0x200000 + 0x200);
	teardown(&f);
	put(&im, 0x234, 1, 0); /* not relocatable */
	setup(&f, im.p, im.len);
	assert_int_equal(boot(&f), LB_EINPUT);
	teardown(&f);
}

static void expect_refusal(const struct image *im, int code, const char *word)
{
	struct fix f;

	setup(&f, im->p, im->len);
	assert_int_equal(boot(&f), code);
	if (strstr(f.err.msg, word) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", f.err.msg, word);
	teardown(&f);
}

static void test_refusals(void **state)
{
	struct image im;

	(void)state;
	make_image(&im);
	put(&im, 0x1fe, 2, 0);
	expect_refusal(&im, LB_EINPUT, "neither");
	make_image(&im);
	put(&im, 0x236, 2, 0);
	expect_refusal(&im, LB_EUNSUPPORTED, "64-bit");
	make_image(&im);
	put(&im, 0x206, 2, 0x0204);
	expect_refusal(&im, LB_EUNSUPPORTED, "2.04");
	make_image(&im);
	put(&im, 0x1f1, 1, 200);
	expect_refusal(&im, LB_EINPUT, "cut short");
	make_image(&im);
	put(&im, 0x260, 4, 0xffffffff);
	expect_refusal(&im, LB_EINPUT, "64 MiB");
	make_image(&im);
	put(&im, 0x260, 4, RAM_BYTES - (4 << 20));
	put(&im, 0x230, 4, 3);
	expect_refusal(&im, LB_EINPUT, "alignment");
}

static void test_every_truncation(void **state)
{
	struct image im;

	(void)state;
	make_image(&im);
	for (size_t len = 1; len < SETUP_BYTES + 0x201; len += len < 0x1f0 ? 31 : 1) {
		im.len = len;
		expect_refusal(&im, LB_EINPUT, "kernel");
	}
}

static void test_limits_of_what_goes_with_it(void **state)
{
	char cmdline[2049];
	struct image im;
	struct fix f;

	(void)state;
	make_image(&im);
	setup(&f, im.p, im.len);
	memset(cmdline, 'a', 2048);
	cmdline[2048] = '\0';
	f.cfg.cmdline = cmdline;
	assert_int_equal(boot(&f), LB_EINPUT);
	cmdline[2047] = '\0';
	assert_int_equal(boot(&f), 0);
	f.cfg.initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
	assert_int_equal(boot(&f), LB_EINPUT); /* empty */
	/* The kernel ends at 24 MiB, the generation page begins 4 KiB below 64. */
	assert_int_equal(ftruncate(f.cfg.initrd_fd, (40 << 20) - 4096), 0);
	assert_int_equal(boot(&f), 0);
	assert_int_equal(get(&f, f.entry.rsi + 0x218, 4), 24 << 20);
	assert_int_equal(ftruncate(f.cfg.initrd_fd, (40 << 20) - 4095), 0);
	assert_int_equal(boot(&f), LB_EINPUT);
	teardown(&f);
}

/* ---- vmlinux, bare and packed ---- */

#define ELF_BYTES 4096u

static void make_elf(uint8_t p[ELF_BYTES], uint64_t paddr, uint64_t memsz)
{
	Elf64_Ehdr eh = {.e_type = ET_EXEC,
			 .e_machine = EM_X86_64,
			 .e_entry = paddr + 16,
			 .e_phoff = sizeof(eh),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 2};
	Elf64_Phdr ph[2] = {{.p_type = PT_LOAD,
			     .p_offset = 1024,
			     .p_paddr = paddr,
			     .p_filesz = 2048,
			     .p_memsz = memsz},
			    {.p_type = PT_NOTE, .p_paddr = UINT64_MAX, .p_memsz = 5}};

	memset(p, 0x5a, ELF_BYTES);
	memcpy(eh.e_ident, ELFMAG "\2\1\1", SELFMAG + 3);
	memcpy(p, &eh, sizeof(eh));
	memcpy(p + sizeof(eh), ph, sizeof(ph));
}

static void test_vmlinux(void **state)
{
	uint8_t elf[ELF_BYTES];
	struct fix f;

	(void)state;
	make_elf(elf, PREFERRED, 65536);
	setup(&f, elf, sizeof(elf));
	memset(vm_mem_ptr(&f.mem, (struct vm_gpa){PREFERRED}, 65536), 0xff, 65536);
	assert_int_equal(boot(&f), 0);
	assert_int_equal(f.entry.rip, PREFERRED + 16);
	assert_int_equal(get(&f, PREFERRED, 1), 0x5a);
	assert_int_equal(get(&f, PREFERRED + 2048, 1), 0); /* what the file lacks is zero */
	assert_int_equal(get(&f, f.entry.rsi + 0x202, 4), 0x53726448);
	teardown(&f);
}

static void test_vmlinux_outside_memory(void **state)
{
	static const uint64_t where[][2] = {{RAM_BYTES - 4096, 8192}, {0x8000, 4096},
					    {PREFERRED, UINT64_MAX},  {PREFERRED, 100},
					    {VM_HIGH_GPA, 4096},      {UINT64_MAX - 100, 4096}};
	uint8_t elf[ELF_BYTES];
	struct fix f;

	(void)state;
	for (unsigned i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
		make_elf(elf, where[i][0], where[i][1]);
		setup(&f, elf, sizeof(elf));
		assert_int_equal(boot(&f), LB_EINPUT);
		teardown(&f);
	}
}

/* The image with @elf packed as its payload; returns the payload's offset in the file. */
static size_t pack(struct image *im, const uint8_t elf[ELF_BYTES])
{
	size_t at = SETUP_BYTES + PAYLOAD;
	int n = LZ4_compress_default((const char *)elf, (char *)im->p + at + 8, ELF_BYTES,
				     BODY_BYTES - PAYLOAD - 12);

	assert_true(n > 0);
	put(im, at, 4, 0x184c2102);
	put(im, at + 4, 4, (uint64_t)n);
	put(im, at + 8 + (size_t)n, 4, ELF_BYTES);
	put(im, 0x248, 4, PAYLOAD);
	put(im, 0x24c, 4, (uint64_t)n + 12);
	return at;
}

static void test_unpack(void **state)
{
	uint8_t elf[ELF_BYTES];
	struct image im;
	struct fix f;
	size_t at;

	(void)state;
	make_elf(elf, PREFERRED, 65536);
	make_image(&im);
	at = pack(&im, elf);
	setup(&f, im.p, im.len);
	f.cfg.unpack = true;
	assert_int_equal(boot(&f), 0);
	assert_int_equal(f.entry.rip, PREFERRED + 16);
	assert_int_equal(get(&f, f.entry.rsi + 0x206, 2), 0x020f); /* the header goes with it */
	teardown(&f);

	put(&im, at + 4, 4, 0xffffff); /* block longer than the file */
	setup(&f, im.p, im.len);
	f.cfg.unpack = true;
	assert_int_equal(boot(&f), LB_EINPUT);
	teardown(&f);

	put(&im, at, 4, 0x587a37fd); /* xz: left to the guest */
	setup(&f, im.p, im.len);
	f.cfg.unpack = true;
	assert_int_equal(boot(&f), 0);
	assert_int_equal(f.entry.rip, PREFERRED + 0x200);
	teardown(&f);
}

static void test_unpacked_size_lies(void **state)
{
	uint8_t elf[ELF_BYTES];
	struct image im;
	struct fix f;
	size_t at;

	(void)state;
	make_elf(elf, PREFERRED, 65536);
	make_image(&im);
	at = pack(&im, elf);
	for (int i = -1; i <= 1; i += 2) {
		uint32_t n = (uint32_t)im.p[at + 4] | (uint32_t)im.p[at + 5] << 8;

		put(&im, at + 8 + n, 4, ELF_BYTES + (uint64_t)(int64_t)i);
		setup(&f, im.p, im.len);
		f.cfg.unpack = true;
		assert_int_equal(boot(&f), LB_EINPUT);
		teardown(&f);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bzimage),
		cmocka_unit_test(test_identity_map),
		cmocka_unit_test(test_memory_map),
		cmocka_unit_test(test_small_memory_moves_the_kernel),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_limits_of_what_goes_with_it),
		cmocka_unit_test(test_vmlinux),
		cmocka_unit_test(test_vmlinux_outside_memory),
		cmocka_unit_test(test_unpack),
		cmocka_unit_test(test_unpacked_size_lies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
