/*
 * A view map file, decoded, opened over an empty store, read. Byte 0 of the input: bit 0 mends
 * length and CRCs, so that the checks behind them are reached. The rest of the bytes are tried as a
 * patch, too.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/hash.h"
#include "format_fix.h"
#include "imaging/dev.h"
#include "replicator/view.h"
#include "view_int.h"
#include "word_delta_int.h"

#define INPUT_MAX (64u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int dek_of(void *arg, const struct lb_id *id, struct lb_key *out)
{
	(void)arg;
	(void)id;
	*out = fix_key();
	return 0;
}

static void put(uint8_t *p, unsigned width, uint64_t v)
{
	for (unsigned i = 0; i < width; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static void mend(uint8_t *p, size_t len)
{
	if (len < REP_VIEWMAP_HEADER_BYTES)
		return;
	put(p + 104, 8, len);
	put(p + 120, 4, lb_crc32c(0, p + REP_VIEWMAP_HEADER_BYTES, len - REP_VIEWMAP_HEADER_BYTES));
	put(p + 124, 4, lb_crc32c(0, p, 124));
}

static void read_some(struct img_dev *d)
{
	uint8_t buf[3 * 4096];
	struct img_extent x;
	uint64_t off = 0;

	for (unsigned i = 0; i < 64 && off < d->size_bytes; i++) {
		LB_ASSERT(img_next_extent(d, &x, off, NULL) == 0);
		LB_ASSERT(x.off == off && x.len > 0 && x.len <= d->size_bytes - off);
		(void)img_pread(d, buf, x.len < sizeof(buf) ? x.len : sizeof(buf), off, NULL);
		off += x.len;
	}
}

static void open_file(const uint8_t *p, size_t len)
{
	char dir[] = "/tmp/lb_fuzz_map_XXXXXX";
	char path[64];
	struct rep_view_cfg cfg = {.dek_of = dek_of};
	struct img_dev *d = NULL;
	int fd;

	LB_ASSERT(mkdtemp(dir) != NULL);
	(void)snprintf(path, sizeof(path), "%s/map", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	LB_ASSERT(fd >= 0 && write(fd, p, len) == (ssize_t)len);
	(void)close(fd);
	if (rep_view_open_map(&d, path, dir, &cfg, NULL) == 0) {
		read_some(d);
		img_dev_destroy(d);
	}
	(void)unlink(path);
	(void)rmdir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t block[REP_BLOCK_BYTES] = {0};
	struct rep_viewmap m;
	uint8_t *copy;

	if (size < 2 || size > INPUT_MAX)
		return 0;
	size--;
	copy = malloc(size);
	LB_ASSERT(copy != NULL);
	memcpy(copy, data + 1, size);
	if ((data[0] & 1) != 0)
		mend(copy, size);
	(void)rep_word_delta_apply(block, copy, size, NULL);
	if (rep_viewmap_decode(&m, copy, size, NULL) == 0)
		open_file(copy, size);
	free(copy);
	return 0;
}
