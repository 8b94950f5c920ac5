#include "aml.h"

#include <string.h>

#include "base/assert.h"

enum {
	SEGMENT = 4,
	LENGTH_BYTES = 3, /* of every package length */
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXT = 0x5b,
	OP_IF = 0xa0,
	EXT_REGION = 0x80,
	EXT_FIELD = 0x81,
	EXT_DEVICE = 0x82,
	EXT_PROCESSOR = 0x83,
	REGION_PCI_CONFIG = 2,
	FIELD_BYTE_ACCESS = 1
};

void aml_op(struct lb_wr *wr, uint8_t op)
{
	lb_wr_u8(wr, op);
}

void aml_ext(struct lb_wr *wr, uint8_t op)
{
	lb_wr_u8(wr, OP_EXT);
	lb_wr_u8(wr, op);
}

/* One segment, padded with "_". */
static const char *segment(struct lb_wr *wr, const char *s)
{
	size_t n = strcspn(s, ".");

	LB_ASSERT(n >= 1 && n <= SEGMENT);
	lb_wr_bytes(wr, s, n);
	for (size_t i = n; i < SEGMENT; i++)
		lb_wr_u8(wr, '_');
	return s[n] == '.' ? s + n + 1 : s + n;
}

void aml_path(struct lb_wr *wr, const char *path)
{
	unsigned n = 1;

	if (*path == '\\') {
		lb_wr_u8(wr, '\\');
		path++;
	}
	for (const char *p = path; *p != '\0'; p++)
		n += *p == '.';
	if (n == 2) {
		lb_wr_u8(wr, OP_DUAL_NAME);
	} else if (n > 2) {
		lb_wr_u8(wr, OP_MULTI_NAME);
		lb_wr_u8(wr, (uint8_t)n);
	}
	while (*path != '\0')
		path = segment(wr, path);
}

void aml_int(struct lb_wr *wr, uint32_t v)
{
	if (v <= 1) {
		lb_wr_u8(wr, (uint8_t)v);
	} else if (v <= UINT8_MAX) {
		lb_wr_u8(wr, OP_BYTE);
		lb_wr_u8(wr, (uint8_t)v);
	} else if (v <= UINT16_MAX) {
		lb_wr_u8(wr, OP_WORD);
		lb_wr_u16le(wr, (uint16_t)v);
	} else {
		lb_wr_u8(wr, OP_DWORD);
		lb_wr_u32le(wr, v);
	}
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

/* Three letters of 5 bits and four hexadecimal digits, the most significant byte first. */
void aml_eisa(struct lb_wr *wr, const char *id)
{
	uint32_t v = 0;

	LB_ASSERT(strlen(id) == 7);
	for (unsigned i = 0; i < 3; i++)
		v = v << 5 | ((uint32_t)(id[i] - '@') & 0x1f);
	for (unsigned i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	lb_wr_u8(wr, OP_DWORD);
	lb_wr_u32le(wr, __builtin_bswap32(v));
}

void aml_string(struct lb_wr *wr, const char *s)
{
	lb_wr_u8(wr, OP_STRING);
	lb_wr_bytes(wr, s, strlen(s) + 1);
}

void aml_name(struct lb_wr *wr, const char *path)
{
	lb_wr_u8(wr, OP_NAME);
	aml_path(wr, path);
}

void aml_name_int(struct lb_wr *wr, const char *path, uint32_t v)
{
	aml_name(wr, path);
	aml_int(wr, v);
}

void aml_name_eisa(struct lb_wr *wr, const char *path, const char *id)
{
	aml_name(wr, path);
	aml_eisa(wr, id);
}

/* ---- what has a length ---- */

static size_t open_length(struct lb_wr *wr)
{
	size_t at = wr->len;

	lb_wr_zeros(wr, LENGTH_BYTES);
	return at;
}

/* The length counts itself; 20 bits: 4 in the lead byte, whose top bits say two bytes follow. */
void aml_close(struct lb_wr *wr, size_t opened)
{
	size_t len = wr->len - opened;
	struct lb_wr at;

	if (wr->bad)
		return;
	LB_ASSERT(len < (1u << 20));
	at = lb_wr_init(wr->p + opened, LENGTH_BYTES);
	lb_wr_u8(&at, (uint8_t)(0x80 | (len & 0xf)));
	lb_wr_u16le(&at, (uint16_t)(len >> 4));
}

size_t aml_open_scope(struct lb_wr *wr, const char *path)
{
	size_t at;

	lb_wr_u8(wr, OP_SCOPE);
	at = open_length(wr);
	aml_path(wr, path);
	return at;
}

size_t aml_open_device(struct lb_wr *wr, const char *path)
{
	size_t at;

	aml_ext(wr, EXT_DEVICE);
	at = open_length(wr);
	aml_path(wr, path);
	return at;
}

size_t aml_open_method(struct lb_wr *wr, const char *path, unsigned args, bool serialized)
{
	size_t at;

	LB_ASSERT(args < 8);
	lb_wr_u8(wr, OP_METHOD);
	at = open_length(wr);
	aml_path(wr, path);
	lb_wr_u8(wr, (uint8_t)(args | (serialized ? 8u : 0u)));
	return at;
}

size_t aml_open_package(struct lb_wr *wr, uint8_t elements)
{
	size_t at;

	lb_wr_u8(wr, OP_PACKAGE);
	at = open_length(wr);
	lb_wr_u8(wr, elements);
	return at;
}

size_t aml_open_if(struct lb_wr *wr)
{
	lb_wr_u8(wr, OP_IF);
	return open_length(wr);
}

void aml_pci_config(struct lb_wr *wr, const char *name, uint8_t off, uint8_t len)
{
	aml_ext(wr, EXT_REGION);
	aml_path(wr, name);
	lb_wr_u8(wr, REGION_PCI_CONFIG);
	aml_int(wr, off);
	aml_int(wr, len);
}

void aml_field_bytes(struct lb_wr *wr, const char *region, const char *const *fields, size_t n)
{
	size_t at;

	aml_ext(wr, EXT_FIELD);
	at = open_length(wr);
	aml_path(wr, region);
	lb_wr_u8(wr, FIELD_BYTE_ACCESS); /* no lock, preserve */
	for (size_t i = 0; i < n; i++) {
		aml_path(wr, fields[i]);
		lb_wr_u8(wr, 8); /* bits, as a one-byte package length */
	}
	aml_close(wr, at);
}

void aml_processor(struct lb_wr *wr, const char *name, uint8_t id)
{
	size_t at;

	aml_ext(wr, EXT_PROCESSOR);
	at = open_length(wr);
	aml_path(wr, name);
	lb_wr_u8(wr, id);
	lb_wr_u32le(wr, 0);
	lb_wr_u8(wr, 0);
	aml_close(wr, at);
}

/* ---- resource templates ---- */

struct aml_template aml_open_template(struct lb_wr *wr)
{
	struct aml_template t;

	lb_wr_u8(wr, OP_BUFFER);
	t.package = open_length(wr);
	lb_wr_u8(wr, OP_WORD);
	t.size_at = wr->len;
	lb_wr_u16le(wr, 0);
	return t;
}

void aml_close_template(struct lb_wr *wr, struct aml_template t)
{
	struct lb_wr at;

	lb_wr_u8(wr, 0x79); /* end tag */
	lb_wr_u8(wr, 0);    /* no checksum */
	if (wr->bad)
		return;
	at = lb_wr_init(wr->p + t.size_at, sizeof(uint16_t));
	lb_wr_u16le(&at, (uint16_t)(wr->len - t.size_at - sizeof(uint16_t)));
	aml_close(wr, t.package);
}

void aml_res_io(struct lb_wr *wr, uint16_t base, uint8_t align, uint8_t len)
{
	lb_wr_u8(wr, 0x47);
	lb_wr_u8(wr, 1); /* decodes 16 bits */
	lb_wr_u16le(wr, base);
	lb_wr_u16le(wr, base);
	lb_wr_u8(wr, align);
	lb_wr_u8(wr, len);
}

void aml_res_irq(struct lb_wr *wr, uint8_t irq)
{
	lb_wr_u8(wr, 0x22);
	lb_wr_u16le(wr, (uint16_t)(1u << irq));
}

void aml_res_interrupts(struct lb_wr *wr, const uint32_t *irqs, uint8_t n)
{
	lb_wr_u8(wr, 0x89);
	lb_wr_u16le(wr, (uint16_t)(2 + 4 * n));
	lb_wr_u8(wr, 0x09); /* consumer, level, active high, shared */
	lb_wr_u8(wr, n);
	for (unsigned i = 0; i < n; i++)
		lb_wr_u32le(wr, irqs[i]);
}

enum {
	SPACE_MEMORY = 0,
	SPACE_IO = 1,
	SPACE_BUS = 2,
	SPACE_FIXED = 0x0c, /* producer, both ends fixed, positive decode */
	SPACE_IO_ENTIRE_RANGE = 3,
	SPACE_MEMORY_WRITABLE = 1,
	SPACE_MEMORY_CACHEABLE = 2
};

static void word_space(struct lb_wr *wr, uint8_t type, uint8_t flags, uint16_t first, uint16_t last)
{
	lb_wr_u8(wr, 0x88);
	lb_wr_u16le(wr, 13);
	lb_wr_u8(wr, type);
	lb_wr_u8(wr, SPACE_FIXED);
	lb_wr_u8(wr, flags);
	lb_wr_u16le(wr, 0); /* granularity */
	lb_wr_u16le(wr, first);
	lb_wr_u16le(wr, last);
	lb_wr_u16le(wr, 0); /* translation */
	lb_wr_u16le(wr, (uint16_t)(last - first + 1));
}

void aml_res_bus(struct lb_wr *wr, uint16_t first, uint16_t last)
{
	word_space(wr, SPACE_BUS, 0, first, last);
}

void aml_res_window_io(struct lb_wr *wr, uint16_t first, uint16_t last)
{
	word_space(wr, SPACE_IO, SPACE_IO_ENTIRE_RANGE, first, last);
}

void aml_res_window_memory(struct lb_wr *wr, uint32_t first, uint32_t last, bool cacheable)
{
	lb_wr_u8(wr, 0x87);
	lb_wr_u16le(wr, 23);
	lb_wr_u8(wr, SPACE_MEMORY);
	lb_wr_u8(wr, SPACE_FIXED);
	lb_wr_u8(wr, (uint8_t)(SPACE_MEMORY_WRITABLE | (cacheable ? SPACE_MEMORY_CACHEABLE : 0)));
	lb_wr_u32le(wr, 0); /* granularity */
	lb_wr_u32le(wr, first);
	lb_wr_u32le(wr, last);
	lb_wr_u32le(wr, 0); /* translation */
	lb_wr_u32le(wr, last - first + 1);
}
