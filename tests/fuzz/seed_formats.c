/*
 * Writes the seeds of the format fuzzers below the folder given: FOLDER/{frame,record,layer,pack,
 * manifest,word_delta,draft}/NAME. Each is a good input or one that is wrong in one place, with its
 * checksum mended so that the check behind the checksum is reached. Not a test; run by hand when a
 * format changes.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "check.h"
#include "format_draft.h"
#include "format_layer.h"
#include "memfs.h"
#include "replicator/frame.h"
#include "replicator/record.h"

static const char *folder;

static void seed(const char *target, const char *name, const void *p, size_t len)
{
	char path[4096];

	assert_true((size_t)snprintf(path, sizeof(path), "%s/%s", folder, target) < sizeof(path));
	(void)mkdir(path, 0777);
	assert_true((size_t)snprintf(path, sizeof(path), "%s/%s/%s", folder, target, name) <
		    sizeof(path));
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* One place made wrong: @value of @width bytes at @at. */
struct wrong {
	const char *name;
	size_t at;
	unsigned width;
	uint64_t value;
};

static void put(uint8_t *p, size_t at, unsigned width, uint64_t v)
{
	for (unsigned i = 0; i < width; i++)
		p[at + i] = (uint8_t)(v >> (8 * i));
}

/* The good bytes, then each wrong one; @crc_at > 0: mend the CRC32C of bytes 0..crc_at-1 there.
 * @skip bytes (a selector) stand before what the offsets count from. */
static void seeds(const char *target, const char *good, const uint8_t *p, size_t len, size_t skip,
		  size_t crc_at, const struct wrong *w, size_t n)
{
	uint8_t copy[4096];

	assert_true(len <= sizeof(copy));
	seed(target, good, p, len);
	for (size_t i = 0; i < n; i++) {
		memcpy(copy, p, len);
		put(copy + skip, w[i].at, w[i].width, w[i].value);
		if (crc_at > 0 && w[i].at < crc_at)
			put(copy + skip, crc_at, 4, lb_crc32c(0, copy + skip, crc_at));
		seed(target, w[i].name, copy, len);
	}
}
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void record_seeds(void **state)
{
	static const struct wrong wrongs[] = {
		{"magic", 0, 4, 0x3152424d},     {"kind-0", 4, 2, 0},
		{"kind-segment", 4, 2, 1},       {"kind-mark-owned", 4, 2, 2},
		{"kind-directory", 4, 2, 3},     {"kind-4", 4, 2, 4},
		{"kind-header", 4, 2, 100},      {"kind-digests", 4, 2, 102},
		{"kind-index", 4, 2, 103},       {"kind-leaves", 4, 2, 104},
		{"kind-footer", 4, 2, 105},      {"kind-106", 4, 2, 106},
		{"kind-manifest", 4, 2, 200},    {"kind-hold", 4, 2, 300},
		{"kind-removal", 4, 2, 303},     {"kind-abandon", 4, 2, 304},
		{"kind-65535", 4, 2, 65535},     {"flags", 6, 2, 1},
		{"length-max", 8, 4, 1 << 20},   {"length-over", 8, 4, (1 << 20) + 1},
		{"length-4g", 8, 4, UINT32_MAX}, {"crc", 52, 4, 0},
	};
	struct rep_record r = {.kind = REP_RECORD_PACK, .owner = fix_id(0x66), .bytes = 5};
	uint8_t p[REP_RECORD_HEADER_BYTES];

	(void)state;
	rep_record_encode(p, &r);
	seeds("record", "good", p, sizeof(p), 0, 52, wrongs, COUNT(wrongs));
	seed("record", "short", p, sizeof(p) - 1);
	seed("record", "empty", p, 0);
	r = (struct rep_record){.kind = REP_RECORD_MANIFEST, .bytes = 100};
	rep_record_encode(p, &r);
	seed("record", "manifest", p, sizeof(p));
}

static void layer_header_seeds(const struct fix_layer *l)
{
	static const struct wrong wrongs[] = {
		{"header-version", 4, 2, 2},     {"header-kind", 6, 1, 3},
		{"header-codec", 7, 1, 2},       {"header-pack-0", 8, 4, 0},
		{"header-pack-odd", 8, 4, 4097}, {"header-pack-over", 8, 4, 1 << 19},
		{"header-full", 12, 4, 1},       {"header-flags", 12, 4, 2},
		{"header-size-odd", 144, 8, 1},  {"header-size-over", 144, 8, UINT64_C(1) << 51},
		{"header-reserved", 200, 1, 1},  {"header-crc", 252, 4, 0},
	};
	uint8_t p[1 + REP_LAYER_HEADER_BYTES] = {0};

	memcpy(p + 1, l->part[FIX_HEADER]->p, REP_LAYER_HEADER_BYTES);
	seeds("layer", "header", p, sizeof(p), 1, 252, wrongs, COUNT(wrongs));
	seed("layer", "header-short", p, sizeof(p) - 1);
}

static void layer_index_seeds(const struct fix_layer *l)
{
	/* runs begin at 32 + 2 * 16 = 64 */
	static const struct wrong wrongs[] = {
		{"index-runs-over", 8, 4, 6001},         {"index-runs-more", 8, 4, 5},
		{"index-sources-over", 12, 4, 257},      {"index-sources-less", 12, 4, 1},
		{"index-source-own", 32, 8, 0},          {"index-run-kind", 64 + 12, 1, 5},
		{"index-run-reserved", 64 + 13, 1, 1},   {"index-run-empty", 64 + 8, 4, 0},
		{"index-run-order", 104, 8, 5},          {"index-run-outside", 104, 8, 1000},
		{"index-run-wrap", 104, 8, UINT64_MAX},  {"index-zero-with-pack", 104 + 16, 4, 1},
		{"index-ref-pos", 144 + 20, 4, 62},      {"index-ref-src", 144 + 14, 2, 2},
		{"index-patch-two", 184 + 8, 4, 2},      {"index-patch-bytes", 184 + 32, 4, 4097},
		{"index-patch-pos", 184 + 28, 4, 65530},
	};
	const struct lb_buf *b = l->part[FIX_INDEX];
	uint8_t p[512] = {1};

	assert_true(b->len < sizeof(p));
	memcpy(p + 1, b->p, b->len);
	seeds("layer", "index", p, 1 + b->len, 1, 0, wrongs, COUNT(wrongs));
	seed("layer", "index-short", p, b->len);
	uint8_t none[1 + REP_INDEX_HEADER_BYTES] = {1};
	(void)rep_index_encode(none + 1, REP_INDEX_HEADER_BYTES, 3, NULL, 0, NULL, 0);
	seed("layer", "index-empty", none, sizeof(none));
}

static void layer_seeds(void **state)
{
	static const struct wrong leaves[] = {
		{"leaves-count-0", 8, 4, 0},         {"leaves-count-over", 8, 4, 8001},
		{"leaves-count-more", 8, 4, 6},      {"leaves-reserved", 12, 4, 1},
		{"leaves-number", 4, 4, UINT32_MAX},
	};
	static const struct wrong footer[] = {
		{"footer-packs", 4, 4, UINT32_MAX}, {"footer-digests", 8, 4, UINT32_MAX},
		{"footer-index-0", 12, 4, 0},       {"footer-leaf-parts", 16, 4, 2},
		{"footer-bytes-0", 24, 8, 0},       {"footer-bytes-over", 24, 8, UINT64_MAX},
		{"footer-data", 48, 8, 129},        {"footer-wrap", 56, 8, UINT64_MAX - 4},
		{"footer-reserved", 112, 1, 1},     {"footer-crc", 124, 4, 0},
	};
	struct fix_layer l;
	uint8_t p[512];

	(void)state;
	fix_layer_init(&l);
	layer_header_seeds(&l);
	layer_index_seeds(&l);
	p[0] = 2;
	memcpy(p + 1, l.part[FIX_LEAVES]->p, l.part[FIX_LEAVES]->len);
	seeds("layer", "leaves", p, 1 + l.part[FIX_LEAVES]->len, 1, 0, leaves, COUNT(leaves));
	p[0] = 3;
	memcpy(p + 1, l.part[FIX_FOOTER]->p, REP_FOOTER_BYTES);
	seeds("layer", "footer", p, 1 + REP_FOOTER_BYTES, 1, 124, footer, COUNT(footer));
	fix_layer_fini(&l);
}

static void pack_seeds(void **state)
{
	static const struct wrong wrongs[] = {
		{"magic", 0, 4, 0},
		{"number", 4, 4, 9},
		{"number-over", 4, 4, UINT32_MAX},
		{"raw-0", 8, 4, 0},
		{"raw-over", 8, 4, (256 << 10) + 1},
		{"raw-max", 8, 4, 256 << 10},
		{"raw-more", 8, 4, 4097},
		{"packed-0", 12, 4, 0},
		{"packed-more", 12, 4, 1000},
		{"packed-4g", 12, 4, UINT32_MAX},
		{"codec-none", 16, 1, 0},
		{"codec-2", 16, 1, 2},
		{"flag-digests", 17, 1, 1},
		{"flag-2", 17, 1, 2},
		{"reserved", 18, 1, 1},
		{"nonce", 24, 8, 0},
		{"tag", 48, 8, 0},
		{"body", 64, 1, 0},
	};
	struct fix_layer l;

	(void)state;
	fix_layer_init(&l);
	const struct lb_buf *b = l.part[FIX_PACK0];
	seeds("pack", "lz4", b->p, b->len, 0, 0, wrongs, COUNT(wrongs));
	seed("pack", "short", b->p, b->len - 1);
	seed("pack", "header-only", b->p, 64);
	seed("pack", "plain", l.part[FIX_PACK1]->p, l.part[FIX_PACK1]->len);
	seed("pack", "digests", l.part[FIX_DIGESTS]->p, l.part[FIX_DIGESTS]->len);

	/* Sealed with the right key and place, but not LZ4: only the key's holder could do that. */
	uint8_t aad[160];
	static const uint8_t junk[16] = {0xff, 0xff, 0xff, 0xff, 0xff};
	uint8_t p[64 + sizeof(junk)];
	struct lb_key dek = fix_key();
	struct lb_sealer *s = NULL;
	memcpy(p, b->p, 64);
	put(p, 12, 4, sizeof(junk));
	size_t n = 0;
	memcpy(aad, "lifeboat pack v1", 17);
	n = 17;
	const struct lb_id *ids[] = {&l.header.deployment, &l.header.group, &l.header.machine,
				     &l.header.volume,     &l.header.layer, &l.header.key};
	for (size_t i = 0; i < COUNT(ids); i++, n += 16)
		memcpy(aad + n, ids[i]->b, 16);
	put(aad, n, 8, l.header.epoch);
	put(aad, n + 8, 8, l.header.seq);
	put(aad, n + 16, 4, 0);
	put(aad, n + 20, 4, REP_CODEC_LZ4);
	put(aad, n + 24, 4, 4096);
	put(aad, n + 28, 4, sizeof(junk));
	assert_int_equal(lb_sealer_create(&s, &dek, NULL), 0);
	assert_int_equal(lb_seal(s, p + 64, p + 48, p + 24, aad, n + 32, junk, sizeof(junk), NULL),
			 0);
	lb_sealer_destroy(s);
	seed("pack", "sealed-junk", p, sizeof(p));
	fix_layer_fini(&l);
}

static void manifest_seeds(void **state)
{
	/* the group's name is at 200, the first volume at 205, its names at 329 */
	static const struct wrong wrongs[] = {
		{"magic", 0, 4, 0},
		{"version", 4, 2, 2},
		{"flags", 6, 2, 1},
		{"length", 8, 4, 0},
		{"consistency-0", 12, 1, 0},
		{"consistency-5", 12, 1, 5},
		{"reserved", 13, 1, 1},
		{"volumes-0", 192, 4, 0},
		{"volumes-3", 192, 4, 3},
		{"volumes-over", 192, 4, 257},
		{"attachments-0", 196, 4, 0},
		{"attachments-over", 196, 4, 65},
		{"name-long", 200, 2, 65},
		{"name-empty", 200, 2, 0},
		{"name-slash", 202, 1, '/'},
		{"name-nul", 202, 1, 0},
		{"volume-kind", 205 + 112, 1, 3},
		{"volume-size", 205 + 96, 8, 1},
		{"volume-reserved", 205 + 113, 1, 1},
		{"volume-name", 329, 2, 200},
		{"ram-of-a-disk-machine", 205 + 112, 1, REP_VOLUME_RAM},
		{"crash-with-ram", 12, 1, REP_CONSISTENCY_CRASH},
		{"ram-as-disk", 205 + 124 + 11 + 112, 1, REP_VOLUME_DISK},
		{"ram-of-another", 205 + 124 + 11, 1, 0},
	};
	static const struct wrong receipts[] = {
		{"receipt-version", 4, 2, 2},
		{"receipt-counter", 104, 8, 0},
		{"receipt-reserved", 128, 1, 1},
		{"receipt-signature", 192, 1, 0},
	};
	struct fix_layer l;

	(void)state;
	fix_layer_init(&l);
	seeds("manifest", "good", l.manifest->p, l.manifest->len, 0, 0, wrongs, COUNT(wrongs));
	seed("manifest", "short", l.manifest->p, l.manifest->len - 1);
	seed("manifest", "fixed-only", l.manifest->p, 264);
	seeds("manifest", "receipt", l.receipt, sizeof(l.receipt), 0, 0, receipts, COUNT(receipts));
	fix_layer_fini(&l);
}

/* Pieces of @words[i] words from @first[i]. @which: the block the fuzzer takes. */
static void delta_seed(const char *name, uint8_t which, const uint16_t (*piece)[2], unsigned pieces,
		       size_t cut)
{
	static uint8_t p[16384];
	size_t n = 1;

	p[0] = which;
	for (unsigned i = 0; i < pieces; i++) {
		put(p + n, 0, 2, piece[i][0]);
		put(p + n, 2, 2, piece[i][1] - 1u);
		memset(p + n + 4, (int)i + 1, piece[i][1] * (size_t)8);
		n += 4 + piece[i][1] * (size_t)8;
	}
	assert_true(n <= sizeof(p) && cut < n);
	seed("word_delta", name, p, n - cut);
}

static void delta_seeds(void **state)
{
	static const struct {
		const char *name;
		unsigned pieces;
		uint16_t piece[4][2]; /* first word, words */
		size_t cut;
	} all[] = {
		{"one-word", 1, {{0, 1}}, 0},
		{"last-word", 1, {{511, 1}}, 0},
		{"whole-block", 1, {{0, 512}}, 0},
		{"all-but-one", 2, {{0, 255}, {256, 256}}, 0},
		{"four-pieces", 4, {{0, 1}, {2, 3}, {100, 50}, {510, 2}}, 0},
		{"empty", 1, {{0, 1}}, 12},
		{"short-piece", 1, {{0, 1}}, 9},
		{"short-words", 1, {{0, 2}}, 1},
		{"no-words", 1, {{0, 1}}, 8},
		{"behind-the-end", 1, {{512, 1}}, 0},
		{"over-the-end", 1, {{511, 2}}, 0},
		{"far-behind", 1, {{65535, 1}}, 0},
		{"many-words", 1, {{0, 1024}}, 0},
		{"same-word-twice", 2, {{5, 1}, {5, 1}}, 0},
		{"overlap", 2, {{5, 4}, {7, 1}}, 0},
		{"adjacent", 2, {{5, 4}, {9, 1}}, 0},
		{"descending", 2, {{9, 1}, {5, 1}}, 0},
		{"good-then-short", 2, {{5, 1}, {9, 1}}, 3},
	};

	(void)state;
	for (unsigned i = 0; i < COUNT(all); i++)
		delta_seed(all[i].name, (uint8_t)(i % 2), all[i].piece, all[i].pieces, all[i].cut);
	delta_seed("one-word-of-zeros", 0, all[0].piece, 1, 0);
	delta_seed("one-word-of-any", 1, all[0].piece, 1, 0);
	delta_seed("four-pieces-of-any", 1, all[4].piece, 4, 0);
}

/* Frames come from the golden vectors; the wrong ones have their header's checksum mended. */
static void frame_seed_wrong(const char *name, const struct rep_frame *f, size_t at, unsigned width,
			     uint64_t value)
{
	struct lb_buf *b = NULL;

	assert_int_equal(rep_frame_encode(&b, f, NULL), 0);
	if (width > 0)
		put(b->p, at, width, value);
	put(b->p, 12, 4, lb_crc32c(0, b->p, 12));
	seed("frame", name, b->p, b->len);
	lb_buf_unref(b);
}

static void frame_wrongs_point(void)
{
	static struct rep_frame f;

	f.type = REP_FRAME_OFFER;
	f.offer.layers = 2;
	(void)snprintf(f.offer.group_name, sizeof(f.offer.group_name), "erp");
	for (unsigned i = 0; i < 2; i++) {
		f.offer.layer[i].volume = fix_id(i);
		f.offer.layer[i].layer = fix_id(1 + i);
		f.offer.layer[i].kind = REP_VOLUME_DISK;
		f.offer.layer[i].volume_bytes = 4096;
	}
	frame_seed_wrong("offer-two", &f, 0, 0, 0);
	frame_seed_wrong("offer-count", &f, 16 + 96, 4, 257);
	frame_seed_wrong("offer-count-3", &f, 16 + 96, 4, 3);
	frame_seed_wrong("offer-name", &f, 16 + 102, 1, '/');
	frame_seed_wrong("offer-name-long", &f, 16 + 100, 2, 300);
	frame_seed_wrong("offer-twice", &f, 16 + 105 + 64 + 32, 8, UINT64_C(0x0101010101010101));
	f = (struct rep_frame){.type = REP_FRAME_ADMIT};
	f.admit.layers = 2;
	f.admit.extras = 2;
	for (uint16_t i = 0; i < 2; i++) {
		f.admit.layer[i].layer = fix_id(1u + i);
		f.admit.layer[i].first_missing = 5;
		f.admit.extra[i].layer = i;
		f.admit.extra[i].number = 7;
	}
	frame_seed_wrong("admit-two", &f, 0, 0, 0);
	frame_seed_wrong("admit-layers", &f, 16 + 32, 4, 257);
	frame_seed_wrong("admit-extras", &f, 16 + 36, 4, UINT32_MAX);
	frame_seed_wrong("admit-extra-layer", &f, 16 + 40 + 48, 2, 2);
	frame_seed_wrong("admit-extra-held", &f, 16 + 40 + 48 + 4, 4, 5);
	frame_seed_wrong("admit-extra-order", &f, 16 + 40 + 48, 2, 1);
}

static void frame_seeds(void **state)
{
	static struct rep_frame f;

	(void)state;
	f.type = REP_FRAME_HELLO;
	f.hello.version_min = f.hello.version_max = 1;
	f.hello.connections = 1;
	frame_seed_wrong("hello", &f, 0, 0, 0);
	frame_seed_wrong("hello-versions", &f, 16, 2, 2);
	frame_seed_wrong("hello-connection", &f, 20, 2, 1);
	frame_seed_wrong("magic", &f, 0, 4, 0);
	frame_seed_wrong("type-0", &f, 4, 2, 0);
	frame_seed_wrong("type-65535", &f, 4, 2, 65535);
	frame_seed_wrong("flags", &f, 6, 2, 1);
	frame_seed_wrong("length", &f, 8, 4, UINT32_MAX);
	f = (struct rep_frame){.type = REP_FRAME_STATUS};
	frame_seed_wrong("status-none", &f, 0, 0, 0);
	frame_seed_wrong("status-flags", &f, 16 + 24, 1, 4);
	frame_seed_wrong("status-head-unset", &f, 16 + 48, 8, 1);
	frame_seed_wrong("status-head-zero", &f, 16 + 24, 1, 1);
	f = (struct rep_frame){.type = REP_FRAME_ERROR};
	f.error.code = LB_EPROTO;
	(void)snprintf(f.error.text, sizeof(f.error.text), "because");
	frame_seed_wrong("error", &f, 0, 0, 0);
	frame_seed_wrong("error-code", &f, 16, 4, 1);
	frame_seed_wrong("error-escape", &f, 22, 1, 0x1b);
	frame_seed_wrong("error-length", &f, 20, 2, 200);
	f = (struct rep_frame){.type = REP_FRAME_REFUSE};
	f.refuse.reason = REP_REFUSE_SPACE;
	frame_seed_wrong("refuse", &f, 0, 0, 0);
	frame_seed_wrong("refuse-reason", &f, 16 + 32, 2, 8);
	f = (struct rep_frame){.type = REP_FRAME_RECORD};
	f.record.kind = REP_RECORD_INDEX;
	f.record.layer = fix_id(1);
	f.record.body = (const uint8_t *)"x";
	f.record.bytes = 1;
	frame_seed_wrong("record", &f, 0, 0, 0);
	frame_seed_wrong("record-kind", &f, 16, 2, 200);
	frame_seed_wrong("record-reserved", &f, 18, 2, 1);
	f = (struct rep_frame){.type = REP_FRAME_FENCE};
	f.fence.epoch = 1;
	frame_seed_wrong("fence", &f, 0, 0, 0);
	frame_seed_wrong("fence-0", &f, 32, 8, 0);
	f = (struct rep_frame){.type = REP_FRAME_PING};
	frame_seed_wrong("ping", &f, 0, 0, 0);
	frame_seed_wrong("ping-answered", &f, 24, 8, 1);
	f = (struct rep_frame){.type = REP_FRAME_KEY};
	frame_seed_wrong("key", &f, 0, 0, 0);
	f = (struct rep_frame){.type = REP_FRAME_CREDIT};
	frame_seed_wrong("credit", &f, 0, 0, 0);
	f = (struct rep_frame){.type = REP_FRAME_POINT};
	f.point.manifest = (const uint8_t *)"x";
	f.point.bytes = 1;
	frame_seed_wrong("point", &f, 0, 0, 0);
	frame_wrongs_point();
}

/* Byte 0: 1, the fuzzer mends the checksums. */
static void draft_seeds(void **state)
{
	static const struct wrong wrongs[] = {
		{"magic", 0, 1, 'X'},
		{"version", 4, 4, 2},
		{"layer-magic", 8, 4, 1},
		{"layer-epoch", 8 + 128, 8, 8},
		{"layer-delta", 8 + 12, 4, 0},
		{"prev", 264, 1, 0},
		{"probe", 296, 1, 0},
		{"run-ours", 312, 8, UINT64_C(0x0707070707070707)},
		{"reserved", 328, 4, 1},
		{"kind-0", 336 + 4, 4, 0},
		{"kind-5", 336 + 4, 4, 5},
		{"length-0", 336 + 8, 4, 0},
		{"length-over", 336 + 8, 4, 1581},
		{"length-4g", 336 + 8, 4, UINT32_MAX},
		{"pack-far", 348, 4, 70000},
		{"pack-max", 348, 4, 1u << 30},
		{"pack-bytes", 352, 4, (1u << 20) + 1},
		{"pack-count-0", 388, 4, 0},
		{"pack-count-17", 388, 4, 17},
		{"block-outside", 392, 8, 256},
		{"block-far", 392, 8, UINT64_MAX},
		{"pack-twice", 452, 4, 0},
		{"block-again", 496, 8, 5},
		{"fill-a-pack", 532, 4, 2},
		{"fill-far", 532, 4, 80000},
		{"part-footer", 584, 4, 105},
		{"part-many", 588, 4, 1u << 26},
		{"part-digests", 584, 4, 102},
	};
	struct lb_fs *fs = NULL;
	uint8_t *p = NULL;
	uint8_t in[1024] = {1};
	size_t len;

	(void)state;
	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	fix_draft_write(fs);
	assert_int_equal(lb_fs_read_all(fs, FIX_DRAFT_PATH, sizeof(in) - 1, &p, &len, NULL), 0);
	memcpy(in + 1, p, len);
	seeds("draft", "story", in, len + 1, 1, 0, wrongs, COUNT(wrongs));
	seed("draft", "torn", in, len - 20);
	seed("draft", "header", in, 1 + REP_DRAFT_HEADER_BYTES);
	in[0] = 0;
	in[500] ^= 1;
	seed("draft", "flipped", in, len + 1);
	free(p);
	lb_fs_destroy(fs);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest seeds_of[] = {
		cmocka_unit_test(record_seeds), cmocka_unit_test(layer_seeds),
		cmocka_unit_test(pack_seeds),   cmocka_unit_test(manifest_seeds),
		cmocka_unit_test(delta_seeds),  cmocka_unit_test(frame_seeds),
		cmocka_unit_test(draft_seeds),
	};

	if (argc != 2)
		return 2;
	folder = argv[1];
	return cmocka_run_group_tests(seeds_of, NULL, NULL);
}
