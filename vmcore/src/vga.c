#include "vga.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "board.h"

/* Register files: index port, then data port (the attribute controller has one for both). */
enum {
	P_CRTC_MONO = 0x3b4,
	P_STATUS_MONO = 0x3ba,
	P_ATTR = 0x3c0,
	P_CRTC_COLOR = 0x3d4,
	P_STATUS_COLOR = 0x3da,
};
/* Offsets from 0x3c0. */
enum {
	O_ATTR = 0x0,
	O_ATTR_READ = 0x1,
	O_MISC_WRITE = 0x2, /* input status 0 when read */
	O_SEQ = 0x4,
	O_SEQ_DATA = 0x5,
	O_DAC_MASK = 0x6,
	O_DAC_READ = 0x7, /* index for reading; its state when read */
	O_DAC_WRITE = 0x8,
	O_DAC_DATA = 0x9,
	O_FEATURE_READ = 0xa,
	O_MISC_READ = 0xc,
	O_GC = 0xe,
	O_GC_DATA = 0xf,
};
enum {
	SEQ_REGS = 5,
	GC_REGS = 9,
	CRTC_REGS = 25,
	ATTR_REGS = 21,
	DAC_BYTES = 768,
	/* registers by number */
	SEQ_CLOCKING = 1,
	SEQ_FONTS = 3,
	GC_MISC = 6,
	CRTC_COLUMNS = 0x01,
	CRTC_OVERFLOW = 0x07,
	CRTC_CELL = 0x09,
	CRTC_CURSOR_TOP = 0x0a,
	CRTC_CURSOR_END = 0x0b,
	CRTC_START = 0x0c,
	CRTC_CURSOR = 0x0e,
	CRTC_PROTECT = 0x11, /* bit 7: 0..7 are read-only */
	CRTC_LAST_LINE = 0x12,
	CRTC_STRIDE = 0x13,
	ATTR_MODE = 0x10,
	ATTR_PAGE = 0x14,
	/* bits */
	MISC_COLOR = 1 << 0,
	SEQ_8_WIDE = 1 << 0,
	GC_GRAPHICS = 1 << 0,
	MODE_LINE_GRAPHICS = 1 << 2,
	MODE_BLINK = 1 << 3,
	CURSOR_OFF = 1 << 5,
};

#define TEXT_BYTES 0x8000u
#define FONT_BYTES 0x2000u
#define GLYPH_ROOM 32u /* bytes of one in the font plane */

struct vm_vga {
	struct vm_dev dev;
	uint8_t misc, feature, status_toggle;
	uint8_t seq_index, seq[SEQ_REGS];
	uint8_t gc_index, gc[GC_REGS];
	uint8_t crtc_index, crtc[CRTC_REGS];
	uint8_t attr_index, attr[ATTR_REGS];
	bool attr_data; /* the next write to 0x3c0 is data */
	uint8_t dac_mask, dac_state;
	uint16_t dac_read, dac_write; /* byte positions in .dac */
	uint8_t dac[DAC_BYTES];
};

/* Mode 3: 80x25, 16 colours, 9x16 cells [IBM VGA reference; SeaBIOS vgasrc/stdvgamodes.c]. */
static const uint8_t mode3_seq[SEQ_REGS] = {0x03, 0x00, 0x03, 0x00, 0x02};
static const uint8_t mode3_gc[GC_REGS] = {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff};
static const uint8_t mode3_crtc[CRTC_REGS] = {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00,
					      0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
					      0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff};
static const uint8_t mode3_attr[ATTR_REGS] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14,
					      0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d,
					      0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00};

/* ---- registers ---- */

static void reg_put(uint8_t *regs, unsigned count, uint8_t index, uint8_t v)
{
	if (index < count)
		regs[index] = v;
}

static uint8_t reg_get(const uint8_t *regs, unsigned count, uint8_t index)
{
	return index < count ? regs[index] : 0xff;
}

static void attr_write(struct vm_vga *v, uint8_t byte)
{
	if (v->attr_data)
		reg_put(v->attr, ATTR_REGS, v->attr_index & 0x1f, byte);
	else
		v->attr_index = byte & 0x3f;
	v->attr_data = !v->attr_data;
}

static void dac_data_write(struct vm_vga *v, uint8_t byte)
{
	v->dac[v->dac_write] = byte & 0x3f;
	v->dac_write = (uint16_t)((v->dac_write + 1) % DAC_BYTES);
}

static uint8_t dac_data_read(struct vm_vga *v)
{
	uint8_t byte = v->dac[v->dac_read];

	v->dac_read = (uint16_t)((v->dac_read + 1) % DAC_BYTES);
	return byte;
}

static uint8_t main_read(struct vm_vga *v, unsigned off)
{
	switch (off) {
	case O_ATTR:
		return v->attr_index;
	case O_ATTR_READ:
		return reg_get(v->attr, ATTR_REGS, v->attr_index & 0x1f);
	case O_MISC_WRITE:
		return 0x10; /* a monitor is there */
	case O_SEQ:
		return v->seq_index;
	case O_SEQ_DATA:
		return reg_get(v->seq, SEQ_REGS, v->seq_index);
	case O_DAC_MASK:
		return v->dac_mask;
	case O_DAC_READ:
		return v->dac_state;
	case O_DAC_WRITE:
		return (uint8_t)(v->dac_write / 3);
	case O_DAC_DATA:
		return dac_data_read(v);
	case O_FEATURE_READ:
		return v->feature;
	case O_MISC_READ:
		return v->misc;
	case O_GC:
		return v->gc_index;
	case O_GC_DATA:
		return reg_get(v->gc, GC_REGS, v->gc_index);
	default:
		return 0xff;
	}
}

static void main_write(struct vm_vga *v, unsigned off, uint8_t byte)
{
	switch (off) {
	case O_ATTR:
		attr_write(v, byte);
		break;
	case O_MISC_WRITE:
		v->misc = byte;
		break;
	case O_SEQ:
		v->seq_index = byte;
		break;
	case O_SEQ_DATA:
		reg_put(v->seq, SEQ_REGS, v->seq_index, byte);
		break;
	case O_DAC_MASK:
		v->dac_mask = byte;
		break;
	case O_DAC_READ:
		v->dac_read = (uint16_t)(byte * 3);
		v->dac_state = 3;
		break;
	case O_DAC_WRITE:
		v->dac_write = (uint16_t)(byte * 3);
		v->dac_state = 0;
		break;
	case O_DAC_DATA:
		dac_data_write(v, byte);
		break;
	case O_GC:
		v->gc_index = byte;
		break;
	case O_GC_DATA:
		reg_put(v->gc, GC_REGS, v->gc_index, byte);
		break;
	default:
		break;
	}
}

/* Of the two places for CRTC and status only the one that .misc chooses answers. */
static bool is_at(const struct vm_vga *v, bool color)
{
	return ((v->misc & MISC_COLOR) != 0) == color;
}

static void crtc_write(struct vm_vga *v, unsigned off, uint8_t byte)
{
	if (off == 0) {
		v->crtc_index = byte;
		return;
	}
	if ((v->crtc[CRTC_PROTECT] & 0x80) != 0 && v->crtc_index < 8) {
		if (v->crtc_index == CRTC_OVERFLOW) /* but for one bit of the line compare */
			v->crtc[CRTC_OVERFLOW] =
				(uint8_t)((v->crtc[CRTC_OVERFLOW] & ~0x10) | (byte & 0x10));
		return;
	}
	reg_put(v->crtc, CRTC_REGS, v->crtc_index, byte);
}

/* Programs wait for the retrace to begin or to end: each read sees the other. */
static uint8_t status_read(struct vm_vga *v)
{
	v->attr_data = false;
	v->status_toggle ^= 0x09;
	return v->status_toggle;
}

/* A wider access is that many bytes at ascending ports: `outw` sets index and data. */
static uint64_t main_port_read(void *arg, uint64_t off, unsigned size)
{
	uint64_t r = 0;

	for (unsigned i = 0; i < size; i++)
		r |= (uint64_t)main_read(arg, (unsigned)off + i) << (8 * i);
	return r;
}

static void main_port_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	for (unsigned i = 0; i < size; i++)
		main_write(arg, (unsigned)off + i, (uint8_t)(value >> (8 * i)));
}

static uint64_t crtc_read(const struct vm_vga *v, uint64_t off, unsigned size)
{
	uint64_t data = reg_get(v->crtc, CRTC_REGS, v->crtc_index);

	if (off == 1)
		return data;
	return size == 1 ? v->crtc_index : v->crtc_index | data << 8;
}

static uint64_t color_read(void *arg, uint64_t off, unsigned size)
{
	return is_at(arg, true) ? crtc_read(arg, off, size) : UINT64_MAX;
}

static uint64_t mono_read(void *arg, uint64_t off, unsigned size)
{
	return is_at(arg, false) ? crtc_read(arg, off, size) : UINT64_MAX;
}

static void crtc_port_write(struct vm_vga *v, uint64_t off, unsigned size, uint64_t value)
{
	for (unsigned i = 0; i < size; i++)
		crtc_write(v, (unsigned)off + i, (uint8_t)(value >> (8 * i)));
}

static void color_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	if (is_at(arg, true))
		crtc_port_write(arg, off, size, value);
}

static void mono_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	if (is_at(arg, false))
		crtc_port_write(arg, off, size, value);
}

static uint64_t color_status(void *arg, uint64_t off, unsigned size)
{
	(void)off;
	(void)size;
	return is_at(arg, true) ? status_read(arg) : UINT64_MAX;
}

static uint64_t mono_status(void *arg, uint64_t off, unsigned size)
{
	(void)off;
	(void)size;
	return is_at(arg, false) ? status_read(arg) : UINT64_MAX;
}

static void feature_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	(void)off;
	(void)size;
	((struct vm_vga *)arg)->feature = (uint8_t)value;
}

/* ---- the screen, copied once ---- */

struct screen {
	unsigned columns, rows, cell; /* cell: lines of a character */
	uint8_t text[TEXT_BYTES];
	uint8_t font[FONT_BYTES];
	bool own_font;          /* .font is the guest's */
	unsigned start, stride; /* in characters */
	unsigned cursor, cursor_top, cursor_end;
	bool cursor_on, nine, blink, line_graphics;
	uint8_t palette[16][3];
};

static uint8_t expand(uint8_t six_bits)
{
	return (uint8_t)(six_bits << 2 | six_bits >> 4);
}

static void copy_palette(struct screen *s, const struct vm_vga *v)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned color = v->attr[i] & 0x3f;

		/* the color select register gives the upper bits */
		if ((v->attr[ATTR_MODE] & 0x80) != 0)
			color = (color & 0x0f) | (v->attr[ATTR_PAGE] & 0x0fu) << 4;
		else
			color |= (v->attr[ATTR_PAGE] & 0x0cu) << 4;
		color &= v->dac_mask;
		for (unsigned c = 0; c < 3; c++)
			s->palette[i][c] = expand(v->dac[3 * color + c]);
	}
}

static void copy_geometry(struct screen *s, const struct vm_vga *v)
{
	const uint8_t *r = v->crtc;
	unsigned lines = (r[CRTC_LAST_LINE] | (r[CRTC_OVERFLOW] & 0x02u) << 7 |
			  (r[CRTC_OVERFLOW] & 0x40u) << 3) +
			 1;

	s->cell = (r[CRTC_CELL] & 0x1fu) + 1;
	s->columns = r[CRTC_COLUMNS] + 1u;
	s->rows = lines / s->cell;
	s->columns = s->columns < VM_VGA_COLUMNS_MAX ? s->columns : VM_VGA_COLUMNS_MAX;
	s->rows = s->rows < VM_VGA_ROWS_MAX ? s->rows : VM_VGA_ROWS_MAX;
	s->rows = s->rows > 0 ? s->rows : 1; /* characters taller than the screen */
	s->start = (unsigned)r[CRTC_START] << 8 | r[CRTC_START + 1];
	s->stride = r[CRTC_STRIDE] * 2u;
	s->cursor = (unsigned)r[CRTC_CURSOR] << 8 | r[CRTC_CURSOR + 1];
	s->cursor_top = r[CRTC_CURSOR_TOP] & 0x1f;
	s->cursor_end = r[CRTC_CURSOR_END] & 0x1f;
	s->cursor_on = (r[CRTC_CURSOR_TOP] & CURSOR_OFF) == 0;
	s->nine = (v->seq[SEQ_CLOCKING] & SEQ_8_WIDE) == 0;
	s->blink = (v->attr[ATTR_MODE] & MODE_BLINK) != 0;
	s->line_graphics = (v->attr[ATTR_MODE] & MODE_LINE_GRAPHICS) != 0;
}

/* The guest's font lies where it loaded plane 2: at 0xa0000. It counts as one when its blank is
 * blank and its A is not. */
static void copy_font(struct screen *s, const struct vm_vga *v)
{
	static const uint16_t block[8] = {0x0000, 0x4000, 0x8000, 0xc000,
					  0x2000, 0x6000, 0xa000, 0xe000};
	unsigned map = (v->seq[SEQ_FONTS] & 3u) | (v->seq[SEQ_FONTS] >> 2 & 4u);
	struct vm_gpa at = {0xa0000u + block[map]};
	uint8_t blank = 0, letter = 0;

	if (!vm_mem_read(v->dev.board->mem, s->font, at, FONT_BYTES))
		return;
	for (unsigned i = 0; i < GLYPH_ROOM; i++) {
		blank |= s->font[' ' * GLYPH_ROOM + i];
		letter |= s->font['A' * GLYPH_ROOM + i];
	}
	s->own_font = blank == 0 && letter != 0;
}

static int copy_screen(struct screen *s, struct vm_vga *v, struct lb_err *err)
{
	unsigned window = v->gc[GC_MISC] >> 2 & 3;
	struct vm_gpa at = {window == 2 ? 0xb0000u : 0xb8000u};
	int rc = 0;

	vm_board_lock(v->dev.board);
	if ((v->gc[GC_MISC] & GC_GRAPHICS) != 0 || window < 2)
		rc = lb_err_set(err, LB_EUNSUPPORTED, 0, "the screen is in a graphics mode");
	else
		copy_geometry(s, v);
	copy_palette(s, v);
	copy_font(s, v);
	if (rc == 0 && !vm_mem_read(v->dev.board->mem, s->text, at, TEXT_BYTES))
		rc = lb_err_set(err, LB_EIO, 0, "text memory");
	vm_board_unlock(v->dev.board);
	return rc;
}

static unsigned cell_at(const struct screen *s, unsigned row, unsigned column)
{
	return (s->start + row * s->stride + column) % (TEXT_BYTES / 2);
}

/* ---- as text ---- */

static size_t put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	out[0] = (char)(0xe0 | c >> 12);
	out[1] = (char)(0x80 | (c >> 6 & 0x3f));
	out[2] = (char)(0x80 | (c & 0x3f));
	return 3;
}

/* One line into @out (room for the longest). Returns its length without trailing blanks. */
static size_t text_line(const struct screen *s, unsigned row, char *out)
{
	size_t len = 0, used = 0;

	for (unsigned c = 0; c < s->columns; c++) {
		uint32_t u = vm_cp437(s->text[(size_t)2 * cell_at(s, row, c)]);

		len += put_utf8(out + len, u);
		if (u != ' ')
			used = len;
	}
	return used;
}

int vm_vga_text(struct vm_vga *v, char *out, size_t cap, struct lb_err *err)
{
	struct screen *s = calloc(1, sizeof(*s));
	size_t len = 0;
	int rc;

	if (s == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "screen");
	rc = cap == 0 ? lb_err_set(err, LB_EINVAL, 0, "no room for a screen")
		      : copy_screen(s, v, err);
	for (unsigned row = 0; rc == 0 && row < s->rows; row++) {
		char line[VM_VGA_COLUMNS_MAX * 3 + 1];
		size_t n = text_line(s, row, line);

		line[n++] = '\n';
		if (n > cap - 1 - len)
			break;
		memcpy(out + len, line, n);
		len += n;
	}
	if (rc == 0)
		out[len] = '\0';
	free(s);
	return rc;
}

/* ---- as a picture ---- */

static uint8_t glyph_row(const struct screen *s, uint8_t c, unsigned line)
{
	if (s->own_font)
		return s->font[(size_t)c * GLYPH_ROOM + line];
	return line < 16 ? vm_font_row(c, line) : 0;
}

/* The ninth pixel repeats the eighth for line-drawing characters, so that lines have no gaps. */
static unsigned glyph_bits(const struct screen *s, uint8_t c, unsigned line)
{
	unsigned bits = (unsigned)glyph_row(s, c, line) << 1;

	if (s->line_graphics && c >= 0xc0 && c <= 0xdf)
		bits |= bits >> 1 & 1;
	return bits;
}

static void draw_cell(const struct screen *s, uint8_t *out, size_t pitch, unsigned cell)
{
	uint8_t c = s->text[(size_t)2 * cell], attr = s->text[(size_t)2 * cell + 1];
	uint8_t fg = attr & 0x0f, bg = (uint8_t)(attr >> 4 & (s->blink ? 7 : 15));
	unsigned width = s->nine ? 9 : 8;
	bool cursor = s->cursor_on && cell == s->cursor % (TEXT_BYTES / 2);

	for (unsigned line = 0; line < s->cell; line++) {
		unsigned bits = glyph_bits(s, c, line);

		if (cursor && line >= s->cursor_top && line <= s->cursor_end)
			bits = 0x1ff;
		for (unsigned x = 0; x < width; x++)
			out[line * pitch + x] = (bits >> (8 - x) & 1) != 0 ? fg : bg;
	}
}

int vm_vga_pixels(struct vm_vga *v, uint8_t **out, uint32_t *width, uint32_t *height,
		  uint8_t palette[16][3], struct lb_err *err)
{
	struct screen *s = calloc(1, sizeof(*s));
	uint8_t *p = NULL;
	size_t pitch = 0;
	int rc;

	if (s == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "screen");
	rc = copy_screen(s, v, err);
	if (rc != 0)
		goto out;
	pitch = (size_t)s->columns * (s->nine ? 9 : 8);
	p = calloc(s->rows * (size_t)s->cell + 1, pitch);
	if (p == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "picture of %u rows", s->rows);
		goto out;
	}
	for (unsigned row = 0; row < s->rows; row++)
		for (unsigned c = 0; c < s->columns; c++)
			draw_cell(s,
				  p + (size_t)row * s->cell * pitch + (size_t)c * (s->nine ? 9 : 8),
				  pitch, cell_at(s, row, c));
	memcpy(palette, s->palette, sizeof(s->palette));
	*width = (uint32_t)pitch;
	*height = s->rows * s->cell;
	*out = p;
out:
	free(s);
	return rc;
}

/* ---- device ---- */

static void default_dac(struct vm_vga *v)
{
	for (unsigned i = 0; i < 64; i++) {
		for (unsigned c = 0; c < 3; c++) /* red is bit 2, its half bit 5 */
			v->dac[3 * i + c] =
				(uint8_t)((i >> (2 - c) & 1) * 0x2a + (i >> (5 - c) & 1) * 0x15);
	}
}

/* As the VGA BIOS leaves it: a kernel that is started without firmware finds a text mode. */
static void vga_reset(struct vm_dev *d)
{
	struct vm_vga *v = (struct vm_vga *)d;
	struct vm_dev dev = v->dev;

	*v = (struct vm_vga){.dev = dev, .misc = 0x67, .dac_mask = 0xff, .attr_index = 0x20};
	memcpy(v->seq, mode3_seq, sizeof(v->seq));
	memcpy(v->gc, mode3_gc, sizeof(v->gc));
	memcpy(v->crtc, mode3_crtc, sizeof(v->crtc));
	memcpy(v->attr, mode3_attr, sizeof(v->attr));
	default_dac(v);
}

static void vga_save(struct vm_dev *d, struct lb_wr *wr)
{
	const struct vm_vga *v = (const struct vm_vga *)d;

	lb_wr_u8(wr, v->misc);
	lb_wr_u8(wr, v->feature);
	lb_wr_u8(wr, v->status_toggle);
	lb_wr_u8(wr, v->seq_index);
	lb_wr_bytes(wr, v->seq, sizeof(v->seq));
	lb_wr_u8(wr, v->gc_index);
	lb_wr_bytes(wr, v->gc, sizeof(v->gc));
	lb_wr_u8(wr, v->crtc_index);
	lb_wr_bytes(wr, v->crtc, sizeof(v->crtc));
	lb_wr_u8(wr, v->attr_index);
	lb_wr_bytes(wr, v->attr, sizeof(v->attr));
	lb_wr_u8(wr, v->attr_data);
	lb_wr_u8(wr, v->dac_mask);
	lb_wr_u8(wr, v->dac_state);
	lb_wr_u16le(wr, v->dac_read);
	lb_wr_u16le(wr, v->dac_write);
	lb_wr_bytes(wr, v->dac, sizeof(v->dac));
}

static int vga_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct vm_vga *v = (struct vm_vga *)d;

	(void)version;
	(void)err;
	v->misc = lb_rd_u8(rd);
	v->feature = lb_rd_u8(rd);
	v->status_toggle = lb_rd_u8(rd) & 0x09;
	v->seq_index = lb_rd_u8(rd);
	lb_rd_copy(rd, v->seq, sizeof(v->seq));
	v->gc_index = lb_rd_u8(rd);
	lb_rd_copy(rd, v->gc, sizeof(v->gc));
	v->crtc_index = lb_rd_u8(rd);
	lb_rd_copy(rd, v->crtc, sizeof(v->crtc));
	v->attr_index = lb_rd_u8(rd) & 0x3f;
	lb_rd_copy(rd, v->attr, sizeof(v->attr));
	v->attr_data = lb_rd_u8(rd) != 0;
	v->dac_mask = lb_rd_u8(rd);
	v->dac_state = lb_rd_u8(rd) & 3;
	v->dac_read = lb_rd_u16le(rd) % DAC_BYTES;
	v->dac_write = lb_rd_u16le(rd) % DAC_BYTES;
	lb_rd_copy(rd, v->dac, sizeof(v->dac));
	for (unsigned i = 0; i < DAC_BYTES; i++)
		v->dac[i] &= 0x3f;
	return 0;
}

static void vga_destroy(struct vm_dev *d)
{
	free(d);
}

static const struct vm_dev_ops vga_ops = {
	.name = "vga",
	.version = 1,
	.reset = vga_reset,
	.save = vga_save,
	.load = vga_load,
	.destroy = vga_destroy,
};

int vm_vga_create(struct vm_vga **out, struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops io = {main_port_read, main_port_write};
	static const struct vm_io_ops color = {color_read, color_write};
	static const struct vm_io_ops mono = {mono_read, mono_write};
	static const struct vm_io_ops color_st = {color_status, feature_write};
	static const struct vm_io_ops mono_st = {mono_status, feature_write};
	struct vm_vga *v = calloc(1, sizeof(*v));
	int rc;

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "VGA");
	vm_board_add(b, &v->dev, &vga_ops);
	rc = vm_pio_map(b, P_ATTR, 16, &io, v, err);
	if (rc == 0)
		rc = vm_pio_map(b, P_CRTC_COLOR, 2, &color, v, err);
	if (rc == 0)
		rc = vm_pio_map(b, P_STATUS_COLOR, 1, &color_st, v, err);
	if (rc == 0)
		rc = vm_pio_map(b, P_CRTC_MONO, 2, &mono, v, err);
	if (rc == 0)
		rc = vm_pio_map(b, P_STATUS_MONO, 1, &mono_st, v, err);
	if (rc == 0)
		*out = v;
	return rc;
}
