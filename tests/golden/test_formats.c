/*
 * The formats' bytes, frozen: what the encoders make of fixed ids, keys and nonces must be what
 * tests/golden/formats/NAME.hex holds, byte for byte, and what is stored there must still open.
 * Run with a folder to compare, with "--write" before it to make the files anew (only ever right
 * before a format's first release).
 */
#include <stdbool.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/hash.h"
#include "check.h"
#include "format_draft.h"
#include "format_layer.h"
#include "memfs.h"
#include "replicator/frame.h"
#include "replicator/record.h"
#include "word_delta_int.h"

#define HEX_LINE  32u
#define TEXT_MAX  65536u
#define BYTES_MAX 16384u

static const char *folder;
static bool writing;

static void path_of(char *out, size_t cap, const char *name)
{
	int n = snprintf(out, cap, "%s/%s.hex", folder, name);

	assert_true(n > 0 && (size_t)n < cap);
}

static void write_hex(const char *name, const uint8_t *p, size_t len)
{
	char path[4096];

	path_of(path, sizeof(path), name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	for (size_t i = 0; i < len; i++)
		(void)fprintf(f, "%02x%s", p[i],
			      i + 1 == len || i % HEX_LINE == HEX_LINE - 1 ? "\n" : "");
	assert_int_equal(fclose(f), 0);
}

/* The bytes of NAME.hex; returns how many. */
static size_t read_hex(const char *name, uint8_t *out)
{
	static char text[TEXT_MAX];
	char path[4096];
	size_t n = 0;

	path_of(path, sizeof(path), name);
	FILE *f = fopen(path, "r");
	if (f == NULL)
		fail_msg("open %s", path);
	for (int c = fgetc(f); c != EOF; c = fgetc(f)) {
		if (c != '\n') {
			assert_true(n + 1 < sizeof(text));
			text[n++] = (char)c;
		}
	}
	text[n] = '\0';
	(void)fclose(f);
	return check_unhex(out, BYTES_MAX, text);
}

static void golden(const char *name, const void *p, size_t len)
{
	static uint8_t want[BYTES_MAX];
	const uint8_t *got = p;

	if (writing)
		write_hex(name, p, len);
	size_t n = read_hex(name, want);
	for (size_t i = 0; i < len && i < n; i++) {
		if (got[i] != want[i])
			fail_msg("%s: byte %zu is %02x, frozen as %02x", name, i, got[i], want[i]);
	}
	if (n != len)
		fail_msg("%s: %zu bytes, frozen as %zu", name, len, n);
}

static void test_layer(void **state)
{
	static const char *const names[FIX_PARTS] = {
		"layer-header", "pack-lz4", "pack-plain", "digests", "index", "leaves", "footer"};
	struct fix_layer l;

	(void)state;
	fix_layer_init(&l);
	for (unsigned i = 0; i < FIX_PARTS; i++)
		golden(names[i], l.part[i]->p, l.part[i]->len);
	golden("manifest", l.manifest->p, l.manifest->len);
	golden("receipt", l.receipt, sizeof(l.receipt));
	fix_layer_fini(&l);
}

static void test_draft(void **state)
{
	static uint8_t frozen[BYTES_MAX];
	struct rep_draft_place place[2];
	struct rep_draft *d = NULL;
	struct lb_file *f = NULL;
	struct lb_fs *fs = NULL;
	uint8_t *p = NULL;
	size_t len;

	(void)state;
	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	fix_draft_write(fs);
	assert_int_equal(lb_fs_read_all(fs, FIX_DRAFT_PATH, BYTES_MAX, &p, &len, NULL), 0);
	golden("draft", p, len);
	free(p);
	len = read_hex("draft", frozen);
	assert_int_equal(lb_fs_open(fs, &f, FIX_DRAFT_PATH, LB_FS_WRITE, NULL), 0);
	assert_int_equal(lb_file_pwrite(f, frozen, len, 0, NULL), 0);
	lb_file_close(f);
	assert_int_equal(fix_draft_go_on(&d, fs, 3), 0);
	assert_int_equal(rep_draft_next(d), 3);
	assert_int_equal(rep_draft_read(d, place, 8, 2, NULL), 0);
	assert_true(place[0].known == 0 && place[1].known == 1 && place[1].pack == 2);
	rep_draft_close(d);
	lb_fs_destroy(fs);
}

/* The frozen bytes themselves open: a later version still reads what this one wrote. */
static void test_frozen_bytes_open(void **state)
{
	static uint8_t p[BYTES_MAX];
	static uint8_t raw[REP_PACK_MAX_RAW];
	static struct rep_manifest m;
	uint8_t block[REP_BLOCK_BYTES];
	struct lb_err err = {0};
	struct rep_layer_header h;
	struct lb_sealer *s = NULL;
	struct lb_key dek = fix_key();
	struct lb_pubkey pub;
	struct lb_signer *signer = fix_signer();
	struct rep_index x;
	uint32_t n = 0;

	(void)state;
	assert_int_equal(lb_sealer_create(&s, &dek, &err), 0);
	lb_signer_pubkey(signer, &pub);
	size_t len = read_hex("layer-header", p);
	assert_int_equal(rep_layer_header_decode(&h, p, len, &err), 0);
	len = read_hex("pack-lz4", p);
	assert_int_equal(rep_pack_open(raw, &n, s, &h, (struct rep_sealed){0, p, len}, &err), 0);
	fix_block(block);
	assert_int_equal(n, sizeof(block));
	assert_memory_equal(raw, block, sizeof(block));
	len = read_hex("pack-plain", p);
	assert_int_equal(rep_pack_open(raw, &n, s, &h, (struct rep_sealed){1, p, len}, &err), 0);
	assert_int_equal(n, 24);
	len = read_hex("index", p);
	assert_int_equal(rep_index_decode(&x, p, len, &h, &err), 0);
	assert_int_equal(x.count, 4);
	len = read_hex("manifest", p);
	assert_int_equal(rep_manifest_decode(&m, p, len, &err), 0);
	assert_int_equal(rep_manifest_verify(p, len, &pub, &err), 0);
	assert_int_equal(rep_attachment_open(raw, &m.attachment[0], &m, &dek, &err), 0);
	assert_memory_equal(raw, "<domain type='kvm'/>", 20);
	assert_int_equal(rep_attachment_open(raw, &m.attachment[1], &m, &dek, &err), 0);
	assert_memory_equal(raw, "state of the devices", 20);
	len = read_hex("receipt", p);
	assert_int_equal(rep_receipt_verify(p, len, &pub, &err), 0);
	lb_signer_destroy(signer);
	lb_sealer_destroy(s);
}

/* Words 0, 5 to 7 and 511 of a block became 01 01..., 02 02..., and so on. */
static void test_word_delta(void **state)
{
	static const unsigned words[5] = {0, 5, 6, 7, 511};
	uint8_t base[REP_BLOCK_BYTES], now[REP_BLOCK_BYTES], got[REP_BLOCK_BYTES];
	uint8_t p[BYTES_MAX];
	struct lb_err err = {0};
	uint32_t len;

	(void)state;
	fix_block(base);
	memcpy(now, base, sizeof(now));
	for (unsigned i = 0; i < 5; i++)
		memset(now + (size_t)words[i] * REP_WORD_BYTES, (int)i + 1, REP_WORD_BYTES);
	len = rep_word_delta_encode(p, REP_BLOCK_BYTES, base, now);
	assert_int_equal(len, 3 * REP_DELTA_PIECE_BYTES + 5 * REP_WORD_BYTES);
	golden("word-delta", p, len);
	memcpy(got, base, sizeof(got));
	assert_int_equal(read_hex("word-delta", p), len);
	assert_int_equal(rep_word_delta_apply(got, p, len, &err), 0);
	assert_memory_equal(got, now, sizeof(now));
}

static void test_record(void **state)
{
	static const uint8_t body[5] = "hello";
	uint8_t p[64] = {0};
	struct rep_record r = {.kind = REP_RECORD_PACK,
			       .number = 12,
			       .bytes = sizeof(body),
			       .owner = fix_id(0x66),
			       .segment = 3,
			       .offset = 4096,
			       .body_crc = lb_crc32c(0, body, sizeof(body))};

	(void)state;
	rep_record_encode(p, &r);
	memcpy(p + REP_RECORD_HEADER_BYTES, body, sizeof(body));
	assert_int_equal(rep_record_span(sizeof(body)), sizeof(p));
	golden("record", p, sizeof(p));
}

static void golden_frame(const char *name, const struct rep_frame *f)
{
	struct lb_err err = {0};
	struct lb_buf *b = NULL;

	if (rep_frame_encode(&b, f, &err) != 0)
		fail_msg("%s: %s", name, err.msg);
	golden(name, b->p, b->len);
	lb_buf_unref(b);
}

static void test_frames(void **state)
{
	struct lb_id group = fix_id(0x33);
	struct lb_id layer = fix_id(0x66);
	static const uint8_t body[] = {'b', 'o', 'd', 'y'};
	struct rep_frame f = {.type = REP_FRAME_HELLO};
	struct fix_layer l;

	(void)state;
	f.hello = (struct rep_hello){1, 1, fix_id(0x11), fix_id(0x22), fix_id(0x88), fix_id(0xaa),
				     0, 2};
	golden_frame("frame-hello", &f);
	f = (struct rep_frame){.type = REP_FRAME_ERROR};
	f.error = (struct rep_error_frame){LB_EFENCED, "group erp: epoch 8 exists"};
	golden_frame("frame-error", &f);
	f = (struct rep_frame){.type = REP_FRAME_PING};
	f.ping.sent_ns = 1000;
	golden_frame("frame-ping", &f);
	f.type = REP_FRAME_PONG;
	f.ping.peer_now_ns = 2000;
	f.ping.peer_boot_id = fix_id(0x89);
	golden_frame("frame-pong", &f);
	f = (struct rep_frame){.type = REP_FRAME_STATUS_REQ};
	f.status_req = group;
	golden_frame("frame-status-req", &f);
	f = (struct rep_frame){.type = REP_FRAME_STATUS};
	f.status = (struct rep_status){group, 7, true, 7, 8811, fix_hash(0xba), true};
	golden_frame("frame-status", &f);
	f = (struct rep_frame){.type = REP_FRAME_OFFER};
	f.offer = (struct rep_offer){.group = group,
				     .group_name = "erp",
				     .epoch = 7,
				     .seq = 8812,
				     .base = fix_hash(0xba),
				     .prev = fix_hash(0xba),
				     .layers = 1};
	f.offer.layer[0] = (struct rep_offer_layer){fix_id(0x44), fix_id(0x55), layer,
						    REP_VOLUME_DISK, 1024 * REP_BLOCK_BYTES};
	golden_frame("frame-offer", &f);
	f = (struct rep_frame){.type = REP_FRAME_ADMIT};
	f.admit.group = group;
	f.admit.epoch = 7;
	f.admit.seq = 8812;
	f.admit.layers = 1;
	f.admit.layer[0].layer = layer;
	f.admit.layer[0].header = true;
	f.admit.layer[0].first_missing = 40;
	f.admit.extras = 1;
	f.admit.extra[0].number = 42;
	golden_frame("frame-admit", &f);
	f = (struct rep_frame){.type = REP_FRAME_REFUSE};
	f.refuse = (struct rep_refuse){group, 8812,           REP_REFUSE_BASE,       7,
				       true,  fix_hash(0xbb), "base is not the head"};
	golden_frame("frame-refuse", &f);
	f = (struct rep_frame){.type = REP_FRAME_RECORD};
	f.record = (struct rep_record_frame){REP_RECORD_PACK, group, layer, 41, body, sizeof(body)};
	golden_frame("frame-record", &f);
	f = (struct rep_frame){.type = REP_FRAME_CREDIT};
	f.credit = 1048576;
	golden_frame("frame-credit", &f);
	fix_layer_init(&l);
	f = (struct rep_frame){.type = REP_FRAME_POINT};
	f.point = (struct rep_point_frame){250000000, l.manifest->p, (uint32_t)l.manifest->len};
	golden_frame("frame-point", &f);
	f = (struct rep_frame){.type = REP_FRAME_RECEIPT};
	f.receipt.bytes = l.receipt;
	f.receipt.len = sizeof(l.receipt);
	golden_frame("frame-receipt", &f);
	fix_layer_fini(&l);
	f = (struct rep_frame){.type = REP_FRAME_FENCE};
	f.fence = (struct rep_fence){group, 8};
	golden_frame("frame-fence", &f);
	f = (struct rep_frame){.type = REP_FRAME_KEY};
	f.key = (struct rep_key_frame){.group = group, .machine = fix_id(0x44), .key = fix_key()};
	lb_key_id(&f.key.key_id, &f.key.key);
	golden_frame("frame-key", &f);
	f = (struct rep_frame){.type = REP_FRAME_KEY_OK};
	f.key_ok = fix_layer_header().key;
	golden_frame("frame-key-ok", &f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layer),  cmocka_unit_test(test_word_delta),
		cmocka_unit_test(test_draft),  cmocka_unit_test(test_record),
		cmocka_unit_test(test_frames), cmocka_unit_test(test_frozen_bytes_open),
	};

	writing = argc == 3 && strcmp(argv[1], "--write") == 0;
	if (argc != 2 && !writing)
		return 2;
	folder = argv[argc - 1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
