#include "fwcfg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "board.h"

#define PORT_SELECT 0x510u
#define PORT_DMA    0x514u

#define KEY_SIGNATURE 0x00u
#define KEY_FEATURES  0x01u
#define KEY_DIRECTORY 0x19u
#define KEY_FILES     0x20u
#define FIXED_KEYS    0x20u
#define ENTRY_BYTES   64u

/* Features: bit 0 traditional interface, bit 1 DMA. */
#define FEATURES 3u

enum {
	DMA_ERROR = 1 << 0,
	DMA_READ = 1 << 1,
	DMA_SKIP = 1 << 2,
	DMA_SELECT = 1 << 3,
	DMA_WRITE = 1 << 4,
	/* Nothing here is longer; a guest that asks for more only wants to keep us busy. */
	DMA_BYTES_MAX = 16 << 20,
};

struct item {
	char name[VM_FWCFG_NAME_MAX + 1]; /* of a file; fixed items have none */
	uint8_t *data;                    /* NULL: no such item */
	uint32_t len;
	bool borrowed;                                               /* data is not to be freed */
	void (*written)(void *arg, const uint8_t *data, size_t len); /* not NULL: writable */
	void *arg;
};

struct vm_fwcfg {
	struct vm_dev dev;
	uint16_t select;
	uint32_t offset;
	uint32_t dma_high;
	struct item fixed[FIXED_KEYS];
	struct item file[VM_FWCFG_FILES_MAX];
	unsigned files;
	struct item option_rom; /* follows the files when it has a length */
	uint8_t directory[4 + ENTRY_BYTES * (VM_FWCFG_FILES_MAX + 1)];
};

static void put_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put_be32(uint8_t *p, uint32_t v)
{
	put_be16(p, (uint16_t)(v >> 16));
	put_be16(p + 2, (uint16_t)v);
}

static uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---- contents ---- */

static void put_entry(struct vm_fwcfg *f, unsigned n, const struct item *it)
{
	uint8_t *e = f->directory + 4 + (size_t)ENTRY_BYTES * n;

	put_be32(e, it->len);
	put_be16(e + 4, (uint16_t)(KEY_FILES + n));
	put_be16(e + 6, 0);
	memset(e + 8, 0, ENTRY_BYTES - 8);
	memcpy(e + 8, it->name, strlen(it->name));
}

static void make_directory(struct vm_fwcfg *f)
{
	unsigned n = f->files;

	for (unsigned i = 0; i < f->files; i++)
		put_entry(f, i, &f->file[i]);
	if (f->option_rom.len > 0)
		put_entry(f, n++, &f->option_rom);
	put_be32(f->directory, n);
	f->fixed[KEY_DIRECTORY].len = 4 + ENTRY_BYTES * n;
}

/* NULL: no such key; it reads as zeros. */
static struct item *item_of(struct vm_fwcfg *f, uint16_t key)
{
	if (key < FIXED_KEYS)
		return f->fixed[key].data != NULL ? &f->fixed[key] : NULL;
	if (key - KEY_FILES < f->files)
		return &f->file[key - KEY_FILES];
	return key - KEY_FILES == f->files && f->option_rom.len > 0 ? &f->option_rom : NULL;
}

static int copy_item(struct item *it, const void *data, size_t len, struct lb_err *err)
{
	it->data = calloc(1, len > 0 ? len : 1);
	if (it->data == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "fw_cfg item of %zu bytes", len);
	if (data != NULL)
		memcpy(it->data, data, len);
	it->len = (uint32_t)len;
	return 0;
}

int vm_fwcfg_add(struct vm_fwcfg *f, uint16_t key, const void *data, size_t len, struct lb_err *err)
{
	LB_ASSERT(key < FIXED_KEYS && len <= VM_FWCFG_FILE_BYTES_MAX);
	if (f->fixed[key].data != NULL)
		return lb_err_set(err, LB_EEXIST, 0, "fw_cfg key 0x%x is there", key);
	return copy_item(&f->fixed[key], data, len, err);
}

static int add_file(struct vm_fwcfg *f, const char *name, const void *data, size_t len,
		    struct lb_err *err)
{
	struct item *it;
	int rc;

	if (*name == '\0' || strlen(name) > VM_FWCFG_NAME_MAX || len > VM_FWCFG_FILE_BYTES_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "fw_cfg file %s of %zu bytes", name, len);
	for (unsigned i = 0; i < f->files; i++)
		if (strcmp(f->file[i].name, name) == 0)
			return lb_err_set(err, LB_EEXIST, 0, "fw_cfg file %s is there", name);
	if (f->files == VM_FWCFG_FILES_MAX)
		return lb_err_set(err, LB_ENOMEM, 0, "fw_cfg file %s: %d are there", name,
				  VM_FWCFG_FILES_MAX);
	it = &f->file[f->files];
	rc = copy_item(it, data, len, err);
	if (rc != 0)
		return rc;
	(void)snprintf(it->name, sizeof(it->name), "%s", name);
	f->files++;
	make_directory(f);
	return 0;
}

int vm_fwcfg_add_file(struct vm_fwcfg *f, const char *name, const void *data, size_t len,
		      struct lb_err *err)
{
	return add_file(f, name, data, len, err);
}

int vm_fwcfg_add_writable(struct vm_fwcfg *f, const char *name, size_t len,
			  void (*written)(void *arg, const uint8_t *data, size_t len), void *arg,
			  struct lb_err *err)
{
	int rc;

	LB_ASSERT(len > 0 && len <= VM_FWCFG_WRITABLE_BYTES_MAX && written != NULL);
	rc = add_file(f, name, NULL, len, err);
	if (rc != 0)
		return rc;
	f->file[f->files - 1].written = written;
	f->file[f->files - 1].arg = arg;
	return 0;
}

void vm_fwcfg_set_option_rom(struct vm_fwcfg *f, uint32_t len)
{
	LB_ASSERT(len <= VM_OPTION_ROM_BYTES);
	f->option_rom.len = len;
	make_directory(f);
}

/* ---- ports ---- */

static void select_key(struct vm_fwcfg *f, uint16_t key)
{
	/* bit 14 once asked for writing, bit 15 is the architecture's own space: nothing is there
	 */
	f->select = key;
	f->offset = 0;
}

static uint8_t next_byte(struct vm_fwcfg *f)
{
	const struct item *it = item_of(f, f->select);

	return it != NULL && f->offset < it->len ? it->data[f->offset++] : 0;
}

static uint64_t data_read(void *arg, uint64_t off, unsigned size)
{
	struct vm_fwcfg *f = arg;
	uint64_t v = 0;

	/* port 0x511 has bytes; 0x510 cannot be read */
	if (off == 0)
		return UINT64_MAX;
	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)next_byte(f) << (8 * i);
	return v;
}

static void select_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	if (off == 0 && size <= 2)
		select_key(arg, (uint16_t)value);
}

/* ---- DMA ---- */

static void advance(struct vm_fwcfg *f, const struct item *it, uint32_t len)
{
	uint32_t left = it != NULL && f->offset < it->len ? it->len - f->offset : 0;

	f->offset += len < left ? len : left;
}

static bool dma_read(struct vm_fwcfg *f, const struct item *it, struct vm_gpa to, uint32_t len)
{
	uint32_t left = it != NULL && f->offset < it->len ? it->len - f->offset : 0;
	uint8_t *p = vm_mem_ptr(f->dev.board->mem, to, len);

	if (p == NULL)
		return false;
	left = left < len ? left : len;
	if (left > 0)
		memcpy(p, it->data + f->offset, left);
	memset(p + left, 0, len - left);
	vm_mem_dirty(f->dev.board->mem, to, len);
	advance(f, it, len);
	return true;
}

static bool dma_write(struct vm_fwcfg *f, struct item *it, struct vm_gpa from, uint32_t len)
{
	if (it == NULL || it->written == NULL || len > it->len - f->offset)
		return false;
	if (!vm_mem_read(f->dev.board->mem, it->data + f->offset, from, len))
		return false;
	advance(f, it, len);
	it->written(it->arg, it->data, it->len);
	return true;
}

static bool dma_run(struct vm_fwcfg *f, uint32_t control, uint32_t len, struct vm_gpa at)
{
	struct item *it;

	if ((control & DMA_SELECT) != 0)
		select_key(f, (uint16_t)(control >> 16));
	it = item_of(f, f->select);
	if (len > DMA_BYTES_MAX)
		return false;
	if ((control & DMA_READ) != 0)
		return dma_read(f, it, at, len);
	if ((control & DMA_WRITE) != 0)
		return dma_write(f, it, at, len);
	if ((control & DMA_SKIP) != 0)
		advance(f, it, len);
	return true;
}

static void dma_start(struct vm_fwcfg *f, struct vm_gpa descriptor)
{
	struct vm_mem *mem = f->dev.board->mem;
	uint8_t d[16], status[4];
	struct vm_gpa at;
	bool ok;

	/* a descriptor outside memory cannot even be told of */
	if (!vm_mem_read(mem, d, descriptor, sizeof(d)))
		return;
	at.a = (uint64_t)get_be32(d + 8) << 32 | get_be32(d + 12);
	ok = dma_run(f, get_be32(d), get_be32(d + 4), at);
	put_be32(status, ok ? 0 : DMA_ERROR);
	(void)vm_mem_write(mem, descriptor, status, sizeof(status));
}

/* Reads say "QEMU CFG", big-endian. */
static uint64_t dma_port_read(void *arg, uint64_t off, unsigned size)
{
	static const uint8_t text[8] = {'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G'};
	uint64_t v = 0;

	(void)arg;
	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)text[off + i] << (8 * i);
	return v;
}

static void dma_port_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct vm_fwcfg *f = arg;
	uint32_t v = __builtin_bswap32((uint32_t)value);
	struct vm_gpa at = {(uint64_t)f->dma_high << 32 | v};

	if (size != 4)
		return;
	if (off == 0) {
		f->dma_high = v;
	} else if (off == 4) {
		f->dma_high = 0;
		dma_start(f, at);
	}
}

/* ---- device ---- */

static void fwcfg_reset(struct vm_dev *d)
{
	struct vm_fwcfg *f = (struct vm_fwcfg *)d;

	select_key(f, 0);
	f->dma_high = 0;
	for (unsigned i = 0; i < f->files; i++)
		if (f->file[i].written != NULL)
			memset(f->file[i].data, 0, f->file[i].len);
}

static void fwcfg_save(struct vm_dev *d, struct lb_wr *wr)
{
	const struct vm_fwcfg *f = (const struct vm_fwcfg *)d;

	lb_wr_u16le(wr, f->select);
	lb_wr_u32le(wr, f->offset);
	lb_wr_u32le(wr, f->dma_high);
	lb_wr_u32le(wr, f->option_rom.len);
	for (unsigned i = 0; i < f->files; i++) {
		if (f->file[i].written == NULL)
			continue;
		lb_wr_u32le(wr, f->file[i].len);
		lb_wr_bytes(wr, f->file[i].data, f->file[i].len);
	}
}

/* An item may be shorter here than where the checkpoint was made; then the guest reads zeros. */
static void clamp_offset(struct vm_fwcfg *f)
{
	const struct item *it = item_of(f, f->select);

	if (it == NULL)
		f->offset = 0;
	else if (f->offset > it->len)
		f->offset = it->len;
}

static int fwcfg_load(struct vm_dev *d, struct lb_rd *rd, uint16_t version, struct lb_err *err)
{
	struct vm_fwcfg *f = (struct vm_fwcfg *)d;
	uint32_t rom, len;

	(void)version;
	f->select = lb_rd_u16le(rd);
	f->offset = lb_rd_u32le(rd);
	f->dma_high = lb_rd_u32le(rd);
	rom = lb_rd_u32le(rd);
	if (rom > VM_OPTION_ROM_BYTES)
		return lb_err_set(err, LB_ECORRUPT, 0, "option ROM of %u bytes", rom);
	vm_fwcfg_set_option_rom(f, rom);
	clamp_offset(f);
	for (unsigned i = 0; i < f->files; i++) {
		if (f->file[i].written == NULL)
			continue;
		len = lb_rd_u32le(rd);
		if (len != f->file[i].len)
			return lb_err_set(err, LB_ECORRUPT, 0, "file %s of %u bytes",
					  f->file[i].name, len);
		lb_rd_copy(rd, f->file[i].data, len);
	}
	return 0;
}

static void fwcfg_resume(struct vm_dev *d)
{
	struct vm_fwcfg *f = (struct vm_fwcfg *)d;

	for (unsigned i = 0; i < f->files; i++) {
		const struct item *it = &f->file[i];
		uint8_t any = 0;

		for (uint32_t n = 0; it->written != NULL && n < it->len; n++)
			any |= it->data[n];
		if (any != 0)
			it->written(it->arg, it->data, it->len);
	}
}

static void fwcfg_destroy(struct vm_dev *d)
{
	struct vm_fwcfg *f = (struct vm_fwcfg *)d;

	for (unsigned i = 0; i < FIXED_KEYS; i++)
		if (!f->fixed[i].borrowed)
			free(f->fixed[i].data);
	for (unsigned i = 0; i < f->files; i++)
		free(f->file[i].data);
	free(f);
}

static const struct vm_dev_ops fwcfg_ops = {
	.name = "fwcfg",
	.version = 1,
	.reset = fwcfg_reset,
	.save = fwcfg_save,
	.load = fwcfg_load,
	.resume = fwcfg_resume,
	.destroy = fwcfg_destroy,
};

static int map_ports(struct vm_fwcfg *f, struct vm_board *b, struct lb_err *err)
{
	static const struct vm_io_ops data = {data_read, select_write};
	static const struct vm_io_ops dma = {dma_port_read, dma_port_write};
	int rc = vm_pio_map(b, PORT_SELECT, 2, &data, f, err);

	return rc != 0 ? rc : vm_pio_map(b, PORT_DMA, 8, &dma, f, err);
}

int vm_fwcfg_create(struct vm_fwcfg **out, struct vm_board *b, struct lb_err *err)
{
	static const uint8_t signature[4] = {'Q', 'E', 'M', 'U'};
	static const uint8_t features[4] = {FEATURES};
	struct vm_fwcfg *f = calloc(1, sizeof(*f));
	int rc;

	if (f == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "fw_cfg");
	vm_board_add(b, &f->dev, &fwcfg_ops); /* from here on the board destroys it */
	f->fixed[KEY_DIRECTORY] = (struct item){.data = f->directory, .borrowed = true};
	f->option_rom = (struct item){
		.name = "vgaroms/vgabios.bin", .data = vm_mem_option_rom(b->mem), .borrowed = true};
	make_directory(f);
	rc = vm_fwcfg_add(f, KEY_SIGNATURE, signature, sizeof(signature), err);
	if (rc == 0)
		rc = vm_fwcfg_add(f, KEY_FEATURES, features, sizeof(features), err);
	if (rc == 0)
		rc = map_ports(f, b, err);
	if (rc == 0)
		*out = f;
	return rc;
}
