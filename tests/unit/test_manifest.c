#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"
#include "format_fix.h"
#include "replicator/manifest.h"

struct rig {
	struct fix_env env;
	struct lb_signer *signer;
	struct lb_pubkey pub;
	struct rep_manifest m, got;
	uint8_t cipher[2][64];
};

static const char machine_text[] = "<domain><name>db01</name></domain>";
static const char device_text[] = "device state";

static int set_up(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct lb_key dek = fix_key();
	struct lb_err err = {0};

	assert_non_null(r);
	r->env = fix_env(2);
	r->signer = fix_signer();
	assert_non_null(r->signer);
	lb_signer_pubkey(r->signer, &r->pub);
	fix_manifest(&r->m);
	r->m.attachments = 2;
	for (int i = 0; i < 2; i++) {
		struct rep_attachment *a = &r->m.attachment[i];

		a->machine = fix_id(0x44);
		a->kind = i == 0 ? REP_ATTACH_MACHINE : REP_ATTACH_DEVICE_STATE;
		const char *text = i == 0 ? machine_text : device_text;

		a->bytes = (uint32_t)strlen(text);
		assert_int_equal(
			rep_attachment_seal(a, r->cipher[i], &r->m, &dek, &r->env.env, text, &err),
			0);
	}
	*state = r;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *r = *state;

	lb_signer_destroy(r->signer);
	free(r);
	return 0;
}

static struct lb_buf *encode(struct rig *r)
{
	struct lb_err err = {0};
	struct lb_buf *b = NULL;

	if (rep_manifest_encode(&b, &r->m, r->signer, &err) != 0)
		fail_msg("%s", err.msg);
	return b;
}

static void test_round_trip(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};
	struct lb_buf *first = encode(r);
	struct lb_buf *second = NULL;

	if (rep_manifest_decode(&r->got, first->p, first->len, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(rep_manifest_verify(first->p, first->len, &r->pub, &err), 0);
	assert_int_equal(r->got.volumes, 2);
	assert_int_equal(r->got.attachments, 2);
	assert_string_equal(r->got.volume[1].volume_name, "ram");
	assert_int_equal(r->got.consistency, REP_CONSISTENCY_MEMORY);
	/* Ed25519 is deterministic: the same manifest has one encoding. */
	assert_int_equal(rep_manifest_encode(&second, &r->got, r->signer, &err), 0);
	assert_int_equal(first->len, second->len);
	assert_memory_equal(first->p, second->p, first->len);
	lb_buf_unref(first);
	lb_buf_unref(second);
}

static void test_largest(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};

	r->m.volumes = REP_MANIFEST_MAX_VOLUMES;
	for (uint32_t i = 2; i < r->m.volumes; i++) {
		r->m.volume[i] = r->m.volume[0];
		r->m.volume[i].volume.b[0] = (uint8_t)i;
		r->m.volume[i].volume.b[1] = 0xff;
		r->m.volume[i].layer.b[0] = (uint8_t)i;
		r->m.volume[i].layer.b[1] = 0xff;
		memset(r->m.volume[i].machine_name, 'm', REP_NAME_MAX);
		memset(r->m.volume[i].volume_name, 'v', REP_NAME_MAX);
	}
	struct lb_buf *b = encode(r);
	assert_int_equal(rep_manifest_decode(&r->got, b->p, b->len, &err), 0);
	assert_int_equal(r->got.volumes, REP_MANIFEST_MAX_VOLUMES);
	lb_buf_unref(b);

	/* Five full attachments do not fit one record. */
	uint8_t *big = calloc(1, REP_ATTACHMENT_MAX);
	assert_non_null(big);
	r->m.attachments = 5;
	for (unsigned i = 0; i < 5; i++) {
		r->m.attachment[i].machine = i == 0 ? r->m.volume[0].machine : fix_id(i);
		r->m.attachment[i].kind = i == 0 ? REP_ATTACH_DEVICE_STATE : REP_ATTACH_MACHINE;
		r->m.attachment[i].bytes = REP_ATTACHMENT_MAX;
		r->m.attachment[i].cipher = big;
	}
	b = NULL;
	assert_int_equal(rep_manifest_encode(&b, &r->m, r->signer, &err), LB_EINVAL);
	assert_null(b);
	r->m.attachments = 3;
	b = encode(r);
	assert_int_equal(rep_manifest_decode(&r->got, b->p, b->len, &err), 0);
	lb_buf_unref(b);
	free(big);
}

static void refused(struct rig *r, const char *what)
{
	struct lb_err err = {0};
	struct lb_buf *b = NULL;

	assert_int_equal(rep_manifest_encode(&b, &r->m, r->signer, &err), LB_EINVAL);
	if (strstr(err.msg, what) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.msg, what);
	assert_null(b);
}

static void test_encode_refuses(void **state)
{
	struct rig *r = *state;
	static struct rep_manifest keep;

	keep = r->m;
	r->m.volumes = 0;
	refused(r, "0 volumes");
	r->m.volumes = 257;
	refused(r, "257 volumes");
	r->m = keep;
	r->m.attachments = 65;
	refused(r, "65 attachments");
	r->m = keep;
	r->m.group_name[0] = '/';
	refused(r, "group name");
	r->m = keep;
	r->m.volume[1].machine_name[0] = '\0';
	refused(r, "volume 1: machine name");
	r->m = keep;
	r->m.volume[1].volume_name[2] = ' ';
	refused(r, "volume 1: volume name");
	r->m = keep;
	r->m.volume[1].layer = r->m.volume[0].layer;
	refused(r, "volume 1: a layer named twice");
	r->m = keep;
	r->m.volume[1].volume = r->m.volume[0].volume;
	refused(r, "volume 1: a volume named twice");
	r->m = keep;
	r->m.volume[0].volume_bytes = 4095;
	refused(r, "volume 0: size");
	r->m = keep;
	r->m.attachment[1].kind = REP_ATTACH_MACHINE;
	refused(r, "attachment 1: named twice");
	r->m = keep;
	r->m.attachment[0].bytes = 0;
	refused(r, "attachment 0: length");
}

/* Memory without device state, device state without memory, a machine without either. */
static void test_memory_rules(void **state)
{
	struct rig *r = *state;
	static struct rep_manifest keep;

	keep = r->m;
	r->m.attachments = 1; /* the machine's description is left */
	refused(r, "volume 1: RAM of db01 without device state");
	r->m.consistency = REP_CONSISTENCY_CRASH; /* whatever the class */
	refused(r, "volume 1: RAM of db01 without device state");
	r->m = keep;
	r->m.attachment[1].machine = fix_id(0x45);
	refused(r, "attachment 1: device state of a machine without RAM");
	r->m = keep;
	r->m.volume[1].kind = REP_VOLUME_DISK;
	refused(r, "attachment 1: device state of a machine without RAM");
	r->m.attachments = 1;
	refused(r, "class memory, but db01 has no RAM in it");
	r->m = keep;
	r->m.volume[0].machine = fix_id(0x45); /* the disk is another machine's */
	refused(r, "class memory, but db01 has no RAM in it");
	r->m.consistency = REP_CONSISTENCY_CRASH; /* as a group of both kinds of machines is */
	lb_buf_unref(encode(r));
}

/* What an encoder of ours would not write, the decoder refuses too. */
static void test_decode_refuses_memory_without_state(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};
	struct lb_buf *b = encode(r);
	size_t kind_at = b->len - LB_SIG_BYTES - strlen(device_text) - 80 + 32;

	assert_int_equal(b->p[kind_at], REP_ATTACH_DEVICE_STATE);
	b->p[kind_at] = REP_ATTACH_MACHINE;
	r->m.attachment[0].kind = REP_ATTACH_DEVICE_STATE;
	assert_int_equal(rep_manifest_decode(&r->got, b->p, b->len, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "attachment 1: named twice"));
	b->p[kind_at] = REP_ATTACH_DEVICE_STATE;
	b->p[kind_at - 32] ^= 1; /* the state of another machine */
	assert_int_equal(rep_manifest_decode(&r->got, b->p, b->len, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "device state of a machine without RAM"));
	lb_buf_unref(b);
}

static void test_names(void **state)
{
	char name[REP_NAME_MAX + 2];

	(void)state;
	assert_true(rep_name_valid("a"));
	assert_true(rep_name_valid("A.b_c-9"));
	assert_true(rep_name_valid("..")); /* not a path: names never reach a file system */
	static const char *const bad[] = {"", "a b", "a/b", "\xc3\xa9", "a\n", "a:b"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(rep_name_valid(bad[i]));
	memset(name, 'x', sizeof(name));
	name[REP_NAME_MAX + 1] = '\0';
	assert_false(rep_name_valid(name));
	name[REP_NAME_MAX] = '\0';
	assert_true(rep_name_valid(name));
}

static void test_attachments_open_only_in_their_point(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};
	struct lb_key dek = fix_key();
	struct lb_buf *b = encode(r);
	uint8_t plain[64];

	assert_int_equal(rep_manifest_decode(&r->got, b->p, b->len, &err), 0);
	const struct rep_attachment *a = &r->got.attachment[0];
	assert_int_equal(a->bytes, strlen(machine_text));
	assert_int_equal(rep_attachment_open(plain, a, &r->got, &dek, &err), 0);
	assert_memory_equal(plain, machine_text, strlen(machine_text));
	r->got.seq++;
	assert_int_equal(rep_attachment_open(plain, a, &r->got, &dek, &err), LB_ECORRUPT);
	r->got.seq--;
	r->got.barrier.b[0] ^= 1;
	assert_int_equal(rep_attachment_open(plain, a, &r->got, &dek, &err), LB_ECORRUPT);
	r->got.barrier.b[0] ^= 1;
	dek.b[0] ^= 1;
	assert_int_equal(rep_attachment_open(plain, a, &r->got, &dek, &err), LB_ECORRUPT);
	lb_buf_unref(b);
}

static void test_verify(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};
	struct lb_buf *b = encode(r);

	r->pub.b[0] ^= 1;
	assert_int_equal(rep_manifest_verify(b->p, b->len, &r->pub, &err), LB_ECORRUPT);
	r->pub.b[0] ^= 1;
	assert_int_equal(rep_manifest_verify(b->p, b->len - 1, &r->pub, &err), LB_ECORRUPT);
	assert_int_equal(rep_manifest_verify(b->p, 10, &r->pub, &err), LB_ECORRUPT);
	lb_buf_unref(b);
}

/* Every shorter length is refused, without reading past it (the sanitizers watch). */
static void test_truncations(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};
	struct lb_buf *b = encode(r);

	for (size_t n = 0; n < b->len; n++) {
		uint8_t *copy = malloc(n + 1);

		assert_non_null(copy);
		memcpy(copy, b->p, n);
		assert_int_equal(rep_manifest_decode(&r->got, copy, n, &err), LB_ECORRUPT);
		free(copy);
	}
	lb_buf_unref(b);
}

static void test_receipt(void **state)
{
	struct rig *r = *state;
	struct lb_err err = {0};
	struct rep_receipt a = fix_receipt();
	struct rep_receipt got;
	uint8_t first[REP_RECEIPT_BYTES];
	uint8_t second[REP_RECEIPT_BYTES];

	assert_int_equal(rep_receipt_encode(first, &a, r->signer, &err), 0);
	assert_int_equal(rep_receipt_decode(&got, first, sizeof(first), &err), 0);
	assert_int_equal(rep_receipt_verify(first, sizeof(first), &r->pub, &err), 0);
	assert_int_equal(got.counter, 4242);
	assert_int_equal(rep_receipt_encode(second, &got, r->signer, &err), 0);
	assert_memory_equal(first, second, sizeof(first));
	for (size_t bit = 0; bit < 8 * sizeof(first); bit++) {
		first[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_int_equal(rep_receipt_verify(first, sizeof(first), &r->pub, &err),
				 LB_ECORRUPT);
		first[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	assert_int_equal(rep_receipt_decode(&got, first, sizeof(first) - 1, &err), LB_ECORRUPT);
	a.counter = 0;
	assert_int_equal(rep_receipt_encode(first, &a, r->signer, &err), LB_EINVAL);
	/* A manifest's signature is not a receipt's: the purposes differ. */
	struct lb_sig sig;
	assert_int_equal(lb_sign(r->signer, &sig, "manifest v1", second, 192, &err), 0);
	memcpy(second + 192, sig.b, sizeof(sig.b));
	assert_int_equal(rep_receipt_verify(second, sizeof(second), &r->pub, &err), LB_ECORRUPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_largest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory_rules, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_decode_refuses_memory_without_state, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_encode_refuses, set_up, tear_down),
		cmocka_unit_test(test_names),
		cmocka_unit_test_setup_teardown(test_attachments_open_only_in_their_point, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_verify, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_truncations, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_receipt, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
