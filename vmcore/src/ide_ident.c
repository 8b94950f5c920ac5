#include <stdio.h>
#include <string.h>

#include "ide_int.h"

/* The geometry every PC translates from: 16 heads of 63 sectors. */
#define HEADS      16u
#define TRACK      63u
#define CYLINDERS  16383u
#define MWDMA_MAX  2u
#define MWDMA_NONE 0xffu

static const char model[] = "LIFEBOAT VIRTUAL DISK";
static const char revision[] = "1";

bool ide_set_geometry(struct ide_drive *d, unsigned heads, unsigned track)
{
	uint64_t cylinders;

	if (heads == 0 || heads > 16 || track == 0 || track > 255)
		return false;
	cylinders = d->sectors / heads / track;
	if (heads == HEADS && track == TRACK && cylinders > CYLINDERS)
		cylinders = CYLINDERS;
	if (cylinders > 0xffff)
		cylinders = 0xffff;
	if (cylinders == 0)
		cylinders = 1;
	d->heads = (uint16_t)heads;
	d->track = (uint16_t)track;
	d->cylinders = (uint16_t)cylinders;
	return true;
}

void ide_drive_defaults(struct ide_drive *d)
{
	(void)ide_set_geometry(d, HEADS, TRACK);
	d->multiple = 0;
	d->mwdma = MWDMA_MAX;
	d->no_cache = false;
}

static void word(uint8_t *out, unsigned n, unsigned v)
{
	uint8_t *p = out + (size_t)2 * n;

	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void words(uint8_t *out, unsigned n, unsigned count, uint64_t v)
{
	for (unsigned i = 0; i < count; i++)
		word(out, n + i, (unsigned)(v >> (16 * i)) & 0xffff);
}

/* Text has its first character in the high byte of a word, padded with blanks. */
static void text(uint8_t *out, unsigned n, unsigned count, const char *s)
{
	size_t len = strlen(s);

	for (unsigned i = 0; i < 2 * count; i++)
		out[2 * n + (i ^ 1)] = (uint8_t)(i < len ? s[i] : ' ');
}

/* ATA/ATAPI-6, 8.15, table 26; the words that are not set are zero. */
void ide_identify(const struct ide_drive *d, uint8_t out[IDE_SECTOR_BYTES])
{
	uint64_t chs = (uint64_t)d->cylinders * d->heads * d->track;
	uint64_t cylinders = d->sectors / HEADS / TRACK;
	unsigned sum = 0;

	memset(out, 0, IDE_SECTOR_BYTES);
	word(out, 0, 0x0040); /* ATA, not removable */
	word(out, 1, (unsigned)(cylinders < CYLINDERS ? cylinders : CYLINDERS));
	word(out, 3, HEADS);
	word(out, 6, TRACK);
	text(out, 10, 10, d->serial);
	text(out, 23, 4, revision);
	text(out, 27, 20, model);
	word(out, 47, 0x8000 | IDE_MULTIPLE_MAX);
	word(out, 48, 1);      /* 32-bit data port */
	word(out, 49, 0x0f00); /* IORDY, LBA, DMA */
	word(out, 51, 0x0200);
	word(out, 53, 0x0003); /* words 54-58 and 64-70 count */
	word(out, 54, d->cylinders);
	word(out, 55, d->heads);
	word(out, 56, d->track);
	words(out, 57, 2, chs);
	if (d->multiple != 0)
		word(out, 59, 0x0100u | d->multiple);
	words(out, 60, 2, d->sectors < IDE_LBA28_SECTORS ? d->sectors : IDE_LBA28_SECTORS);
	word(out, 63, 0x0007 | (d->mwdma <= MWDMA_MAX ? 0x0100u << d->mwdma : 0));
	word(out, 64, 0x0003); /* PIO 3, 4 */
	for (unsigned n = 65; n <= 68; n++)
		word(out, n, 120); /* ns a cycle */
	word(out, 80, 0x007e);     /* ATA-1 to ATA-6 */
	word(out, 82, 0x0020);     /* write cache */
	word(out, 83, 0x7400);     /* FLUSH CACHE, FLUSH CACHE EXT, 48 bit */
	word(out, 84, 0x4000);
	word(out, 85, d->no_cache ? 0 : 0x0020);
	word(out, 86, 0x3400);
	word(out, 87, 0x4000);
	words(out, 100, 4, d->sectors);
	out[510] = 0xa5;
	for (unsigned i = 0; i < 511; i++)
		sum += out[i];
	out[511] = (uint8_t)(0u - sum);
}

static bool set_transfer_mode(struct ide_drive *d, uint8_t mode)
{
	if (mode <= 1 || (mode >= 0x08 && mode <= 0x0c)) {
		d->mwdma = MWDMA_NONE; /* PIO */
		return true;
	}
	if (mode < 0x20 || mode > 0x20 + MWDMA_MAX)
		return false;
	d->mwdma = mode & 7;
	return true;
}

bool ide_set_features(struct ide_drive *d, uint8_t feature, uint8_t count)
{
	switch (feature) {
	case 0x02:
		d->no_cache = false;
		return true;
	case 0x82:
		d->no_cache = true;
		return true;
	case 0x03:
		return set_transfer_mode(d, count);
	case 0x55: /* read look-ahead off, on; settings kept, or not, over a reset */
	case 0xaa:
	case 0x66:
	case 0xcc:
		return true;
	default:
		return false;
	}
}
