/* Tables of what the readers of clear parts and frames refuse, and what they say. Each row breaks
 * one thing in bytes that are good otherwise; checksums are mended, so the rule itself is hit. */
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "check.h"
#include "format_layer.h"
#include "replicator/frame.h"

struct row {
	size_t at;
	unsigned width;
	uint64_t value;
	const char *says;
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void put(uint8_t *p, size_t at, unsigned width, uint64_t v)
{
	for (unsigned i = 0; i < width; i++)
		p[at + i] = (uint8_t)(v >> (8 * i));
}

static void said(const struct lb_err *err, int rc, int want, const char *says, size_t row)
{
	if (rc != want || strstr(err->msg, says) == NULL)
		fail_msg("row %zu (%s): %s: %s", row, says, lb_err_name(rc), err->msg);
}

static void test_header(void **state)
{
	static const struct row rows[] = {
		{0, 4, 0, "magic"},
		{4, 2, 2, "version 2"},
		{6, 1, 0, "volume kind 0"},
		{6, 1, 3, "volume kind 3"},
		{7, 1, 2, "codec 2"},
		{8, 4, 0, "pack size 0"},
		{8, 4, 4095, "pack size 4095"},
		{8, 4, (256 << 10) + 4096, "pack size 266240"},
		{12, 4, 2, "flags 2"},
		{12, 4, 1, "full, but names a base"},
		{144, 8, 0, "volume size 0"},
		{144, 8, 4097, "volume size 4097"},
		{144, 8, (UINT64_C(1) << 50) + 4096, "volume size"},
		{184, 1, 1, "reserved"},
		{251, 1, 0x80, "reserved"},
	};
	struct rep_layer_header good = fix_layer_header();
	struct rep_layer_header h;
	uint8_t p[REP_LAYER_HEADER_BYTES];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct lb_err err = {0};

		rep_layer_header_encode(p, &good);
		put(p, rows[i].at, rows[i].width, rows[i].value);
		put(p, 252, 4, lb_crc32c(0, p, 252));
		said(&err, rep_layer_header_decode(&h, p, sizeof(p), &err), LB_ECORRUPT,
		     rows[i].says, i);
	}
	struct lb_err err = {0};
	good.base = fix_hash(0);
	rep_layer_header_encode(p, &good);
	said(&err, rep_layer_header_decode(&h, p, sizeof(p), &err), LB_ECORRUPT,
	     "a delta without a base", 0);
	good = fix_layer_header();
	good.layer = fix_id(0);
	rep_layer_header_encode(p, &good);
	said(&err, rep_layer_header_decode(&h, p, sizeof(p), &err), LB_ECORRUPT, "layer id is zero",
	     0);
}

static void test_footer(void **state)
{
	static const struct row rows[] = {
		{0, 4, 0, "magic"},
		{4, 4, REP_LAYER_MAX_PACKS + 1, "packs"},
		{8, 4, UINT32_MAX, "digest parts"},
		{12, 4, UINT32_MAX, "index parts"},
		{12, 4, 0, "blocks in all"},
		{16, 4, 0, "leaf parts 0"},
		{16, 4, 2, "leaf parts 2"},
		{20, 1, 1, "reserved"},
		{24, 8, 479, "bytes 479"},
		{24, 8, UINT64_MAX, "bytes"},
		{32, 8, 0, ""},
		{48, 8, UINT64_MAX, "data blocks"},
		{4, 4, 0, "data blocks 1"},
		{56, 8, UINT64_MAX, "zero blocks"},
		{56, 8, (UINT64_C(1) << 38), "blocks in all"},
		{64, 8, UINT64_MAX, "ref blocks"},
		{72, 8, UINT64_MAX, "patch blocks"},
		{112, 4, 1, "reserved"},
	};
	struct rep_footer f;
	struct fix_layer l;
	uint8_t p[REP_FOOTER_BYTES];

	(void)state;
	fix_layer_init(&l);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct lb_err err = {0};

		memcpy(p, l.part[FIX_FOOTER]->p, sizeof(p));
		put(p, rows[i].at, rows[i].width, rows[i].value);
		put(p, 124, 4, lb_crc32c(0, p, 124));
		int rc = rep_footer_decode(&f, p, sizeof(p), &err);
		if (rows[i].says[0] == '\0')
			assert_int_equal(rc, 0); /* half a layer id is an id like any other */
		else
			said(&err, rc, LB_ECORRUPT, rows[i].says, i);
	}
	fix_layer_fini(&l);
}

struct run_row {
	struct rep_run run;
	const char *says;
};
/* Each stands alone after a good run of blocks 0..9, in a volume of 1,024 blocks and packs of 16,
 * with one source where it is REF or PATCH. */
static const struct run_row run_rows[] = {
	{{.block = 9, .count = 1, .kind = REP_RUN_ZERO}, "not after"},
	{{.block = 0, .count = 1, .kind = REP_RUN_ZERO}, "not after"},
	{{.block = 10, .count = 0, .kind = REP_RUN_ZERO}, "outside the volume"},
	{{.block = 1024, .count = 1, .kind = REP_RUN_ZERO}, "outside the volume"},
	{{.block = 1023, .count = 2, .kind = REP_RUN_ZERO}, "outside the volume"},
	{{.block = UINT64_MAX, .count = 1, .kind = REP_RUN_ZERO}, "outside the volume"},
	{{.block = 10, .count = UINT32_MAX, .kind = REP_RUN_ZERO}, "outside the volume"},
	{{.block = 10, .count = 1, .kind = REP_RUN_ZERO, .pack = 1}, "zero run with a position"},
	{{.block = 10, .count = 1, .kind = REP_RUN_ZERO, .pos = 1}, "zero run with a position"},
	{{.block = 10, .count = 1, .kind = REP_RUN_ZERO, .src = 1}, "source out of range"},
	{{.block = 10, .count = 17, .kind = REP_RUN_DATA}, "position out of its pack"},
	{{.block = 10, .count = 1, .kind = REP_RUN_DATA, .pos = 16}, "position out of its pack"},
	{{.block = 10, .count = 2, .kind = REP_RUN_DATA, .pos = 15}, "position out of its pack"},
	{{.block = 10, .count = 1, .kind = REP_RUN_DATA, .pos = UINT32_MAX},
	 "position out of its pack"},
	{{.block = 10, .count = 1, .kind = REP_RUN_DATA, .pack = REP_LAYER_MAX_PACKS},
	 "pack out of range"},
	{{.block = 10, .count = 1, .kind = REP_RUN_DATA, .src = 1}, "source out of range"},
	{{.block = 10, .count = 1, .kind = REP_RUN_DATA, .patch_bytes = 1}, "a patch on a run"},
	{{.block = 10, .count = 2, .kind = REP_RUN_REF, .pos = 63}, "position out of its pack"},
	{{.block = 10, .count = 1, .kind = REP_RUN_REF, .src = 1}, "source out of range"},
	{{.block = 10, .count = 1, .kind = REP_RUN_REF, .patch_pos = 1}, "a patch on a run"},
	{{.block = 10, .count = 2, .kind = REP_RUN_PATCH, .patch_bytes = 1}, "more than one block"},
	{{.block = 10, .count = 1, .kind = REP_RUN_PATCH}, "patch out of its pack"},
	{{.block = 10, .count = 1, .kind = REP_RUN_PATCH, .patch_bytes = 4097},
	 "patch out of its pack"},
	{{.block = 10, .count = 1, .kind = REP_RUN_PATCH, .patch_bytes = 2, .patch_pos = 65535},
	 "patch out of its pack"},
	{{.block = 10,
	  .count = 1,
	  .kind = REP_RUN_PATCH,
	  .patch_bytes = 1,
	  .patch_pos = UINT32_MAX},
	 "patch out of its pack"},
	{{.block = 10,
	  .count = 1,
	  .kind = REP_RUN_PATCH,
	  .patch_bytes = 1,
	  .patch_pack = REP_LAYER_MAX_PACKS},
	 "patch pack out of range"},
};

static void test_runs(void **state)
{
	struct rep_layer_header h = fix_layer_header();
	struct lb_id source = fix_id(0x71);
	struct rep_index x;
	uint8_t p[256];

	(void)state;
	for (size_t i = 0; i < COUNT(run_rows); i++) {
		struct rep_run runs[2] = {{.block = 0, .count = 10, .kind = REP_RUN_ZERO}};
		struct lb_err err = {0};

		runs[1] = run_rows[i].run;
		uint32_t nsrc = runs[1].kind == REP_RUN_REF || runs[1].kind == REP_RUN_PATCH;
		size_t n = rep_index_encode(p, sizeof(p), 0, runs, 2, &source, nsrc);
		said(&err, rep_index_decode(&x, p, n, &h, &err), LB_ECORRUPT, run_rows[i].says, i);
		assert_non_null(strstr(err.msg, "run 1"));
	}
}

static void test_index(void **state)
{
	/* runs begin at 64; the good index has sources 71.. and 72.. at 32 and 48 */
	static const struct row rows[] = {
		{0, 4, 0, "magic"},
		{4, 4, REP_LAYER_MAX_PARTS, "number"},
		{8, 4, 3, "length"},
		{8, 4, REP_INDEX_MAX_RUNS + 1, "6001 runs"},
		{12, 4, REP_INDEX_MAX_SOURCES + 1, "257 sources"},
		{16, 4, 1, "reserved"},
		{31, 1, 1, "reserved"},
		{64 + 12, 1, 0, "kind unknown"},
		{64 + 12, 1, 5, "kind unknown"},
		{64 + 13, 1, 1, "reserved"},
		{64 + 39, 1, 1, "reserved"},
		{144 + 14, 2, 1, "source 0 is not used"},
	};
	static const struct {
		uint8_t ids[2];
		const char *says;
	} sources[] = {{{0, 0x72}, "source 0 is zero"},
		       {{0x72, 0x72}, "source 1 is named twice"},
		       {{0x71, 0x66}, "source 1 is this layer"}};
	struct rep_index x;
	struct fix_layer l;
	uint8_t p[512];

	(void)state;
	fix_layer_init(&l);
	const struct lb_buf *good = l.part[FIX_INDEX];
	for (size_t i = 0; i < COUNT(rows) + COUNT(sources); i++) {
		struct lb_err err = {0};
		size_t k = i - COUNT(rows);

		memcpy(p, good->p, good->len);
		if (i < COUNT(rows))
			put(p, rows[i].at, rows[i].width, rows[i].value);
		else
			for (size_t b = 0; b < 32; b++)
				p[32 + b] = sources[k].ids[b / 16];
		said(&err, rep_index_decode(&x, p, good->len, &l.header, &err), LB_ECORRUPT,
		     i < COUNT(rows) ? rows[i].says : sources[k].says, i);
	}
	for (size_t n = 0; n < good->len; n++) {
		uint8_t *copy = malloc(n + 1); /* so that the sanitizer sees a byte too far */

		assert_non_null(copy);
		memcpy(copy, good->p, n);
		assert_int_equal(rep_index_decode(&x, copy, n, &l.header, NULL), LB_ECORRUPT);
		free(copy);
	}
	fix_layer_fini(&l);
}

static struct rep_frame admit_two(void)
{
	struct rep_frame f = {.type = REP_FRAME_ADMIT};

	f.admit.layers = 2;
	f.admit.extras = 2;
	for (uint16_t i = 0; i < 2; i++) {
		f.admit.layer[i].layer = fix_id(1u + i);
		f.admit.layer[i].first_missing = 5;
		f.admit.extra[i].layer = i;
		f.admit.extra[i].number = 7;
	}
	return f;
}

/* @rows break the payload of the encoded @f. */
static void frame_rows(const struct rep_frame *f, const struct row *rows, size_t n)
{
	static struct rep_frame got;
	struct lb_err err = {0};
	struct lb_buf *b = NULL;

	if (rep_frame_encode(&b, f, &err) != 0)
		fail_msg("%s", err.msg);
	uint8_t *p = b->p + REP_FRAME_HEADER_BYTES;
	size_t len = b->len - REP_FRAME_HEADER_BYTES;
	for (size_t i = 0; i < n; i++) {
		uint8_t keep[8];

		memcpy(keep, p + rows[i].at, rows[i].width);
		put(p, rows[i].at, rows[i].width, rows[i].value);
		err = (struct lb_err){0};
		said(&err, rep_frame_decode(&got, f->type, p, len, &err), LB_EPROTO, rows[i].says,
		     i);
		memcpy(p + rows[i].at, keep, rows[i].width);
	}
	assert_int_equal(rep_frame_decode(&got, f->type, p, len, &err), 0);
	lb_buf_unref(b);
}

static void test_frames(void **state)
{
	static const struct row admit[] = {
		{32, 4, 0, "layer count"},
		{32, 4, 257, "layer count"},
		{32, 4, 3, "ADMIT frame: "},
		{36, 4, 513, "extra count"},
		{36, 4, 3, "length"},
		{40 + 16, 4, 1u << 31, "first missing"},
		{40 + 20, 1, 2, "reserved"},
		{40 + 21, 1, 1, "reserved"},
		{88, 2, 2, "extra's layer"},
		{88, 2, 1, "order of extras"},
		{90, 2, 1, "reserved"},
		{92, 4, 5, "extra's pack"},
		{92, 4, 1u << 30, "extra's pack"},
	};
	static const struct row hello[] = {
		{0, 2, 0, "versions"},    {0, 2, 2, "versions"},     {4, 2, 2, "connection"},
		{6, 2, 0, "connections"}, {6, 2, 65, "connections"},
	};
	static const struct row status[] = {
		{24, 1, 4, "flags"},
		{25, 1, 1, "flags"},
		{24, 1, 0, "head"},
		{32, 8, 8, "head epoch"},
	};
	static const struct row refuse[] = {
		{32, 2, 0, "reason"},  {32, 2, 8, "reason"},   {34, 1, 2, "reserved"},
		{34, 1, 1, "head"},    {35, 1, 1, "reserved"}, {72, 2, 3, "length"},
		{74, 1, 0x0a, "text"}, {74, 1, 0, "length"},
	};
	struct rep_frame f = admit_two();

	(void)state;
	frame_rows(&f, admit, COUNT(admit));
	f = (struct rep_frame){.type = REP_FRAME_HELLO};
	f.hello = (struct rep_hello){.version_min = 1, .version_max = 1, .connections = 2};
	frame_rows(&f, hello, COUNT(hello));
	f = (struct rep_frame){.type = REP_FRAME_STATUS};
	f.status = (struct rep_status){
		.epoch = 7, .has_head = true, .head_epoch = 7, .head = fix_hash(1)};
	frame_rows(&f, status, COUNT(status));
	f = (struct rep_frame){.type = REP_FRAME_REFUSE};
	f.refuse.reason = REP_REFUSE_BUSY;
	(void)snprintf(f.refuse.text, sizeof(f.refuse.text), "no!!");
	frame_rows(&f, refuse, COUNT(refuse));
}

/* What the peer would refuse is not sent. */
static void test_frames_not_sent(void **state)
{
	struct rep_frame f = admit_two();
	struct lb_err err = {0};
	struct lb_buf *b = NULL;

	(void)state;
	f.admit.extra[1] = f.admit.extra[0];
	said(&err, rep_frame_encode(&b, &f, &err), LB_EINVAL, "order of extras", 0);
	f.admit.extras = REP_ADMIT_MAX_EXTRA + 1;
	said(&err, rep_frame_encode(&b, &f, &err), LB_EINVAL, "counts", 1);
	f = (struct rep_frame){.type = REP_FRAME_RECEIPT};
	f.receipt.len = 255;
	said(&err, rep_frame_encode(&b, &f, &err), LB_EINVAL, "counts", 2);
	f = (struct rep_frame){.type = REP_FRAME_RECORD};
	said(&err, rep_frame_encode(&b, &f, &err), LB_EINVAL, "of 40 bytes", 3);
	f.record.bytes = UINT32_MAX;
	said(&err, rep_frame_encode(&b, &f, &err), LB_EINVAL, "bytes", 4);
	f = (struct rep_frame){.type = (enum rep_frame_type)5};
	said(&err, rep_frame_encode(&b, &f, &err), LB_EINVAL, "type 5", 5);
	assert_null(b);
}

/* Each type has its own bounds, checked on the header before a byte of payload is waited for. */
static void test_frame_lengths(void **state)
{
	static const struct {
		enum rep_frame_type type;
		uint32_t min, max;
	} bounds[] = {
		{REP_FRAME_HELLO, 72, 72},      {REP_FRAME_ERROR, 6, 166},
		{REP_FRAME_PING, 32, 32},       {REP_FRAME_PONG, 32, 32},
		{REP_FRAME_STATUS_REQ, 16, 16}, {REP_FRAME_STATUS, 80, 80},
		{REP_FRAME_OFFER, 167, 16550},  {REP_FRAME_ADMIT, 64, 10280},
		{REP_FRAME_REFUSE, 74, 234},    {REP_FRAME_RECORD, 41, 1048616},
		{REP_FRAME_CREDIT, 8, 8},       {REP_FRAME_POINT, 9, 1048584},
		{REP_FRAME_RECEIPT, 256, 256},  {REP_FRAME_FENCE, 24, 24},
		{REP_FRAME_KEY, 80, 80},        {REP_FRAME_KEY_OK, 16, 16},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bounds); i++) {
		const uint32_t tries[] = {bounds[i].min - 1, bounds[i].min, bounds[i].max,
					  bounds[i].max + 1, UINT32_MAX};

		assert_true(bounds[i].max <= REP_FRAME_MAX);
		for (size_t k = 0; k < COUNT(tries); k++) {
			uint8_t p[REP_FRAME_HEADER_BYTES] = {'L', 'B', 'F', '1'};
			bool good = tries[k] >= bounds[i].min && tries[k] <= bounds[i].max;
			enum rep_frame_type type;
			uint32_t bytes = 0;

			put(p, 4, 2, (uint64_t)bounds[i].type);
			put(p, 8, 4, tries[k]);
			put(p, 12, 4, lb_crc32c(0, p, 12));
			assert_int_equal(rep_frame_header_decode(&type, &bytes, p, NULL),
					 good ? 0 : LB_EPROTO);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),        cmocka_unit_test(test_footer),
		cmocka_unit_test(test_runs),          cmocka_unit_test(test_index),
		cmocka_unit_test(test_frames),        cmocka_unit_test(test_frames_not_sent),
		cmocka_unit_test(test_frame_lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
