/* The receiver core: events in, actions out. The store is played by the test. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"
#include "format_fix.h"
#include "replicator/receiver.h"

#define S UINT64_C(1000000000)

struct bench {
	struct rep_receiver *r;
	uint64_t now;
	struct rep_group_role role;
	unsigned adopted, raised;
	struct rep_receiver_action act[64];
	struct rep_frame sent[64]; /* decoded SENDs; borrowed pointers are void */
	struct rep_store_op op[16];
	unsigned acts, sends, ops;
	struct fix_env env;
	struct lb_signer *writer;
};

/* ---- the site ---- */

static bool peer_allowed(void *arg, const struct lb_id *site)
{
	const struct lb_id banned = fix_id(0xee);

	(void)arg;
	return !lb_id_equal(site, &banned);
}

static void role_of(void *arg, const struct lb_id *group, struct rep_group_role *out)
{
	struct bench *b = arg;

	(void)group;
	*out = b->role;
}

static int adopt(void *arg, const struct lb_id *group, const char *name, uint64_t epoch,
		 const struct lb_id *site, struct lb_err *err)
{
	struct bench *b = arg;

	(void)group;
	(void)err;
	assert_string_equal(name, "shop");
	b->adopted++;
	b->role = (struct rep_group_role){.epoch = epoch, .writable = true, .writer = *site};
	return 0;
}

static int raise_epoch(void *arg, const struct lb_id *group, uint64_t epoch,
		       const struct lb_id *site, struct lb_err *err)
{
	struct bench *b = arg;

	(void)group;
	(void)site;
	(void)err;
	b->raised++;
	b->role.epoch = epoch;
	return 0;
}

static int store_key(void *arg, const struct rep_key_frame *key, struct lb_err *err)
{
	(void)arg;
	(void)key;
	(void)err;
	return 0;
}

/* ---- stepping ---- */

static void take(struct bench *b, struct rep_receiver_action *a)
{
	enum rep_frame_type type;
	uint32_t bytes;

	if (a->type == REP_RECEIVER_SEND) {
		assert_int_equal(rep_frame_header_decode(&type, &bytes, a->buf->p, NULL), 0);
		assert_int_equal(rep_frame_decode(&b->sent[b->sends++], type,
						  a->buf->p + REP_FRAME_HEADER_BYTES, bytes, NULL),
				 0);
		lb_buf_unref(a->buf);
		a->buf = NULL;
	} else if (a->type == REP_RECEIVER_RUN) {
		assert_true(b->ops < 16);
		b->op[b->ops++] = a->op;
	}
	b->act[b->acts++] = *a;
}

static void step(struct bench *b, struct rep_receiver_event e)
{
	struct rep_receiver_action a;

	b->acts = b->sends = 0;
	rep_receiver_step(b->r, &e, b->now);
	while (rep_receiver_next(b->r, &a)) {
		assert_true(b->acts < 64);
		take(b, &a);
	}
}

static void hear(struct bench *b, uint64_t conn, const struct rep_frame *f)
{
	struct rep_receiver_event e = {.type = REP_RECEIVER_FRAME, .conn = conn};
	struct lb_buf *whole, *payload;

	assert_int_equal(rep_frame_encode(&whole, f, NULL), 0);
	assert_int_equal(lb_buf_copy_of(&payload, whole->p + REP_FRAME_HEADER_BYTES,
					whole->len - REP_FRAME_HEADER_BYTES, NULL),
			 0);
	e.frame.type = f->type;
	e.frame.payload = payload;
	step(b, e);
	lb_buf_unref(payload);
	lb_buf_unref(whole);
}

static const struct rep_frame *find_sent(const struct bench *b, enum rep_frame_type t)
{
	for (unsigned i = 0; i < b->sends; i++)
		if (b->sent[i].type == t)
			return &b->sent[i];
	return NULL;
}

static const struct rep_receiver_action *find(const struct bench *b,
					      enum rep_receiver_action_type t)
{
	for (unsigned i = 0; i < b->acts; i++)
		if (b->act[i].type == t)
			return &b->act[i];
	return NULL;
}

/* The oldest store op that is out, done with @a. */
static void answer(struct bench *b, struct rep_store_answer a)
{
	struct rep_receiver_event e = {.type = REP_RECEIVER_STORE, .answer = &a};

	assert_true(b->ops > 0);
	a.type = b->op[0].type;
	a.cookie = b->op[0].cookie;
	rep_store_op_fini(&b->op[0]);
	memmove(&b->op[0], &b->op[1], --b->ops * sizeof(b->op[0]));
	step(b, e);
}

static struct bench *make(void)
{
	static const struct rep_receiver_ops ops = {.peer_allowed = peer_allowed,
						    .role_of = role_of,
						    .adopt = adopt,
						    .raise_epoch = raise_epoch,
						    .store_key = store_key};
	struct rep_receiver_cfg cfg = REP_RECEIVER_CFG_DEFAULTS;
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->now = S;
	b->env = fix_env(3);
	assert_int_equal(lb_signer_generate(&b->writer, &b->env.env, NULL), 0);
	cfg.deployment = fix_id(1);
	cfg.site = fix_id(4);
	cfg.boot_id = fix_id(5);
	cfg.ops = &ops;
	cfg.ops_arg = b;
	cfg.max_connections = 4;
	assert_int_equal(rep_receiver_create(&b->r, &cfg, NULL), 0);
	return b;
}

static void done(struct bench *b)
{
	while (b->ops > 0)
		rep_store_op_fini(&b->op[--b->ops]);
	rep_receiver_destroy(b->r);
	lb_signer_destroy(b->writer);
	free(b);
}

static void bring_up(struct bench *b, uint64_t conn, unsigned number, unsigned session)
{
	struct rep_frame f = {.type = REP_FRAME_HELLO};

	step(b,
	     (struct rep_receiver_event){.type = REP_RECEIVER_UP, .conn = conn, .peer = fix_id(2)});
	f.hello = (struct rep_hello){.version_min = 1,
				     .version_max = 1,
				     .deployment = fix_id(1),
				     .site = fix_id(2),
				     .boot_id = fix_id(3),
				     .session = fix_id(session),
				     .connection = (uint16_t)number,
				     .connections = 2};
	hear(b, conn, &f);
}

/* ---- sessions ---- */

static void test_sessions(void **state)
{
	struct bench *b = make();

	(void)state;
	bring_up(b, 1, 0, 50);
	assert_non_null(find_sent(b, REP_FRAME_HELLO));
	assert_non_null(find_sent(b, REP_FRAME_PING)); /* the first point's age shall be known */
	bring_up(b, 2, 1, 50);
	assert_non_null(find_sent(b, REP_FRAME_HELLO));
	bring_up(b, 3, 1, 51); /* of a session that is not */
	assert_int_equal(find(b, REP_RECEIVER_CLOSE)->conn, 3);
	bring_up(b, 4, 0, 52); /* newer: both older ones go (F22) */
	assert_int_equal(b->act[0].type, REP_RECEIVER_CLOSE);
	assert_int_equal(b->act[0].conn, 1);
	assert_non_null(find_sent(b, REP_FRAME_HELLO));
	hear(b, 2, &(struct rep_frame){.type = REP_FRAME_PING, .ping = {.sent_ns = 1}});
	assert_int_equal(b->acts, 0); /* closed with its session: not heard any more */
	step(b,
	     (struct rep_receiver_event){.type = REP_RECEIVER_UP, .conn = 5, .peer = fix_id(0xee)});
	assert_int_equal(find(b, REP_RECEIVER_CLOSE)->err.code, LB_EDENIED);
	done(b);
}

static void test_first_frame_is_hello(void **state)
{
	struct bench *b = make();

	(void)state;
	step(b, (struct rep_receiver_event){.type = REP_RECEIVER_UP, .conn = 1, .peer = fix_id(2)});
	hear(b, 1, &(struct rep_frame){.type = REP_FRAME_STATUS_REQ, .status_req = fix_id(9)});
	assert_int_equal(find(b, REP_RECEIVER_CLOSE)->err.code, LB_EPROTO);
	done(b);
}

/* ---- offers ---- */

static struct rep_frame offer_of(uint64_t epoch, uint64_t seq, unsigned prev, unsigned base,
				 unsigned layer)
{
	struct rep_frame f = {.type = REP_FRAME_OFFER};

	f.offer.group = fix_id(9);
	memcpy(f.offer.group_name, "shop", 5);
	f.offer.epoch = epoch;
	f.offer.seq = seq;
	f.offer.prev = fix_hash(prev);
	f.offer.base = fix_hash(base);
	f.offer.layers = 1;
	f.offer.layer[0] = (struct rep_offer_layer){.machine = fix_id(20),
						    .volume = fix_id(21),
						    .layer = fix_id(layer),
						    .kind = REP_VOLUME_DISK,
						    .volume_bytes = 40960};
	return f;
}

static void answer_query(struct bench *b, unsigned head, uint64_t epoch, uint64_t seq)
{
	struct rep_store_answer a = {.has_head = head != 0};
	struct rep_admit admit = {.layers = 1};

	a.head.manifest = fix_hash(head);
	a.head.epoch = epoch;
	a.head.seq = seq;
	admit.layer[0].layer = b->op[0].offer->layer[0].layer;
	a.admit = &admit;
	answer(b, a);
}

/* Each row: the role, the newest point, an offer -> a refusal (0: admitted). */
static void test_offers(void **state)
{
	static const struct {
		uint64_t role_epoch;
		bool writable;
		unsigned writer;
		unsigned head; /* of epoch 5, seq 41 */
		uint64_t epoch, seq;
		unsigned prev, base;
		unsigned refused;
		bool adopted, raised;
	} row[] = {
		{0, false, 0, 0, 5, 1, 0, 0, 0, true, false},
		{5, true, 2, 7, 5, 42, 7, 7, 0, false, false},
		{5, true, 0, 7, 5, 42, 7, 7, 0, false, false},
		{5, true, 2, 7, 5, 42, 7, 0, 0, false, false}, /* full, after a loss */
		{5, true, 2, 7, 6, 42, 7, 7, 0, false, true},
		{5, true, 2, 7, 5, 42, 8, 8, REP_REFUSE_BASE, false, false},
		{5, true, 2, 7, 5, 42, 7, 8, REP_REFUSE_BASE, false, false},
		{5, true, 2, 7, 5, 43, 7, 7, REP_REFUSE_BASE, false, false},
		{5, true, 2, 7, 5, 41, 7, 7, REP_REFUSE_BASE, false, false},
		{5, true, 2, 0, 5, 1, 7, 0, REP_REFUSE_BASE, false, false},
		{6, true, 2, 7, 5, 42, 7, 7, REP_REFUSE_EPOCH, false, false},
		{5, true, 3, 7, 5, 42, 7, 7, REP_REFUSE_DENIED, false, false},
		{5, false, 2, 7, 5, 42, 7, 7, REP_REFUSE_BUSY, false, false},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct bench *b = make();
		struct rep_frame f =
			offer_of(row[i].epoch, row[i].seq, row[i].prev, row[i].base, 22);

		b->role = (struct rep_group_role){.epoch = row[i].role_epoch,
						  .writable = row[i].writable};
		if (row[i].writer)
			b->role.writer = fix_id(row[i].writer);
		bring_up(b, 1, 0, 50);
		hear(b, 1, &f);
		if (b->ops > 0)
			answer_query(b, row[i].head, 5, 41);
		if (row[i].refused) {
			assert_null(find_sent(b, REP_FRAME_ADMIT));
			assert_non_null(find_sent(b, REP_FRAME_REFUSE));
			assert_int_equal(find_sent(b, REP_FRAME_REFUSE)->refuse.reason,
					 row[i].refused);
		} else {
			assert_non_null(find_sent(b, REP_FRAME_ADMIT));
		}
		assert_int_equal(b->adopted, row[i].adopted);
		assert_int_equal(b->raised, row[i].raised);
		done(b);
	}
}

static struct bench *make_open(void)
{
	struct bench *b = make();
	struct rep_frame f = offer_of(5, 1, 0, 0, 22);

	bring_up(b, 1, 0, 50);
	bring_up(b, 2, 1, 50);
	hear(b, 1, &f);
	answer_query(b, 0, 0, 0);
	assert_non_null(find_sent(b, REP_FRAME_ADMIT));
	return b;
}

/* ---- records ---- */

static void record(struct bench *b, uint64_t conn, unsigned layer, uint32_t number, uint32_t bytes)
{
	static const uint8_t body[128 << 10];
	struct rep_frame f = {.type = REP_FRAME_RECORD};

	f.record = (struct rep_record_frame){.kind = REP_RECORD_PACK,
					     .group = fix_id(9),
					     .layer = fix_id(layer),
					     .number = number,
					     .body = body,
					     .bytes = bytes};
	hear(b, conn, &f);
}

static void test_credit_after_append(void **state)
{
	struct bench *b = make_open();

	(void)state;
	record(b, 2, 22, 0, 100);
	assert_int_equal(b->ops, 1);
	assert_null(find_sent(b, REP_FRAME_CREDIT));
	record(b, 2, 22, 1, 200);
	answer(b, (struct rep_store_answer){.bytes = 100});
	assert_null(find_sent(b, REP_FRAME_CREDIT)); /* one for both */
	answer(b, (struct rep_store_answer){.bytes = 200, .duplicate = true});
	assert_int_equal(find_sent(b, REP_FRAME_CREDIT)->credit, 300);
	done(b);
}

/* What is on its way of a cut that was given up is dropped, in its turn. */
static void test_old_cut_drains(void **state)
{
	struct bench *b = make_open();
	struct rep_frame f = offer_of(5, 1, 0, 0, 30);

	(void)state;
	record(b, 2, 22, 0, 100);
	hear(b, 1, &f);
	answer(b, (struct rep_store_answer){.bytes = 100});
	answer_query(b, 0, 0, 0);
	assert_non_null(find_sent(b, REP_FRAME_ADMIT));
	assert_int_equal(b->ops, 1); /* the older draft goes */
	assert_int_equal(b->op[0].type, REP_STORE_ABANDON);
	record(b, 2, 22, 1, 50);
	assert_int_equal(b->ops, 1);
	assert_int_equal(find_sent(b, REP_FRAME_CREDIT)->credit, 150);
	done(b);
}

/* A peer sends what no honest one does: far more records of no layer, behind one that is being
 * stored. Their turn comes in one step, with one CREDIT; more than its window ends the connection.
 */
static void test_many_drains(void **state)
{
	struct bench *b = make_open();

	(void)state;
	record(b, 2, 22, 0, 100);
	for (uint32_t i = 0; i < 400; i++) {
		record(b, 2, 99, i, 128 << 10);
		assert_int_equal(b->acts, 0);
	}
	answer(b, (struct rep_store_answer){.bytes = 100});
	assert_int_equal(b->sends, 1);
	assert_int_equal(find_sent(b, REP_FRAME_CREDIT)->credit, 100 + (400u << 17));
	record(b, 2, 22, 1, 100);
	for (uint32_t i = 0; i < 511; i++) {
		record(b, 2, 99, i, 128 << 10);
		assert_int_equal(b->acts, 0);
	}
	record(b, 2, 99, 511, 128 << 10); /* 64 MiB and 100 bytes */
	assert_int_equal(find(b, REP_RECEIVER_CLOSE)->err.code, LB_EPROTO);
	answer(b, (struct rep_store_answer){.bytes = 100});
	assert_int_equal(b->sends, 0);
	done(b);
}

/* Each row: how an append failed -> what the peer and the site hear. */
static void test_append_fails(void **state)
{
	static const struct {
		int code;
		enum rep_refuse_reason reason;
		const char *alarm;
	} row[] = {
		{LB_ENOSPC, REP_REFUSE_SPACE, NULL},
		{LB_ESUSPECT, REP_REFUSE_SUSPECT, "store_suspect"},
		{LB_EIO, REP_REFUSE_SUSPECT, "store_suspect"},
		{LB_ECORRUPT, REP_REFUSE_CORRUPT, "part_corrupt"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct bench *b = make_open();
		struct rep_store_answer a = {.bytes = 100, .err = {.code = row[i].code}};
		const struct rep_receiver_action *alarm;

		record(b, 2, 22, 0, 100);
		answer(b, a);
		assert_null(find_sent(b, REP_FRAME_CREDIT));
		assert_int_equal(find_sent(b, REP_FRAME_REFUSE)->refuse.reason, row[i].reason);
		assert_int_equal(find(b, REP_RECEIVER_CLOSE)->conn, 2);
		alarm = find(b, REP_RECEIVER_ALARM);
		assert_int_equal(alarm != NULL, row[i].alarm != NULL);
		if (alarm)
			assert_string_equal(alarm->ev, row[i].alarm);
		done(b);
	}
}

static void test_not_offered(void **state)
{
	struct bench *b = make();

	(void)state;
	bring_up(b, 1, 0, 50);
	record(b, 1, 22, 0, 100);
	assert_int_equal(find(b, REP_RECEIVER_CLOSE)->err.code, LB_EPROTO);
	done(b);
}

/* ---- points ---- */

static void point(struct bench *b, uint64_t epoch)
{
	struct rep_frame f = {.type = REP_FRAME_POINT};
	struct rep_manifest *m = calloc(1, sizeof(*m));
	struct lb_buf *bytes;

	assert_non_null(m);
	m->deployment = fix_id(1);
	m->site = fix_id(2);
	m->group = fix_id(9);
	memcpy(m->group_name, "shop", 5);
	m->epoch = epoch;
	m->seq = 1;
	m->boot_id = fix_id(3);
	m->capture_boot_ns = 100 * S;
	m->consistency = REP_CONSISTENCY_CRASH;
	m->volumes = 1;
	m->volume[0] = (struct rep_manifest_volume){.machine = fix_id(20),
						    .volume = fix_id(21),
						    .layer = fix_id(22),
						    .key = fix_id(23),
						    .kind = REP_VOLUME_DISK,
						    .volume_bytes = 40960,
						    .layer_bytes = 300};
	memcpy(m->volume[0].machine_name, "db", 3);
	memcpy(m->volume[0].volume_name, "vda", 4);
	assert_int_equal(rep_manifest_encode(&bytes, m, b->writer, NULL), 0);
	f.point.manifest = bytes->p;
	f.point.bytes = (uint32_t)bytes->len;
	hear(b, 1, &f);
	lb_buf_unref(bytes);
	free(m);
}

static struct rep_store_answer committed(struct bench *b)
{
	struct rep_store_answer a = {.has_head = true, .receive_boot_ns = b->now};

	a.head.group = fix_id(9);
	a.head.epoch = 5;
	a.head.seq = 1;
	return a;
}

static void test_receipt_after_commit(void **state)
{
	struct bench *b = make_open();

	(void)state;
	point(b, 5);
	assert_int_equal(b->ops, 1);
	assert_int_equal(b->op[0].type, REP_STORE_COMMIT);
	assert_non_null(b->op[0].offer);
	assert_null(find_sent(b, REP_FRAME_RECEIPT));
	answer(b, committed(b));
	assert_non_null(find_sent(b, REP_FRAME_RECEIPT));
	assert_non_null(find(b, REP_RECEIVER_POINT));
	assert_false(find(b, REP_RECEIVER_POINT)->age_known);
	point(b, 5); /* its receipt was lost: asked without an offer */
	assert_int_equal(b->ops, 1);
	assert_null(b->op[0].offer);
	done(b);
}

static void test_no_receipt_when_suspect(void **state)
{
	struct bench *b = make_open();
	struct rep_store_answer failed = {.err = {.code = LB_ESUSPECT}};

	(void)state;
	point(b, 5);
	answer(b, failed);
	assert_null(find_sent(b, REP_FRAME_RECEIPT));
	assert_string_equal(find(b, REP_RECEIVER_ALARM)->ev, "store_suspect");
	assert_int_equal(find_sent(b, REP_FRAME_REFUSE)->refuse.reason, REP_REFUSE_SUSPECT);
	point(b, 5);
	assert_int_equal(b->ops, 0);
	assert_int_equal(find_sent(b, REP_FRAME_REFUSE)->refuse.reason, REP_REFUSE_SUSPECT);
	done(b);
}

static void test_point_of_a_lower_epoch(void **state)
{
	struct bench *b = make_open();
	struct rep_receiver_event e = {.type = REP_RECEIVER_RAISED};

	(void)state;
	b->role.epoch = 6;
	b->role.writable = false;
	e.raised.group = fix_id(9);
	e.raised.epoch = 6;
	step(b, e);
	assert_int_equal(find_sent(b, REP_FRAME_FENCE)->fence.epoch, 6);
	point(b, 5);
	assert_int_equal(b->ops, 0);
	assert_int_equal(find_sent(b, REP_FRAME_REFUSE)->refuse.reason, REP_REFUSE_EPOCH);
	done(b);
}

/* ---- the age of cuts (I17) ---- */

static void test_age_bound(void **state)
{
	struct bench *b = make();
	struct rep_frame f = {.type = REP_FRAME_PONG};
	const struct lb_id site = fix_id(2), boot = fix_id(3), other = fix_id(0x33);
	uint64_t age = 0;

	(void)state;
	bring_up(b, 1, 0, 50); /* PING leaves at 1 s */
	f.ping.sent_ns = 5;    /* never sent: no probe */
	f.ping.peer_now_ns = 1;
	f.ping.peer_boot_id = boot;
	hear(b, 1, &f);
	assert_false(rep_receiver_age_bound(b->r, &site, &boot, 0, b->now, &age));
	b->now += S / 2;
	f.ping.sent_ns = S;
	f.ping.peer_now_ns = 100 * S;
	hear(b, 1, &f);
	assert_true(rep_receiver_age_bound(b->r, &site, &boot, 99 * S, 3 * S, &age));
	/* captured 1 s before the peer's clock was read, at 1 s or later; now it is 3 s */
	assert_true(age >= 3 * S);
	assert_true(age <= 3 * S + 3 * S / 1000);
	assert_true(rep_receiver_age_bound(b->r, &site, &boot, 200 * S, 3 * S, &age));
	assert_int_equal(age, 0);
	assert_false(rep_receiver_age_bound(b->r, &site, &other, 99 * S, 3 * S, &age));
	done(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sessions),
		cmocka_unit_test(test_first_frame_is_hello),
		cmocka_unit_test(test_offers),
		cmocka_unit_test(test_credit_after_append),
		cmocka_unit_test(test_old_cut_drains),
		cmocka_unit_test(test_many_drains),
		cmocka_unit_test(test_append_fails),
		cmocka_unit_test(test_not_offered),
		cmocka_unit_test(test_receipt_after_commit),
		cmocka_unit_test(test_no_receipt_when_suspect),
		cmocka_unit_test(test_point_of_a_lower_epoch),
		cmocka_unit_test(test_age_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
