/* Every allocation of a fallible format function fails once: LB_ENOMEM, outputs untouched, nothing
 * leaked (LeakSanitizer watches), and the same call works afterwards. Linked with --wrap. */
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"
#include "format_layer.h"
#include "replicator/frame.h"

static unsigned fail_at; /* 0: never; else the how many-th allocation from now */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);

static bool fails_now(void)
{
	return fail_at > 0 && --fail_at == 0;
}

void *__wrap_malloc(size_t n)
{
	return fails_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails_now() ? NULL : __real_calloc(n, size);
}

struct rig {
	struct fix_env env;
	struct fix_layer layer;
	struct rep_manifest manifest;
	struct lb_key dek;
	struct lb_signer *signer;
	struct lb_sealer *sealer;
	struct rep_packer *packer;
};
typedef int (*op_fn)(struct rig *r, struct lb_err *err);

static int op_packer(struct rig *r, struct lb_err *err)
{
	struct rep_packer *p = NULL;
	int rc = rep_packer_create(&p, &r->env.env, &r->layer.header, &r->dek, err);

	assert_true((rc == 0) == (p != NULL));
	rep_packer_destroy(p);
	return rc;
}

static int op_seal(struct rig *r, struct lb_err *err)
{
	static const uint8_t raw[4096];
	struct lb_buf *b = NULL;
	struct lb_hash leaf;
	int rc = rep_packer_seal(r->packer, &b, &leaf, 0, raw, sizeof(raw), err);

	assert_true((rc == 0) == (b != NULL));
	lb_buf_unref(b);
	return rc;
}

static int op_open(struct rig *r, struct lb_err *err)
{
	static uint8_t raw[REP_PACK_MAX_RAW];
	const struct lb_buf *b = r->layer.part[FIX_PACK0];
	uint32_t n = 77;
	int rc = rep_pack_open(raw, &n, r->sealer, &r->layer.header,
			       (struct rep_sealed){0, b->p, b->len}, err);

	assert_int_equal(n, rc == 0 ? 4096 : 77);
	return rc;
}

static int op_manifest(struct rig *r, struct lb_err *err)
{
	struct lb_buf *b = NULL;
	int rc = rep_manifest_encode(&b, &r->manifest, r->signer, err);

	assert_true((rc == 0) == (b != NULL));
	lb_buf_unref(b);
	return rc;
}

static int op_receipt(struct rig *r, struct lb_err *err)
{
	uint8_t p[REP_RECEIPT_BYTES];
	struct rep_receipt a = fix_receipt();

	return rep_receipt_encode(p, &a, r->signer, err);
}

static int op_verify(struct rig *r, struct lb_err *err)
{
	const struct lb_buf *b = r->layer.manifest;

	return rep_manifest_verify(b->p, b->len, &r->layer.pub, err);
}

static int op_attachment(struct rig *r, struct lb_err *err)
{
	struct rep_attachment a = {.machine = fix_id(1), .kind = REP_ATTACH_MACHINE, .bytes = 8};
	uint8_t cipher[8];
	uint8_t plain[8];
	int rc =
		rep_attachment_seal(&a, cipher, &r->manifest, &r->dek, &r->env.env, "machine", err);

	if (rc != 0)
		assert_null(a.cipher);
	else
		rc = rep_attachment_open(plain, &a, &r->manifest, &r->dek, err);
	return rc;
}

static int op_frame(struct rig *r, struct lb_err *err)
{
	struct rep_frame f = {.type = REP_FRAME_POINT};
	struct lb_buf *b = NULL;

	f.point.manifest = r->layer.manifest->p;
	f.point.bytes = (uint32_t)r->layer.manifest->len;
	int rc = rep_frame_encode(&b, &f, err);
	assert_true((rc == 0) == (b != NULL));
	lb_buf_unref(b);
	return rc;
}

static int op_record_head(struct rig *r, struct lb_err *err)
{
	struct rep_record_frame f = {
		.kind = REP_RECORD_PACK, .layer = r->layer.header.layer, .bytes = 100};
	struct lb_buf *b = NULL;
	int rc = rep_frame_encode_record_head(&b, &f, err);

	assert_true((rc == 0) == (b != NULL));
	lb_buf_unref(b);
	return rc;
}

static void test_each_allocation_fails_once(void **state)
{
	static const struct {
		const char *name;
		op_fn run;
		unsigned least; /* allocations we know of; fewer: the wrap does not bite */
	} ops[] = {
		{"packer create", op_packer, 3},    {"pack seal", op_seal, 2},
		{"pack open", op_open, 1},          {"manifest encode", op_manifest, 2},
		{"receipt encode", op_receipt, 1},  {"manifest verify", op_verify, 1},
		{"attachment", op_attachment, 2},   {"frame encode", op_frame, 2},
		{"record head", op_record_head, 2},
	};
	static struct rig r;

	(void)state;
	r.env = fix_env(9);
	fix_layer_init(&r.layer);
	fix_manifest(&r.manifest);
	r.manifest.volumes = 1; /* the disk: RAM would need a device state */
	r.manifest.consistency = REP_CONSISTENCY_CRASH;
	r.dek = fix_key();
	r.signer = fix_signer();
	assert_int_equal(lb_sealer_create(&r.sealer, &r.dek, NULL), 0);
	assert_int_equal(rep_packer_create(&r.packer, &r.env.env, &r.layer.header, &r.dek, NULL),
			 0);
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		unsigned failed = 0;

		for (;;) {
			struct lb_err err = {0};

			fail_at = failed + 1;
			int rc = ops[i].run(&r, &err);
			bool hit = fail_at == 0;
			fail_at = 0;
			if (!hit) {
				assert_int_equal(rc, 0);
				break;
			}
			if (rc != LB_ENOMEM || err.msg[0] == '\0')
				fail_msg("%s, allocation %u: %s", ops[i].name, failed + 1,
					 lb_err_name(rc));
			failed++;
			assert_true(failed < 100);
		}
		if (failed < ops[i].least)
			fail_msg("%s: only %u allocations failed", ops[i].name, failed);
	}
	rep_packer_destroy(r.packer);
	lb_sealer_destroy(r.sealer);
	lb_signer_destroy(r.signer);
	fix_layer_fini(&r.layer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_allocation_fails_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
