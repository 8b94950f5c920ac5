#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"
#include "format_fix.h"
#include "replicator/frame.h"

/* Encode @f, decode it, encode what came out: the two encodings must be the same bytes. */
static void round_trip(const struct rep_frame *f, struct rep_frame *got)
{
	struct lb_err err = {0};
	struct lb_buf *first = NULL;
	struct lb_buf *second = NULL;
	enum rep_frame_type type;
	uint32_t bytes = 0;

	if (rep_frame_encode(&first, f, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(rep_frame_header_decode(&type, &bytes, first->p, &err), 0);
	assert_int_equal(type, f->type);
	assert_int_equal(bytes + REP_FRAME_HEADER_BYTES, first->len);
	if (rep_frame_decode(got, type, first->p + REP_FRAME_HEADER_BYTES, bytes, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(rep_frame_encode(&second, got, &err), 0);
	assert_int_equal(first->len, second->len);
	assert_memory_equal(first->p, second->p, first->len);
	lb_buf_unref(second);

	/* One byte less and one byte more are refused. */
	assert_int_equal(rep_frame_decode(got, type, first->p + REP_FRAME_HEADER_BYTES, 0, &err),
			 LB_EPROTO);
	assert_int_equal(rep_frame_encode(&second, f, &err), 0);
	lb_buf_unref(first);
	assert_int_equal(
		rep_frame_decode(got, type, second->p + REP_FRAME_HEADER_BYTES, bytes, &err), 0);
	lb_buf_unref(second); /* callers below look at values, never through borrowed pointers */
}

static struct rep_frame frame_of(enum rep_frame_type type)
{
	return (struct rep_frame){.type = type};
}

static void test_small_frames(void **state)
{
	struct rep_frame got;
	struct rep_frame f = frame_of(REP_FRAME_HELLO);

	(void)state;
	f.hello = (struct rep_hello){.version_min = 1,
				     .version_max = 3,
				     .deployment = fix_id(1),
				     .site = fix_id(2),
				     .boot_id = fix_id(3),
				     .session = fix_id(4),
				     .connection = 1,
				     .connections = 4};
	round_trip(&f, &got);
	assert_int_equal(got.hello.version_max, 3);
	assert_int_equal(got.hello.connections, 4);
	assert_true(lb_id_equal(&got.hello.session, &f.hello.session));

	f = frame_of(REP_FRAME_ERROR);
	f.error = (struct rep_error_frame){.code = LB_EFENCED, .text = "group db: epoch 8 exists"};
	round_trip(&f, &got);
	assert_int_equal(got.error.code, LB_EFENCED);
	assert_string_equal(got.error.text, "group db: epoch 8 exists");

	f = frame_of(REP_FRAME_PING);
	f.ping.sent_ns = 77;
	f.ping.peer_boot_id = fix_id(8); /* the asker's own; only the answer's is looked at */
	round_trip(&f, &got);
	f.type = REP_FRAME_PONG;
	f.ping.peer_now_ns = 99;
	f.ping.peer_boot_id = fix_id(9);
	round_trip(&f, &got);
	assert_int_equal(got.ping.sent_ns, 77);
	assert_int_equal(got.ping.peer_now_ns, 99);

	f = frame_of(REP_FRAME_STATUS_REQ);
	f.status_req = fix_id(5);
	round_trip(&f, &got);
	f = frame_of(REP_FRAME_CREDIT);
	f.credit = UINT64_MAX;
	round_trip(&f, &got);
	assert_true(got.credit == UINT64_MAX);
	f = frame_of(REP_FRAME_FENCE);
	f.fence = (struct rep_fence){.group = fix_id(5), .epoch = 8};
	round_trip(&f, &got);
	f = frame_of(REP_FRAME_KEY);
	f.key = (struct rep_key_frame){.group = fix_id(5), .machine = fix_id(6), .key = fix_key()};
	lb_key_id(&f.key.key_id, &f.key.key);
	round_trip(&f, &got);
	assert_memory_equal(got.key.key.b, f.key.key.b, LB_KEY_BYTES);
	f = frame_of(REP_FRAME_KEY_OK);
	f.key_ok = fix_id(5);
	round_trip(&f, &got);
}

static void test_status(void **state)
{
	struct rep_frame got;
	struct rep_frame f = frame_of(REP_FRAME_STATUS);

	(void)state;
	f.status = (struct rep_status){.group = fix_id(1), .writable = true};
	round_trip(&f, &got);
	assert_false(got.status.has_head);
	assert_true(got.status.writable);
	f.status = (struct rep_status){.group = fix_id(1),
				       .epoch = 9,
				       .has_head = true,
				       .head_epoch = 8,
				       .head_seq = 100,
				       .head = fix_hash(3)};
	round_trip(&f, &got);
	assert_true(got.status.has_head);
	assert_false(got.status.writable);
	assert_int_equal(got.status.head_seq, 100);
}

static struct rep_frame offer_of(uint32_t layers)
{
	struct rep_frame f = frame_of(REP_FRAME_OFFER);

	f.offer.group = fix_id(1);
	(void)snprintf(f.offer.group_name, sizeof(f.offer.group_name), "db-1.prod_a");
	f.offer.epoch = 2;
	f.offer.seq = 3;
	f.offer.prev = fix_hash(4);
	f.offer.base = fix_hash(5);
	f.offer.layers = layers;
	for (uint32_t i = 0; i < layers; i++) {
		struct rep_offer_layer *l = &f.offer.layer[i];

		*l = (struct rep_offer_layer){
			.machine = fix_id(6), .kind = REP_VOLUME_DISK, .volume_bytes = 1 << 20};
		l->volume.b[0] = (uint8_t)i;
		l->layer.b[0] = (uint8_t)i;
		l->layer.b[1] = 1;
	}
	return f;
}

static void test_offer(void **state)
{
	struct rep_frame got;
	struct rep_frame f = offer_of(1);

	(void)state;
	round_trip(&f, &got);
	f = offer_of(REP_OFFER_MAX_LAYERS);
	round_trip(&f, &got);
	assert_int_equal(got.offer.layers, REP_OFFER_MAX_LAYERS);
	assert_int_equal(got.offer.layer[255].layer.b[0], 255);
	assert_string_equal(got.offer.group_name, "db-1.prod_a");
}

static struct rep_frame admit_of(uint32_t layers, uint32_t extras)
{
	struct rep_frame f = frame_of(REP_FRAME_ADMIT);

	f.admit.group = fix_id(1);
	f.admit.epoch = 2;
	f.admit.seq = 3;
	f.admit.layers = layers;
	for (uint32_t i = 0; i < layers; i++) {
		f.admit.layer[i].layer.b[0] = (uint8_t)i;
		f.admit.layer[i].layer.b[1] = 1;
		f.admit.layer[i].header = i % 2 == 0;
		f.admit.layer[i].first_missing = 10 * i;
	}
	f.admit.extras = extras;
	for (uint32_t i = 0; i < extras; i++) {
		f.admit.extra[i].layer = (uint16_t)(layers - 1);
		f.admit.extra[i].number = 10 * layers + 2 * i;
	}
	return f;
}

static void test_admit(void **state)
{
	struct rep_frame got;
	struct rep_frame f = admit_of(1, 0);

	(void)state;
	round_trip(&f, &got);
	f = admit_of(REP_OFFER_MAX_LAYERS, REP_ADMIT_MAX_EXTRA);
	round_trip(&f, &got);
	assert_int_equal(got.admit.extras, REP_ADMIT_MAX_EXTRA);
	assert_int_equal(got.admit.layer[3].first_missing, 30);
	assert_true(got.admit.layer[2].header);
	assert_false(got.admit.layer[3].header);
	assert_int_equal(got.admit.extra[511].number, 2560 + 1022);
}

static void test_refuse_text_is_made_to_fit(void **state)
{
	struct rep_frame got;
	struct rep_frame f = frame_of(REP_FRAME_REFUSE);

	(void)state;
	f.refuse = (struct rep_refuse){.group = fix_id(1),
				       .seq = 4,
				       .reason = REP_REFUSE_BASE,
				       .epoch = 2,
				       .has_head = true,
				       .head = fix_hash(1)};
	memset(f.refuse.text, 'x', 160);
	f.refuse.text[3] = '\n';
	f.refuse.text[4] = '\x1b';
	round_trip(&f, &got);
	assert_memory_equal(got.refuse.text, "xxx??xxx", 8);
	assert_int_equal(strlen(got.refuse.text), 160);
	assert_int_equal(got.refuse.reason, REP_REFUSE_BASE);
}

static void test_bodies(void **state)
{
	struct lb_err err = {0};
	struct rep_frame got;
	struct rep_frame f = frame_of(REP_FRAME_RECORD);
	static const uint8_t body[] = "the sealed bytes of a pack";
	struct lb_buf *whole = NULL;
	struct lb_buf *head = NULL;

	(void)state;
	f.record = (struct rep_record_frame){.kind = REP_RECORD_PACK,
					     .group = fix_id(1),
					     .layer = fix_id(2),
					     .number = 41,
					     .body = body,
					     .bytes = sizeof(body)};
	round_trip(&f, &got);
	assert_int_equal(got.record.bytes, sizeof(body));
	assert_int_equal(got.record.number, 41);
	/* Head and body sent apart are the same frame. */
	assert_int_equal(rep_frame_encode(&whole, &f, &err), 0);
	assert_int_equal(rep_frame_encode_record_head(&head, &f.record, &err), 0);
	assert_int_equal(head->len + sizeof(body), whole->len);
	assert_memory_equal(head->p, whole->p, head->len);
	assert_memory_equal(body, whole->p + head->len, sizeof(body));
	lb_buf_unref(head);
	lb_buf_unref(whole);
	head = NULL;
	f.record.kind = REP_RECORD_MANIFEST;
	assert_int_equal(rep_frame_encode_record_head(&head, &f.record, &err), LB_EINVAL);
	f.record.kind = REP_RECORD_PACK;
	f.record.bytes = REP_RECORD_MAX + 1;
	assert_int_equal(rep_frame_encode_record_head(&head, &f.record, &err), LB_EINVAL);
	assert_null(head);

	f = frame_of(REP_FRAME_POINT);
	f.point.age_ns = 5;
	f.point.manifest = body;
	f.point.bytes = sizeof(body);
	round_trip(&f, &got);
	assert_int_equal(got.point.age_ns, 5);
	f = frame_of(REP_FRAME_RECEIPT);
	uint8_t receipt[REP_RECEIPT_BYTES] = {1};
	f.receipt.bytes = receipt;
	f.receipt.len = sizeof(receipt);
	round_trip(&f, &got);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(rep_frame_name(REP_FRAME_KEY_OK), "KEY_OK");
	assert_string_equal(rep_frame_name((enum rep_frame_type)49), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_frames),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_offer),
		cmocka_unit_test(test_admit),
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_refuse_text_is_made_to_fit),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
