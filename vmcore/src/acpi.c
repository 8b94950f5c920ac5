#include "acpi.h"

#include <stdlib.h>
#include <string.h>

#include "acpi_int.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/rd.h"
#include "pm.h"

#define RSDP_FILE   "etc/acpi/rsdp"
#define TABLES_FILE "etc/acpi/tables"
#define LOADER_FILE "etc/table-loader"

enum {
	TABLES_MAX = 16 << 10,
	RSDP_BYTES = 36,
	RSDP_V1_BYTES = 20, /* the first checksum's range */
	HEADER_BYTES = 36,
	FACS_ALIGN = 64,
	REFS_MAX = 16,
	SUMS_MAX = 8,
	RSDP_AT = 0xe0000,
	TABLES_AT = 0xe0040,
	AREA_END = 0x100000,
};

/* Which of the two files. */
enum place {
	IN_RSDP,
	IN_TABLES
};

/* A pointer that stands at @off of @in, @size bytes, and holds an offset in the tables. */
struct ref {
	enum place in;
	uint32_t off;
	uint8_t size;
};
/* The byte at @at makes [start, start+len) of @in sum up to zero. */
struct sum {
	enum place in;
	uint32_t at, start, len;
};

struct build {
	uint8_t tables[TABLES_MAX], rsdp[RSDP_BYTES];
	struct lb_wr wr; /* of tables */
	struct ref refs[REFS_MAX];
	struct sum sums[SUMS_MAX];
	unsigned ref_count, sum_count;
};

static void add_ref(struct build *b, enum place in, size_t off, uint8_t size)
{
	LB_ASSERT(b->ref_count < REFS_MAX);
	b->refs[b->ref_count++] = (struct ref){.in = in, .off = (uint32_t)off, .size = size};
}

static void add_sum(struct build *b, enum place in, size_t at, size_t start, size_t len)
{
	LB_ASSERT(b->sum_count < SUMS_MAX);
	b->sums[b->sum_count++] = (struct sum){
		.in = in, .at = (uint32_t)at, .start = (uint32_t)start, .len = (uint32_t)len};
}

/* A pointer to @target, written here. */
static void pointer32(struct build *b, uint32_t target)
{
	add_ref(b, IN_TABLES, b->wr.len, 4);
	lb_wr_u32le(&b->wr, target);
}

static void pointer64(struct build *b, uint32_t target)
{
	add_ref(b, IN_TABLES, b->wr.len, 8);
	lb_wr_u64le(&b->wr, target);
}

static uint32_t open_table(struct build *b, const char *signature, uint8_t revision)
{
	uint32_t at;

	lb_wr_zeros(&b->wr, (0 - b->wr.len) % 8);
	at = (uint32_t)b->wr.len;
	lb_wr_bytes(&b->wr, signature, 4);
	lb_wr_u32le(&b->wr, 0); /* length: close_table() */
	lb_wr_u8(&b->wr, revision);
	lb_wr_u8(&b->wr, 0); /* checksum */
	lb_wr_bytes(&b->wr, "LIFEBT", 6);
	lb_wr_bytes(&b->wr, "PC1     ", 8);
	lb_wr_u32le(&b->wr, 1);
	lb_wr_bytes(&b->wr, "LBVM", 4);
	lb_wr_u32le(&b->wr, 1);
	return at;
}

static void close_table(struct build *b, uint32_t at)
{
	uint32_t len = (uint32_t)b->wr.len - at;
	struct lb_wr field;

	LB_ASSERT(!b->wr.bad); /* all lengths are ours */
	field = lb_wr_init(b->tables + at + 4, sizeof(len));
	lb_wr_u32le(&field, len);
	add_sum(b, IN_TABLES, at + 9, at, len);
}

/* ---- the tables ---- */

static uint32_t add_facs(struct build *b)
{
	uint32_t at;

	lb_wr_zeros(&b->wr, (0 - b->wr.len) % FACS_ALIGN);
	at = (uint32_t)b->wr.len;
	lb_wr_bytes(&b->wr, "FACS", 4);
	lb_wr_u32le(&b->wr, 64);
	lb_wr_zeros(&b->wr, 64 - 8);
	return at;
}

static uint32_t add_dsdt(struct build *b, const struct vm_acpi_cfg *cfg)
{
	/* Revision 1: integers of 32 bits, which the oldest guests know too. */
	uint32_t at = open_table(b, "DSDT", 1);

	acpi_dsdt_body(&b->wr, cfg);
	close_table(b, at);
	return at;
}

/* Generic address structure of an I/O port; all zero for len_bytes 0. */
static void port_address(struct lb_wr *wr, uint16_t port, uint8_t len_bytes)
{
	lb_wr_u8(wr, len_bytes == 0 ? 0 : 1);
	lb_wr_u8(wr, (uint8_t)(8 * len_bytes));
	lb_wr_u8(wr, 0);
	lb_wr_u8(wr, 0); /* access size: as the register's */
	lb_wr_u64le(wr, len_bytes == 0 ? 0 : port);
}

enum fadt_flags {
	FADT_WBINVD = 1 << 0,
	FADT_PROC_C1 = 1 << 2,
	FADT_NO_SLEEP_BUTTON = 1 << 5,
	FADT_NO_RTC_WAKE = 1 << 6,
	FADT_TIMER_32 = 1 << 8,
	FADT_RESET = 1 << 10,
};

static void fadt_ports(struct lb_wr *wr)
{
	lb_wr_u32le(wr, VM_PM_BASE + VM_PM_EVENT);
	lb_wr_u32le(wr, 0);
	lb_wr_u32le(wr, VM_PM_BASE + VM_PM_CONTROL);
	lb_wr_u32le(wr, 0);
	lb_wr_u32le(wr, 0);
	lb_wr_u32le(wr, VM_PM_BASE + VM_PM_TIMER);
	lb_wr_u32le(wr, VM_PM_BASE + VM_PM_GPE);
	lb_wr_u32le(wr, 0);
	lb_wr_u8(wr, 4); /* lengths: event, control, PM2, timer, GPE0, GPE1 */
	lb_wr_u8(wr, 2);
	lb_wr_u8(wr, 0);
	lb_wr_u8(wr, 4);
	lb_wr_u8(wr, 4);
	lb_wr_u8(wr, 0);
}

static void fadt_extended_ports(struct lb_wr *wr)
{
	port_address(wr, VM_PM_BASE + VM_PM_EVENT, 4);
	port_address(wr, 0, 0);
	port_address(wr, VM_PM_BASE + VM_PM_CONTROL, 2);
	port_address(wr, 0, 0);
	port_address(wr, 0, 0);
	port_address(wr, VM_PM_BASE + VM_PM_TIMER, 4);
	port_address(wr, VM_PM_BASE + VM_PM_GPE, 4);
	port_address(wr, 0, 0);
}

static uint32_t add_fadt(struct build *b, uint32_t facs, uint32_t dsdt)
{
	uint32_t at = open_table(b, "FACP", 3);
	struct lb_wr *wr = &b->wr;

	pointer32(b, facs);
	pointer32(b, dsdt);
	lb_wr_u8(wr, 0);
	lb_wr_u8(wr, 0); /* power profile: unspecified */
	lb_wr_u16le(wr, VM_PM_SCI);
	lb_wr_u32le(wr, 0); /* no SMI command port: always in ACPI mode */
	lb_wr_zeros(wr, 4); /* enable, disable, S4BIOS, P-state */
	fadt_ports(wr);
	lb_wr_u8(wr, 0);        /* GPE1 base */
	lb_wr_u8(wr, 0);        /* C-state control */
	lb_wr_u16le(wr, 0xfff); /* C2, C3: none */
	lb_wr_u16le(wr, 0xfff);
	lb_wr_zeros(wr, 4);   /* flush size and stride */
	lb_wr_zeros(wr, 2);   /* duty */
	lb_wr_zeros(wr, 2);   /* day and month alarm */
	lb_wr_u8(wr, 0x32);   /* century register of the RTC */
	lb_wr_u16le(wr, 0x3); /* legacy devices, keyboard controller */
	lb_wr_u8(wr, 0);
	lb_wr_u32le(wr, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_RTC_WAKE |
				FADT_TIMER_32 | FADT_RESET);
	port_address(wr, 0xcf9, 1);
	lb_wr_u8(wr, 0x06);
	lb_wr_zeros(wr, 3);
	lb_wr_u64le(wr, 0); /* FACS: the 32-bit pointer holds */
	pointer64(b, dsdt);
	fadt_extended_ports(wr);
	close_table(b, at);
	return at;
}

static uint32_t add_madt(struct build *b, const struct vm_acpi_cfg *cfg)
{
	static const uint8_t level_lines[] = {5, 9, 10, 11};
	uint32_t at = open_table(b, "APIC", 1);
	struct lb_wr *wr = &b->wr;

	lb_wr_u32le(wr, 0xfee00000u);
	lb_wr_u32le(wr, 1); /* there are 8259s too */
	for (unsigned i = 0; i < cfg->vcpus; i++) {
		lb_wr_u8(wr, 0); /* local APIC */
		lb_wr_u8(wr, 8);
		lb_wr_u8(wr, (uint8_t)i);
		lb_wr_u8(wr, (uint8_t)i);
		lb_wr_u32le(wr, 1); /* enabled */
	}
	lb_wr_u8(wr, 1); /* I/O APIC: id 0, inputs from 0 */
	lb_wr_u8(wr, 12);
	lb_wr_u16le(wr, 0);
	lb_wr_u32le(wr, 0xfec00000u);
	lb_wr_u32le(wr, 0);
	for (size_t i = 0; i < sizeof(level_lines); i++) {
		lb_wr_u8(wr, 2); /* override: ISA, same input, active high, level */
		lb_wr_u8(wr, 10);
		lb_wr_u8(wr, 0);
		lb_wr_u8(wr, level_lines[i]);
		lb_wr_u32le(wr, level_lines[i]);
		lb_wr_u16le(wr, 0x000d);
	}
	lb_wr_u8(wr, 4); /* local NMI: LINT1 of all */
	lb_wr_u8(wr, 6);
	lb_wr_u8(wr, 0xff);
	lb_wr_u16le(wr, 0);
	lb_wr_u8(wr, 1);
	close_table(b, at);
	return at;
}

static void add_rsdp(struct build *b, uint32_t rsdt, uint32_t xsdt)
{
	struct lb_wr wr = lb_wr_init(b->rsdp, sizeof(b->rsdp));

	lb_wr_bytes(&wr, "RSD PTR ", 8);
	lb_wr_u8(&wr, 0);
	lb_wr_bytes(&wr, "LIFEBT", 6);
	lb_wr_u8(&wr, 2);
	add_ref(b, IN_RSDP, wr.len, 4);
	lb_wr_u32le(&wr, rsdt);
	lb_wr_u32le(&wr, RSDP_BYTES);
	add_ref(b, IN_RSDP, wr.len, 8);
	lb_wr_u64le(&wr, xsdt);
	lb_wr_zeros(&wr, 4);
	LB_ASSERT(lb_wr_done(&wr));
	add_sum(b, IN_RSDP, 8, 0, RSDP_V1_BYTES);
	add_sum(b, IN_RSDP, 32, 0, RSDP_BYTES);
}

static void build_all(struct build *b, const struct vm_acpi_cfg *cfg)
{
	uint32_t facs, dsdt, tables[2], rsdt, xsdt;

	*b = (struct build){0};
	b->wr = lb_wr_init(b->tables, sizeof(b->tables));
	facs = add_facs(b);
	dsdt = add_dsdt(b, cfg);
	tables[0] = add_fadt(b, facs, dsdt);
	tables[1] = add_madt(b, cfg);
	rsdt = open_table(b, "RSDT", 1);
	for (unsigned i = 0; i < 2; i++)
		pointer32(b, tables[i]);
	close_table(b, rsdt);
	xsdt = open_table(b, "XSDT", 1);
	for (unsigned i = 0; i < 2; i++)
		pointer64(b, tables[i]);
	close_table(b, xsdt);
	add_rsdp(b, rsdt, xsdt);
}

/* ---- linked by us ---- */

static uint8_t *bytes_of(struct build *b, enum place in)
{
	return in == IN_RSDP ? b->rsdp : b->tables;
}

static void link_at(struct build *b, uint32_t tables_at)
{
	for (unsigned i = 0; i < b->ref_count; i++) {
		uint8_t *p = bytes_of(b, b->refs[i].in) + b->refs[i].off;
		struct lb_rd rd = lb_rd_init(p, 4);
		struct lb_wr wr = lb_wr_init(p, 4);

		lb_wr_u32le(&wr, lb_rd_u32le(&rd) + tables_at);
	}
	for (unsigned i = 0; i < b->sum_count; i++) {
		uint8_t *p = bytes_of(b, b->sums[i].in), sum = 0;

		for (uint32_t k = 0; k < b->sums[i].len; k++)
			sum += p[b->sums[i].start + k];
		p[b->sums[i].at] = (uint8_t)(p[b->sums[i].at] - sum);
	}
}

int vm_acpi_write(struct vm_gpa *rsdp, struct vm_mem *m, const struct vm_acpi_cfg *cfg,
		  struct lb_err *err)
{
	struct build *b = malloc(sizeof(*b));
	int rc = 0;

	if (b == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "ACPI tables");
	build_all(b, cfg);
	LB_ASSERT(TABLES_AT + b->wr.len <= AREA_END);
	link_at(b, TABLES_AT);
	if (!vm_mem_write(m, (struct vm_gpa){RSDP_AT}, b->rsdp, sizeof(b->rsdp)) ||
	    !vm_mem_write(m, (struct vm_gpa){TABLES_AT}, b->tables, b->wr.len))
		rc = lb_err_set(err, LB_EINPUT, 0, "no memory for ACPI tables at 0xE0000");
	else
		*rsdp = (struct vm_gpa){RSDP_AT};
	free(b);
	return rc;
}

/* ---- linked by firmware ---- */

enum {
	COMMAND_BYTES = 128,
	FILE_BYTES = 56,
	ALLOCATE = 1,
	ADD_POINTER = 2,
	ADD_CHECKSUM = 3,
	ZONE_HIGH = 1,
	ZONE_FSEG = 2,
	COMMANDS_MAX = 2 + REFS_MAX + SUMS_MAX
};

static void file_name(struct lb_wr *wr, const char *name)
{
	size_t n = strlen(name);

	LB_ASSERT(n < FILE_BYTES);
	lb_wr_bytes(wr, name, n);
	lb_wr_zeros(wr, FILE_BYTES - n);
}

static void pad_command(struct lb_wr *wr)
{
	lb_wr_zeros(wr, (0 - wr->len) % COMMAND_BYTES);
}

static void allocate(struct lb_wr *wr, const char *file, uint32_t align, uint8_t zone)
{
	lb_wr_u32le(wr, ALLOCATE);
	file_name(wr, file);
	lb_wr_u32le(wr, align);
	lb_wr_u8(wr, zone);
	pad_command(wr);
}

static const char *file_of(enum place in)
{
	return in == IN_RSDP ? RSDP_FILE : TABLES_FILE;
}

static void write_commands(struct lb_wr *wr, const struct build *b)
{
	allocate(wr, RSDP_FILE, 16, ZONE_FSEG);
	allocate(wr, TABLES_FILE, FACS_ALIGN, ZONE_HIGH);
	for (unsigned i = 0; i < b->ref_count; i++) {
		lb_wr_u32le(wr, ADD_POINTER);
		file_name(wr, file_of(b->refs[i].in));
		file_name(wr, TABLES_FILE);
		lb_wr_u32le(wr, b->refs[i].off);
		lb_wr_u8(wr, b->refs[i].size);
		pad_command(wr);
	}
	for (unsigned i = 0; i < b->sum_count; i++) {
		lb_wr_u32le(wr, ADD_CHECKSUM);
		file_name(wr, file_of(b->sums[i].in));
		lb_wr_u32le(wr, b->sums[i].at);
		lb_wr_u32le(wr, b->sums[i].start);
		lb_wr_u32le(wr, b->sums[i].len);
		pad_command(wr);
	}
}

static int make_blob(struct vm_blob *out, const char *name, const void *p, size_t len,
		     struct lb_err *err)
{
	uint8_t *copy = malloc(len);

	if (copy == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "ACPI tables: %s", name);
	memcpy(copy, p, len);
	*out = (struct vm_blob){.name = name, .bytes = copy, .len = len};
	return 0;
}

int vm_acpi_blobs(struct vm_blob out[VM_ACPI_BLOBS], const struct vm_acpi_cfg *cfg,
		  struct lb_err *err)
{
	struct vm_blob made[VM_ACPI_BLOBS] = {{0}};
	uint8_t commands[COMMANDS_MAX * COMMAND_BYTES];
	struct lb_wr wr = lb_wr_init(commands, sizeof(commands));
	struct build *b = malloc(sizeof(*b));
	int rc;

	if (b == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "ACPI tables");
	build_all(b, cfg);
	write_commands(&wr, b);
	LB_ASSERT(lb_wr_done(&wr));
	rc = make_blob(&made[0], RSDP_FILE, b->rsdp, sizeof(b->rsdp), err);
	if (rc == 0)
		rc = make_blob(&made[1], TABLES_FILE, b->tables, b->wr.len, err);
	if (rc == 0)
		rc = make_blob(&made[2], LOADER_FILE, commands, wr.len, err);
	if (rc == 0)
		memcpy(out, made, sizeof(made));
	else
		vm_acpi_blobs_free(made);
	free(b);
	return rc;
}

void vm_acpi_blobs_free(struct vm_blob blobs[VM_ACPI_BLOBS])
{
	for (unsigned i = 0; i < VM_ACPI_BLOBS; i++) {
		free(blobs[i].bytes);
		blobs[i] = (struct vm_blob){0};
	}
}
