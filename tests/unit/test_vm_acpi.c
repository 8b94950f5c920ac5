/*
 * The tables a guest finds: whole, linked, the same whether we or the firmware linked them, and
 * understood by ACPICA's disassembler and compiler.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "acpi.h"
#include "base/err.h"
#include "base/rd.h"
#include "base/wr.h"
#include "check.h"

#define RAM_BYTES (UINT64_C(64) << 20)

struct fix {
	struct vm_mem mem;
	struct vm_gpa rsdp;
};

static void setup(struct fix *f, unsigned vcpus)
{
	struct vm_acpi_cfg cfg = {.vcpus = vcpus, .low_bytes = RAM_BYTES};
	struct lb_err err = {0};

	*f = (struct fix){.rsdp = {0}};
	assert_int_equal(vm_mem_init(&f->mem, RAM_BYTES, &err), 0);
	assert_int_equal(vm_acpi_write(&f->rsdp, &f->mem, &cfg, &err), 0);
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	for (size_t i = 0; i < len; i++)
		s += p[i];
	return s;
}

static uint64_t le(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static const uint8_t *at(struct fix *f, uint64_t gpa, uint64_t len)
{
	const uint8_t *p = vm_mem_ptr(&f->mem, (struct vm_gpa){gpa}, len);

	assert_non_null(p);
	return p;
}

/* The checked table at @gpa. */
static const uint8_t *table_at(struct fix *f, uint64_t gpa, const char *signature)
{
	uint32_t len = (uint32_t)le(at(f, gpa, 36) + 4, 4);
	const uint8_t *p = at(f, gpa, len);

	assert_true(len >= 36 && gpa >= 0xe0000 && gpa + len <= 0x100000);
	assert_memory_equal(p, signature, 4);
	assert_int_equal(sum(p, len), 0);
	return p;
}

static const uint8_t *root(struct fix *f)
{
	const uint8_t *p = at(f, f->rsdp.a, 36);

	assert_memory_equal(p, "RSD PTR ", 8);
	assert_int_equal(f->rsdp.a % 16, 0);
	assert_int_equal(sum(p, 20), 0);
	assert_int_equal(sum(p, 36), 0);
	return p;
}

static void test_roots_agree(void **state)
{
	struct fix f;
	const uint8_t *rsdp, *rsdt, *xsdt;

	(void)state;
	setup(&f, 1);
	rsdp = root(&f);
	rsdt = table_at(&f, le(rsdp + 16, 4), "RSDT");
	xsdt = table_at(&f, le(rsdp + 24, 8), "XSDT");
	assert_int_equal(le(rsdt + 4, 4), 36 + 2 * 4);
	assert_int_equal(le(xsdt + 4, 4), 36 + 2 * 8);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(le(rsdt + 36 + 4 * i, 4), le(xsdt + 36 + 8 * i, 8));
	vm_mem_fini(&f.mem);
}

static const uint8_t *fadt_of(struct fix *f)
{
	const uint8_t *xsdt = table_at(f, le(root(f) + 24, 8), "XSDT");

	return table_at(f, le(xsdt + 36, 8), "FACP");
}

static void test_fadt(void **state)
{
	struct fix f;
	const uint8_t *fadt;

	(void)state;
	setup(&f, 1);
	fadt = fadt_of(&f);
	assert_int_equal(le(fadt + 4, 4), 244); /* revision 3 */
	assert_int_equal(le(fadt + 36, 4) % 64, 0);
	assert_memory_equal(at(&f, le(fadt + 36, 4), 64), "FACS\x40\0\0\0", 8);
	assert_int_equal(le(fadt + 40, 4), le(fadt + 140, 8));
	(void)table_at(&f, le(fadt + 40, 4), "DSDT");
	assert_int_equal(le(fadt + 46, 2), 9);          /* SCI */
	assert_int_equal(le(fadt + 56, 4), 0x600);      /* PM1 event */
	assert_int_equal(le(fadt + 64, 4), 0x604);      /* PM1 control */
	assert_int_equal(le(fadt + 76, 4), 0x608);      /* timer */
	assert_int_equal(le(fadt + 80, 4), 0x60c);      /* GPE 0 */
	assert_int_equal(le(fadt + 116 + 4, 8), 0xcf9); /* reset */
	assert_int_equal(le(fadt + 148 + 4, 8), 0x600);
	assert_int_equal(le(fadt + 220 + 4, 8), 0x60c);
	vm_mem_fini(&f.mem);
}

static void test_madt_names_every_processor(void **state)
{
	struct fix f;
	unsigned processors = 0, ioapics = 0, overrides = 0;
	const uint8_t *madt;

	(void)state;
	setup(&f, 16);
	madt = table_at(&f, le(table_at(&f, le(root(&f) + 24, 8), "XSDT") + 44, 8), "APIC");
	for (const uint8_t *p = madt + 44, *end = madt + le(madt + 4, 4); p < end; p += p[1]) {
		assert_true(p[1] >= 2 && p + p[1] <= end);
		if (p[0] == 0)
			assert_int_equal(p[3], processors++);
		ioapics += p[0] == 1;
		if (p[0] == 2) {
			overrides++;
			assert_int_equal(p[3], le(p + 4, 4)); /* ISA line = IOAPIC input */
			assert_int_equal(le(p + 8, 2), 0xd);  /* level, active high */
		}
	}
	assert_int_equal(processors, 16);
	assert_int_equal(ioapics, 1);
	assert_int_equal(overrides, 4);
	vm_mem_fini(&f.mem);
}

/* ---- what firmware does with the files ---- */

struct file {
	char name[56];
	uint8_t *p;
	size_t len;
	uint64_t at; /* guest physical; 0: not allocated */
};

static struct file *file_named(struct file *files, const uint8_t *name)
{
	for (unsigned i = 0; i < VM_ACPI_BLOBS; i++)
		if (strncmp(files[i].name, (const char *)name, sizeof(files[i].name)) == 0)
			return &files[i];
	fail_msg("no file %.56s", (const char *)name);
	return NULL;
}

static void run_allocate(struct file *files, const uint8_t *c)
{
	struct file *f = file_named(files, c);
	uint32_t align = (uint32_t)le(c + 56, 4);

	/* Where vm_acpi_write() puts the same. */
	assert_int_equal(f->at, 0);
	f->at = c[60] == 2 ? 0xe0000 : 0xe0040;
	assert_int_equal(f->at % align, 0);
}

static void run_pointer(struct file *files, const uint8_t *c)
{
	struct file *in = file_named(files, c), *to = file_named(files, c + 56);
	uint32_t off = (uint32_t)le(c + 112, 4);
	unsigned size = c[116];
	struct lb_wr wr;

	assert_true(in->at != 0 && to->at != 0);
	assert_true((size == 4 || size == 8) && off + size <= in->len);
	wr = lb_wr_init(in->p + off, size);
	if (size == 4)
		lb_wr_u32le(&wr, (uint32_t)(le(in->p + off, 4) + to->at));
	else
		lb_wr_u64le(&wr, le(in->p + off, 8) + to->at);
}

static void run_checksum(struct file *files, const uint8_t *c)
{
	struct file *f = file_named(files, c);
	uint32_t off = (uint32_t)le(c + 56, 4), start = (uint32_t)le(c + 60, 4),
		 len = (uint32_t)le(c + 64, 4);

	assert_true(off < f->len && start + len <= f->len);
	f->p[off] = (uint8_t)(f->p[off] - sum(f->p + start, len));
}

static void test_firmware_links_the_same(void **state)
{
	struct vm_acpi_cfg cfg = {.vcpus = 2, .low_bytes = RAM_BYTES};
	struct vm_blob blobs[VM_ACPI_BLOBS];
	struct file files[VM_ACPI_BLOBS] = {{.len = 0}};
	struct lb_err err = {0};
	struct fix f;

	(void)state;
	setup(&f, 2);
	assert_int_equal(vm_acpi_blobs(blobs, &cfg, &err), 0);
	for (unsigned i = 0; i < VM_ACPI_BLOBS; i++) {
		(void)snprintf(files[i].name, sizeof(files[i].name), "%s", blobs[i].name);
		files[i].p = blobs[i].bytes;
		files[i].len = blobs[i].len;
	}
	assert_string_equal(blobs[2].name, "etc/table-loader");
	assert_int_equal(blobs[2].len % 128, 0);
	for (const uint8_t *c = blobs[2].bytes; c < blobs[2].bytes + blobs[2].len; c += 128) {
		switch (le(c, 4)) {
		case 1:
			run_allocate(files, c + 4);
			break;
		case 2:
			run_pointer(files, c + 4);
			break;
		case 3:
			run_checksum(files, c + 4);
			break;
		default:
			fail_msg("command %u", (unsigned)le(c, 4));
		}
	}
	for (unsigned i = 0; i < 2; i++)
		assert_memory_equal(files[i].p, at(&f, files[i].at, files[i].len), files[i].len);
	vm_acpi_blobs_free(blobs);
	vm_mem_fini(&f.mem);
}

/* ---- ACPICA's judgement ---- */

static void write_file(const char *path, const void *p, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, len), len);
	assert_int_equal(close(fd), 0);
}

/* iasl's exit status; its output goes to @log in the current directory. -1: no iasl here. */
static int iasl(const char *log, const char *const *argv)
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		(void)dup2(fd, STDOUT_FILENO);
		(void)dup2(fd, STDERR_FILENO);
		(void)execvp("iasl", (char *const *)(uintptr_t)argv);
		_exit(errno == ENOENT ? 127 : 126);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == 127 ? -1 : WEXITSTATUS(status);
}

static char *read_text(const char *path)
{
	char *text = calloc(1, 256 << 10);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_non_null(text);
	assert_true(fd >= 0);
	assert_true(read(fd, text, (256 << 10) - 1) > 0);
	(void)close(fd);
	return text;
}

static void expect_text(const char *path, const char *const *words)
{
	char *text = read_text(path);

	for (; *words != NULL; words++)
		if (strstr(text, *words) == NULL)
			fail_msg("%s has no \"%s\":\n%s", path, *words, text);
	free(text);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_dir(const char *dir)
{
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void test_acpica_reads_them(void **state)
{
	static const char *const disassemble[] = {"iasl",     "-d",       "dsdt.dat",
						  "facp.dat", "apic.dat", NULL};
	/* 3168: Processor () is old, and old guests know nothing else. */
	static const char *const compile[] = {"iasl", "-we",   "-vw",      "3168",
					      "-p",   "again", "dsdt.dsl", NULL};
	static const char *const words[] = {"Name (_HID, EisaId (\"PNP0A03\")",
					    "Name (_PRT, Package (0x7C)",
					    "Field (PIRR, ByteAcc, NoLock, Preserve)",
					    "Notify (\\_SB.VGEN, 0x80)",
					    "Name (\\_S5, Package (0x04)",
					    "Processor (CP01, 0x01",
					    NULL};
	static const char *const clean[] = {"0 Errors, 0 Warnings", NULL};
	char dir[] = "/tmp/lb-acpi.XXXXXX";
	struct fix f;
	const uint8_t *fadt, *p;
	int rc;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	setup(&f, 2);
	fadt = fadt_of(&f);
	write_file("facp.dat", fadt, le(fadt + 4, 4));
	p = table_at(&f, le(fadt + 40, 4), "DSDT");
	write_file("dsdt.dat", p, le(p + 4, 4));
	p = table_at(&f, le(table_at(&f, le(root(&f) + 24, 8), "XSDT") + 44, 8), "APIC");
	write_file("apic.dat", p, le(p + 4, 4));
	vm_mem_fini(&f.mem);
	rc = iasl("d.log", disassemble);
	if (rc < 0) {
		remove_dir(dir);
		print_message("skipped: no iasl (package acpica-tools)\n");
		skip();
	}
	assert_int_equal(rc, 0);
	expect_text("dsdt.dsl", words);
	if (iasl("c.log", compile) != 0)
		fail_msg("%s", read_text("c.log"));
	expect_text("c.log", clean);
	remove_dir(dir);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_roots_agree),
		cmocka_unit_test(test_fadt),
		cmocka_unit_test(test_madt_names_every_processor),
		cmocka_unit_test(test_firmware_links_the_same),
		cmocka_unit_test(test_acpica_reads_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
