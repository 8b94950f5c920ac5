/*
 * The block driver: image files and block devices, without anybody's help. Nothing can be withheld,
 * so a cut is the moment of mark(), and check() finds out whether what was read since then is of
 * one moment:
 *
 *   frozen         size, inode, mtime and ctime are those of mark()
 *   live           that, and a second pass: everything that was read is read again and gives the
 *                  same sum
 *   block device   no times to go by: the second pass alone, with O_DIRECT (the page cache of a
 *                  device does not see what a file system on it writes)
 *
 * Sum: for each block read, mix(XXH3-128 of its bytes under a secret of this process, block
 * number), added up as often as the block was read; so neither order nor threads matter and memory
 * is a byte a block.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/text.h"
#include "imaging/dev.h"
#include "src_int.h"

#define BLOCK     ((uint64_t)SA_SOURCE_BLOCK_BYTES)
#define RUN_BYTES (UINT64_C(256) * 1024)
#define XML_MAX   (UINT64_C(1024) * 1024)

/* What the engine reads from: the file, with everything that was read summed up. */
struct scan_dev {
	struct img_dev dev;
	struct img_dev *file;
	bool direct;
	bool sums;
	const uint8_t *secret;
	_Atomic uint8_t *times; /* how often each block was read; saturates at an error */
	_Atomic uint64_t sum[2];
};

struct block_volume {
	struct scan_dev scan;
	bool is_block_device;
	struct stat at_mark;
};

struct block_source {
	struct sa_source base;
	struct block_volume vol[SA_SOURCE_VOLUMES_MAX];
	uint8_t secret[LB_XXH_SECRET_BYTES];
};

/* ---- the summing device ---- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u;
	return x ^ x >> 32;
}

static void block_sum(const struct scan_dev *d, uint64_t block, const uint8_t *p, size_t len,
		      uint64_t out[2])
{
	struct lb_digest digest;

	lb_xxh3(&digest, p, len, d->secret);
	memcpy(out, digest.b, sizeof digest.b);
	out[0] = mix(out[0] + block * 0x9e3779b97f4a7c15u);
	out[1] = mix(out[1] ^ block * 0xc2b2ae3d27d4eb4fu);
}

/* O_DIRECT needs aligned memory, the caller's may be anything. */
static int file_read(const struct scan_dev *d, void *buf, uint64_t len, uint64_t off,
		     struct lb_err *err)
{
	void *bounce;
	int rc;

	if (!d->direct || (uintptr_t)buf % BLOCK == 0)
		return img_pread(d->file, buf, len, off, err);
	if (posix_memalign(&bounce, BLOCK, len) != 0)
		return lb_err_set(err, LB_ENOMEM, 0, "aligned buffer of %" PRIu64 " bytes", len);
	rc = img_pread(d->file, bounce, len, off, err);
	if (rc == 0)
		memcpy(buf, bounce, len);
	free(bounce);
	return rc;
}

static int scan_pread(struct img_dev *dev, void *buf, uint64_t len, uint64_t off,
		      struct lb_err *err)
{
	struct scan_dev *d = (struct scan_dev *)dev;
	int rc = file_read(d, buf, len, off, err);

	if (rc != 0 || !d->sums)
		return rc;
	if (off % BLOCK != 0 || (len % BLOCK != 0 && off + len != dev->size_bytes))
		return lb_err_set(err, LB_EINVAL, 0,
				  "a live volume is read by whole blocks, not %" PRIu64 "+%" PRIu64,
				  off, len);
	for (uint64_t o = 0; o < len; o += BLOCK) {
		uint64_t sum[2], b = (off + o) / BLOCK;

		if (atomic_fetch_add(&d->times[b], 1) == UINT8_MAX)
			return lb_err_set(err, LB_EINVAL, 0, "block %" PRIu64 " read too often", b);
		block_sum(d, b, (uint8_t *)buf + o, len - o < BLOCK ? len - o : BLOCK, sum);
		atomic_fetch_add(&d->sum[0], sum[0]);
		atomic_fetch_add(&d->sum[1], sum[1]);
	}
	return 0;
}

static int scan_next_extent(struct img_dev *dev, struct img_extent *out, uint64_t off,
			    struct lb_err *err)
{
	return img_next_extent(((struct scan_dev *)dev)->file, out, off, err);
}

/* The source owns it: img_dev_destroy() by mistake does nothing. */
static void scan_destroy(struct img_dev *dev)
{
	(void)dev;
}

static const struct img_dev_ops scan_ops = {
	.name = "scan",
	.pread = scan_pread,
	.next_extent = scan_next_extent,
	.destroy = scan_destroy,
};

/* The run of blocks from @b on that were read, at most @max; 0: none from there. */
static uint64_t read_run(const struct scan_dev *d, uint64_t *b, uint64_t blocks, uint64_t max)
{
	uint64_t n = 0;

	while (*b < blocks && d->times[*b] == 0)
		++*b;
	while (n < max && *b + n < blocks && d->times[*b + n] != 0)
		n++;
	return n;
}

static int second_pass(const struct scan_dev *d, const char *name, struct lb_err *err)
{
	uint64_t blocks = (d->dev.size_bytes + BLOCK - 1) / BLOCK, sum[2] = {0, 0};
	void *buf = NULL;
	uint64_t n;
	int rc = 0;

	if (posix_memalign(&buf, BLOCK, RUN_BYTES) != 0)
		return lb_err_set(err, LB_ENOMEM, 0, "second pass over %s", name);
	for (uint64_t b = 0; (n = read_run(d, &b, blocks, RUN_BYTES / BLOCK)) > 0; b += n) {
		uint64_t off = b * BLOCK, len = n * BLOCK;

		if (len > d->dev.size_bytes - off)
			len = d->dev.size_bytes - off;
		rc = img_pread(d->file, buf, len, off, err);
		for (uint64_t o = 0; o < len && rc == 0; o += BLOCK) {
			uint64_t one[2], times = d->times[b + o / BLOCK];

			block_sum(d, b + o / BLOCK, (uint8_t *)buf + o,
				  len - o < BLOCK ? len - o : BLOCK, one);
			sum[0] += one[0] * times;
			sum[1] += one[1] * times;
		}
		if (rc != 0)
			break;
	}
	free(buf);
	if (rc == 0 && (sum[0] != d->sum[0] || sum[1] != d->sum[1]))
		rc = lb_err_set(err, LB_ECHANGED, 0, "volume %s changed while it was read", name);
	return rc;
}

/* ---- the driver ---- */

static void close_volume(struct block_volume *v)
{
	img_dev_destroy(v->scan.file);
	free((void *)v->scan.times);
	memset(v, 0, sizeof *v);
}

static int open_volume(struct block_source *b, size_t i, struct lb_err *err)
{
	struct sa_source_volume *sv = &b->base.volume[i];
	struct block_volume *v = &b->vol[i];
	struct img_file_cfg cfg = {.path = sv->path};
	struct stat st;
	int rc;

	if (stat(sv->path, &st) != 0)
		return lb_err_errno(err, errno, "volume %s: %s", sv->name, sv->path);
	v->is_block_device = S_ISBLK(st.st_mode);
	cfg.direct = v->is_block_device && !b->base.cfg.frozen;
	rc = img_file_create(&v->scan.file, &cfg, err);
	if (rc != 0)
		return lb_err_wrap(err, rc, "volume %s", sv->name);
	sv->size_bytes = v->scan.file->size_bytes;
	v->scan.dev = (struct img_dev){.ops = &scan_ops, .size_bytes = sv->size_bytes};
	v->scan.direct = cfg.direct;
	v->scan.sums = !b->base.cfg.frozen;
	v->scan.secret = b->secret;
	if (v->scan.sums) {
		v->scan.times = calloc((sv->size_bytes + BLOCK - 1) / BLOCK + 1, 1);
		if (v->scan.times == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "volume %s", sv->name);
	}
	return 0;
}

/* It travels in JSON; and what is behind a NUL would be left out. */
static bool is_text(const char *text, size_t len)
{
	uint32_t cp;
	size_t at = 0, n;

	while (at < len && (n = lb_utf8_next(text + at, &cp)) > 0)
		at += n;
	return at == len;
}

static int read_xml(struct sa_source *s, struct lb_err *err)
{
	char *text = NULL;
	size_t got = 0;
	FILE *f;

	if (s->cfg.xml_path == NULL)
		return 0;
	f = fopen(s->cfg.xml_path, "re");
	if (f == NULL)
		return lb_err_errno(err, errno, "domain XML %s", s->cfg.xml_path);
	text = calloc(1, XML_MAX + 1);
	if (text != NULL)
		got = fread(text, 1, XML_MAX + 1, f);
	(void)fclose(f);
	if (text == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "domain XML %s", s->cfg.xml_path);
	if (got == 0 || got > XML_MAX || !is_text(text, got)) {
		free(text);
		return lb_err_set(err, LB_EINPUT, 0, "domain XML %s is %s", s->cfg.xml_path,
				  got == 0 || got > XML_MAX ? "empty or over 1 MiB" : "not UTF-8");
	}
	free(s->machine_xml);
	s->machine_xml = text;
	return 0;
}

static void close_all(struct sa_source *s)
{
	struct block_source *b = (struct block_source *)s;

	for (size_t i = 0; i < s->volumes; i++)
		close_volume(&b->vol[i]);
}

static int block_prepare(struct sa_source *s, struct lb_err *err)
{
	struct block_source *b = (struct block_source *)s;
	int rc;

	if (sa_source_state(s) == SA_SRC_READY)
		return 0;
	close_all(s);
	lb_env_real()->random(lb_env_real(), b->secret, sizeof b->secret);
	rc = read_xml(s, err);
	for (size_t i = 0; i < s->volumes && rc == 0; i++)
		rc = open_volume(b, i, err);
	if (rc != 0)
		close_all(s);
	sa_source_set_state(s, rc == 0 ? SA_SRC_READY : SA_SRC_LOST);
	return rc;
}

static int block_hold(struct sa_source *s, uint64_t limit_ns, struct lb_err *err)
{
	(void)s;
	(void)limit_ns;
	(void)err;
	return 0;
}

static void block_resume(struct sa_source *s)
{
	(void)s;
}

/* Replaced, shrunk, gone: the next prepare() opens what is there then. */
static int check_file(struct sa_source *s, size_t i, struct stat *st, struct lb_err *err)
{
	const struct block_source *b = (const struct block_source *)s;
	int rc = img_file_check(b->vol[i].scan.file, err);

	if (rc == 0 && stat(s->volume[i].path, st) != 0)
		rc = lb_err_set(err, LB_ECHANGED, errno, "stat %s", s->volume[i].path);
	if (rc != 0)
		sa_source_set_state(s, SA_SRC_LOST);
	return rc != 0 ? lb_err_wrap(err, rc, "volume %s", s->volume[i].name) : 0;
}

/* A disk that was made larger: a cut of its old size would leave out what the machine has put
 * behind it. The next prepare() opens the new size. */
static int check_growth(struct sa_source *s, size_t i, struct lb_err *err)
{
	struct img_dev *file = ((struct block_source *)s)->vol[i].scan.file;
	uint64_t bytes = 0;
	int rc = img_file_length(file, &bytes, err);

	if (rc == 0 && bytes != file->size_bytes)
		rc = lb_err_set(err, LB_ECHANGED, 0,
				"volume %s: %s grew from %" PRIu64 " to %" PRIu64 " bytes",
				s->volume[i].name, s->volume[i].path, file->size_bytes, bytes);
	if (rc != 0)
		sa_source_set_state(s, SA_SRC_LOST);
	return rc;
}

static int block_mark(struct sa_source *s, struct lb_err *err)
{
	struct block_source *b = (struct block_source *)s;
	int rc = 0;

	for (size_t i = 0; i < s->volumes && rc == 0; i++) {
		struct scan_dev *d = &b->vol[i].scan;

		rc = check_file(s, i, &b->vol[i].at_mark, err);
		if (rc == 0)
			rc = check_growth(s, i, err);
		d->sum[0] = 0;
		d->sum[1] = 0;
		if (d->sums)
			memset((void *)d->times, 0, (d->dev.size_bytes + BLOCK - 1) / BLOCK);
	}
	return rc;
}

static int block_dev(struct sa_source *s, size_t vol, struct img_dev **out, struct lb_err *err)
{
	(void)err;
	*out = &((struct block_source *)s)->vol[vol].scan.dev;
	return 0;
}

static int block_changed(struct sa_source *s, size_t vol, const struct img_extmap **out,
			 struct lb_err *err)
{
	(void)s;
	(void)vol;
	(void)err;
	*out = NULL;
	return 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static int check_volume(struct sa_source *s, size_t i, struct lb_err *err)
{
	const struct block_volume *v = &((struct block_source *)s)->vol[i];
	const struct stat *was = &v->at_mark;
	struct stat st = {0};
	int rc = check_file(s, i, &st, err);

	if (rc != 0)
		return rc;
	if (!v->is_block_device &&
	    (st.st_ino != was->st_ino || st.st_size != was->st_size ||
	     !same_time(&st.st_mtim, &was->st_mtim) || !same_time(&st.st_ctim, &was->st_ctim)))
		return lb_err_set(err, LB_ECHANGED, 0, "volume %s: %s was written to%s",
				  s->volume[i].name, s->volume[i].path,
				  s->cfg.frozen ? ", though it is configured as frozen" : "");
	return v->scan.sums ? second_pass(&v->scan, s->volume[i].name, err) : 0;
}

static int block_check(struct sa_source *s, struct lb_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < s->volumes && rc == 0; i++)
		rc = check_volume(s, i, err);
	return rc;
}

static void block_release(struct sa_source *s, bool kept, const struct lb_hash *point)
{
	(void)s;
	(void)kept;
	(void)point;
}

static const struct sa_source_ops block_ops = {
	.driver = "block",
	.prepare = block_prepare,
	.hold = block_hold,
	.mark = block_mark,
	.resume = block_resume,
	.dev = block_dev,
	.changed = block_changed,
	.check = block_check,
	.release = block_release,
	.destroy = close_all,
};

struct sa_source *sa_src_block_alloc(void)
{
	struct block_source *b = calloc(1, sizeof *b);

	if (b == NULL)
		return NULL;
	b->base.ops = &block_ops;
	return &b->base;
}
